"""`metamer-jax listen analyze`, from a checkout: python -m experiments.analyze_responses."""

from metamer_jax.commands import analyze_responses, drivers

if __name__ == "__main__":
    drivers.run_command(analyze_responses)
