"""`metamer-jax listen pilot`, from a checkout: python -m experiments.pilot_listening_test."""

from metamer_jax.commands import drivers, pilot_listening_test

if __name__ == "__main__":
    drivers.run_command(pilot_listening_test)
