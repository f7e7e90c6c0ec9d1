"""Models in styles that are not this project's, as targets of metamers."""

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training import train_state

import metamer_jax as mj
from metamer_jax import auditory, configs, metamers, models

SAMPLES = 240
RATE_HZ = 8000
RNG = np.random.default_rng(0)
SOUNDS = 0.1 * RNG.standard_normal((2, SAMPLES)).astype("f")
RECORDINGS = 0.1 * RNG.standard_normal((50, SAMPLES)).astype("f")
KEY = jax.random.key(0)


# A linen module with setup(), nested, with batch norm, a sown value and a layer used twice.


class Cell(nn.Module):
    width: int

    def setup(self):
        self.conv = nn.Conv(self.width, (5,), strides=(2,))
        self.norm = nn.BatchNorm(momentum=0.9)

    def __call__(self, x, train=True):
        return nn.relu(self.norm(self.conv(x), use_running_average=not train))


class Strangers(nn.Module):
    widths: list  # Unhashable, as people write it.

    def setup(self):
        self.cells = [Cell(width) for width in self.widths]
        self.mix = nn.Dense(self.widths[-1])
        self.head = nn.Dense(4)

    def embed(self, x, train):
        for cell in self.cells:
            x = cell(x, train)
        self.sow("intermediates", "before_mixing", x)
        return self.mix(self.mix(x))

    def __call__(self, waveform, train=True):  # [batch, time, 1]
        return self.head(self.embed(waveform, train).mean(axis=1)), jnp.arange(3)


def linen_model():
    network = Strangers([6, 8])
    variables = network.init(KEY, jnp.zeros((1, SAMPLES, 1)), train=False)
    return mj.wrap_model(
        network, variables, num_samples=SAMPLES, prepare=_one_channel, call={"train": False}
    )


def _one_channel(waveform):
    return waveform[:, None]


# An nnx module with dropout, of a list of blocks, giving a pair.


class Block(nnx.Module):
    def __init__(self, inputs, outputs, rngs):
        self.linear = nnx.Linear(inputs, outputs, rngs=rngs)
        self.norm = nnx.BatchNorm(outputs, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.norm(self.linear(x)))


