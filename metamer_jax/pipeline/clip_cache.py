"""Images of the changed clips of each epoch, on disk, for every network that meets the same ones.

    clip_cache = open_clip_cache(folder, task, clip_key, config)
    training.train_ensemble(keys, task, ..., clip_key=clip_key, clip_cache=clip_cache)

Changing the clips and making their cochleagrams takes most of an epoch on a CPU, and networks that
are compared meet the same clips. The first to come to an epoch leaves its images in
<folder>/<digest of all that they follow from>/epoch_<number>.npy; the others read them, and train
to the bit as if they had made them.
"""

import dataclasses
import hashlib
import math
import pathlib
import shutil
import warnings
from typing import Any

import jax
import numpy as np
from absl import logging

from metamer_jax import runs, storage, training
from metamer_jax.configs import ExperimentConfig
from metamer_jax.storage import cache
from metamer_jax.training import clips

_VERSION = 1  # Of how clips are changed and images made: raise it when that changes.
_SPARE_BYTES = 2 * 10**9  # Left free for what must be written.


def open_clip_cache(
    folder: pathlib.Path, task: training.Task, clip_key: jax.Array, config: ExperimentConfig
) -> training.ClipCache | None:
    """Makes the `clip_cache` of a training, in one folder.

    Args:
        folder: Folder of the caches; other networks' images may be there too.
        task: Network and clips, as it is trained.
        clip_key: PRNG key that the changes follow from.
        config: Settings of the run: its augmentation, cochleagram and number of epochs.

    Returns:
        None where nothing can be kept: the network is not trained on images (it does not resize;
        clips as they are; attacks; masks or mixtures), or, with a warning, the disk lacks room.
    """
    recipe = config.training
    if not (recipe.epochs and clips.takes_images(task.model, recipe)):
        return None
    identity = _identity(task, clip_key, config)
    place = folder / cache.digest(identity)
    shape = (len(task.training.inputs), *task.model.input_shape)
    if not _has_room(place, 4 * math.prod(shape), recipe.epochs):
        return None
    storage.write_json(place / "about.json", identity)

    def cached(epoch, make):
        path = place / f"epoch_{epoch:03d}.npy"
        images = _read(path, shape)
        if images is None:
            images = np.asarray(make())
            with storage.storage_errors(path), storage.atomic_write(path) as file:
                np.save(file, images)
        return images

    return cached


def remove(folder: pathlib.Path) -> None:
    """Deletes what is kept in a folder; networks trained later make it anew."""
    shutil.rmtree(folder, ignore_errors=True)


def _identity(task, clip_key, config) -> dict[str, Any]:
    """What the images follow from, in JSON types; other machines and versions round differently."""
    mixed = config.training.augment.background_snr_db is not None
    return {
        "version": _VERSION,
        "clips": _content(task.training.inputs),
        "noise": _content(task.noise) if mixed else None,
        "clip_key": np.asarray(jax.random.key_data(clip_key)).tolist(),
        "augment": dataclasses.asdict(config.training.augment),
        "cochleagram": dataclasses.asdict(config.cochleagram),
        "input_shape": list(task.model.input_shape),
        "antialias_resize": task.model.antialias_resize,
        "grid": None if task.grid is None else dataclasses.asdict(task.grid),
        "environment": runs.environment(config),
    }


def _content(array) -> str:
    array = np.ascontiguousarray(array)
    return f"{array.dtype}{list(array.shape)} {hashlib.sha256(array.data).hexdigest()}"


def _has_room(place: pathlib.Path, num_bytes: int, num_epochs: int) -> bool:
    left = num_epochs - len(list(place.glob("epoch_*.npy")))
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if left * num_bytes + _SPARE_BYTES <= free:
        return True
    logging.warning(
        "clips of %d epochs are not kept in %s: they take %.1f GB and %.1f GB shall stay free, of "
        "%.1f GB; the networks make them one by one, which takes longer and changes nothing else",
        *(left, place, left * num_bytes / 1e9, _SPARE_BYTES / 1e9, free / 1e9),
    )
    return False


def _read(path, shape):
    """The images in a file; None where there is none, or it is damaged."""
    try:
        images = np.load(path, allow_pickle=False)
        reason = f"holds {images.dtype} {images.shape}, not float32 {shape}"
        if (images.dtype, images.shape) == (np.float32, shape):
            return images
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        reason = str(error)
    warnings.warn(f"{path} is damaged ({reason}): making it anew", stacklevel=2)
    return None
