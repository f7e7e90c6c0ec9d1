"""Images of the changed clips of each epoch, on disk, for every network that meets the same ones.

    keep = keeper(folder, model, grid, waveforms, clip_key, config)
    training.train(..., clip_key=clip_key, keep=keep)

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

from metamer_jax import runs, storage
from metamer_jax.configs import ExperimentConfig
from metamer_jax.models import Grid, Network
from metamer_jax.storage import cache
from metamer_jax.training import clips
from metamer_jax.training.clips import Keep

_VERSION = 1  # Of how clips are changed and images made: raise it when that changes.
_SPARE_BYTES = 2 * 10**9  # Left free for what must be written.


def keeper(
    folder: pathlib.Path,
    model: Network,
    grid: Grid | None,
    waveforms: np.ndarray,
    clip_key: jax.Array,
    config: ExperimentConfig,
    *,
    noise: np.ndarray | None = None,
) -> Keep | None:
    """Makes the `keep` of `training.train` for one folder.

    Args:
        folder: Where; other networks' images may be there too.
        model: The network: its resize.
        grid: What its training cochleagrams hold, if not everything.
        waveforms: [clip, time] of the training clips.
        clip_key: What the changes follow from.
        config: The run's: its augmentation, cochleagram and number of epochs.
        noise: [piece, time] that the augmentation mixes in, if it does.

    Returns:
        None where nothing can be kept: the network is not trained on images (it does not resize;
        clips as they are; attacks; masks or mixtures), or, with a warning, the disk lacks room.
    """
    training = config.training
    if not (training.epochs and clips.takes_images(model, training)):
        return None
    identity = _identity(model, grid, waveforms, clip_key, config, noise)
    place = folder / cache.digest(identity)
    shape = (len(waveforms), *model.input_shape)
    if not _has_room(place, 4 * math.prod(shape), training.epochs):
        return None
    storage.write_json(place / "about.json", identity)

    def keep(epoch, make):
        path = place / f"epoch_{epoch:03d}.npy"
        images = _read(path, shape)
        if images is None:
            images = np.asarray(make())
            with storage.storage_errors(path), storage.atomic_write(path) as file:
                np.save(file, images)
        return images

    return keep


def remove(folder: pathlib.Path) -> None:
    """Deletes what is kept in a folder; networks trained later make it anew."""
    shutil.rmtree(folder, ignore_errors=True)


def _identity(model, grid, waveforms, clip_key, config, noise) -> dict[str, Any]:
    """What the images follow from, in JSON types; other machines and versions round differently."""
    mixed = config.training.augment.background_snr_db is not None
    return {
        "version": _VERSION,
        "clips": _content(waveforms),
        "noise": _content(noise) if mixed else None,
        "clip_key": np.asarray(jax.random.key_data(clip_key)).tolist(),
        "augment": dataclasses.asdict(config.training.augment),
        "cochleagram": dataclasses.asdict(config.cochleagram),
        "input_shape": list(model.input_shape),
        "antialias_resize": model.antialias_resize,
        "grid": None if grid is None else dataclasses.asdict(grid),
        "environment": runs.environment(config),
    }


def _content(array) -> str:
    array = np.ascontiguousarray(array)
    return f"{array.dtype}{list(array.shape)} {hashlib.sha256(array).hexdigest()}"


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
