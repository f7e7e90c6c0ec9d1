"""Models in other people's styles as functions that name what they compute.

Each adapter maps (variables, one input without a batch axis) to {name: array}. It is hashable, and
equal to one of an equal model, so that jit compiles it once.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

Activations = dict[str, jax.Array]

_ARRAYS = (jax.Array, np.ndarray)


class Static:
    """Anything as a static argument: compared by value where it can be hashed, else by identity."""

    def __init__(self, value: Any):
        self.value = value
        try:
            self._hash = hash(value)
            self._by_value = True
        except TypeError:  # E.g. a module with a list or an array among its fields.
            self._hash = id(value)
            self._by_value = False

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        if self._by_value and other._by_value:
            return self._hash == other._hash and self.value == other.value
        return self.value is other.value


@dataclasses.dataclass(frozen=True)
class Adapter:
    """What the adapters share.

    Attributes:
        model: The model, or what of it does not change.
        call: The call's further keyword arguments, (name, value) pairs.
        batch_axis: Whether the model takes and gives batches.
        prepare: Changes an input before the batch axis is added.
        method: The method to call.
    """

    model: Static
    call: Static
    batch_axis: bool
    prepare: Callable[[jax.Array], Any] | None = None
    method: str | None = None

    def _input(self, x: jax.Array) -> Any:
        x = x if self.prepare is None else self.prepare(x)
        return jax.tree.map(lambda leaf: leaf[None], x) if self.batch_axis else x


class Function(Adapter):
    """A function of (variables, input)."""

    def __call__(self, variables: Any, x: jax.Array) -> Activations:
        return _returned(self.model.value(variables, self._input(x), **dict(self.call.value)))


class FunctionOfInput(Adapter):
    """A function of the input alone."""

    def __call__(self, variables: Any, x: jax.Array) -> Activations:
        return _returned(self.model.value(self._input(x), **dict(self.call.value)))


class Linen(Adapter):
    """A linen module, of its variables."""

    def __call__(self, variables: Any, x: jax.Array) -> Activations:
        result, state = self.model.value.apply(
            variables,
            self._input(x),
            **dict(self.call.value),
            method=self.method,
            mutable=["intermediates"],
            capture_intermediates=lambda _, method: _is_captured(method),
        )
        return _joined(result, state.get("intermediates", {}))


class Nnx(Adapter):
    """An nnx module split in two: the graph is static, the state its variables."""

    def __call__(self, variables: Any, x: jax.Array) -> Activations:
        from flax import nnx

        module = nnx.merge(self.model.value, variables)
        run = module if self.method is None else getattr(module, self.method)
        capture = nnx.capture(run, nnx.Intermediate, method_outputs=nnx.Intermediate)
        result, state = capture(self._input(x), **dict(self.call.value))
        return _joined(result, nnx.to_pure_dict(state))


def is_nnx(model: Any) -> bool:
    """Whether it is an nnx module."""
    from flax import nnx

    return isinstance(model, nnx.Module)


def is_torch(model: Any) -> bool:
    """Whether it is a PyTorch module; PyTorch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def split_nnx(model: Any) -> tuple[Any, Any]:
    """Returns the graph and the state of a copy in evaluation mode; the module stays as it is."""
    from flax import nnx

    copy = nnx.clone(model)
    copy.eval()
    return nnx.split(copy)


def _is_captured(method: str) -> bool:
    return method == "__call__" or not (method.startswith("_") or method == "setup")


def _returned(result: Any) -> Activations:
    """Names what a model returns: keys of dictionaries, "output", "output_0", "output_1", ..."""
    return dict(named(result, "output", _ARRAYS))


def named(value: Any, name: str, kinds: type | tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """Yields (name, leaf) of the leaves of some kinds in a structure of any sort.

    Args:
        value: A leaf, or leaves in dictionaries, sequences, dataclasses, named tuples
            (HuggingFace's `ModelOutput` is a dictionary) or whatever JAX knows as a pytree.
        name: What to call it; "output" is left away before the names of fields.
        kinds: What is a leaf. Everything else that holds none is passed over.
    """
    if isinstance(value, kinds):
        yield name, value
    elif (fields := _fields(value)) is not None:
        inside = "" if name == "output" else f"{name}/"
        for key, inner in fields.items():
            yield from named(inner, f"{inside}{key}", kinds)
    elif isinstance(value, (tuple, list)):
        for i, inner in enumerate(value):
            # Of (logits, {"conv1": ...}) the stages are called as their author calls them.
            own = name if _fields(inner) is not None else f"{name}_{i}"
            yield from named(inner, own, kinds)


def _fields(value: Any) -> Mapping[str, Any] | None:
    """What a structure holds by name, one level deep; None where it has no names."""
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "_fields"):
        return value._asdict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if value is None or isinstance(value, (tuple, list)):
        return None
    held, _ = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda leaf: leaf is not value)
    return {jax.tree_util.keystr(path, simple=True): leaf for path, leaf in held if path} or None


def _joined(result: Any, intermediates: Mapping[str, Any]) -> Activations:
    """What a module returns, what it sows, and what its submodules return, in this order."""
    found = _returned(result)
    captured = list(_captured(intermediates, ()))
    for is_call in (False, True):
        for name, array, called in captured:
            if called == is_call:
                found.setdefault(name, array)
    return found


def _captured(tree, path) -> Iterator[tuple[str, jax.Array, bool]]:
    """Yields (name, array, whether it is a method's result) of a tree of intermediates."""
    for key, value in tree.items():
        called = key == "__call__"
        if called and not path:
            continue  # The model's own result.
        if isinstance(value, Mapping) and not called:
            yield from _captured(value, (*path, str(key)))
            continue
        name = "/".join(path if called else (*path, str(key)))
        values = value if isinstance(value, tuple) else (value,)
        for i, each in enumerate(values):
            own = name if len(values) == 1 else f"{name}[{i}]"
            yield from ((full, array, called) for full, array in named(each, own, _ARRAYS))
