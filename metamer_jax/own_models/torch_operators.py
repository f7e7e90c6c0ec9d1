"""What torchax lacks to run audio models: operators, and tensors of PyTorch's among JAX's.

Lowerings are JAX functions with the signature of the operator that they replace. Recurrent layers
run through `lax.scan`: unrolled, as PyTorch's own decomposition leaves them, one of 160 frames
compiles for minutes.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from metamer_jax.front_ends import spectrograms
from metamer_jax.own_models import torch_bridge

torchax = torch_bridge.import_torchax()

# pyrefly: ignore[missing-import]: an extra
import torch  # noqa: E402

# pyrefly: ignore[missing-import]: an extra
from torch.utils import _pytree as torch_pytree  # noqa: E402

# pyrefly: ignore[missing-import]: an extra
from torchax import tensor as torchax_tensor  # noqa: E402

# pyrefly: ignore[missing-import]: an extra
from torchax.ops import op_base, ops_registry  # noqa: E402

OperatorNotFound = torchax_tensor.OperatorNotFound


class Environment(torchax_tensor.Environment):
    """torchax's, in which tensors that a model makes for itself are constants.

    A window, a mask or a ramp that does not depend on the input is made by PyTorch itself, and
    becomes an array where it meets one.
    """

    def dispatch(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Calls an operator; PyTorch computes what concerns no array of JAX's."""
        kwargs = kwargs or {}
        leaves = torch_pytree.tree_leaves((args, kwargs))
        if any(isinstance(leaf, torch.Tensor) for leaf in leaves):
            return super().dispatch(func, types, args, kwargs)
        device = kwargs.get("device")
        ours = device is not None and self._should_use_torchax_tensor(device)
        if ours:
            kwargs = {**kwargs, "device": "cpu"}
        with torch.utils._python_dispatch._disable_current_modes(), torch._C.DisableTorchFunction():
            made = func(*args, **kwargs)
        return self.j2t_iso(self.t2j_copy(made)) if ours else made

    def _get_op_or_decomp(self, func: Any) -> Any:
        for operator in (func, getattr(func, "overloadpacket", None)):
            if operator in torch_bridge.LOWERINGS:
                return _as_operator(operator, torch_bridge.LOWERINGS[operator], of_jax=True)
        try:
            return super()._get_op_or_decomp(func)
        except OperatorNotFound:
            if (functional := _not_in_place(func)) is None:
                raise
            return _as_operator(func, op_base.InplaceOp(functional), of_jax=False)

    def t2j_iso(self, torchtensors: Any) -> Any:
        """Returns tensors as arrays, PyTorch's own among them as constants."""

        def constant(x):
            if isinstance(x, (torchax_tensor.Tensor, torchax_tensor.View)) or x.ndim == 0:
                return x  # torchax makes numbers of scalars itself, so that they keep no type.
            return torchax_tensor.Tensor(self.t2j_copy(x.detach()), self)

        mixed = torch_pytree.tree_map_only(torch.Tensor, constant, torchtensors)
        return super().t2j_iso(mixed)


def _as_operator(operator, function, *, of_jax):
    """What torchax calls in an operator's place: a function of JAX's arrays, or of its views."""
    return ops_registry.Operator(
        operator,
        function,
        is_jax_function=of_jax,
        is_user_defined=of_jax,
        needs_env=False,
        is_view_op=not of_jax,
    )


def _not_in_place(func: Any) -> Any:
    """The operator that returns what `func` (`aten::log10_`) writes over its input; None: none."""
    packet = getattr(func, "overloadpacket", func)
    name = str(packet).rpartition(".")[2]
    if not name.endswith("_") or name.startswith("__"):
        return None
    functional = getattr(torch.ops.aten, name.removesuffix("_"), None)
    return getattr(functional, getattr(func, "_overloadname", "default"), functional)


@functools.cache
def environment() -> Environment:
    """Returns the environment that PyTorch modules are run in."""
    return Environment()


