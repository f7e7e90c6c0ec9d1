"""Training: what it learns, what it keeps, and that an interruption leaves no trace."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import configs, models, training
from metamer_jax.storage import checkpoints
from metamer_jax.training import augmentation

KEY = jax.random.key(0)
CONFIG = configs.TrainingConfig(epochs=4, batch_size=16, patience=0)
AUGMENTED = dataclasses.replace(
    configs.TRAINING_RECIPES["augmented"],
    epochs=4,
    batch_size=16,
    ema_decay=0.9,
    augment=configs.AugmentConfig(
        shift=0.1,
        speed=0.1,
        noise_snr_db=(5.0, 40.0),
        time_mask=0.15,
        frequency_mask=0.15,
        mixup=0.2,
    ),
)


def small_model(name="frequency_grouped"):
    fields = {
        "conv2d": {"conv_features": (4, 4)},
        "frequency_grouped": {"conv_features": (16, 16), "groups": 4},
        "frequency_local": {"conv_features": (4, 4)},
        "frequency_dense": {"conv_features": (16, 16)},
    }
    size = {"input_shape": (16, 16), "dense_features": 32}
    return models.build_model({"name": name, **size, **fields[name]}, num_words=3)


def toy_clips(num_clips, seed, num_samples=400):
    """Waveforms [clip, time] of three tones in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_clips)
    phase = 2 * np.pi * np.outer(0.02 + 0.06 * labels, np.arange(num_samples))
    waveforms = np.sin(phase + 6 * rng.random((num_clips, 1))) + 0.5 * rng.standard_normal(
        (num_clips, num_samples)
    )
    waveforms *= 0.1 / np.sqrt(np.mean(waveforms**2, axis=1, keepdims=True))
    return training.Examples(waveforms.astype(np.float32), labels)


def spectrogram(window, waveforms):
    """Waveforms [batch, 400] to [batch, 20, 20]."""
    frames = waveforms.reshape(*waveforms.shape[:-1], 20, 20) * window
    return jnp.abs(jnp.fft.rfft(frames, n=40)[..., 1:]).swapaxes(-1, -2)


FEATURES = jax.tree_util.Partial(spectrogram, jnp.hanning(20))


def toy_features(num_clips, seed):
    clips = toy_clips(num_clips, seed)
    return training.Examples(np.asarray(FEATURES(clips.inputs)), clips.labels)


TRAINING, VALIDATION = toy_features(90, seed=1), toy_features(40, seed=2)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def but_time(state):
    return state._replace(history=np.asarray(state.history)[:, :-1])


@pytest.mark.parametrize("name", models.WORD_NETWORKS)
def test_learns_a_toy_task(name):
    model = small_model(name)
    config = dataclasses.replace(CONFIG, epochs=20, learning_rate=3e-3)
    result = training.train(KEY, model, TRAINING, VALIDATION, config)
    score = training.evaluate(model, result.variables, *toy_features(100, seed=3))
    assert score.accuracy > 0.95
    assert score.confusion.sum() == 100
    np.testing.assert_array_equal(
        score.confusion.sum(axis=1), np.bincount(toy_features(100, seed=3).labels)
    )
    assert np.trace(score.confusion) == round(100 * score.accuracy)
    assert result.records[-1]["train_loss"] < result.records[0]["train_loss"]


@pytest.mark.slow
def test_learns_from_changed_waveforms():
    config = dataclasses.replace(AUGMENTED, epochs=25, learning_rate=3e-3)
    model = small_model()
    clips = [toy_clips(90, seed=1), toy_clips(40, seed=2)]
    result = training.train(KEY, model, *clips, config, feature_fn=FEATURES)
    assert training.evaluate(model, result.variables, *VALIDATION).accuracy > 0.9


