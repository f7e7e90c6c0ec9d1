"""Any other model as a target: wrapped, its stages and ReLUs found, its metamers verified.

wrapping    `wrap_model`, `stage_fn`
adapters    Flax linen and nnx modules, plain functions: one view of all
relus       ReLUs found in a traced program, and overridden
verifying   `verify`
"""

from metamer_jax.own_models.verifying import verify
from metamer_jax.own_models.wrapping import OwnModel, Variables, stage_fn, wrap_model

__all__ = [
    "OwnModel",
    "Variables",
    "stage_fn",
    "verify",
    "wrap_model",
]