class Tower(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([Block(24, 16, rngs), Block(16, 8, rngs)])
        self.head = nnx.Linear(80, 3, rngs=rngs)

    def __call__(self, waveform):
        x = waveform.reshape(waveform.shape[0], 10, 24)
        for block in self.blocks:
            x = block.dropout(block(x))
        return {"logits": self.head(x.reshape(x.shape[0], -1))}


# A function of bare weights.


def function(weights, waveform):
    hidden = jnp.where(weights[0] @ waveform > 0, weights[0] @ waveform, 0.0)
    return hidden, {"classes": weights[1] @ hidden}


WEIGHTS = [RNG.standard_normal(s).astype("f") / 8 for s in ((100, SAMPLES), (3, 100))]


@functools.cache
def wrapped(kind):
    if kind == "linen":
        return linen_model()
    if kind == "nnx":
        return mj.wrap_model(Tower(nnx.Rngs(0)), num_samples=SAMPLES)
    return mj.wrap_model(function, WEIGHTS, num_samples=SAMPLES)


def names_and_relus(kind):
    return {s.name: s.relu for s in wrapped(kind)[0].stages}


def test_stages_of_a_linen_module():
    assert names_and_relus("linen") == {
        "cells_0/conv": "no",
        "cells_0/norm": "no",
        "cells_0": "yes",
        "relu_1": "yes",
        "cells_1/conv": "no",
        "cells_1/norm": "no",
        "before_mixing": "yes",
        "cells_1": "yes",
        "relu_2": "yes",
        "mix[0]": "no",
        "mix[1]": "no",
        "embed": "no",
        "output_0": "no",
        "head": "no",
        "output_1": "no",
    }
    assert wrapped("linen")[0].stage("cells_1").shape == (60, 8)


def test_stages_of_an_nnx_module():
    found = names_and_relus("nnx")
    assert list(found) == [
        *("blocks/0/linear", "blocks/0/norm", "blocks/0", "blocks/0/dropout", "relu_1"),
        *("blocks/1/linear", "blocks/1/norm", "blocks/1", "blocks/1/dropout", "relu_2"),
        *("logits", "head"),
    ]
    assert found["blocks/1"] == "yes" and found["blocks/1/linear"] == "no"


def test_stages_of_a_function():
    assert names_and_relus("function") == {"output_0": "yes", "relu_1": "yes", "classes": "no"}


def test_values_are_the_models_own():
    model, variables = wrapped("linen")
    network = Strangers([6, 8])
    (logits, _), state = network.apply(
        variables["model"], SOUNDS[:, :, None], train=False, mutable=["intermediates"]
    )
    found = mj.stage_fn(model, "output_0")(variables, SOUNDS[1])
    np.testing.assert_allclose(found, logits[1], rtol=1e-5, atol=1e-6)
    found = mj.stage_fn(model, "before_mixing")(variables, SOUNDS[1])
    sown = state["intermediates"]["before_mixing"][0]
    np.testing.assert_allclose(found, sown[1], rtol=1e-5, atol=1e-6)

    module = Tower(nnx.Rngs(0))
    model, variables = wrapped("nnx")
    found = mj.stage_fn(model, "logits")(variables, SOUNDS[0])
    module.eval()
    np.testing.assert_allclose(found, module(SOUNDS)["logits"][0], rtol=1e-5, atol=1e-6)

    model, variables = wrapped("function")
    hidden = np.maximum(WEIGHTS[0] @ SOUNDS[0], 0)
    found = mj.stage_fn(model, "output_0")(variables, SOUNDS[0])
    np.testing.assert_allclose(found, hidden, rtol=1e-5, atol=1e-6)


def test_a_users_nnx_module_stays_in_training():
    module = Tower(nnx.Rngs(0))
    mj.wrap_model(module, num_samples=SAMPLES)
    assert not module.blocks[0].dropout.deterministic
    assert not module.blocks[0].norm.use_running_average


def test_the_override_is_that_of_the_projects_own_networks():
    config = configs.CochleagramConfig(duration_s=0.1, sample_rate_hz=8000, high_hz=4000)
    network = models.build_model(
        {"name": "conv2d", "conv_features": (3, 4), "dense_features": 5}, num_words=3
    )
    own = auditory.init_variables(KEY, network, config)
    own = {**own, "normalization": {**own["normalization"], "mean": jnp.asarray(3.0)}}
    waveform = 0.1 * RNG.standard_normal(config.num_samples).astype("f")
    model, variables = mj.wrap_model(network, auditory.without_filters(own), cochleagram=config)
    assert model.stage_names[0] == "cochleagram"
    stages = ("conv1", "dense", "logits")

    @jax.jit
    def gradients(own, variables, waveform):
        found = []
        for stage in stages:
            theirs = auditory.stage_fn(network, stage, config, relu_override=True)
            ours = mj.stage_fn(model, stage)
            for fn, held in ((theirs, own), (ours, variables)):
                value, back = jax.vjp(functools.partial(fn, held), waveform)
                found.append((value, back(jnp.ones_like(value))[0]))
        return found

    found = gradients(own, variables, waveform)
    for stage, theirs, ours in zip(stages, found[::2], found[1::2], strict=True):
        assert model.stage(stage).relu == ("yes" if stage in ("conv1", "dense") else "no")
        for a, b in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(b, a, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize(
    ("kind", "stage", "logits"),
    [("linen", "cells_1", "output_0"), ("nnx", "blocks/0", "logits"), ("function", "relu_1", None)],
)
def test_metamers_are_made_and_verified(kind, stage, logits):
    model, variables = wrapped(kind)
    heard = mj.AsPlayed(RATE_HZ, configs.PlaybackConfig(ramp_s=0.001))
    made = mj.synthesize(
        KEY,
        SOUNDS,
        [7, 9],
        stage_fn=mj.stage_fn(model, stage),
        variables=variables,
        parametrisation=heard,
        config=mj.SynthesisConfig(steps=200, learning_rate=5e-3, seeds=(0, 1), tolerance=5e-3),
    )
    verify = functools.partial(
        mj.verify, model, variables, stage, sounds=SOUNDS, recordings=RECORDINGS, logits=logits,
        seeds=(0, 1), config=mj.VerificationConfig(min_rank_features=90),
    )  # fmt: skip
    found = verify(made=made, parametrisation=heard, target_ids=[7, 9])
    table = found.table
    assert table["target_id"].tolist() == [7, 7, 9, 9] and table["seed"].tolist() == [0, 1, 0, 1]
    assert (table["verdict"] == "pass").all(), table["reason"].tolist()
    # Nothing but 16 bits stands between what was optimised and what is played.
    np.testing.assert_allclose(
        table["relative_error"], made.relative_error.ravel(), rtol=1e-2, atol=1e-3
    )
    assert ("class_match" in table) == (logits is not None)
    assert not [name for name in table if name.startswith("optimised")]
    assert found.null.pairs == 50 * 49 // 2
    # Noise in place of the metamers does not pass.
    noise = made._replace(waveform=heard(RECORDINGS[0]) * np.ones((2, 2, 1)))
    assert (verify(made=noise, parametrisation=heard).table["verdict"] == "fail").all()


def test_waveforms_of_any_level_are_verified_as_they_are_played():
    kernel = RNG.standard_normal((20, SAMPLES)).astype("f")
    model, variables = mj.wrap_model(lambda w, x: jnp.tanh(w @ x), kernel, num_samples=SAMPLES)
    verify = functools.partial(
        mj.verify, model, variables, "output", sounds=SOUNDS, recordings=RECORDINGS, logits=None
    )
    blank = metamers.Synthesis(*(np.zeros((2, 1)) for _ in metamers.Synthesis._fields))
    perfect_but_loud = blank._replace(
        waveform=SOUNDS[:, None] * np.array([1, 3])[:, None, None],
        outcome=np.full((2, 1), metamers.Outcome.BUDGET),
    )
    table = verify(made=perfect_but_loud, sample_rate_hz=RATE_HZ).table
    # As played, both are their targets but for 16 bits; as optimised, the second is three times.
    assert (table["relative_error"] < 1e-3).all()
    assert table["verdict"].tolist() == ["pass", "pass"]
    assert table["optimised_verdict"].tolist() == ["pass", "fail"]
    assert table["optimised_relative_error"][0] == 0 and table["optimised_relative_error"][1] > 0.1
    # The level at which the model takes sounds is the user's to say: here the file's own.
    quiet = verify(made=perfect_but_loud, sample_rate_hz=RATE_HZ, level=10 ** (-23 / 20)).table
    as_it_is = verify(made=perfect_but_loud, sample_rate_hz=RATE_HZ, level=None).table
    np.testing.assert_allclose(quiet["relative_error"], as_it_is["relative_error"], rtol=1e-3)
    with pytest.raises(ValueError, match="sample_rate_hz, or the parametrisation"):
        verify(made=perfect_but_loud)
    with pytest.raises(ValueError, match="at least 46 different recordings"):
        verify(made=perfect_but_loud, sample_rate_hz=RATE_HZ, recordings=RECORDINGS[:2])


def test_equal_models_are_one_to_jit():
    variables = {"params": {"kernel": np.eye(SAMPLES, 3), "bias": np.ones(3)}}

    def make():
        model, _ = mj.wrap_model(nn.Dense(3), variables, num_samples=SAMPLES)
        return mj.stage_fn(model, "output")

    assert make() == make() and hash(make()) == hash(make())
    tower = Tower(nnx.Rngs(0))
    first, second = (mj.wrap_model(tower, num_samples=SAMPLES)[0] for _ in range(2))
    assert first == second and hash(first) == hash(second)
    assert mj.stage_fn(first, "logits") != mj.stage_fn(first, "head")


def test_verification_is_on_the_exact_cochleagram():
    config = configs.CochleagramConfig(
        duration_s=0.1, sample_rate_hz=4000, high_hz=2000, num_filters=8, sample_factor=1,
        method="multirate", lowpass_taps=101,
    )  # fmt: skip
    model, variables = mj.wrap_model(jnp.ravel, cochleagram=config)
    sounds = RECORDINGS.repeat(2, axis=1)[:, : config.num_samples]
    made = mj.synthesize(
        KEY, sounds[:1], [0], stage_fn=mj.stage_fn(model, "output"), variables=variables,
        config=mj.SynthesisConfig(steps=2),
    )  # fmt: skip
    error = mj.verify(model, variables, "output", made, sounds[:1], sounds, logits=None).table[
        "optimised_relative_error"
    ]
    dense = dataclasses.replace(config, method="dense")
    filters = mj.cochleagram.design_cochleagram(dense)
    target, metamer = (
        np.asarray(mj.cochleagram.cochleagram(x, filters, config=dense), np.float64)
        for x in (sounds[0], made.waveform[0, 0])
    )
    expected = np.linalg.norm(target - metamer) / np.linalg.norm(target)
    np.testing.assert_allclose(error, expected, rtol=1e-6)
    assert made.relative_error[0, 0] != pytest.approx(expected, rel=1e-6)


# Loops, complex activations, structures, training states, and what goes past a stage.


class Recurrent(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.GRUCell(24, 6, rngs=rngs))
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, waveform):
        states = self.rnn(waveform.reshape(waveform.shape[0], 10, 24))
        self.sow(nnx.Intermediate, "mean", states.mean(1))
        return self.head(states[:, -1])


def test_an_nnx_rnn(caplog):
    module = Recurrent(nnx.Rngs(0))
    model, variables = mj.wrap_model(module, num_samples=SAMPLES)
    assert model.stage_names == ("rnn", "mean", "output", "head")
    assert model.inside_loops == ("rnn/cell/dense_h", "rnn/cell/dense_i", "rnn/cell")
    assert "inside loops, and so no stages: rnn/cell/dense_h" in caplog.text
    assert not hasattr(nnx.RNN.__call__, "__wrapped__")
    states = module.rnn(SOUNDS.reshape(2, 10, 24))
    found = mj.stage_fn(model, "rnn")(variables, SOUNDS[1])
    np.testing.assert_allclose(found, states[1], rtol=1e-5, atol=1e-6)
    # The last output reads the last frame of `rnn`, and nothing else of it or of the sound.
    assert [stage.name for stage in model.stages if stage.bypassed] == ["mean"]


class Stacked(nn.Module):
    @nn.compact
    def __call__(self, x):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return nn.relu(nn.Dense(4, name="mix")(x)), None

        scan = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = scan(name="layers")(x.reshape(x.shape[0], -1, 4), None)
        return nn.Dense(3, name="head")(x.mean(1))


def test_layers_of_a_linen_scan_are_said_not_to_be_stages(caplog):
    network = Stacked()
    variables = network.init(KEY, SOUNDS[:1])
    model, _ = mj.wrap_model(network, variables, num_samples=SAMPLES)
    assert model.stage_names == ("output", "head")
    assert sorted(model.inside_loops) == ["layers", "layers/mix"]
    assert "inside loops, and so no stages: layers/mix, layers" in caplog.text


def test_layers_of_an_nnx_scan_are_stages():
    class Layers(nnx.Module):
        def __init__(self, rngs):
            make = nnx.vmap(lambda rngs: nnx.Linear(4, 4, rngs=rngs))
            self.layers = nnx.split_rngs(splits=3)(make)(rngs)

        def __call__(self, x):
            @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            def forward(x, layer):
                return nnx.relu(layer(x))

            return forward(x.reshape(x.shape[0], -1, 4), self.layers)

    model, _ = mj.wrap_model(Layers(nnx.Rngs(0)), num_samples=SAMPLES)
    assert model.stage("layers").shape == (3, 1, 60, 4) and model.inside_loops == ()


def test_complex_activations_are_matched_as_pairs():
    model, variables = mj.wrap_model(lambda x: jnp.fft.rfft(x), num_samples=SAMPLES)
    assert model.stage("output").dtype == "complex64"
    found = mj.stage_fn(model, "output")(variables, SOUNDS[0])
    spectrum = np.fft.rfft(SOUNDS[0])
    expected = np.stack([spectrum.real, spectrum.imag], axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@flax.struct.dataclass
class Struct:
    logits: jax.Array
    extra: dict


@dataclasses.dataclass
class Plain:
    hidden: jax.Array
    note: str = "none"


class Pair(NamedTuple):
    first: Any
    second: Any


@jax.tree_util.register_pytree_with_keys_class
class Node:
    def __init__(self, value):
        self.value = value

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey("value"), self.value)], None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_outputs_may_be_any_structure():
    def network(x):
        inner = Pair(Plain(x + 1), [x + 2, (x + 3, None)])
        return Struct(logits=x[:3], extra={"inner": inner, "node": Node(x + 4)})

    model, variables = mj.wrap_model(network, num_samples=SAMPLES)
    names = ("extra/inner/first/hidden", "extra/inner/second_0", "extra/inner/second_1_0")
    assert set(model.stage_names) == {"logits", *names, "extra/node/value"}
    for i, name in enumerate([*names, "extra/node/value"], start=1):
        found = mj.stage_fn(model, name)(variables, SOUNDS[0])
        np.testing.assert_allclose(found, SOUNDS[0] + i, rtol=1e-6)


