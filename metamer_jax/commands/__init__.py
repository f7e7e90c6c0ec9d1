"""What the command `metamer-jax` does: a module a subcommand, flags in, one call of the library.

`metamer-jax --help` lists them. The drivers of a checkout, `python -m experiments.train`, are the
same modules.
"""
