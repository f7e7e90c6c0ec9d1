"""Ensembles: a member is what training alone makes of its key, and interruptions leave no trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import configs, models, training
from metamer_jax.storage import checkpoints

KEYS = jax.random.split(jax.random.key(3), 3)
MODEL = models.build_model(
    {
        "name": "frequency_grouped",
        "conv_features": (8, 8),
        "groups": 4,
        "input_shape": (16, 16),
        "dense_features": 16,
    },
    num_words=2,
)
CONFIG = configs.TrainingConfig(
    epochs=4,
    batch_size=20,
    patience=1,
    learning_rate=0.01,
    ema_decay=0.9,
    augment=configs.AugmentConfig(shift=0.2, noise_snr_db=(0.0, 20.0)),
)


def clips(num_clips, seed):
    """Waveforms [clip, time] of two tones."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, num_clips)
    phase = 2 * np.pi * np.outer(0.1 + 0.02 * labels, np.arange(400))
    waveforms = np.sin(phase + 6 * rng.random((num_clips, 1)))
    waveforms += rng.standard_normal((num_clips, 400))
    waveforms *= 0.1 / np.sqrt(np.mean(waveforms**2, axis=1, keepdims=True))
    return training.Examples(waveforms.astype(np.float32), labels)


def spectrogram(window, waveforms):
    """Waveforms [batch, 400] to [batch, 20, 20]."""
    frames = waveforms.reshape(*waveforms.shape[:-1], 20, 20) * window
    return jnp.abs(jnp.fft.rfft(frames, n=40)[..., 1:]).swapaxes(-1, -2)


FEATURES = jax.tree_util.Partial(spectrogram, jnp.hanning(20))
EXAMPLES = (clips(50, seed=1), clips(30, seed=2))
TASK = training.Task(MODEL, *EXAMPLES, FEATURES)
train_all = functools.partial(training.train_ensemble, KEYS, TASK, CONFIG)


@pytest.fixture(scope="module")
def alone():
    return [
        training.train(key, MODEL, *EXAMPLES, CONFIG, feature_fn=FEATURES, clip_key=KEYS[0])
        for key in KEYS
    ]


@pytest.mark.parametrize("method", training.METHODS)
def test_a_member_is_what_training_alone_makes_of_its_key(method, alone):
    together = train_all(method=method)
    lengths = [len(each.records) for each in alone]
    assert min(lengths) < max(lengths)  # One at least stops early, and stays as it was.
    for one, member in zip(alone, together, strict=True):
        assert member.best_epoch == one.best_epoch
        np.testing.assert_allclose(
            np.asarray(member.state.history)[:, :-1], one.state.history[:, :-1], rtol=1e-3
        )
        for a, b in zip(*map(jax.tree.leaves, (member.variables, one.variables)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    first, second = (jax.tree.leaves(each.variables["params"]) for each in together[:2])
    assert not np.allclose(first[0], second[0], atol=0.01) or not np.allclose(first[1], second[1])


def test_the_first_member_is_training_with_its_key_and_nothing_else(alone):
    own = training.train(KEYS[0], MODEL, *EXAMPLES, CONFIG, feature_fn=FEATURES)
    for a, b in zip(*map(jax.tree.leaves, (own.variables, alone[0].variables)), strict=True):
        np.testing.assert_array_equal(a, b)
    other = training.train(KEYS[1], MODEL, *EXAMPLES, CONFIG, feature_fn=FEATURES)
    assert other.records[0]["train_loss"] != alone[1].records[0]["train_loss"]  # Other clips.


@pytest.mark.parametrize("method", training.METHODS)
def test_an_interrupted_ensemble_ends_bit_for_bit_as_an_uninterrupted_one(method, tmp_path):
    class Killed(Exception):
        pass

    def save_and_die(state, records):
        checkpoints.save(tmp_path / "state.npz", state)
        assert [r["epoch"] for r in records] == [int(state[0].epoch)] * 3
        raise Killed

    with pytest.raises(Killed):
        train_all(method=method, on_epoch=save_and_die)
    features = np.asarray(FEATURES(EXAMPLES[0].inputs))
    like = training.init_ensemble(jax.random.split(jax.random.key(9), 3), MODEL, features, CONFIG)
    saved, _ = checkpoints.restore(tmp_path / "state.npz", like)
    resumed, whole = train_all(method=method, state=saved), train_all(method=method)
    for a, b in zip(resumed, whole, strict=True):
        assert len(a.records) == len(b.records) and a.best_epoch == b.best_epoch
        for x, y in zip(*map(jax.tree.leaves, (a.variables, b.variables)), strict=True):
            np.testing.assert_array_equal(x, y)


def test_no_epochs_leave_the_first_weights():
    untrained = configs.TRAINING_RECIPES["untrained"]
    examples = [each._replace(inputs=np.asarray(FEATURES(each.inputs))) for each in EXAMPLES]
    members = training.train_ensemble(KEYS[:2], training.Task(MODEL, *examples), untrained)
    init = jax.jit(MODEL.init)
    for key, member in zip(KEYS, members, strict=False):
        first = init(jax.random.fold_in(key, 0), examples[0].inputs[:1])["params"]
        for a, b in zip(*map(jax.tree.leaves, (member.variables["params"], first)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
        assert member.best_epoch == 0 and member.records == []
        fitted = training.fit_normalization(MODEL, examples[0].inputs)
        assert member.variables["normalization"] == fitted


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="method must be one of"):
        train_all(method="pmap")
    with pytest.raises(ValueError, match="state must hold 3 members, one a key, got 2"):
        train_all(state=(None, None))
    with pytest.raises(ValueError, match="keys must hold one key for each member"):
        training.train_ensemble([], TASK, CONFIG)
