"""`metamer-jax verify`, from a checkout: python -m experiments.verify."""

from metamer_jax.commands import drivers, verify

if __name__ == "__main__":
    drivers.run_command(verify)
