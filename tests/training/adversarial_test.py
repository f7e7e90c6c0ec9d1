"""Attacks: where they must lead, how far they may go, and what training against them gains."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import configs, models, training
from metamer_jax.configs import AdversarialConfig
from metamer_jax.training import adversarial, attacks, scoring

KEY = jax.random.key(0)
NORMS = ("l2", "linf")


def norms(x, norm):
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    return np.abs(x).max(axis=1) if norm == "linf" else np.sqrt((x**2).sum(axis=1))


def linear(weights):
    return lambda inputs: jnp.tensordot(inputs, weights, inputs.ndim - 1)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_the_nearest_point_of_the_ball(norm):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((6, 3, 5)).astype(np.float32)
    radius = norms(points, norm) * np.array([0.1, 0.5, 0.99, 1.01, 2.0, 0.0])
    found = np.asarray(adversarial.project(points, jnp.float32(radius), norm))
    np.testing.assert_array_equal(found[3:5], points[3:5])  # Within: as they were.
    assert not found[5].any()
    outside = points[:3].astype(np.float64)
    edge = radius[:3, None, None]
    expected = {
        "l2": outside * edge / norms(outside, "l2")[:, None, None],
        "linf": np.clip(outside, -edge, edge),
    }
    np.testing.assert_allclose(found[:3], expected[norm], rtol=1e-6)
    np.testing.assert_allclose(norms(found[:3], norm), radius[:3], rtol=1e-6)
    np.testing.assert_array_equal(adversarial.project(0 * points, jnp.float32(radius), norm), 0)


def test_a_relative_epsilon_is_of_each_input():
    inputs = np.float32(np.random.default_rng(1).standard_normal((4, 7, 9)))
    inputs *= np.float32([1, 2, 30, 0])[:, None, None]
    for norm, size in (("l2", norms(inputs, "l2")), ("linf", np.sqrt((inputs**2).mean((1, 2))))):
        np.testing.assert_allclose(adversarial.radii(inputs, norm, 0.1), 0.1 * size, rtol=1e-5)
    # A corner of the cube lies on the sphere of the same epsilon.
    corner = adversarial.random_perturbation(
        KEY, inputs.shape, adversarial.radii(inputs, "linf", 0.1), "linf"
    )
    np.testing.assert_allclose(norms(corner, "l2"), 0.1 * norms(inputs, "l2"), rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_a_random_perturbation_is_as_large_as_it_may_be(norm):
    radius = jnp.array([0.5, 2.0, 0.0])
    found = adversarial.random_perturbation(KEY, (3, 40, 50), radius, norm)
    np.testing.assert_allclose(norms(found, norm), radius, rtol=1e-5)
    if norm == "linf":
        assert set(np.abs(np.asarray(found[1])).ravel()) == {2.0}
    # No direction is preferred: the mean of so many points is within 5 of its deviations.
    assert abs(float(found[1].mean())) < 5 * float(found[1].std()) / np.sqrt(2000)
    again, other = (
        adversarial.random_perturbation(key, (3, 40, 50), radius, norm)
        for key in (KEY, jax.random.key(1))
    )
    np.testing.assert_array_equal(found, again)
    assert np.mean(np.asarray(found) == np.asarray(other)) < 0.9


@pytest.mark.parametrize("norm", NORMS)
def test_of_a_linear_loss_the_optimum_is_found(norm):
    rng = np.random.default_rng(2)
    weights, inputs = (np.float32(rng.standard_normal(shape)) for shape in ((6, 4), (3, 6, 4)))
    radius = np.float32([0.5, 1.0, 3.0])
    config = AdversarialConfig(norm=norm, num_steps=25, step_size=0.5, restarts=2)
    found = adversarial.strongest(KEY, linear(weights), inputs, radius, config=config)
    direction = {"l2": weights / np.sqrt((weights**2).sum()), "linf": np.sign(weights)}[norm]
    expected = radius[:, None, None] * direction
    # Of steps whose losses round to the same, the last came closest.
    np.testing.assert_allclose(found.last, expected, rtol=1e-3, atol=1e-4)
    dual = {"l2": np.sqrt((weights**2).sum()), "linf": np.abs(weights).sum()}[norm]
    np.testing.assert_allclose(
        found.loss, (inputs * weights).sum((1, 2)) + radius * dual, rtol=1e-5
    )


def test_a_step_does_not_lose_small_gradients():
    # Squares of these are no float32.
    gradient = jnp.array([[3e-30, 4e-30], [0.0, 0.0]])
    np.testing.assert_allclose(
        adversarial.steepest(gradient, "l2"), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6
    )


def test_perturbed_inputs_stay_in_their_range():
    inputs = jnp.array([[0.9, -0.95, 0.1], [0.5, 1.0, -1.0]])
    config = AdversarialConfig(epsilon=0.5, norm="linf", num_steps=4, bounds=(-1.0, 1.0))

    def loss(inputs):
        return jnp.sum(inputs, axis=1)

    for random in (False, True):
        changed = dataclasses.replace(config, random=random)
        found = adversarial.perturb(KEY, loss, inputs, config=changed)
        free = adversarial.perturb(
            KEY, loss, inputs, config=dataclasses.replace(changed, bounds=None)
        )
        assert np.abs(found).max() <= 1 < np.abs(free).max()
    radius = adversarial.radii(inputs, "linf", 0.5)
    best = adversarial.pgd(KEY, loss, inputs, radius, config=config)
    # A linear loss: the upper corner of what the cube and the range have in common.
    np.testing.assert_allclose(
        inputs + best.last, np.minimum(inputs + radius[:, None], 1), rtol=1e-5
    )
    with pytest.raises(ValueError, match="bounds must be .lowest, highest"):
        AdversarialConfig(bounds=(1.0, -1.0))


@jax.custom_jvp
def deceptive(inputs):
    """A loss whose gradient points downhill."""
    return -jnp.sum(inputs**2, axis=1)


@deceptive.defjvp
def _deceptive_jvp(primals, tangents):
    return deceptive(*primals), 2 * jnp.sum(primals[0] * tangents[0], axis=1)


@pytest.mark.parametrize("norm", NORMS)
def test_the_best_is_kept_and_lies_in_the_ball(norm):
    inputs = jnp.array([[0.1, -0.2, 0.3], [2.0, 1.0, 0.0]])
    radius = jnp.array([0.05, 0.5])
    config = AdversarialConfig(norm=norm, num_steps=4, restarts=3)
    one = adversarial.pgd(KEY, deceptive, inputs, radius, config=config)
    assert np.all(one.loss > deceptive(inputs + one.last))  # It went down, and that was noticed.
    found = adversarial.strongest(KEY, deceptive, inputs, radius, config=config)
    assert np.all(found.loss >= deceptive(inputs))
    for ascent in (one, found):
        np.testing.assert_allclose(ascent.loss, deceptive(inputs + ascent.perturbation), rtol=1e-6)
        for perturbation in (ascent.last, ascent.perturbation):
            assert np.all(norms(perturbation, norm) <= np.asarray(radius) * (1 + 1e-6))
    # More restarts from the same key are no weaker.
    few = dataclasses.replace(config, restarts=1)
    assert np.all(
        found.loss >= adversarial.strongest(KEY, deceptive, inputs, radius, config=few).loss
    )


# With networks.


class Linear(nn.Module):
    """Two words told apart by a plane: what attacks it can do is known."""

    num_words: int = 2

    @nn.compact
    def __call__(self, cochleagram, *, grid=None):
        flat = cochleagram.reshape(len(cochleagram), -1)
        return nn.Dense(self.num_words, name="logits")(flat), {}


@pytest.mark.parametrize("norm", NORMS)
def test_accuracy_under_attack_of_a_linear_network_is_known(norm):
    rng = np.random.default_rng(3)
    features = np.float32(rng.standard_normal((50, 4, 6)))
    model = Linear()
    variables = {**model.init(KEY, features[:1]), "normalization": {}}
    kernel = np.asarray(variables["params"]["logits"]["kernel"], np.float64)
    normal = (kernel[:, 1] - kernel[:, 0]).reshape(4, 6)
    labels = (features * normal).sum((1, 2)) > 0
    labels[:5] = ~labels[:5]  # Some that it gets wrong anyway.
    epsilons = [0.02, 0.1, 0.3]
    config = AdversarialConfig(norm=norm, domain="cochleagram", num_steps=20, restarts=2)
    found = attacks.evaluate(
        KEY, model, variables, features, labels, epsilons, config=config, batch_size=16
    )
    distance = (features * normal).sum((1, 2)) * np.where(labels, 1, -1)
    dual = {"l2": np.sqrt((normal**2).sum()), "linf": np.abs(normal).sum()}[norm]
    size = norms(features, "l2") if norm == "l2" else np.sqrt((features**2).mean((1, 2)))
    reach = np.array(epsilons)[:, None] * size * dual
    clear = np.abs(distance / reach - 1) > 1e-3  # An ascent ends that close to its optimum.
    assert clear.mean() > 0.9 and found.random.shape == (3, 2, 50)
    np.testing.assert_array_equal(found.clean, distance > 0)
    np.testing.assert_array_equal(found.adversarial[clear], (distance > reach)[clear])
    # Random directions of 24 dimensions reach a fifth as far.
    assert found.adversarial[2].mean() < found.random[2].mean() - 0.1
    again = attacks.evaluate(
        KEY, model, variables, features, labels, epsilons, config=config, batch_size=16
    )
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)


def small_model():
    return models.build_model(
        {
            "name": "conv2d",
            "conv_features": (4, 4),
            "input_shape": (16, 16),
            "dense_features": 32,
            "dropout_rates": (0, 0),
        },
        num_words=3,
    )


def spectrogram(window, waveforms):
    """Waveforms [batch, 400] to [batch, 20, 20]."""
    frames = waveforms.reshape(*waveforms.shape[:-1], 20, 20) * window
    power = jnp.abs(jnp.fft.rfft(frames, n=40)[..., 1:]) ** 2
    return jnp.log1p(100 * power).swapaxes(-1, -2)


FEATURES = jax.tree_util.Partial(spectrogram, jnp.hanning(20))


def toy_clips(num_clips, seed):
    """Waveforms [clip, time] of three tones in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_clips)
    phase = 2 * np.pi * np.outer(0.05 + 0.04 * labels, np.arange(400))
    waveforms = np.sin(phase + 6 * rng.random((num_clips, 1)))
    waveforms += 0.5 * rng.standard_normal((num_clips, 400))
    waveforms *= 0.1 / np.sqrt(np.mean(waveforms**2, axis=1, keepdims=True))
    return training.Examples(waveforms.astype(np.float32), labels)