def _stft(
    x: jax.Array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: jax.Array | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> jax.Array:
    """`torch.stft`: [..., time] to [..., frequency, frame]."""
    if align_to_window:
        raise ValueError("torch.stft's align_to_window must be None or False")
    hop = n_fft // 4 if hop_length is None else hop_length
    width = n_fft if win_length is None else win_length
    window = jnp.ones(width, x.dtype) if window is None else window
    left = (n_fft - width) // 2
    window = jnp.pad(window, (left, n_fft - width - left))
    if center:
        mode = {"replicate": "edge", "circular": "wrap"}.get(pad_mode, pad_mode)
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(n_fft // 2, n_fft // 2)], mode=mode)
    real = not jnp.iscomplexobj(x) and not jnp.iscomplexobj(window)
    transform = jnp.fft.rfft if real and onesided is not False else jnp.fft.fft
    frames = spectrograms.cut_frames(x, n_fft, hop, 1 + (x.shape[-1] - n_fft) // hop)
    spectrum = transform(frames * window)
    if normalized:
        spectrum = spectrum / math.sqrt(n_fft)
    spectrum = jnp.swapaxes(spectrum, -1, -2)
    return spectrum if return_complex else jnp.stack([spectrum.real, spectrum.imag], axis=-1)


def _lstm_step(state, x, w_hidden, b_hidden, w_projection):
    hidden, cell = state
    gates = x + hidden @ w_hidden.T + b_hidden
    enter, keep, new, leave = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
    hidden = jax.nn.sigmoid(leave) * jnp.tanh(cell)
    return (hidden if w_projection is None else hidden @ w_projection.T, cell)


def _gru_step(state, x, w_hidden, b_hidden, w_projection):
    (hidden,) = state
    x_reset, x_keep, x_new = jnp.split(x, 3, axis=-1)
    h_reset, h_keep, h_new = jnp.split(hidden @ w_hidden.T + b_hidden, 3, axis=-1)
    keep = jax.nn.sigmoid(x_keep + h_keep)
    new = jnp.tanh(x_new + jax.nn.sigmoid(x_reset + h_reset) * h_new)
    return ((1 - keep) * new + keep * hidden,)


def _plain_step(nonlinearity, state, x, w_hidden, b_hidden, w_projection):
    return (nonlinearity(x + state[0] @ w_hidden.T + b_hidden),)


def _recurrent(
    step: Callable[..., tuple[jax.Array, ...]],
    x: jax.Array,
    initial: jax.Array | Sequence[jax.Array],
    weights: Sequence[jax.Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool | None = None,
) -> tuple[jax.Array, ...]:
    """`torch.lstm`, `torch.gru`, ...: outputs, then each state [layer and direction, ..., unit]."""
    if not isinstance(has_biases, bool):
        raise ValueError("packed sequences have no lowering: give padded ones")
    initial = [initial] if isinstance(initial, jax.Array) else list(initial)
    x = jnp.swapaxes(x, 0, 1) if batch_first else x  # [time, batch, feature]; time first.
    directions = 2 if bidirectional else 1
    each = len(weights) // (num_layers * directions)
    finals = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            own = layer * directions + direction
            w_input, w_hidden, *rest = weights[own * each : (own + 1) * each]
            b_input, b_hidden = rest[:2] if has_biases else (0.0, 0.0)
            projection = rest[-1] if len(rest) % 2 else None
            projected = x @ w_input.T + b_input

            def advance(state, x, w=w_hidden, b=b_hidden, p=projection):
                state = step(state, x, w, b, p)
                return state, state[0]

            start = tuple(state[own] for state in initial)
            final, out = jax.lax.scan(advance, start, projected, reverse=direction == 1)
            outputs.append(out)
            finals.append(final)
        x = jnp.concatenate(outputs, axis=-1)
    x = jnp.swapaxes(x, 0, 1) if batch_first else x
    return (x, *(jnp.stack(states) for states in zip(*finals, strict=True)))


_OWN = {
    torch.stft: _stft,
    torch.where: jnp.where,  # Numbers for tensors are lost in PyTorch's own.
    torch.lstm: functools.partial(_recurrent, _lstm_step),
    torch.gru: functools.partial(_recurrent, _gru_step),
    torch.rnn_tanh: functools.partial(_recurrent, functools.partial(_plain_step, jnp.tanh)),
    torch.rnn_relu: functools.partial(_recurrent, functools.partial(_plain_step, jax.nn.relu)),
}
for _operator, _function in _OWN.items():
    torch_bridge.LOWERINGS.setdefault(_operator, _function)