class WithStatistics(train_state.TrainState):
    batch_stats: Any


def test_a_train_state_is_taken_for_its_variables():
    network = Strangers([6, 8])
    held = network.init(KEY, jnp.zeros((1, SAMPLES, 1)), train=False)
    state = WithStatistics.create(
        apply_fn=network.apply, params=held["params"], tx=optax.sgd(0.1),
        batch_stats=held["batch_stats"],
    )  # fmt: skip
    model, variables = mj.wrap_model(
        network, state, num_samples=SAMPLES, prepare=_one_channel, call={"train": False}
    )
    jax.tree.map(np.testing.assert_array_equal, variables["model"], dict(held))
    assert model.stage_names == wrapped("linen")[0].stage_names
    with pytest.raises(ValueError, match="of params and other coll.*got one with batch_stats, a f"):
        mj.wrap_model(network, state.replace(batch_stats=3.0), num_samples=SAMPLES)


def test_what_goes_past_a_stage_is_told():
    def network(x):
        trunk = jnp.tanh(x)
        branch = jax.nn.relu(trunk * 2)
        joined = trunk + branch
        weights = jax.nn.softmax(joined)
        turned = joined.reshape(2, -1).T
        return {
            "trunk": trunk, "branch": branch, "joined": joined, "weights": weights,
            "turned": turned, "answer": (weights * joined).sum() + turned.sum(),
        }  # fmt: skip

    model, _ = mj.wrap_model(network, num_samples=SAMPLES)
    bypassed = {stage.name: stage.bypassed for stage in model.stages}
    assert bypassed == {
        "trunk": False, "branch": True, "relu_1": True, "joined": False, "weights": True,
        "turned": False, "answer": False,
    }  # fmt: skip
    assert str(model.stage("branch")).endswith("a ReLU's, bypassed")


