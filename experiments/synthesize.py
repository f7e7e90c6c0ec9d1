"""`metamer-jax synthesize`, from a checkout: python -m experiments.synthesize."""

from metamer_jax.commands import drivers, synthesize

if __name__ == "__main__":
    drivers.run_command(synthesize)
