"""Kept epochs: networks train to the bit as without them, and only where they may."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import configs, models, training
from metamer_jax.pipeline import clip_cache
from metamer_jax.training import augmentation

CONFIG = configs.ExperimentConfig(
    training=configs.TrainingConfig(
        epochs=2,
        batch_size=8,
        patience=0,
        augment=configs.AugmentConfig(shift=0.1, speed=0.1),
    ),
)
KEY, CLIP_KEY = jax.random.key(0), jax.random.key(7)
SMALL = {"input_shape": (8, 8), "dense_features": 4}
FIRST, SECOND = (
    models.build_model({**SMALL, "name": name, **more}, num_words=2)
    for name, more in (
        ("conv2d", {"conv_features": (4,)}),
        ("frequency_grouped", {"conv_features": (4,), "groups": 2}),
    )
)
GRID = FIRST.reads(20, 20)
WAVEFORMS = 0.1 * np.random.default_rng(0).standard_normal((20, 400)).astype(np.float32)
EXAMPLES = training.Examples(WAVEFORMS, np.arange(20) % 2)


def spectrogram(window, waveforms):
    """Waveforms [batch, 400] to [batch, 20, 20]."""
    frames = waveforms.reshape(*waveforms.shape[:-1], 20, 20) * window
    return jnp.abs(jnp.fft.rfft(frames, n=40)[..., 1:]).swapaxes(-1, -2)


def what_is_read(window, waveforms):
    return GRID.cut(spectrogram(window, waveforms))


WINDOW = jnp.hanning(20)
FEATURES = jax.tree_util.Partial(what_is_read, WINDOW)


TASK = training.Task(FIRST, EXAMPLES, EXAMPLES, FEATURES, GRID)


def opened(folder, clip_key=CLIP_KEY, config=CONFIG, **task):
    return clip_cache.open_clip_cache(folder, TASK._replace(**task), clip_key, config)


def train(model, cache):
    task = TASK._replace(model=model)
    (trained,) = training.train_ensemble(
        [KEY], task, CONFIG.training, clip_key=CLIP_KEY, clip_cache=cache
    )
    return trained


def never():
    raise AssertionError("these images were kept")


def test_networks_share_what_one_left_and_train_to_the_bit_as_without(tmp_path):
    assert GRID is not None
    cache, recipe = opened(tmp_path), CONFIG.training
    prepared = training.prepare(FIRST, EXAMPLES, EXAMPLES, recipe, feature_fn=FEATURES, grid=GRID)
    keys = [training.epoch_keys(KEY, epoch, CLIP_KEY)[0] for epoch in (1, 2)]
    for epoch, key in enumerate(keys, start=1):
        training.clips_of_epoch(key, prepared, {}, recipe, epoch=epoch, clip_cache=cache)
    files = sorted(tmp_path.glob("*/epoch_*.npy"))
    assert [file.name for file in files] == ["epoch_001.npy", "epoch_002.npy"]
    found = [np.load(file) for file in files]
    assert not np.allclose(*found, atol=0.01)

    cache = opened(tmp_path, model=SECOND)
    shared = train(SECOND, lambda epoch, _: cache(epoch, never))
    alone = train(SECOND, None)
    for a, b in zip(*map(jax.tree.leaves, (shared.variables, alone.variables)), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(shared.state.history[:, :-1], alone.state.history[:, :-1])

    # They are what jax.image makes of whole cochleagrams of the changed clips.
    @jax.jit
    def expected(key):
        keys = jax.random.split(jax.random.fold_in(key, 0), 20)
        changed = jax.vmap(lambda k, x: augmentation.augment_waveform(k, x, recipe.augment))
        whole = spectrogram(WINDOW, changed(keys, WAVEFORMS))
        return jax.image.resize(whole, (20, 8, 8), "linear", antialias=False)

    for key, images in zip(keys, found, strict=True):
        np.testing.assert_allclose(images, expected(key), rtol=1e-3, atol=1e-4)


def test_a_damaged_file_is_made_anew(tmp_path):
    images = np.ones((20, 8, 8), np.float32)
    cache = opened(tmp_path)
    cache(1, lambda: images)
    (path,) = tmp_path.glob("*/epoch_001.npy")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="epoch_001.npy is damaged"):
        np.testing.assert_array_equal(cache(1, lambda: 2 * images), 2 * images)
    np.testing.assert_array_equal(cache(1, never), 2 * images)


def changed_training(**changes):
    return dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, **changes))


def test_other_clips_are_kept_apart(tmp_path):
    other_shift = dataclasses.replace(CONFIG.training.augment, shift=0.2)
    other_sound = dataclasses.replace(CONFIG.cochleagram, power=0.5)
    antialiased = FIRST.clone(antialias_resize=True)
    for changes in (
        {},
        {"clip_key": jax.random.key(8)},
        {"training": EXAMPLES._replace(inputs=WAVEFORMS[::-1])},
        {"config": changed_training(augment=other_shift)},
        {"config": dataclasses.replace(CONFIG, cochleagram=other_sound)},
        {"model": antialiased, "grid": None},
    ):
        before = len(list(tmp_path.iterdir()))
        assert opened(tmp_path, **changes)(1, lambda: np.ones((20, 8, 8), np.float32)).any()
        assert len(list(tmp_path.iterdir())) == before + 1
    # What the network is otherwise, and how it learns, does not matter.
    opened(tmp_path, model=SECOND, config=changed_training(learning_rate=0.1, epochs=9))(1, never)
    about = [json.loads(path.read_text()) for path in tmp_path.glob("*/about.json")]
    assert len(about) == 6 and {each["augment"]["shift"] for each in about} == {0.1, 0.2}


@pytest.mark.parametrize(
    "changes",
    [
        {"adversarial": configs.AdversarialConfig(epsilon=0.01)},
        {"adversarial": configs.AdversarialConfig(epsilon=0.01, domain="cochleagram")},
        {"augment": configs.AugmentConfig(shift=0.1, time_mask=0.1)},
        {"augment": configs.AugmentConfig(shift=0.1, mixup=0.2)},
        {"augment": configs.AugmentConfig()},
        {"epochs": 0},
    ],
)
def test_nothing_is_kept_where_images_are_not_what_is_trained_on(changes, tmp_path):
    assert opened(tmp_path, config=changed_training(**changes)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(tmp_path, monkeypatch, caplog):
    usage = shutil.disk_usage(tmp_path)
    need = 2 * 20 * 8 * 8 * 4 + clip_cache._SPARE_BYTES
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=need - 1))
    assert opened(tmp_path) is None
    assert "clips of 2 epochs are not kept" in caplog.text and "2.0 GB shall stay free" in (
        caplog.text
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=need))
    assert opened(tmp_path) is not None
