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

from metamer_jax.own_models.published import Published as Published
from metamer_jax.own_models.published import load_published as load_published
from metamer_jax.own_models.torch_bridge import register_torch_lowering as register_torch_lowering
from metamer_jax.own_models.verifying import verify as verify
from metamer_jax.own_models.wrapping import OwnModel as OwnModel
from metamer_jax.own_models.wrapping import Variables as Variables
from metamer_jax.own_models.wrapping import stage_fn as stage_fn
from metamer_jax.own_models.wrapping import wrap_model as wrap_model
