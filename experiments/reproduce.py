"""`metamer-jax reproduce`, from a checkout: python -m experiments.reproduce."""

from metamer_jax.commands import drivers, reproduce

if __name__ == "__main__":
    drivers.run_command(reproduce)
