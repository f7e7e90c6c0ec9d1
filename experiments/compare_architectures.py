"""`metamer-jax compare`, from a checkout: python -m experiments.compare_architectures."""

from metamer_jax.commands import compare_architectures, drivers

if __name__ == "__main__":
    drivers.run_command(compare_architectures)