# Errors.


def scanned(waveform):
    return jax.lax.scan(lambda c, _: (jax.nn.relu(c), None), waveform, None, length=2)[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mj.wrap_model(Tower, num_samples=9), "got the class Tower"),
        (lambda: mj.wrap_model(3.0, num_samples=9), "a function, got float"),
        (lambda: mj.wrap_model(nn.Dense(3), num_samples=9), "variables must be given"),
        (lambda: mj.wrap_model(jnp.sin), "num_samples.*got None"),
        (lambda: mj.wrap_model(Tower(nnx.Rngs(0)), {}, num_samples=9), "must not be given"),
        (lambda: mj.wrap_model(function, {"a": "b"}, num_samples=9), r"got a str at \['a'\]"),
        (lambda: mj.wrap_model(lambda x: None, num_samples=9), "no activation to match"),
        (
            lambda: mj.wrap_model(jnp.sin, cochleagram=configs.CochleagramConfig(), num_samples=9),
            "the cochleagram's, 16000, got 9",
        ),
        (lambda: mj.stage_fn(wrapped("function")[0], "fc"), r"\('output_0', .*got 'fc'"),
        (lambda: mj.stage_fn(wrapped("linen")[0], "output_1"), "'output_1' is int32"),
        (
            lambda: mj.stage_fn(mj.wrap_model(scanned, num_samples=9)[0], "output"),
            "inside a loop.*relu_override=False",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_sound_of_another_length_or_type_is_refused():
    model, variables = wrapped("function")
    fn = mj.stage_fn(model, "relu_1")
    with pytest.raises(ValueError, match=r"\[240\] samples, got shape \(239,\)"):
        mj.synthesize(KEY, SOUNDS[:, 1:], [0, 1], stage_fn=fn, variables=variables)
    with pytest.raises(ValueError, match="floating point.*int16"):
        fn(variables, np.zeros(SAMPLES, np.int16))
    with pytest.raises(ValueError, match="targets must be floating point.*int16"):
        mj.synthesize(KEY, SOUNDS.astype(np.int16), [0, 1], stage_fn=fn, variables=variables)


def test_the_models_own_errors_say_what_it_was_given():
    network = nn.Dense(3)
    variables = network.init(KEY, jnp.zeros((1, 17)))
    with pytest.raises(Exception, match="shape") as caught:
        mj.wrap_model(network, variables, num_samples=SAMPLES)
    assert "given one sound of shape (240,), batch_axis=True" in caught.value.__notes__[0]


def test_half_precision_is_matched_in_single():
    model, variables = mj.wrap_model(lambda x: x.astype(jnp.bfloat16), num_samples=SAMPLES)
    assert model.stage("output").dtype == "bfloat16"
    assert mj.stage_fn(model, "output")(variables, SOUNDS[0]).dtype == jnp.float32


def test_what_the_package_lists_is_there():
    for name in mj.__all__:
        assert getattr(mj, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mj.nothing  # noqa: B018
