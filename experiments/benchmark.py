"""`metamer-jax benchmark`, from a checkout: python -m experiments.benchmark."""

from metamer_jax.commands import benchmark, drivers

if __name__ == "__main__":
    drivers.run_command(benchmark)
