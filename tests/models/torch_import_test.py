"""Weights from PyTorch: every stage as a forward pass in NumPy has it; names, files, refusals."""

import functools
import json

import jax
import numpy as np
import pytest
import torch_networks

from metamer_jax import models
from metamer_jax.models import torch_import

SIZE = {"num_channels": 31, "num_frames": 42}
X = np.random.default_rng(0).gamma(2.0, 1.0, (2, 31, 42)).astype(np.float32)
WIDTHS, DENSE, COUNTS = (3, 4, 5, 6, 4), 7, (2, 1, 1, 1)
CNN9 = {"name": "cochcnn9", "conv_features": WIDTHS, "dense_features": DENSE}
# Frames: 42 / 3 = 14, pool 7, convolution 4, pool 2, pool 1; channels: 11, 6, 3, 2, 1.
CNN9_STATE = torch_networks.cnn9_state(WIDTHS, DENSE, words=3, flat=4)


@functools.partial(jax.jit, static_argnames="model")
def apply(variables, x, *, model):
    return model.apply(variables, x)


def check(settings, state, expected):
    model = models.build_model(settings, num_words=3)
    variables = torch_import.from_torch(state, model, **SIZE)
    logits, stages = apply(variables, X, model=model)
    assert list(stages) == list(expected) == list(model.stage_names)
    for name, found in stages.items():
        found = np.moveaxis(found, -1, 1) if found.ndim == 4 else np.asarray(found)
        scale = np.abs(expected[name]).max()
        assert scale > 0.1 and found.shape == expected[name].shape, name
        np.testing.assert_allclose(found, expected[name], atol=1e-5 * scale, err_msg=name)
    np.testing.assert_array_equal(logits, stages["final"])


def test_cochcnn9_hears_what_numpy_computes():
    check(CNN9, CNN9_STATE, torch_networks.cnn9(CNN9_STATE, X))


def test_cochresnet50_hears_what_numpy_computes():
    settings = {"name": "cochresnet50", "features": 2, "block_counts": COUNTS}
    state = torch_networks.resnet50_state(2, COUNTS, words=3)
    check(settings, state, torch_networks.resnet50(state, X, COUNTS))


def modulated(x, rates, scales, frame_rate_hz, channels_per_erb):
    """Transfer functions [filter, channel, frame] and filtered x, by two-dimensional FFTs."""
    channels, frames = 2 * x.shape[1], 3 * x.shape[2]
    f = np.fft.fftfreq(frames)[None, :]
    s = np.fft.fftfreq(channels)[:, None]
    f[:, frames // 2] = s[channels // 2] = np.nan  # Half the sampling rate has no sign.
    made = []
    for sign in (-1, 1):
        for scale in scales:
            for rate in rates:
                if sign == 1 and not (rate and scale):
                    continue
                in_time = np.zeros(frames, complex)
                in_time[0] = 1
                if rate:
                    t = np.arange(x.shape[2]) / frame_rate_hz * rate
                    h = np.sin(2 * np.pi * t) * t**2 * np.exp(-3.5 * t)
                    in_time = np.fft.fft(np.pad(h - h.mean(), (0, frames - len(h))))
                    size = np.abs(in_time) / np.abs(in_time).max()
                    if rate == rates[-1]:
                        peak = size[: frames // 2 + 1].argmax()
                        size[peak : frames - peak + 1] = 1
                    in_time = size * np.exp(1j * np.angle(in_time))
                in_pitch = np.zeros(channels)
                in_pitch[0] = 1
                if scale:
                    r = np.abs(np.fft.fftfreq(channels) * channels_per_erb / scale)
                    in_pitch = r**2 * np.exp(-(r**2))
                    in_pitch /= in_pitch.max()
                    if scale == scales[-1]:
                        peak = in_pitch[: channels // 2 + 1].argmax()
                        in_pitch[peak : channels - peak + 1] = 1
                both = in_pitch[:, None] * in_time
                both[(f * s * sign) < 0] = 0
                made.append(both)
    spectrum = np.fft.fft2(x, (channels, frames))
    filtered = np.fft.ifft2(spectrum[:, None] * np.array(made)).real
    return np.array(made), filtered[:, :, : x.shape[1], : x.shape[2]]


SPECTEMP = {
    "name": "spectemp",
    "temporal_rates_hz": (0, 5, 40),
    "spectral_rates": (0, 0.5, 2),
    "rescale": 2.0,
}


@pytest.fixture(scope="module")
def spectemp():
    transfer, filtered = modulated(2.0 * X, (0, 5, 40), (0, 0.5, 2), 200, 6)
    state = torch_networks.StateDict(0)
    state.linear("classification", 3, 13 * 31)
    parts = np.stack([transfer.real, transfer.imag], axis=-1)
    state["spectempfilterbank.apply_filt.all_Hts"] = parts.astype(np.float32)
    return state, filtered


def test_spectemp_hears_what_numpy_computes(spectemp):
    state, filtered = spectemp
    power = np.maximum(filtered**2, 1e-8)
    averages = power.mean(-1)
    model = models.build_model(SPECTEMP, num_words=3)
    assert filtered.shape[1] == len(model.modulations) == 13
    variables = torch_import.from_torch(state, model, **SIZE)
    _, stages = apply(variables, X, model=model)
    weight, bias = state["classification.weight"], state["classification.bias"]
    expected = {
        "cochleagram": X,
        "filtered_signal": filtered,
        "spectempfilter_power": power,
        "avgpool": averages,
        "final": averages.reshape(2, -1) @ weight.T + bias,
    }
    assert list(stages) == list(expected) == list(model.stage_names)
    for name, found in stages.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found, expected[name], atol=1e-5 * scale, err_msg=name)


def test_other_filters_are_refused(spectemp):
    model = models.build_model({**SPECTEMP, "spectral_rates": (0, 0.5, 1)}, num_words=3)
    with pytest.raises(ValueError, match=r"must be the filters of .* set temporal_rates_hz"):
        torch_import.from_torch(spectemp[0], model, **SIZE)


def write_safetensors(path, arrays):
    """As the format is described, and not as the reader reads it."""
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, (array, dtype) in arrays.items():
        data = array.tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(content), len(content) + len(data)],
        }
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(np.uint64(len(text)).tobytes() + text + content)


