"""torchax, which runs PyTorch under JAX, imported beside the PyTorch that is installed.

torchax 0.0.13 names overloads with named dimensions (`prod.dim_Dimname`, ...) that PyTorch 2.13 has
no more, and so cannot be imported beside it. Nobody calls them: placeholders stand in for them
while it is imported. This module goes when torchax no longer needs it.
"""

import contextlib
import importlib
import importlib.util
import pathlib
import re
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

INSTALL = 'pip install "metamer_jax[torch]"'

# How JAX computes operators of PyTorch's, where torchax does not say.
LOWERINGS: dict[Any, Callable[..., Any]] = {}


def register_torch_lowering(operator: Any, function: Callable[..., Any]) -> None:
    """Says how JAX computes an operator of PyTorch's, in every model from now on.

    Args:
        operator: `torch.ops.aten.<name>`, `torch.ops.aten.<name>.<overload>` or a function such
            as `torch.stft`, which is met before the operators it is made of.
        function: The same of `jax.Array`s, with the operator's own arguments.
    """
    LOWERINGS[operator] = function


def import_torchax() -> types.ModuleType:
    """Returns torchax.

    Raises:
        ImportError: PyTorch or torchax is missing, or one does not fit the other.
    """
    for name in ("torch", "torchax"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"PyTorch modules need {name}, which is not installed: {INSTALL}")
    try:
        with _placeholders():
            torchax = importlib.import_module("torchax")
            torchax.tensor.Environment()  # Imports its operators.
            return torchax
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"torchax {metadata.version('torchax')} does not fit torch "
            f"{metadata.version('torch')} ({error}): {INSTALL} finds versions that do"
        ) from error


@contextlib.contextmanager
def _placeholders() -> Iterator[None]:
    """Gives operators the overloads that torchax's source names and PyTorch lacks."""
    import torch  # pyrefly: ignore[missing-import]: an extra

    spec = importlib.util.find_spec("torchax")
    assert spec is not None and spec.submodule_search_locations  # It was found before.
    (folder,) = spec.submodule_search_locations
    source = "".join(path.read_text("utf-8") for path in pathlib.Path(folder).rglob("*.py"))
    lacking = []
    for operator, overload in set(re.findall(r"torch\.ops\.aten\.(\w+)\.(\w+)", source)):
        packet = getattr(torch.ops.aten, operator, None)
        if packet is not None and not hasattr(packet, overload):
            setattr(packet, overload, f"aten::{operator}.{overload}, which PyTorch lacks")
            lacking.append((packet, overload))
    try:
        yield
    finally:
        for packet, overload in lacking:
            delattr(packet, overload)
