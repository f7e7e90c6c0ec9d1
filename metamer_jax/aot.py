"""`python -m metamer_jax.aot`: what a step would cost on a TPU; see `benchmarks.aot`."""

from metamer_jax.benchmarks.aot import main

if __name__ == "__main__":
    main()
