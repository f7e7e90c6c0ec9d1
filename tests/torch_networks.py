"""The networks of Feather et al. (2023) as PyTorch computes them, written out in NumPy.

State dictionaries have PyTorch's names and layouts: kernels [output, input, extent, extent],
activations [batch, feature, channel, frame].
"""

import numpy as np

CNN9_EXTENTS = ((7, 14), (4, 8), (2, 5), (2, 5), (2, 5))


def correlate(x, kernel, strides, pads):
    """A convolution as PyTorch calls it; `pads` are points before and after both axes."""
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1]]
    return np.einsum("bihwxy,oixy->bohw", windows, kernel, optimize=True)


def pool(x, reduce, extent, strides, pads, fill):
    x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(2, 3))
    return reduce(windows[:, :, :: strides[0], :: strides[1]], axis=(-2, -1))


def same(sizes, extent, strides):
    """TensorFlow's padding, larger at the end."""
    totals = [
        max((int(np.ceil(n / s)) - 1) * s + k - n, 0)
        for n, k, s in zip(sizes, extent, strides, strict=True)
    ]
    return [(t // 2, t - t // 2) for t in totals]


def batch_norm(x, state, name):
    mean, var, weight, bias = (
        state[f"{name}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def relu(x):
    return np.maximum(x, 0)


def cnn9(state, x):
    """Stages of CochCNN9 for cochleagrams [batch, channel, frame]."""
    stages = {"cochleagram": x}
    x = batch_norm(x[:, None], state, "batchnorm0")
    for i, strides in enumerate(((3, 3), (2, 2), (1, 1), (1, 1), (1, 1))):
        kernel = state[f"conv{i}.weight"]
        x = relu(correlate(x, kernel, strides, same(x.shape[2:], kernel.shape[2:], strides)))
        stages[f"relu{i}"] = x
        if i < 2:
            pads = same(x.shape[2:], (2, 5), (2, 2))
            x = pool(x, np.max, (2, 5), (2, 2), pads, -np.inf)
            x = batch_norm(x, state, f"batchnorm{i + 1}")
    pads = same(x.shape[2:], (2, 5), (2, 2))
    x = stages["avgpool"] = pool(x, np.mean, (2, 5), (2, 2), pads, 0.0)
    x = x.reshape(len(x), -1) @ state["fullyconnected.weight"].T + state["fullyconnected.bias"]
    x = stages["relufc"] = relu(x)
    stages["final"] = x @ state["classification.weight"].T + state["classification.bias"]
    return stages


def resnet50(state, x, counts):
    """Stages of CochResNet50."""
    stages = {"cochleagram": x}
    x = correlate(x[:, None], state["conv1.weight"], (2, 2), [(3, 3)] * 2)
    x = stages["conv1_relu1"] = relu(batch_norm(x, state, "bn1"))
    x = pool(x, np.max, (3, 3), (2, 2), [(1, 1)] * 2, -np.inf)
    for group, count in enumerate(counts, start=1):
        for i in range(count):
            strides = (2, 2) if i == 0 and group > 1 else (1, 1)
            x = bottleneck(state, f"layer{group}.{i}", x, strides)
        stages[f"layer{group}"] = x
    x = stages["avgpool"] = x.mean((2, 3))
    stages["final"] = x @ state["fc.weight"].T + state["fc.bias"]
    return stages


def bottleneck(state, name, x, strides):
    y = correlate(x, state[f"{name}.conv1.weight"], (1, 1), [(0, 0)] * 2)
    y = relu(batch_norm(y, state, f"{name}.bn1"))
    y = correlate(y, state[f"{name}.conv2.weight"], strides, [(1, 1)] * 2)
    y = relu(batch_norm(y, state, f"{name}.bn2"))
    y = correlate(y, state[f"{name}.conv3.weight"], (1, 1), [(0, 0)] * 2)
    y = batch_norm(y, state, f"{name}.bn3")
    if f"{name}.downsample.0.weight" in state:
        x = correlate(x, state[f"{name}.downsample.0.weight"], strides, [(0, 0)] * 2)
        x = batch_norm(x, state, f"{name}.downsample.1")
    return relu(x + y)


class StateDict(dict):
    """A state dictionary of random weights, under PyTorch's names."""

    def __init__(self, seed):
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def weight(self, name, *shape):
        scale = np.sqrt(2 / np.prod(shape[1:]))
        self[f"{name}.weight"] = scale * self.rng.standard_normal(shape).astype(np.float32)

    def linear(self, name, outputs, inputs):
        self.weight(name, outputs, inputs)
        self[f"{name}.bias"] = self.rng.standard_normal(outputs).astype(np.float32)

    def norm(self, name, features):
        for part in ("weight", "bias", "running_mean", "running_var"):
            self[f"{name}.{part}"] = self.rng.uniform(0.5, 1.5, features).astype(np.float32)
        self[f"{name}.num_batches_tracked"] = np.int64(100)


def as_trained(state):
    """The state with floating-point numbers as PyTorch has them."""
    return {k: np.float32(v) if np.asarray(v).dtype.kind == "f" else v for k, v in state.items()}


def cnn9_state(widths, dense, words, flat, seed=0):
    """`flat`: size of the average pool's output."""
    state = StateDict(seed)
    for i, (inputs, outputs) in enumerate(zip((1, *widths), widths, strict=False)):
        state.weight(f"conv{i}", outputs, inputs, *CNN9_EXTENTS[i])
        if i < 3:
            state.norm(f"batchnorm{i}", inputs)
    state.linear("fullyconnected", dense, flat)
    state.linear("classification", words, dense)
    return state


def resnet50_state(features, counts, words, seed=0):
    state = StateDict(seed)
    state.weight("conv1", features, 1, 7, 7)
    state.norm("bn1", features)
    inputs = features
    for group, count in enumerate(counts, start=1):
        inner = features * 2 ** (group - 1)
        for i in range(count):
            name = f"layer{group}.{i}"
            shapes = ((inner, inputs, 1, 1), (inner, inner, 3, 3), (4 * inner, inner, 1, 1))
            for j, shape in enumerate(shapes, start=1):
                state.weight(f"{name}.conv{j}", *shape)
                state.norm(f"{name}.bn{j}", shape[0])
            if i == 0:
                state.weight(f"{name}.downsample.0", 4 * inner, inputs, 1, 1)
                state.norm(f"{name}.downsample.1", 4 * inner)
            inputs = 4 * inner
    state.linear("fc", words, inputs)
    return state
