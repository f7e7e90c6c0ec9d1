"""What training is given, and what each of its epochs is trained on: clips, changed anew."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metamer_jax.configs import AugmentConfig, TrainingConfig
from metamer_jax.models import Grid, Network, WordNetwork
from metamer_jax.runtime import compilation
from metamer_jax.runtime.batches import padded_batches
from metamer_jax.training import augmentation
from metamer_jax.training.features import compute_features

FeatureFn = Callable[[jax.Array], jax.Array]  # [batch, time] -> [batch, channel, frame]


class Clips(NamedTuple):
    """What an epoch is trained on, shared by all networks that are trained together.

    Attributes:
        inputs: Cochleagrams [clip, channel, frame]; images [clip, *input_shape] where
            `takes_images`; waveforms [clip, time] where waveforms are attacked.
        labels: [clip] int32.
        normalization: The collection fitted on the training inputs.
        key: PRNG key for the changes to waveforms, where they are made within the epoch.
        feature_fn: A `jax.tree_util.Partial`, where the inputs are waveforms; else None.
        noise: [piece, time] recorded noise to mix into waveforms; None: there is none.
    """

    inputs: jax.Array
    labels: jax.Array
    normalization: dict[str, jax.Array]
    key: jax.Array
    feature_fn: FeatureFn | None
    noise: jax.Array | None = None


class Resize(NamedTuple):
    """From cochleagrams to the images that a network standardises; hashable."""

    model: Network
    grid: Grid | None


# Called with an epoch's number and with what makes its images [clip, *input_shape]; returns them,
# made now or as they were made for another network (`pipeline.clip_cache`).
ClipCache = Callable[[int, Callable[[], jax.Array]], jax.Array | np.ndarray]


class Examples(NamedTuple):
    """Clips and the words in them.

    Attributes:
        inputs: Cochleagrams [clip, channel, frame], whole or cut to a grid; or waveforms
            [clip, time] where a `feature_fn` makes cochleagrams of them.
        labels: [clip] int, index of the word.
    """

    inputs: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray


class Task(NamedTuple):
    """A network, what it is to learn and how its input is made.

    Attributes:
        model: Network to be trained.
        training: Clips to learn from; waveforms where training changes or attacks waveforms.
        validation: Clips whose loss picks the epoch and stops training early.
        feature_fn: Waveforms [batch, time] to cochleagrams [batch, channel, frame], where the
            inputs are waveforms. Arrays that it needs are best bound with
            `jax.tree_util.Partial(function, arrays)`, which makes them arguments of the
            compiled program and not constants in it.
        grid: Channels and frames that the cochleagrams hold, if not all.
        noise: [piece, time] recorded noise, where the augmentation mixes it into the clips.
        name: What the network is called while it trains; empty: as its class.
    """

    model: Network
    training: Examples
    validation: Examples
    feature_fn: FeatureFn | None = None
    grid: Grid | None = None
    noise: jax.Array | np.ndarray | None = None
    name: str = ""


class Material(NamedTuple):
    """What the epochs draw on, made once.

    Attributes:
        features: Cochleagrams [clip, channel, frame] of the training clips as they are.
        waveforms: [clip, time], where epochs change or attack them; else None.
        labels: [clip] int32.
        validation: Cochleagrams and labels; waveforms and labels where waveforms are attacked.
        feature_fn: Waveforms to cochleagrams, where there are waveforms; else None.
        noise: [piece, time] to mix into the waveforms; None: none is.
        resize: To what the network sees, where nothing is changed in between
            (`takes_images`); else None.
    """

    features: jax.Array
    waveforms: jax.Array | np.ndarray | None
    labels: jax.Array
    validation: Examples
    feature_fn: FeatureFn | None
    noise: jax.Array | None = None
    resize: Resize | None = None


def prepare(
    model: Network,
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    *,
    feature_fn: FeatureFn | None = None,
    grid: Grid | None = None,
    noise: np.ndarray | None = None,
) -> Material:
    """Checks the examples and computes their cochleagrams: `material_of` a `Task`.

    Args:
        model: As `Task.model`.
        training: As `Task.training`.
        validation: As `Task.validation`.
        config: Training recipe.
        feature_fn: As `Task.feature_fn`.
        grid: As `Task.grid`.
        noise: As `Task.noise`.

    Returns:
        What the epochs draw on.

    Raises:
        ValueError: The examples do not fit the network, each other or the recipe.
    """
    return material_of(Task(model, training, validation, feature_fn, grid, noise), config)


def material_of(task: Task, config: TrainingConfig) -> Material:
    """Checks a task's examples and computes their cochleagrams.

    Args:
        task: Network, examples and the function from waveforms to cochleagrams.
        config: Training recipe.

    Returns:
        What the epochs draw on.

    Raises:
        ValueError: The examples do not fit the network, each other or the recipe.
    """
    training, validation = task.training, task.validation
    feature_fn, noise = task.feature_fn, task.noise
    _check_examples("training", training, task.model, feature_fn, config)
    _check_examples("validation", validation, task.model, feature_fn)
    if config.augment.background_snr_db is not None:
        _check_noise(noise, np.shape(training.inputs))
    compilation.make_room()
    labels = jnp.asarray(training.labels, jnp.int32)
    if feature_fn is None:
        return Material(jnp.asarray(training.inputs), None, labels, validation, None)
    feature_fn = jax.tree_util.Partial(feature_fn)
    features = jnp.asarray(compute_features(feature_fn, training.inputs))
    noise = None if config.augment.background_snr_db is None else jnp.asarray(noise)
    if config.adversarial.of_waveforms:
        waveforms = jnp.asarray(training.inputs)
        return Material(features, waveforms, labels, validation, feature_fn, noise)
    waveforms = training.inputs if config.augment.of_waveforms else None
    heard = validation._replace(inputs=compute_features(feature_fn, validation.inputs))
    resize = Resize(task.model, task.grid) if takes_images(task.model, config) else None
    return Material(features, waveforms, labels, heard, feature_fn, noise, resize)


def clips_of_epoch(
    key: jax.Array,
    material: Material,
    normalization: dict[str, jax.Array],
    config: TrainingConfig,
    *,
    epoch: int = 0,
    clip_cache: ClipCache | None = None,
    mesh: Mesh | None = None,
) -> Clips:
    """Makes what one epoch is trained on.

    Args:
        key: PRNG key for the changes to waveforms.
        material: From `prepare`.
        normalization: Collection fitted on the training inputs.
        config: Training recipe.
        epoch: Number of the epoch in the cache, counted from 1.
        clip_cache: Source of the images of the clips, where the network takes images; None: they
            are made. It changes no result.
        mesh: Devices that change the clips together.

    Returns:
        Clips, changed as the recipe says, unless the steps themselves change them.
    """

    def changed():
        assert material.waveforms is not None and material.feature_fn is not None  # By `prepare`.
        return augmented_features(
            key,
            material.waveforms,
            material.feature_fn,
            config.augment,
            noise=material.noise,
            resize=material.resize,
            mesh=mesh,
        )

    inputs = material.features
    if config.adversarial.of_waveforms:
        # They are changed, and then attacked, within the epoch.
        inputs = jnp.asarray(material.waveforms)
    elif clip_cache is not None and material.resize is not None:
        inputs = jnp.asarray(clip_cache(epoch, changed))
    elif config.augment.of_waveforms:
        inputs = changed()
    return Clips(inputs, material.labels, normalization, key, material.feature_fn, material.noise)


def _check_noise(noise, clips):
    shape = (0,) if noise is None else np.shape(noise)
    if shape[0] == 0 or shape[1:] != clips[1:]:
        raise ValueError(
            "noise must be [piece, time] of the clips' length where config.augment has a "
            f"background_snr_db, got {shape} for clips {clips}: of the data sets speech_commands "
            "has some, in _background_noise_ or _silence_"
        )


def check_shapes(of: str, inputs: Any, labels: Any, feature_fn: FeatureFn | None) -> None:
    """Refuses inputs and labels that do not fit each other; `of` stands before their names.

    Raises:
        ValueError: They do not.
    """
    ndim, axes = (3, "[clip, channel, frame]") if feature_fn is None else (2, "[clip, time]")
    shape, of_labels = np.shape(inputs), np.shape(labels)
    if len(shape) != ndim or shape[0] == 0:
        raise ValueError(f"{of}inputs must be {axes} with a clip or more, got shape {shape}")
    if of_labels != shape[:1]:
        raise ValueError(f"{of}labels must be one for each of {shape[0]} clips, got {of_labels}")


def _check_examples(name, examples, model, feature_fn, config: TrainingConfig | None = None):
    check_shapes(f"{name}.", examples.inputs, examples.labels, feature_fn)
    lowest, highest = int(np.min(examples.labels)), int(np.max(examples.labels))
    if not 0 <= lowest <= highest < model.num_words:
        raise ValueError(
            f"{name}.labels must lie in [0, {model.num_words}), got {lowest} to {highest}"
        )
    if config is None or feature_fn is not None:
        return
    if config.augment.of_waveforms:
        raise ValueError("feature_fn must be given where config.augment changes waveforms")
    if config.adversarial.of_waveforms:
        raise ValueError("feature_fn must be given where config.adversarial attacks waveforms")


def takes_images(model: nn.Module, config: TrainingConfig) -> bool:
    """Whether changed clips are resized as they are made: nothing changes cochleagrams after.

    An image is a small part of a cochleagram, so that those of an epoch can be kept.

    Args:
        model: Network to be trained.
        config: Training recipe.

    Returns:
        True where the epochs are trained on images [clip, *input_shape].
    """
    augment = config.augment
    if augment.time_mask or augment.frequency_mask or augment.mixup or config.adversarial.epsilon:
        return False
    return augment.of_waveforms and isinstance(model, WordNetwork)  # Others do not resize.


def augmented_features(
    key: jax.Array,
    waveforms: np.ndarray | jax.Array,
    feature_fn: FeatureFn,
    config: AugmentConfig,
    batch_size: int = 64,
    *,
    noise: jax.Array | None = None,
    resize: Resize | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Changes waveforms and computes their cochleagrams, in batches.

    Args:
        key: PRNG key for the changes.
        waveforms: [clip, time].
        feature_fn: Waveforms [batch, time] to cochleagrams [batch, channel, frame].
        config: Changes to make.
        batch_size: Clips at a time.
        noise: [piece, time] recorded noise to mix in; None: none.
        resize: From cochleagrams to the images that a network standardises; None: no resize.
        mesh: Devices among which a batch is divided.

    Returns:
        Cochleagrams [clip, channel, frame], or with `resize` images [clip, *input_shape].
    """
    settings = {"config": config, "resize": resize, "mesh": mesh}
    images = [
        _augmented_batch(
            jax.random.fold_in(key, i), jnp.asarray(batch), feature_fn, noise, **settings
        )[:count]
        for i, (batch, count) in enumerate(padded_batches(waveforms, batch_size))
    ]
    return jnp.concatenate(images)


@functools.partial(compilation.jit, static_argnames=("config", "resize", "mesh"))
def _augmented_batch(key, waveforms, feature_fn, noise, *, config, resize, mesh):
    keys, waveforms = divided((jax.random.split(key, len(waveforms)), waveforms), mesh)
    features = feature_fn(augmented(keys, waveforms, noise, config))
    return features if resize is None else resize.model.resized(features, resize.grid)


def augmented(
    keys: jax.Array, waveforms: jax.Array, noise: jax.Array | None, config: AugmentConfig
) -> jax.Array:
    """Changes waveforms [clip, time], each with a PRNG key of its own [clip]."""
    augment = functools.partial(augmentation.augment_waveform, config=config, noise=noise)
    return jax.vmap(augment)(keys, waveforms)


def divided(batch: Any, mesh: Mesh | None) -> Any:
    """Gives each device of the mesh, if there is one, its part of arrays [clip, ...]."""
    return batch if mesh is None else constrained(batch, mesh, P(*mesh.axis_names))


def constrained(tree: Any, mesh: Mesh | None, spec: P) -> Any:
    """Lays arrays out on a mesh, if there is one, within a compiled program."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, spec))
