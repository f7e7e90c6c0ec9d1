"""Checkpoints: what is read is what was written, or an error that says why not."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metamer_jax import models, storage
from metamer_jax.storage import checkpoints

State = collections.namedtuple("State", ["epoch", "params", "opt_state"])


def a_state(seed=0):
    keys = jax.random.split(jax.random.key(seed))
    params = {"conv1": {"kernel": jax.random.normal(keys[0], (3, 2))}, "bias": jnp.zeros(2)}
    return State(np.int32(7), params, optax.adam(1e-3).init(params))


def test_a_state_comes_back_bit_for_bit(tmp_path):
    state = a_state()
    checkpoints.save(tmp_path / "state.npz", state, metadata={"seed": 3, "words": ["no", "yes"]})
    restored, metadata = checkpoints.restore(tmp_path / "state.npz", a_state(seed=1))
    assert metadata == {"seed": 3, "words": ["no", "yes"]}
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_a_saved_network_gives_identical_logits(tmp_path):
    x = jax.random.normal(jax.random.key(1), (2, 211, 200))
    for name in ("frequency_grouped", "frequency_local"):
        model = models.build_model(name, 8)
        variables = jax.jit(model.init)(jax.random.key(0), x)
        checkpoints.save(tmp_path / f"{name}.npz", variables)
        loaded, _ = checkpoints.load(tmp_path / f"{name}.npz")
        assert set(loaded) == set(variables)
        apply = jax.jit(model.apply)
        np.testing.assert_array_equal(apply(loaded, x)[0], apply(variables, x)[0])


def test_leaves_have_names_that_people_can_read(tmp_path):
    checkpoints.save(tmp_path / "state.npz", a_state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        assert {"epoch", "params/conv1/kernel", "opt_state/0/mu/bias"} <= set(file.files)


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    path = tmp_path / "state.npz"
    state = a_state()
    checkpoints.save(path, state)
    kernel = state.params["conv1"]
    with pytest.raises(ValueError, match="lacks 'params/scale'"):
        checkpoints.restore(path, state._replace(params={**state.params, "scale": 1.0}))
    with pytest.raises(ValueError, match="nobody wants"):
        checkpoints.restore(path, state._replace(params={"conv1": kernel}))
    with pytest.raises(ValueError, match=r"'epoch' as float32\[\], got int32\[\]"):
        checkpoints.restore(path, state._replace(epoch=np.float32(0)))
    with pytest.raises(ValueError, match="numbers"):
        checkpoints.save(path, {"a": object()})
    with pytest.raises(ValueError, match="distinct"):
        checkpoints.save(path, {"a/b": 1, "a": {"b": 2}})
    checkpoints.restore(path, state)  # The refused writes left it as it was.


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.99])
def test_a_file_cut_short_is_an_error_that_says_so(tmp_path, part):
    path = tmp_path / "state.npz"
    checkpoints.save(path, a_state())
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="state.npz is not whole"):
        checkpoints.load(path)


def test_a_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "state.npz"
    checkpoints.save(path, {"weights": np.arange(1000.0)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="was altered"):
        checkpoints.load(path)


def test_strangers_are_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="other.npz"):
        checkpoints.load(tmp_path / "other.npz")
    storage.write_npz(tmp_path / "arrays.npz", {"a": np.zeros(3)})
    with pytest.raises(ValueError, match="arrays.npz is no checkpoint"):
        checkpoints.load(tmp_path / "arrays.npz")
    with pytest.raises(FileNotFoundError):
        checkpoints.load(tmp_path / "none.npz")
    monkeypatch.setattr(checkpoints, "SCHEMA_VERSION", 2)
    checkpoints.save(tmp_path / "new.npz", {"a": 1})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="schema version 1, got 2"):
        checkpoints.load(tmp_path / "new.npz")
