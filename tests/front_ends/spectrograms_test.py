"""Spectrograms: librosa's and torchaudio's numbers, gradients, and what is refused."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

import metamer_jax as mj
from metamer_jax import front_ends

# Bands between two bins: meant, with few points.
pytestmark = pytest.mark.filterwarnings("ignore:Empty filters")

stft, mel_spectrogram, log_mel = (
    jax.jit(function, static_argnames="config")
    for function in (mj.stft, mj.mel_spectrogram, mj.log_mel)
)

STORED = np.load(pathlib.Path(__file__).parents[1] / "reference" / "torchaudio_spectrograms.npz")
SOUNDS = STORED["sounds"]  # [sound, time]: a swelling chord, noise.


def config_from(base="librosa", **changes):
    return dataclasses.replace(mj.SPECTROGRAMS[base], **changes)


def close_in_norm(found, expected):
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def close_in_db(found, expected, config):
    """To 1e-3 dB above the floor."""
    assert found.shape == expected.shape
    floor = expected.min() if config.range_db else 10 * np.log10(config.floor)
    above = expected > floor
    assert above.mean() > 0.2
    np.testing.assert_allclose(found[above], expected[above], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[~above], floor, rtol=0, atol=1e-3)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect", "edge", None])
@pytest.mark.parametrize(
    ("num_fft", "length", "hop"), [(512, None, None), (400, 321, 130), (255, 200, 300)]
)
def test_stft_is_librosas(pad_mode, num_fft, length, hop):
    config = config_from(
        num_fft=num_fft,
        window_length=length,
        hop_length=hop,
        center=pad_mode is not None,
        pad_mode=pad_mode or "constant",
    )
    found = stft(SOUNDS, front_ends.design_spectrogram(config), config=config)
    expected = librosa.stft(
        SOUNDS,
        n_fft=num_fft,
        win_length=length,
        hop_length=hop,
        center=config.center,
        pad_mode=config.pad_mode,
    )
    assert found.dtype == np.complex64 and found.shape[-1] == config.num_frames(4000)
    close_in_norm(np.asarray(found), expected)


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, {}),
        ({"mel_scale": "htk", "mel_norm": "none"}, {"htk": True, "norm": None}),
        (
            {"power": 1.0, "num_mels": 40, "low_hz": 60.0, "high_hz": 6000.0, "window": "hamming",
             "floor": 1e-5},
            {"power": 1.0, "n_mels": 40, "fmin": 60.0, "fmax": 6000.0, "window": "hamming"},
        ),
        ({"power": 1.5, "sample_rate_hz": 11025}, {"power": 1.5, "sr": 11025}),
    ],
)  # fmt: skip
def test_mel_spectrograms_are_librosas(changes, arguments):
    config = config_from(**{"num_fft": 1024, **changes})
    filters = front_ends.design_spectrogram(config)
    expected = librosa.feature.melspectrogram(
        y=SOUNDS, n_fft=1024, hop_length=256, **{"sr": 22050, **arguments}
    )
    found = mel_spectrogram(SOUNDS, filters, config=config)
    close_in_norm(np.asarray(found), expected)
    if config.power not in (1, 2):
        return
    to_db = librosa.power_to_db if config.power == 2 else librosa.amplitude_to_db
    found = log_mel(SOUNDS, filters, config=config)
    for one, mel in zip(found, expected, strict=True):
        close_in_db(np.asarray(one), to_db(mel, top_db=80.0), config)


TORCHAUDIO = {
    "default": config_from("torchaudio"),
    "slaney": config_from(
        "torchaudio", num_fft=512, window_length=320, hop_length=130, num_mels=40, low_hz=50.0,
        high_hz=7000.0, mel_norm="slaney", mel_scale="slaney", normalization="window",
        range_db=40.0,
    ),
    "magnitude": config_from(
        "torchaudio", power=1.0, center=False, num_mels=20, window="hamming"
    ),
    "odd_rate": config_from(
        "torchaudio", sample_rate_hz=11025, num_mels=30, pad_mode="constant", num_fft=401,
        range_db=80.0,
    ),
    "mfcc": config_from("torchaudio_mfcc", num_mels=40, pad_mode="edge"),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHAUDIO)
def test_spectrograms_are_torchaudios(name):
    config = TORCHAUDIO[name]
    filters = front_ends.design_spectrogram(config)
    spectrum = stft(SOUNDS, filters, config=config)
    expected = STORED[f"{name}/spectrogram"]
    close_in_norm((np.abs(spectrum) ** config.power)[:, ::5, ::3], expected)
    found = mel_spectrogram(SOUNDS, filters, config=config)
    close_in_norm(np.asarray(found), STORED[f"{name}/mel"])
    found = np.asarray(log_mel(SOUNDS, filters, config=config))
    for one, expected in zip(found, STORED[f"{name}/log"], strict=True):
        if config.log == "offset":
            np.testing.assert_allclose(one, expected, rtol=0, atol=1e-3 * np.log(10) / 10)
        else:
            close_in_db(one, expected, config)


@pytest.mark.parametrize(
    "changes",
    [
        {"log": "offset", "floor": 1e-3, "pad_mode": "reflect"},
        {"power": 1.0, "hop_length": 37, "range_db": None, "normalization": "frame_length"},
        {"range_db": 15.0, "center": False},
    ],
)
def test_gradients_are_finite_differences(changes):
    config = config_from(num_fft=64, num_mels=6, sample_rate_hz=8000, **changes)
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        filters = front_ends.design_spectrogram(config, dtype=np.float64)
        sound, direction = jnp.asarray(rng.standard_normal((2, 200)))

        @jax.jit
        def weighted(x):
            heard = front_ends.log_mel(x, filters, config=config)
            return jnp.sum(heard * jnp.cos(jnp.arange(heard.size)).reshape(heard.shape))

        h = 1e-6
        slope = (weighted(sound + h * direction) - weighted(sound - h * direction)) / (2 * h)
        found = jax.grad(weighted)(sound) @ direction
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, slope, rtol=1e-6)


def test_silence_has_a_gradient_of_zero():
    for changes in ({}, {"power": 1.0}, {"power": 1.5, "log": "offset"}):
        config = config_from(num_fft=64, num_mels=6, **changes)
        filters = front_ends.design_spectrogram(config)
        gradient = jax.grad(lambda x, f=filters, c=config: log_mel(x, f, config=c).sum())
        np.testing.assert_array_equal(gradient(np.zeros(100, np.float32)), 0)


def test_a_range_is_each_sounds_own_in_any_batch():
    config = config_from(num_fft=256, num_mels=20, range_db=30.0)
    filters = front_ends.design_spectrogram(config)
    loud_and_soft = SOUNDS[::-1] * np.float32([[1.0], [0.01]])
    hear = jax.jit(functools.partial(front_ends.log_mel, filters=filters, config=config))
    together, alone = hear(loud_and_soft), hear(loud_and_soft[1])
    np.testing.assert_allclose(together[1], alone, atol=1e-4)
    np.testing.assert_allclose(jax.vmap(hear)(loud_and_soft), together, atol=1e-4)
    assert np.isclose(alone.max() - alone.min(), 30)


def test_a_front_end_is_part_of_a_model():
    config = config_from("torchaudio", num_mels=20)
    variables = {
        "filters": front_ends.design_spectrogram(config),
        "kernel": jnp.eye(20)[:, :3],
    }

    def network(variables, waveform):
        heard = front_ends.log_mel(waveform, variables["filters"], config=config)
        return {"log_mel": heard, "classes": heard.mean(-1) @ variables["kernel"]}

    model, variables = mj.wrap_model(network, variables, num_samples=4000)
    assert [str(stage) for stage in model.stages] == [
        "log_mel: 20 x 21 float32",
        "classes: 3 float32",
    ]
    heard = mj.stage_fn(model, "log_mel")(variables, SOUNDS[0])
    close_in_norm(
        np.asarray(heard),
        np.asarray(log_mel(SOUNDS[0], variables["model"]["filters"], config=config)),
    )


def test_what_cannot_be_is_refused():
    for changes, match in (
        ({"pad_mode": "replicate"}, "pad_mode must be one of"),
        ({"power": 0.5}, "power must be a number at least 1"),
        ({"window_length": 4096}, "window_length must not exceed num_fft=2048"),
        ({"high_hz": 12000.0}, "must ascend from 0 to at most 11025"),
        ({"num_mels": 0}, "num_mels must be a whole number at least 1, got 0"),
        ({"floor": 0.0}, "floor must be a positive number"),
    ):
        with pytest.raises(ValueError, match=match):
            config_from(**changes)
    for changes, needed in (({"pad_mode": "reflect"}, 1025), ({"center": False}, 2048)):
        config = config_from(**changes)
        filters = front_ends.design_spectrogram(config)
        with pytest.raises(ValueError, match=f"at least {needed} samples, got 1000"):
            front_ends.stft(np.zeros(1000, np.float32), filters, config=config)
