"""A model of one's own, written in any style, as what metamers are made from.

    model, variables = wrap_model(network, params, num_samples=16000)
    for stage in model.stages: print(stage)            # what can be matched, in processing order
    stage = stage_fn(model, "encoder/conv2")
    made = metamers.synthesize(key, sounds, ids, stage_fn=stage, variables=variables, config=...)
    found = verify(model, variables, "encoder/conv2", made, sounds, recordings, logits="output")

The model's code is not touched: Flax modules (linen or nnx) are asked for the outputs of their
submodules, functions for what they return, and ReLUs are found in what JAX traces (`relus`).
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from metamer_jax import cochleagram as cochleagrams
from metamer_jax.configs import CochleagramConfig
from metamer_jax.own_models import adapters, relus

Variables = Mapping[str, Any]

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One activation of a model.

    Attributes:
        name: What to call it.
        shape: Of one sound's activation, without a batch axis.
        dtype: Its type; floating-point ones can be matched, and complex ones, as pairs (real,
            imaginary) along one more axis.
        relu: Whether it is what a ReLU gives, at most rearranged: "no", "yes" (the override acts)
            or "in a loop" (it cannot).
        bypassed: Whether the model's last output depends on the sound by another way too, or only
            so: beside a residual connection or an attention's weights. Metamers of such a stage
            need not keep the model's answer.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    relu: str
    bypassed: bool = False

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape)) or "scalar"
        relu = {"no": "", "yes": ", a ReLU's", "in a loop": ", a ReLU's in a loop"}[self.relu]
        bypassed = ", bypassed" if self.bypassed else ""
        return f"{self.name}: {size} {self.dtype}{relu}{bypassed}"


@dataclasses.dataclass(frozen=True)
class OwnModel:
    """A model as `wrap_model` makes it: all that does not change, so that jit can hash it.

    Attributes:
        apply: (its variables, one sound or cochleagram) -> {stage name: activation}.
        num_samples: Samples of the sounds it takes.
        cochleagram: What is computed in front of it; None: it takes the sound.
        stages: What can be matched, in processing order.
        inside_loops: Submodules that are no stages since they are called inside a loop (`nn.scan`,
            `nnx.scan`, `nnx.RNN`).
    """

    apply: adapters.Adapter
    num_samples: int
    cochleagram: CochleagramConfig | None
    stages: tuple[Stage, ...] = ()
    inside_loops: tuple[str, ...] = ()

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of what can be matched, in processing order."""
        return tuple(stage.name for stage in self.stages)

    def stage(self, name: str) -> Stage:
        """Returns the stage of that name.

        Raises:
            ValueError: There is none.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ValueError(f"stage must be one of {self.stage_names}, got {name!r}")


def wrap_model(
    model: Any,
    variables: Any = None,
    *,
    cochleagram: CochleagramConfig | None = None,
    num_samples: int | None = None,
    batch_axis: bool | None = None,
    prepare: Callable[[jax.Array], Any] | None = None,
    method: str | None = None,
    call: Mapping[str, Any] | None = None,
) -> tuple[OwnModel, Variables]:
    """Makes a metamer target of a model, without a change to its code.

    What can be matched, in this order where two have one name: arrays that the model returns
    (dictionaries' by their keys, "output" where it returns a single array), what a Flax module
    sows, the outputs of its submodules by path, e.g. "encoder/conv1" ("encoder/conv1[1]" of the
    second of several calls; methods other than `__call__` after a further slash), every ReLU as
    "relu_1", "relu_2", ... in processing order, and "cochleagram" where one is computed.

    Args:
        model: A linen module, an nnx module, a PyTorch module, or a function of `variables` and
            the input, or of the input alone where `variables` is None.
        variables: Linen: what `init` returned, or a `TrainState`. Function: its weights, any
            pytree. nnx and PyTorch: none, the module has its own; a copy in evaluation mode
            (`eval()`) is used.
        cochleagram: Computed from the sound, and given to the model as [channel, frame]; None:
            the model is given the sound [time].
        num_samples: Of a sound; needed where there is no cochleagram.
        batch_axis: Whether the model takes and gives batches, of which it will be given one
            sound. By default modules do and functions do not.
        prepare: Changes one input (without a batch axis) into what the model takes, e.g.
            `lambda x: x.T[..., None]` where channels and frames are the other way round.
        method: Name of the method to call, if not `__call__` (modules only).
        call: Further keyword arguments of the call, e.g. {"train": False}.

    Returns:
        The model, and its variables as every function here takes them.

    Raises:
        ValueError: The arguments do not fit together or the model has no arrays to match. What
            the model itself raises passes, with a note of what it was given.
    """
    if isinstance(model, type):
        raise ValueError(f"model must be an instance, got the class {model.__name__} itself")
    num_samples = _num_samples(cochleagram, num_samples)
    if isinstance(model, nn.Module):
        if variables is None:
            raise ValueError("variables must be given with a linen module: what init returned")
        variables = adapters.of_train_state(variables)
        adapter = adapters.Linen
    elif isinstance(model, nnx.Module):
        _refuse_variables(variables, "an nnx")
        adapter, (model, variables) = adapters.Nnx, adapters.split_nnx(model)
    elif adapters.is_torch(model):
        _refuse_variables(variables, "a PyTorch")
        from metamer_jax.own_models import torch_modules  # PyTorch is not required by the package.

        adapter, (model, variables) = torch_modules.Module, torch_modules.split(model)
    elif callable(model):
        if method is not None:
            raise ValueError(f"method must be None with a function, got {method!r}")
        adapter = adapters.Function
        batch_axis = bool(batch_axis)
    else:
        raise ValueError(
            "model must be a linen, nnx or PyTorch module or a function, "
            f"got {type(model).__name__}"
        )
    _check_variables(variables)
    apply = adapter(
        adapters.Static(model),
        adapters.Static(tuple(sorted((call or {}).items()))),
        batch_axis=batch_axis is not False,
        prepare=prepare,
        method=method,
    )
    held = {"model": variables}
    if cochleagram is not None:
        held["filters"] = cochleagrams.design_cochleagram(cochleagram)
    wrapped = OwnModel(apply, num_samples, cochleagram)
    stages, inside_loops = _describe(wrapped, held)
    if not stages:
        raise ValueError("model has no activation to match: it returned no array")
    if inside_loops:
        _LOGGER.warning("inside loops, and so no stages: %s", ", ".join(inside_loops))
    return dataclasses.replace(wrapped, stages=stages, inside_loops=inside_loops), held


def _refuse_variables(variables, kind):
    if variables is not None:
        raise ValueError(f"variables must not be given with {kind} module: it has its own")


def _check_variables(variables):
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        if not hasattr(leaf, "dtype") and not isinstance(leaf, (bool, int, float, complex)):
            raise ValueError(
                f"variables must be a pytree of arrays, got a {type(leaf).__name__} at "
                f"{jax.tree_util.keystr(path) or 'its top'}"
            )


def _num_samples(cochleagram, num_samples):
    if cochleagram is None:
        if num_samples is None or num_samples < 1:
            raise ValueError(
                "num_samples, the length of a sound, must be given where there is no cochleagram, "
                f"got {num_samples!r}"
            )
        return int(num_samples)
    if num_samples not in (None, cochleagram.num_samples):
        raise ValueError(
            f"num_samples must be the cochleagram's, {cochleagram.num_samples}, got {num_samples}"
        )
    return cochleagram.num_samples


@dataclasses.dataclass(frozen=True)
class OwnStageFn:
    """Maps (variables, waveform [time]) to one stage's activation; equal settings are equal."""

    model: OwnModel
    stage: str
    relu_override: bool = True

    def __call__(self, variables: Variables, waveform: jax.Array) -> jax.Array:
        """The stage's activation to one waveform [time], without a batch axis."""
        heard = _input(self.model, variables, waveform)
        if self.model.cochleagram is not None and self.stage == "cochleagram":
            return heard
        program, named, _ = _trace(self.model, variables, heard)
        chosen = named[self.stage]
        overridden = relus.ending(program, chosen) if self.relu_override else ()
        inputs = jax.tree.leaves((variables["model"], heard))
        (activation,) = relus.evaluate(program, inputs, [chosen], overridden)
        activation = _without_batch(self.model, activation)
        if jnp.iscomplexobj(activation):
            activation = jnp.stack([activation.real, activation.imag], axis=-1)
        # Distances in half precision would end the optimisation early.
        return activation.astype(jnp.promote_types(activation.dtype, jnp.float32))


def stage_fn(model: OwnModel, stage: str, *, relu_override: bool = True) -> OwnStageFn:
    """Makes the function from sound to one stage's activation, for `metamers.synthesize`.

    Args:
        model: From `wrap_model`.
        stage: One of `model.stage_names`.
        relu_override: Where the stage is what a ReLU gives, at most rearranged, let the gradient
            pass where that ReLU is off; others stay ordinary. Nothing changes at stages without.
            The values are the same with and without.

    Returns:
        Function (variables, waveform [time]) -> activation.

    Raises:
        ValueError: There is no such stage, it is not floating point, or its ReLU cannot be
            overridden (it is inside a `lax.scan`).
    """
    found = model.stage(stage)
    if not jnp.issubdtype(found.dtype, jnp.inexact):
        raise ValueError(f"stage must be floating point to be matched, {stage!r} is {found.dtype}")
    if relu_override and found.relu == "in a loop":
        raise ValueError(
            f"stage {stage!r} ends in a ReLU inside a loop or branch (lax.scan, while_loop, cond), "
            "which cannot be overridden: relu_override=False matches it with ordinary gradients"
        )
    return OwnStageFn(model, stage, relu_override)


def _input(model, variables, waveform):
    """The model's input for one sound, without a batch axis."""
    shape, dtype = jnp.shape(waveform), jnp.result_type(waveform)
    if shape != (model.num_samples,):
        raise ValueError(f"waveform must be [{model.num_samples}] samples, got shape {shape}")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"waveform must be floating point (about -1 to 1), got {dtype}")
    if model.cochleagram is None:
        return waveform
    return cochleagrams.cochleagram(waveform, variables["filters"], config=model.cochleagram)