CLIPS, HELD_OUT = toy_clips(96, seed=1), toy_clips(64, seed=2)


def test_losses_and_their_gradients():
    model = small_model()
    clips, labels = (x[:5] for x in toy_clips(5, seed=4)[:2])
    with jax.enable_x64(True):
        features = jax.tree_util.Partial(spectrogram, jnp.hanning(20).astype(jnp.float64))
        variables = jax.jit(model.init)(KEY, jnp.zeros((1, 20, 20)))
        variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
        direction = jax.random.normal(KEY, clips.shape)
        step = 1e-8 * direction  # So small that hardly a ReLU changes sides.

        @jax.jit
        def computed(waveforms):
            logits = model.apply(variables, features(waveforms))[0]
            found = []
            for make_loss in (scoring.cross_entropy, scoring.margin):
                loss_fn = make_loss(model, variables, labels, feature_fn=features)
                slope = jax.grad(lambda x, loss_fn=loss_fn: loss_fn(x).sum())(waveforms)
                differences = (loss_fn(waveforms + step) - loss_fn(waveforms - step)) / 2e-8
                slope = jnp.sum(slope * direction, axis=1)
                found.append((loss_fn(waveforms), slope, differences))
            return logits, found

        logits, found = jax.tree.map(np.asarray, computed(jnp.float64(clips)))
    right = logits[np.arange(5), labels]
    wrong = np.where(np.arange(3) == labels[:, None], -np.inf, logits).max(axis=1)
    expected = (np.log(np.exp(logits).sum(axis=1)) - right, wrong - right)
    for (loss, slope, differences), value in zip(found, expected, strict=True):
        np.testing.assert_allclose(loss, value, rtol=1e-9)
        np.testing.assert_allclose(slope, differences, rtol=1e-5, atol=1e-5)


