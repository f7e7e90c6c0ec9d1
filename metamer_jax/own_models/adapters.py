"""Models in other people's styles as functions that name what they compute.

Each adapter maps (variables, one input without a batch axis) to a `Heard`. It is hashable, and
equal to one of an equal model, so that jit compiles it once.
"""

import contextlib
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax import nnx
from flax.training import train_state

Activations = dict[str, jax.Array]

_ARRAYS = (jax.Array, np.ndarray)


class Heard(NamedTuple):
    """What a model computes of one input.

    Attributes:
        activations: Arrays by name.
        returned: Names of those that the model returns.
        inside_loops: Submodules called inside a loop, whose outputs cannot be had.
    """

    activations: Activations
    returned: tuple[str, ...]
    inside_loops: tuple[str, ...] = ()


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
    """A function of (variables, input), or of the input alone where there are no variables."""

    def __call__(self, variables: Any, x: jax.Array) -> Heard:
        """What the model does with one sound or cochleagram."""
        own = () if variables is None else (variables,)
        return _joined(self.model.value(*own, self._input(x), **dict(self.call.value)))


class Linen(Adapter):
    """A linen module, of its variables."""

    def __call__(self, variables: Any, x: jax.Array) -> Heard:
        """What the model does with one sound or cochleagram."""
        called = {}

        def record(method, args, kwargs, context):
            result = method(*args, **kwargs)
            path = context.module.path
            if context.method_name == "__call__" and path and list(named(result, "", _ARRAYS)):
                called["/".join(path)] = path
            return result

        with nn.intercept_methods(record):
            result, state = self.model.value.apply(
                variables,
                self._input(x),
                **dict(self.call.value),
                method=self.method,
                mutable=["intermediates"],
                capture_intermediates=lambda _, method: _is_captured(method),
            )
        tree = state.get("intermediates", {})
        # What a lifted scan holds is not handed on.
        inside = [name for name, path in called.items() if "__call__" not in _at(tree, path)]
        return _joined(result, _captured(tree, ()), inside)


class Nnx(Adapter):
    """An nnx module split in two: the graph is static, the state its variables."""

    def __call__(self, variables: Any, x: jax.Array) -> Heard:
        """What the model does with one sound or cochleagram."""
        module = nnx.merge(self.model.value, variables)
        try:
            result, state = self._run(module, x, nnx.Intermediate)
            return _joined(result, _captured(nnx.to_pure_dict(state), ()))
        except TypeError:
            # A loop that carries modules, as `nnx.RNN` does, cannot carry what they give.
            module = nnx.merge(self.model.value, variables)
        with _recorded(module) as (calls, inside_loops):
            result, state = self._run(module, x, None)
        sown = _captured(nnx.to_pure_dict(state), ())
        return _joined(result, [*sown, *_captured(calls, ())], inside_loops())

    def _run(self, module, x, outputs):
        run = module if self.method is None else getattr(module, self.method)
        capture = nnx.capture(run, nnx.Intermediate, method_outputs=outputs)
        return capture(self._input(x), **dict(self.call.value))


@contextlib.contextmanager
def _recorded(module):
    """Records what the methods of a module's submodules return while the context lasts.

    Args:
        module: The module, whose classes are changed meanwhile.

    Yields:
        A tree {name of a submodule: {...: {method: (outputs, ...)}}}, and a function that returns
        which were called inside a loop: there they are copies.
    """
    paths = {id(m): tuple(map(str, path)) for path, m in nnx.iter_modules(module)}
    classes = {type(m) for _, m in nnx.iter_modules(module)}
    calls, elsewhere = {}, set()

    def recording(cls, name, method):
        @functools.wraps(method)
        def call(self, *args, **kwargs):
            result = method(self, *args, **kwargs)
            if cls is type(self) and id(self) in paths:  # Not by `super()`.
                held = _at(calls, paths[id(self)], make=True)
                held[name] = (*held.get(name, ()), result)
            elif cls is type(self):
                elsewhere.add(cls)
            return result

        return call

    def inside_loops():
        return [
            "/".join(paths[id(m)])
            for _, m in nnx.iter_modules(module)
            if type(m) in elsewhere and not _at(calls, paths[id(m)])
        ]

    with contextlib.ExitStack() as stack:
        for cls in classes:
            for name, method in inspect.getmembers(cls, inspect.isfunction):
                if name == "__call__" or _is_captured(name) and not hasattr(nnx.Module, name):
                    own = vars(cls).get(name)
                    if own is not None:
                        stack.callback(setattr, cls, name, own)
                    else:
                        stack.callback(delattr, cls, name)
                    setattr(cls, name, recording(cls, name, method))
        yield calls, inside_loops


def _at(tree, path, make=False):
    """What a tree of dictionaries holds at a path: nothing, or made, where it does not exist."""
    for key in path:
        tree = tree.setdefault(key, {}) if make else tree.get(key, {})
    return tree


def is_torch(model: Any) -> bool:
    """Whether it is a PyTorch module; PyTorch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def split_nnx(model: Any) -> tuple[Any, Any]:
    """Returns the graph and the state of a copy in evaluation mode; the module stays as it is."""
    copy = nnx.clone(model)
    copy.eval()
    return nnx.split(copy)


def of_train_state(variables: Any) -> Any:
    """Returns the variables of a linen module that a `TrainState` holds; others as they are.

    These are its `params`, and collections in fields that a subclass adds, e.g. `batch_stats`.

    Raises:
        ValueError: A field that a subclass adds is not a collection.
    """
    if not isinstance(variables, train_state.TrainState):
        return variables
    names = {field.name for field in dataclasses.fields(variables)}
    names -= {field.name for field in dataclasses.fields(train_state.TrainState)} - {"params"}
    found = {name: getattr(variables, name) for name in sorted(names)}
    for name, value in found.items():
        if not isinstance(value, Mapping):
            raise ValueError(
                "variables must be a TrainState of params and other collections, or "
                f"{{'params': ...}}, got one with {name}, a {type(value).__name__}"
            )
    whole = found.pop("params")
    return {**(whole if "params" in whole else {"params": whole}), **found}


def _is_captured(method: str) -> bool:
    return method == "__call__" or not (
        method.startswith("_") or method in ("setup", "initialize_carry")
    )


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


def _joined(
    result: Any,
    captured: Iterable[tuple[str, jax.Array, bool]] = (),
    inside_loops: Iterable[str] = (),
) -> Heard:
    """What a model returns, what it sows, and what its submodules return, in this order."""
    # What is returned is called by the keys of dictionaries or "output", "output_0", ...
    found = dict(named(result, "output", _ARRAYS))
    returned = tuple(found)
    captured = list(captured)
    for is_call in (False, True):
        for name, array, called in captured:
            if called == is_call:
                found.setdefault(name, array)
    return Heard(found, returned, tuple(inside_loops))


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