@pytest.mark.parametrize("config", [CONFIG, AUGMENTED], ids=lambda c: c.recipe)
def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(config, tmp_path):
    model = small_model("conv2d")
    waveforms = config.augment.of_waveforms
    examples = [toy_clips(90, 1), toy_clips(40, 2)] if waveforms else [TRAINING, VALIDATION]
    train = functools.partial(
        training.train, KEY, model, *examples, config, feature_fn=FEATURES if waveforms else None
    )
    whole = train()

    class Killed(Exception):
        pass

    def save_and_die(state, record):
        checkpoints.save(tmp_path / "state.npz", state)
        if record["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train(on_epoch=save_and_die)
    like = training.init_state(jax.random.key(9), model, TRAINING.inputs, config)
    saved, _ = checkpoints.restore(tmp_path / "state.npz", like)
    assert [r["epoch"] for r in saved.records()] == [1, 2]
    later = []
    resumed = train(state=saved, on_epoch=lambda state, record: later.append(record["epoch"]))
    assert later == [3, 4]
    assert_same(but_time(resumed.state), but_time(whole.state))
    assert_same(resumed.variables, whole.variables)
    # A finished run has nothing left to do.
    again = train(state=resumed.state, on_epoch=lambda *_: pytest.fail("trained on"))
    assert_same(again.variables, whole.variables)


def test_the_best_weights_are_kept_and_patience_ends_training():
    config = dataclasses.replace(CONFIG, epochs=40, patience=2, learning_rate=0.03)
    states = []
    result = training.train(
        KEY, small_model(), TRAINING, VALIDATION, config, on_epoch=lambda s, r: states.append(s)
    )
    losses = [record["validation_loss"] for record in result.records]
    best = int(np.argmin(losses))
    assert len(losses) < 40
    assert result.best_epoch == best + 1 == len(losses) - 2  # Keras: two epochs without a better.
    assert_same(result.variables["params"], states[best].params)
    score = training.evaluate(small_model(), result.variables, *VALIDATION)
    np.testing.assert_allclose(score.loss, losses[best], rtol=1e-6)


def test_no_finite_epoch_is_an_error():
    config = dataclasses.replace(CONFIG, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="learning_rate=1e"):
        training.train(KEY, small_model(), TRAINING, VALIDATION, config)


def test_one_epoch_is_adam_written_out():
    # One full batch, no dropout: an epoch is one step of Keras's Adam on the mean cross-entropy.
    model = models.build_model(
        {
            "name": "conv2d",
            "conv_features": (4, 4),
            "input_shape": (16, 16),
            "dropout_rates": (0, 0),
        },
        num_words=3,
    )
    config = dataclasses.replace(CONFIG, epochs=1, batch_size=90)
    start = training.init_state(jax.random.fold_in(KEY, 0), model, TRAINING.inputs, config)
    result = training.train(KEY, model, TRAINING, VALIDATION, config)

    def loss(params):
        variables = {"params": params, "normalization": start.normalization}
        logits, _ = model.apply(variables, TRAINING.inputs)
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(90), TRAINING.labels])

    value, gradients = jax.jit(jax.value_and_grad(loss))(start.params)
    expected = jax.tree.map(
        lambda p, g: p - 1e-3 * g / (jnp.abs(g) + 1e-7), start.params, gradients
    )
    np.testing.assert_allclose(result.records[0]["train_loss"], value, rtol=1e-5)
    for a, b, g in zip(
        *map(jax.tree.leaves, (result.state.params, expected, gradients)), strict=True
    ):
        clear = np.abs(g) > 1e-5  # Where the gradient is all rounding, so is its sign.
        np.testing.assert_allclose(np.where(clear, a, 0), np.where(clear, b, 0), atol=1e-5)


def test_a_last_smaller_batch_weighs_what_it_holds():
    # 90 clips in batches of 64: a mean over all clips, not over the two batches.
    model = dataclasses.replace(small_model(), dropout_rates=(0.0, 0.0))
    config = dataclasses.replace(CONFIG, epochs=1, batch_size=64, learning_rate=1e-20)
    result = training.train(KEY, model, TRAINING, VALIDATION, config)
    right = training.evaluate(model, result.variables, *TRAINING)
    np.testing.assert_allclose(result.records[0]["train_loss"], right.loss, rtol=1e-5)
    np.testing.assert_allclose(result.records[0]["train_accuracy"], right.accuracy, rtol=1e-6)


def test_normalization_is_fitted_on_resized_inputs():
    model = small_model()
    fitted = training.fit_normalization(model, TRAINING.inputs, batch_size=17)
    image = jax.image.resize(TRAINING.inputs, (90, 16, 16), "linear", antialias=False)
    image = np.asarray(image, np.float64)
    np.testing.assert_allclose(fitted["mean"], image.mean(), rtol=1e-5)
    np.testing.assert_allclose(fitted["variance"], image.var(), rtol=1e-4)
    assert fitted["count"] == 90 * 16 * 16


def test_a_network_trained_on_a_cut_grid_knows_whole_cochleagrams():
    model = small_model()
    rng = np.random.default_rng(3)
    whole = training.Examples(rng.random((20, 211, 200), np.float32), rng.integers(0, 3, 20))
    grid = model.reads(211, 200)
    cut = whole._replace(inputs=grid.cut(whole.inputs))
    config = dataclasses.replace(CONFIG, epochs=1)
    result = training.train(KEY, model, cut, cut, config, grid=grid)
    score = training.evaluate(model, result.variables, *whole)
    np.testing.assert_allclose(score.loss, result.records[0]["validation_loss"], rtol=1e-5)
    expected = training.fit_normalization(model, whole.inputs)
    for name, value in result.variables["normalization"].items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)