def train(config):
    return training.train(KEY, small_model(), CLIPS, HELD_OUT, config, feature_fn=FEATURES)


PLAIN = configs.TrainingConfig(epochs=12, batch_size=16, patience=0, learning_rate=3e-3)


@pytest.mark.slow
def test_training_against_attacks_makes_robust():
    attack = AdversarialConfig(epsilon=0.1, num_steps=3, warmup_epochs=4)
    robust = train(dataclasses.replace(PLAIN, adversarial=attack))
    found = [
        attacks.evaluate(
            KEY,
            small_model(),
            result.variables,
            *HELD_OUT,
            [attack.epsilon],
            config=dataclasses.replace(attack, num_steps=10, restarts=2),
            feature_fn=FEATURES,
        )
        for result in (train(PLAIN), robust)
    ]
    assert found[0].clean.mean() > 0.9
    assert found[1].adversarial.mean() > found[0].adversarial.mean() + 0.4
    # What picks the epoch is the loss under attack, which in this recipe is no stronger.
    record = robust.records[robust.best_epoch - 1]
    assert found[1].adversarial.mean() <= record["validation_accuracy"] <= found[1].clean.mean()
    best = min(robust.records, key=lambda r: r["validation_loss"])
    assert robust.best_epoch == best["epoch"]


