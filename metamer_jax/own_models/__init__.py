"""Any other model as a target: wrapped, its stages and ReLUs found, its metamers verified.

wrapping         `wrap_model`, `stage_fn`
adapters         Flax linen and nnx modules, plain functions: one view of all
relus            ReLUs found in a traced program, and overridden
convolutions     as matrix products, on a CPU
torch_modules    PyTorch modules: the same view; imported with the first of them
torch_operators  what torchax lacks for audio models
torch_bridge     torchax, beside the PyTorch that is installed; `register_torch_lowering`
verifying        `verify`
published        `load_published`: networks from the checkpoints that their authors offer
"""

from metamer_jax.own_models.published import Published, load_published
from metamer_jax.own_models.torch_bridge import register_torch_lowering
from metamer_jax.own_models.verifying import verify
from metamer_jax.own_models.wrapping import OwnModel, Variables, stage_fn, wrap_model

__all__ = [
    "OwnModel",
    "Published",
    "Variables",
    "load_published",
    "register_torch_lowering",
    "stage_fn",
    "verify",
    "wrap_model",
]