def _without_batch(model, activation):
    # One sound is given: where the first axis is not the batch's, all of it is that sound's.
    return activation[0] if model.apply.batch_axis and activation.shape[:1] == (1,) else activation


def _trace(model, variables, heard):
    """Returns the model's program, each stage's variable in processing order, and `Heard`."""
    found = []

    def run(own, heard):
        found.append(model.apply(own, heard))
        return list(found[-1].activations.values())

    try:
        program = relus.trace(run, variables["model"], heard)
    except Exception as error:
        error.add_note(
            f"The model was given one {'sound' if model.cochleagram is None else 'cochleagram'} of "
            f"shape {jnp.shape(heard)}, batch_axis={model.apply.batch_axis}"
        )
        raise
    found = found[-1]
    named = dict(zip(found.activations, program.outputs, strict=True))
    for number, index in enumerate(relus.find(program), start=1):
        named.setdefault(f"relu_{number}", program.closed.jaxpr.eqns[index].outvars[0])
    order = sorted(named, key=lambda name: program.position(named[name]))
    return program, {name: named[name] for name in order}, found


def _describe(model, variables) -> tuple[tuple[Stage, ...], tuple[str, ...]]:
    """Returns a model's stages, and the submodules that are called inside loops."""
    found, inside_loops = [], []

    def look(variables, waveform):
        heard = _input(model, variables, waveform)
        if model.cochleagram is not None:
            found.append(Stage("cochleagram", heard.shape, str(heard.dtype), "no"))
        program, named, given = _trace(model, variables, heard)
        inside_loops.extend(given.inside_loops)
        last = max((named[name] for name in given.returned), key=program.position, default=None)
        sound = program.closed.jaxpr.invars[-len(jax.tree.leaves(heard)) :]
        for name, variable in named.items():
            aval = jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype)
            shape = jax.eval_shape(functools.partial(_without_batch, model), aval).shape
            bypassed = last is not None and relus.bypassed(program, variable, sound, last)
            if name != "cochleagram" or model.cochleagram is None:
                stage = Stage(name, shape, str(aval.dtype), _relu(program, variable), bypassed)
                found.append(stage)

    jax.eval_shape(look, variables, jax.ShapeDtypeStruct((model.num_samples,), jnp.float32))
    return tuple(found), tuple(inside_loops)


def _relu(program, variable):
    try:
        return "yes" if relus.ending(program, variable) else "no"
    except relus.InnerReluError:
        return "in a loop"