def test_attacks_of_no_size_change_nothing():
    # The waveforms then go through the step itself, and must come out as the features do.
    config = dataclasses.replace(PLAIN, epochs=2)
    attack = AdversarialConfig(epsilon=1e-9, num_steps=1)
    plain, attacked = (train(c) for c in (config, dataclasses.replace(config, adversarial=attack)))
    for a, b in zip(*(jax.tree.leaves(r.state.params) for r in (plain, attacked)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(
        plain.state.history[:, 1:5], attacked.state.history[:, 1:5], rtol=1e-4
    )


def test_random_control_and_changes_to_waveforms_within_the_step():
    config = configs.TrainingConfig(
        epochs=3,
        batch_size=40,
        augment=configs.AugmentConfig(shift=0.1, noise_snr_db=(10.0, 30.0)),
        adversarial=AdversarialConfig(epsilon=0.1, random=True),
    )
    losses = [[r["train_loss"] for r in train(config).records] for _ in range(2)]
    assert losses[0] == losses[1] and losses[0][2] < losses[0][0]


def test_what_cannot_be_is_refused():
    attack = AdversarialConfig(epsilon=0.1)
    config = configs.TrainingConfig(adversarial=attack)
    clips = CLIPS._replace(inputs=np.asarray(FEATURES(CLIPS.inputs)))
    with pytest.raises(ValueError, match="where config.adversarial attacks waveforms"):
        training.train(KEY, small_model(), clips, clips, config)
    evaluate = functools.partial(attacks.evaluate, KEY, small_model(), {})
    with pytest.raises(ValueError, match="where waveforms are attacked"):
        evaluate(*clips, [0.1], config=attack)
    with pytest.raises(ValueError, match="epsilons must be positive and ascending"):
        evaluate(*CLIPS, [0.2, 0.1], config=attack, feature_fn=FEATURES)
    with pytest.raises(ValueError, match="labels must be one for each of 96"):
        evaluate(CLIPS.inputs, CLIPS.labels[:3], [0.1], config=attack, feature_fn=FEATURES)
    with pytest.raises(ValueError, match="inputs must be .clip, channel, frame."):
        evaluate(*CLIPS, [0.1], config=dataclasses.replace(attack, domain="cochleagram"))
