"""Tests of the room for compiled programs."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest

from metamer_jax import programs


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
def test_programs_are_forgotten_when_they_take_their_share_of_maps():
    double = jax.jit(lambda x: 2 * x)
    used = sum(1 for _ in pathlib.Path("/proc/self/maps").open())
    double(jnp.ones(3))
    assert not programs.make_room(share=1.0)
    assert double._cache_size() == 1
    assert programs.make_room(share=used / 2 / 65530 / 100)
    assert double._cache_size() == 0
    assert double(jnp.ones(3)).tolist() == [2, 2, 2]


def test_where_there_is_no_such_limit_nothing_happens(monkeypatch):
    monkeypatch.setattr(programs, "_MAPS", pathlib.Path("/nowhere/maps"))
    assert not programs.make_room(share=1e-9)
