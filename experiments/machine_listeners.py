"""`metamer-jax listen machines`, from a checkout: python -m experiments.machine_listeners."""

from metamer_jax.commands import drivers, machine_listeners

if __name__ == "__main__":
    drivers.run_command(machine_listeners)
