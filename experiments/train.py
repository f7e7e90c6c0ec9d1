"""`metamer-jax train`, from a checkout: python -m experiments.train."""

from metamer_jax.commands import drivers, train

if __name__ == "__main__":
    drivers.run_command(train)