def test_evaluation_does_not_depend_on_the_batch_size():
    model = small_model()
    variables = jax.jit(model.init)(KEY, VALIDATION.inputs[:1])
    a, b = (training.evaluate(model, variables, *VALIDATION, batch_size=size) for size in (40, 7))
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
    np.testing.assert_array_equal(a.predictions, b.predictions)


def test_bad_examples_are_refused_by_name():
    model = small_model()
    train = functools.partial(training.train, KEY, model)
    with pytest.raises(ValueError, match="training.inputs must be .clip, channel, frame"):
        train(toy_clips(8, 0), VALIDATION, CONFIG)
    with pytest.raises(ValueError, match="validation.labels must be one for each of 40"):
        train(TRAINING, VALIDATION._replace(labels=VALIDATION.labels[:-1]), CONFIG)
    with pytest.raises(ValueError, match=r"training.labels must lie in \[0, 3\)"):
        train(TRAINING._replace(labels=TRAINING.labels + 1), VALIDATION, CONFIG)
    with pytest.raises(ValueError, match="feature_fn"):
        train(TRAINING, VALIDATION, AUGMENTED)


def test_without_changes_a_waveform_stays():
    waveform = toy_clips(1, 0).inputs[0]
    waveform -= waveform.mean()
    waveform *= 0.1 / np.sqrt(np.mean(waveform**2))
    same = augmentation.augment_waveform(KEY, waveform, configs.AugmentConfig())
    np.testing.assert_allclose(same, waveform, rtol=1e-5, atol=1e-6)


def test_a_shift_moves_a_waveform_and_noise_has_its_level():
    time = np.arange(1000)
    tone = jnp.float32(np.sqrt(2) * 0.1 * np.sin(2 * np.pi * 5 * time / 1000))
    shifted = augmentation.augment_waveform(KEY, tone, configs.AugmentConfig(shift=0.1))
    spectra = [np.fft.rfft(x) for x in (tone, shifted)]
    np.testing.assert_allclose(np.abs(spectra[1][5]), np.abs(spectra[0][5]), rtol=1e-4)
    moved = np.angle(spectra[1][5] / spectra[0][5]) / (2 * np.pi * 5)  # As a part of the clip.
    assert 1e-4 < abs(moved) <= 0.1
    config = configs.AugmentConfig(noise_snr_db=(10.0, 10.0))
    noisy = np.asarray(augmentation.augment_waveform(KEY, tone, config), np.float64)
    np.testing.assert_allclose(np.sqrt(np.mean(noisy**2)), 0.1, rtol=1e-4)
    signal = np.vdot(noisy, tone) / np.vdot(tone, tone) * np.asarray(tone)
    snr_db = 10 * np.log10(np.sum(signal**2) / np.sum((noisy - signal) ** 2))
    assert abs(snr_db - 10) < 1.5


def test_speed_scales_frequency():
    tone = jnp.float32(np.sin(2 * np.pi * 50 * np.arange(4000) / 4000))
    keys = jax.random.split(KEY, 8)
    config = configs.AugmentConfig(speed=0.2)
    changed = jax.vmap(lambda key: augmentation.augment_waveform(key, tone, config))(keys)
    peaks = np.abs(np.fft.rfft(changed)).argmax(axis=1)
    assert peaks.min() >= 39 and peaks.max() <= 61 and len(set(peaks)) > 3


def test_masks_and_mixing():
    features = 1 + jnp.arange(6.0)[:, None, None] * jnp.ones((6, 10, 20))
    targets = jax.nn.one_hot(jnp.arange(6), 6)
    masks = configs.AugmentConfig(time_mask=0.5, frequency_mask=0.3)
    changed, same = augmentation.augment_features(KEY, features, targets, masks, fill=-1.0)
    np.testing.assert_array_equal(same, targets)
    masked = np.asarray(changed == -1.0)
    np.testing.assert_array_equal(changed[~masked], features[~masked])
    assert masked.any() and masked.all(axis=1).sum(axis=1).max() <= 10
    assert masked.all(axis=2).sum(axis=1).max() <= 3
    mixing = configs.AugmentConfig(mixup=1.0)
    mixed, targets = augmentation.augment_features(KEY, features, targets, mixing, fill=0.0)
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, rtol=1e-6)
    # Clip i is worth 1 + i everywhere, so that its mixture says what it is made of.
    np.testing.assert_allclose(mixed[:, 0, 0], 1 + targets @ jnp.arange(6.0), rtol=1e-5)


def test_recipes_are_named():
    assert configs.TRAINING_RECIPES["paper"] == configs.TrainingConfig()
    for name, recipe in configs.TRAINING_RECIPES.items():
        assert recipe.recipe == name
        assert configs.from_dict(configs.TrainingConfig, dataclasses.asdict(recipe)) == recipe
