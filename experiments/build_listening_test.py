"""`metamer-jax listen build`, from a checkout: python -m experiments.build_listening_test."""

from metamer_jax.commands import build_listening_test, drivers

if __name__ == "__main__":
    drivers.run_command(build_listening_test)