def test_files(tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "state.npz", **{"a.weight": weight})
    halves = (np.float32([1.0, -2.5]).view(np.uint32) >> 16).astype(np.uint16)
    write_safetensors(
        tmp_path / "state.safetensors",
        {
            "a.weight": (weight, "F32"),
            "b": (np.float16([[0.5]]), "F16"),
            "c": (np.int64(7), "I64"),
            "d": (halves, "BF16"),
        },
    )
    assert list(torch_import.read_state_dict(tmp_path / "state.npz")) == ["a.weight"]
    found = torch_import.read_state_dict(tmp_path / "state.safetensors")
    np.testing.assert_array_equal(found.pop("a.weight"), weight)
    assert {k: v.tolist() for k, v in found.items()} == {"b": [[0.5]], "c": 7, "d": [1.0, -2.5]}

    content = (tmp_path / "state.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-3])
    with pytest.raises(ValueError, match="no whole .safetensors file"):
        torch_import.read_state_dict(tmp_path / "cut.safetensors")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}]))
    with pytest.raises(ValueError, match="plain arrays"):
        torch_import.read_state_dict(tmp_path / "pickled.npz")
    for ending in (".npz", ".safetensors"):
        for content, message in (
            (b"version https://git-lfs.github.com/spec/v1\nsize 1234567\n", "a git-lfs pointer"),
            (b"<!DOCTYPE html><html>", "is a web page"),
            (b"nothing", f"is no {ending} file: it begins with"),
        ):
            (tmp_path / f"other{ending}").write_bytes(content)
            with pytest.raises(ValueError, match=message) as caught:
                torch_import.read_state_dict(tmp_path / f"other{ending}")
            assert "allow_pickle" not in str(caught.value)
    about = {"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    header = json.dumps(about).encode()
    small = len(header).to_bytes(8, "little") + header + b"ab"
    (tmp_path / "small.safetensors").write_bytes(small)
    with pytest.raises(ValueError, match="tensors of unsupported types, F8_E4M3: save them as"):
        torch_import.read_state_dict(tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match="must end in .npz or .safetensors"):
        torch_import.read_state_dict(tmp_path / "state.pt")


def test_what_does_not_fit_is_refused():
    model = models.build_model(CNN9, num_words=3)

    def load(state, **prefix):
        return torch_import.from_torch(state, model, **SIZE, **prefix)

    whole = {f"model.1.{k}": v for k, v in CNN9_STATE.items()} | {"model.0.coch_filters": X}
    load(whole, prefix="model.1.")
    message = r"lacks batchnorm0.bias, .*\(21 in all\) and has also model.0.coch"
    with pytest.raises(ValueError, match=message):
        load(whole)
    less = {k: v for k, v in CNN9_STATE.items() if k != "batchnorm2.running_var"}
    with pytest.raises(ValueError, match=r"lacks batchnorm2.running_var \(1 in all\)"):
        load(less)
    with pytest.raises(ValueError, match=r"has also conv5.bias \(1 in all\)"):
        load({**CNN9_STATE, "conv5.bias": X})
    wider = {**CNN9_STATE, "classification.weight": np.zeros((4, DENSE), np.float32)}
    with pytest.raises(
        ValueError, match=r"'classification.weight' must make .*\(7, 3\), got \(7, 4"
    ):
        load(wider)
