"""`metamer-jax report`, from a checkout: python -m experiments.report."""

from metamer_jax.commands import drivers, report

if __name__ == "__main__":
    drivers.run_command(report)
