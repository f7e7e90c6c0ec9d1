"""A model in a run folder: its program and its weights, without the code that made them.

    save_model(folder, model, variables, {"conv2": "encoder/conv2"}, logits="classes")
    model, variables = load_model(folder)
    logits, stages = model.apply(variables, waveforms)

program.npz holds what JAX traced of the model (StableHLO, as `jax.export` makes it to be kept),
from sounds to the stages that were matched and the classes, on the exact cochleagram; weights.npz
holds its arguments. (`jax.export` has a file format of its own, which needs one more dependency.)
"""

import dataclasses
import functools
import hashlib
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from metamer_jax import audio
from metamer_jax.models import Activations
from metamer_jax.own_models import verifying, wrapping
from metamer_jax.storage import checkpoints

PROGRAM, WEIGHTS = "program.npz", "weights.npz"
_BATCH = 8  # Sounds that the program takes at once.


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A model that was read from its program, called as the networks of this project are.

    Attributes:
        digest: SHA-256 of the program: equal programs are one to `jit`.
        stage_names: The stages that it gives, in the order in which they were saved.
        program: (weights in order, sounds [8, time]) -> activations and logits.
    """

    digest: str
    stage_names: tuple[str, ...]
    program: export.Exported = dataclasses.field(compare=False, repr=False)

    @property
    def stage_sizes(self) -> Mapping[str, int]:
        """Number of features of every stage."""
        sizes = [math.prod(output.shape[1:]) for output in self.program.out_avals[:-1]]
        return dict(zip(self.stage_names, sizes, strict=True))

    # `auditory.exact.run_network` gives it sounds and no cochleagrams.
    hears_waveforms = True

    def apply(
        self, variables: Mapping[str, jax.Array], waveforms: jax.Array
    ) -> tuple[jax.Array, Activations]:
        """Runs the model on sounds.

        Args:
            variables: From `load_model`.
            waveforms: Sounds [sound, time] float32 at rms 0.1, as recordings are.

        Returns:
            Logits [sound, class] (one zero each where the model has no classes), and each stage's
            activation [sound, ...].
        """
        count = len(waveforms)
        padded = jnp.pad(waveforms, [(0, -count % _BATCH), (0, 0)], mode="edge")
        batches = padded.reshape(-1, _BATCH, padded.shape[-1])
        weights = [variables[name] for name in sorted(variables)]
        found = jax.lax.map(lambda batch: self.program.call(weights, batch), batches)
        *activations, logits = (x.reshape(-1, *x.shape[2:])[:count] for x in found)
        return logits, Activations(zip(self.stage_names, activations, strict=True))


def save_model(
    folder: str | os.PathLike,
    model: wrapping.OwnModel,
    variables: wrapping.Variables,
    stages: Mapping[str, str],
    *,
    logits: str | None,
    level: float | None = audio.RMS,
) -> None:
    """Writes a model's program and weights.

    Args:
        folder: Where; made if missing.
        model: From `wrap_model`.
        variables: Its variables.
        stages: Which stages it is to give, the model's names by those that they are to have.
        logits: The stage that has the classes; None: there are none.
        level: RMS at which the model was trained to take sounds, which then reach it from rms 0.1;
            None: it does not mind.

    Raises:
        ValueError: There is no such stage.
    """
    model, variables = verifying.exact(model, variables)
    leaves, structure = jax.tree.flatten(variables)
    kept = [i for i, leaf in enumerate(leaves) if _is_number(leaf)]
    wanted = (*stages.values(), *(() if logits is None else (logits,)))
    fns = [wrapping.stage_fn(model, stage, relu_override=False) for stage in wanted]
    gain = 1.0 if level is None else level / audio.RMS

    def respond(weights, waveforms):
        own = list(leaves)  # Random keys and the like become part of the program.
        for i, weight in zip(kept, weights, strict=True):
            own[i] = weight
        held = jax.tree.unflatten(structure, own)
        with jax.default_matmul_precision("highest"):
            found = [jax.vmap(functools.partial(fn, held))(gain * waveforms) for fn in fns]
        return found if logits is not None else [*found, jnp.zeros((_BATCH, 1))]

    weights = [jnp.asarray(leaves[i]) for i in kept]
    inputs = [jax.ShapeDtypeStruct(weight.shape, weight.dtype) for weight in weights]
    inputs.append(jax.ShapeDtypeStruct((_BATCH, model.num_samples), jnp.float32))
    platforms = list(dict.fromkeys((export.default_export_platform(), "cpu")))
    program = _export(respond, inputs, platforms)
    about = {
        "stages": list(stages),
        "inputs": [_described(x) for x in inputs],
        "outputs": [_described(x) for x in program.out_avals],
        "platforms": platforms,
        "calling_convention": program.calling_convention_version,
    }
    folder, module = pathlib.Path(folder), program.mlir_module_serialized
    checkpoints.save(folder / PROGRAM, {"module": np.frombuffer(module, np.uint8)}, metadata=about)
    tree = {f"weight_{i:05d}": weight for i, weight in enumerate(weights)}
    checkpoints.save(folder / WEIGHTS, tree, metadata={"program": _digest(module)})


def _export(fn, inputs, platforms):
    """Exports a function of (list of all inputs but the last, the last)."""
    return export.export(jax.jit(fn, keep_unused=True), platforms=platforms)(
        list(inputs[:-1]), inputs[-1]
    )


def _described(array):
    return [list(array.shape), str(array.dtype)]


def _digest(module):
    return hashlib.sha256(module).hexdigest()


def _is_number(leaf):
    """Whether NumPy's files can hold it: no random keys, no bfloat16."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return not is_key and np.dtype(jnp.result_type(leaf)).kind in "biufc"


def is_saved(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a model that `save_model` wrote."""
    return (pathlib.Path(folder) / PROGRAM).is_file()


def load_program(folder: str | os.PathLike) -> SavedModel:
    """Reads a model without its weights.

    Args:
        folder: Where `save_model` wrote it.

    Returns:
        The model.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: The file is damaged.
    """
    tree, about = checkpoints.load(pathlib.Path(folder) / PROGRAM)
    module = tree["module"].tobytes()
    inputs, outputs = (
        [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in about[name]]
        for name in ("inputs", "outputs")
    )
    # What is called alike and does nothing: the module takes the place of its own.
    like = _export(
        lambda *_: [jnp.zeros(x.shape, x.dtype) for x in outputs], inputs, about["platforms"]
    )
    program = dataclasses.replace(
        like,
        mlir_module_serialized=module,
        calling_convention_version=about["calling_convention"],
    )
    return SavedModel(_digest(module), tuple(about["stages"]), program)


def load_model(folder: str | os.PathLike) -> tuple[SavedModel, dict[str, Any]]:
    """Reads what `save_model` wrote.

    Args:
        folder: Where it was written.

    Returns:
        The model, and its variables.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: A file is damaged, or the two are not of one model.
    """
    model = load_program(folder)
    path = pathlib.Path(folder) / WEIGHTS
    variables, about = checkpoints.load(path)
    if about.get("program") != model.digest:
        raise ValueError(f"{path} must hold the weights of {PROGRAM} beside it, but is of another")
    return model, variables
