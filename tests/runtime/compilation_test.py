"""Tests of the room for compiled programs."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import cochleagram
from metamer_jax.configs import CochleagramConfig
from metamer_jax.runtime import compilation


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
def test_programs_are_forgotten_when_they_take_their_share_of_maps():
    double = jax.jit(lambda x: 2 * x)
    used = sum(1 for _ in pathlib.Path("/proc/self/maps").open())
    double(jnp.ones(3))
    assert not compilation.make_room(share=1.0)
    assert double._cache_size() == 1
    assert compilation.make_room(share=used / 2 / 65530 / 100)
    assert double._cache_size() == 0
    assert double(jnp.ones(3)).tolist() == [2, 2, 2]


def test_where_there_is_no_such_limit_nothing_happens(monkeypatch):
    monkeypatch.setattr(compilation, "_MAPS", pathlib.Path("/nowhere/maps"))
    assert not compilation.make_room(share=1e-9)


def test_a_cochleagram_has_the_same_bits_at_every_call():
    # As plain jax.jit has it, one call in five differs from the rest on a busy machine.
    config = CochleagramConfig(method="multirate")
    filters = cochleagram.design_cochleagram(config)
    sounds = 0.1 * np.random.default_rng(0).standard_normal((8, config.num_samples), np.float32)
    compiled = compilation.jit(
        lambda sounds, filters: cochleagram.cochleagram(sounds, filters, config=config)
    )
    assert len({np.asarray(compiled(sounds, filters)).tobytes() for _ in range(60)}) == 1
