"""Weights of the networks of Feather et al. (2023) that were trained in PyTorch.

    state = read_state_dict("cochcnn9.npz")     # or .safetensors; .pt: `torch_checkpoints`
    model = build_model("cochcnn9", num_words=794)
    variables = from_torch(state, model, num_channels=211, num_frames=390, prefix="module.model.1.")

Our layers are called as theirs: a name differs in the last part ("weight" is "kernel" or "scale"),
in the number of a block ("layer1.0." is "layer1_0") and in the order of a kernel's axes.
"""

import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import flax
import jax.numpy as jnp
import numpy as np

from metamer_jax.models import torch_checkpoints
from metamer_jax.models.blocks import CochleagramNetwork
from metamer_jax.storage import ZIP_DAMAGE

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# Counts of batches, which only a PyTorch batch norm without a momentum uses.
_IGNORED = re.compile(r"(^|\.)num_batches_tracked$")
# Fixed filters, which are designed here: `_check_filters` compares them.
_FILTERS = "spectempfilterbank.apply_filt.all_Hts"
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
    "BF16": "bfloat16",
}


# How a file of each kind begins: a zip; eight bytes, and a header as JSON.
_BEGINNINGS = {".npz": rb"PK", ".safetensors": rb".{8}\s*\{"}


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a state dictionary that was exported from PyTorch.

    Args:
        path: A .npz of plain arrays, or a .safetensors file; for pickles (.pt, .pth) there is
            `torch_checkpoints.read_checkpoint`.

    Returns:
        Arrays by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another kind, or damaged.
    """
    path = pathlib.Path(path)
    if path.suffix not in _BEGINNINGS:
        raise ValueError(f"path must end in .npz or .safetensors, got {path}")
    with path.open("rb") as file:
        head = file.read(512)
    if not re.match(_BEGINNINGS[path.suffix], head, re.DOTALL):
        kind = torch_checkpoints.other_kind(head)
        raise ValueError(
            f"{path} is {kind or f'no {path.suffix} file: it begins with {head[:12]!r}'}"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, KeyError, OSError, *ZIP_DAMAGE) as error:
        objects = "allow_pickle" in str(error)
        raise ValueError(
            f"{path} must hold plain arrays: {'it has Python objects' if objects else error}"
        ) from error


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Eight bytes that say how long the header is, the header as JSON, the arrays."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:start])
        tensors = {name: about for name, about in header.items() if name != "__metadata__"}
        unknown = sorted({about["dtype"] for about in tensors.values()} - _DTYPES.keys())
        if not unknown:
            return {name: _array(content[start:], **about) for name, about in tensors.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no whole .safetensors file: {error!r}") from error
    raise ValueError(
        f"{path} holds tensors of unsupported types, {', '.join(unknown)}: save them as float32"
    )


def _array(content, *, dtype, shape, data_offsets):
    start, end = data_offsets
    array = np.frombuffer(content[start:end], _DTYPES[dtype]).reshape(shape)
    return array.astype(np.float32) if dtype == "BF16" else array


def from_torch(
    state_dict: Mapping[str, np.ndarray],
    model: CochleagramNetwork,
    *,
    num_channels: int,
    num_frames: int,
    prefix: str = "",
) -> dict[str, Any]:
    """Makes a network's variables of a PyTorch state dictionary.

    Args:
        state_dict: Names to arrays; only the network's own, but for `prefix`.
        model: The network, with the widths and number of words of the state dictionary.
        num_channels: Channels of the cochleagrams that it is for.
        num_frames: Likewise.
        prefix: Of the names of the network's part, where the state dictionary holds more; what has
            another prefix is left out.

    Returns:
        {"params", "normalization"} and, if the network has batch norms, "batch_stats", float32.

    Raises:
        ValueError: An array is missing, or there is one that the network does not have, or one is
            of another shape, or fixed filters are not those of the model.
    """
    given = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
    given = {name: array for name, array in given.items() if not _IGNORED.search(name)}
    filters = given.pop(_FILTERS, None)
    if filters is not None:
        _check_filters(np.asarray(filters), model, num_channels, num_frames)
    shapes = model.variable_shapes(num_channels, num_frames)
    scalars = shapes.pop("normalization")
    leaves: dict[Any, Any] = flax.traverse_util.flatten_dict(shapes)
    names = {path: torch_name(path) for path in leaves}
    _check_names(set(given), set(names.values()))
    arrays = {path: _turned(given[name], path) for path, name in names.items()}
    _check_shapes({names[p]: (arrays[p].shape, leaf.shape) for p, leaf in leaves.items()})
    made = {path: jnp.asarray(array, jnp.float32) for path, array in arrays.items()}
    # As a network that was not standardised.
    fitted = {name: jnp.full((), name == "variance", leaf.dtype) for name, leaf in scalars.items()}
    return {**flax.traverse_util.unflatten_dict(made), "normalization": fitted}


def torch_name(path: tuple[str, ...]) -> str:
    """Translates the path of a leaf of the variables into its name in PyTorch.

    ("params", "layer1_0", "downsample_1", "scale") is "layer1.0.downsample.1.weight".

    Args:
        path: Keys of nested dictionaries, the collection first.

    Returns:
        The name in a state dictionary.
    """
    *modules, leaf = path[1:]
    numbered = (re.sub(r"_(\d+)$", r".\1", module) for module in modules)
    return ".".join((*numbered, _LEAVES.get(leaf, leaf)))


def _check_names(given: set[str], expected: set[str]) -> None:
    problems = [
        f"{what} {', '.join(sorted(names)[:5])}{', ...' * (len(names) > 5)} ({len(names)} in all)"
        for what, names in (("lacks", expected - given), ("has also", given - expected))
        if names
    ]
    if problems:
        raise ValueError(f"state_dict {' and '.join(problems)}; does prefix fit?")


def _turned(array: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
    array = np.asarray(array)
    if path[-1] == "kernel" and array.ndim > 1:  # [output, input, ...] to [..., input, output].
        array = np.moveaxis(array, (0, 1), (-1, -2))
    return array


def _check_shapes(shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    other = [
        f"{name!r} must make an array of shape {wanted}, got {given}"
        for name, (given, wanted) in shapes.items()
        if given != wanted
    ]
    if other:
        raise ValueError(
            f"{'; '.join(other[:5])}{'; ...' * (len(other) > 5)} ({len(other)} in all): are they "
            "of other widths, or for cochleagrams of another size?"
        )


def _check_filters(given, model, num_channels, num_frames):
    """Compares fixed transfer functions [filter, channel, frame, real and imaginary]."""
    from metamer_jax.models import spectemp

    if not isinstance(model, spectemp.SpecTemp):
        raise ValueError(f"state_dict has also {_FILTERS}, which only SpecTemp has")
    shape = (len(model.modulations), 2 * num_channels, 3 * num_frames, 2)
    ours = spectemp.transfer_functions(model, num_channels, num_frames)
    if given.shape != shape or not all(
        np.allclose(own, theirs[..., 0] + 1j * theirs[..., 1], atol=1e-4)
        for own, theirs in zip(ours, given, strict=True)
    ):
        raise ValueError(
            f"{_FILTERS} must be the filters of {model.modulations}, {shape}, got others, "
            f"{given.shape}: set temporal_rates_hz and spectral_rates"
        )
