"""`metamer-jax listen serve`, from a checkout: python -m experiments.serve_listening_test."""

from metamer_jax.commands import drivers, serve_listening_test

if __name__ == "__main__":
    drivers.run_command(serve_listening_test)
