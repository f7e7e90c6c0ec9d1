"""Trees of arrays as npz files: named leaves, written at once or not at all, no pickles.

A file holds one array for each leaf, under its path in the tree ("params/conv1/kernel"), and beside
them `schema_version` and, as JSON text, `metadata`.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np

from metamer_jax.storage.reading import read_npz
from metamer_jax.storage.writing import write_npz

SCHEMA_VERSION = 1
_VERSION, _METADATA = "schema_version", "metadata"


def save(path: str | os.PathLike, tree: Any, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a tree of arrays; a file of that name is replaced only by a whole one.

    Args:
        path: Ends in ".npz".
        tree: Dicts, named tuples, tuples and registered dataclasses of arrays and numbers.
        metadata: What JSON can hold, e.g. the settings the arrays were made with.

    Raises:
        ValueError: A leaf is not an array of numbers, or two leaves have one name.
    """
    arrays: dict[str, np.ndarray | np.generic] = {}
    for name, leaf in _named_leaves(tree)[0]:
        array = np.asarray(leaf)
        if array.dtype.hasobject or array.dtype.names:
            raise ValueError(f"tree must hold arrays of numbers, got {array.dtype} at {name!r}")
        if name in arrays or name in (_VERSION, _METADATA):
            raise ValueError(f"tree must have distinct leaf names, got {name!r} twice")
        arrays[name] = array
    arrays[_VERSION] = np.int64(SCHEMA_VERSION)
    arrays[_METADATA] = np.array(json.dumps(dict(metadata or {})))
    write_npz(path, arrays)


def load(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a tree of dicts, such as a network's variables.

    Returns:
        The tree as nested dicts of NumPy arrays, whatever it was made of, and the metadata.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or not one of ours, or of another schema version.
    """
    arrays, metadata = _read(path)
    return flax.traverse_util.unflatten_dict(arrays, sep="/"), metadata


def restore(path: str | os.PathLike, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads a tree back into the structure it had.

    Args:
        path: What `save` wrote.
        like: A tree of the same structure, shapes and dtypes, e.g. `training.init_state(...)`;
            arrays or `jax.ShapeDtypeStruct`s.

    Returns:
        The tree, its leaves NumPy arrays, and the metadata.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or its leaves are not those of `like`.
    """
    arrays, metadata = _read(path)
    leaves, structure = _named_leaves(like)
    expected = {name for name, _ in leaves}
    if missing := sorted(expected - set(arrays)):
        raise ValueError(f"{path} lacks {missing[0]!r} ({len(missing)} leaves in all)")
    if unknown := sorted(set(arrays) - expected):
        raise ValueError(f"{path} holds {unknown[0]!r} ({len(unknown)} leaves) that nobody wants")
    for name, leaf in leaves:
        wanted, found = _signature(leaf), _signature(arrays[name])
        if wanted != found:
            raise ValueError(f"{path} must hold {name!r} as {wanted}, got {found}")
    return jax.tree.unflatten(structure, [arrays[name] for name, _ in leaves]), metadata


def _signature(leaf: Any) -> str:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return f"{np.dtype(dtype)}{list(np.shape(leaf))}"


def _named_leaves(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(p, simple=True, separator="/"), x) for p, x in leaves], structure


def _read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = read_npz(path)
    try:
        version, metadata = arrays.pop(_VERSION), json.loads(str(arrays.pop(_METADATA)))
    except KeyError as error:
        raise ValueError(f"{path} is no checkpoint: it has no {error}") from error
    if int(version) != SCHEMA_VERSION:
        raise ValueError(f"{path} must have schema version {SCHEMA_VERSION}, got {version}")
    return arrays, metadata
