"""PyTorch modules as functions that name what they compute, through torchax.

The module's code is not touched: it is called with arrays in place of tensors, in a copy that
shares its weights and is thrown away (modules keep caches, and may be changed by being called).
"""

import copy
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import torch  # pyrefly: ignore[missing-import]: an extra

from metamer_jax.own_models import adapters, torch_operators


class Module(adapters.Adapter):
    """A PyTorch module, of its parameters and buffers by name."""

    def __call__(self, variables: Any, x: jax.Array) -> adapters.Heard:
        """What the module does with one sound or cochleagram."""
        environment = torch_operators.environment()
        module = _copy(self.model.value)
        recorder = _Recorder(module)
        called = module if self.method is None else _Method(module, self.method)
        prefix = "" if self.method is None else "module."
        tensors, x = environment.j2t_iso(
            ({prefix + name: value for name, value in variables.items()}, self._input(x))
        )
        call = dict(self.call.value)
        # What a model draws, it draws alike each time.
        with torch.no_grad(), torch.random.fork_rng(devices=[]), environment:
            torch.manual_seed(0)
            try:
                result = torch.func.functional_call(called, tensors, (x,), call)
            except torch_operators.OperatorNotFound as error:
                raise ValueError(
                    f"{error}, in {recorder.place}: say how JAX computes it with "
                    "mj.register_torch_lowering (docs/torch_models.md)"
                ) from error
            except Exception as error:
                error.add_note(f"In {recorder.place}")
                raise
        found = dict(_arrays(result, "output"))
        returned = tuple(found)
        for name, calls in recorder.outputs.items():
            for i, output in enumerate(calls):
                own = name if len(calls) == 1 else f"{name}[{i}]"
                for key, array in output:
                    found.setdefault(own + key, array)
        return adapters.Heard(found, returned)


class _Method(torch.nn.Module):
    """Calls a method of a module in place of its forward."""

    def __init__(self, module, method):
        super().__init__()
        self.module = module
        self._method = method

    def forward(self, *args, **kwargs):
        return getattr(self.module, self._method)(*args, **kwargs)


class _Recorder:
    """Keeps what the submodules of a module return, and which is at work."""

    def __init__(self, module):
        self.outputs = {}
        self._active = []
        self._root = type(module).__name__
        for name, submodule in module.named_modules():
            submodule.register_forward_pre_hook(functools.partial(self._enter, name))
            submodule.register_forward_hook(functools.partial(self._leave, name))

    @property
    def place(self):
        """The submodule that has begun last and not ended."""
        name = self._active[-1] if self._active else ""
        return f"submodule {name!r} of {self._root}" if name else f"{self._root} itself"

    def _enter(self, name, module, args):
        self._active.append(name)

    def _leave(self, name, module, args, output):
        self._active.pop()
        if name:
            # At once: a later operation may work in place.
            self.outputs.setdefault(name, []).append(list(_arrays(output, "")))


def split(module: Any) -> tuple[Any, dict[str, jax.Array]]:
    """Returns a copy in evaluation mode and the weights; the module stays as it is.

    Raises:
        ValueError: The module cannot be traced or copied.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("model must be a torch.nn.Module in Python, got a scripted or traced one")
    held = _copy(module).eval()
    # Modules ask buffers of one number for it (`.item()`), which an argument does not know: these
    # stay constants.
    for submodule in held.modules():
        numbers = {n: b for n, b in submodule.named_buffers(recurse=False) if not b.ndim}
        submodule._buffers.update({n: b.clone() for n, b in numbers.items()})
    buffers = ((name, buffer) for name, buffer in held.named_buffers() if buffer.ndim)
    tensors = dict(itertools.chain(held.named_parameters(), buffers))
    environment = torch_operators.environment()
    # Copied: PyTorch changes weights in place.
    weights = jax.tree.map(jnp.array, environment.t2j_copy(tensors))
    return held, weights


def _copy(module):
    """A copy of a module that shares its tensors."""
    shared = itertools.chain(module.parameters(), module.buffers())
    made = (v for m in module.modules() for v in vars(m).values() if isinstance(v, torch.Tensor))
    memo = {id(tensor): tensor for tensor in itertools.chain(shared, made)}
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise ValueError(
            "model must be a module that copy.deepcopy can copy, "
            f"got {type(module).__name__}: {error}"
        ) from error


def _arrays(value, name):
    """Yields (name, array) of what a module returns, as `adapters` names it."""
    environment = torch_operators.environment()
    for key, tensor in adapters.named(value, name, torch.Tensor):
        yield key, environment.t2j_iso(tensor)
