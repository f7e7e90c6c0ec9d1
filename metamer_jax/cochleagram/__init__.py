"""Cochleagrams: filters designed on the host, a pure function that runs on the device.

filters = design_cochleagram(config)
picture = cochleagram(waveform, filters, config=config)      # [..., channel, frame]

core        the two functions above, and which method they use
filters     the half-cosine filter bank and the envelope's low-pass, in float64 NumPy
dense       every band at the clip's own rate: exact
multirate   every band at a rate of its own: fast
matmul      the same with Fourier transforms as matrix products, for TPUs
partition   which channels share a grid
banded      products with banded matrices
accuracy    how far multirate is from exact, and grids for a wanted error
"""

from metamer_jax.cochleagram.core import CochleagramFilters as CochleagramFilters
from metamer_jax.cochleagram.core import cochleagram as cochleagram
from metamer_jax.cochleagram.core import default_bank as default_bank
from metamer_jax.cochleagram.core import design_cochleagram as design_cochleagram
