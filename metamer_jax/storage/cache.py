"""A folder of things made once: the key says what from, a damaged file is made anew."""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import platformdirs

from metamer_jax.storage import atomic, reading


def cache_dir(given: str | None) -> pathlib.Path:
    """Returns the given folder, else $METAMER_JAX_CACHE, else the user's (~/.cache/metamer_jax).

    A user without a home, as in a container, gets one in the system's folder for temporary files,
    with a warning.

    Raises:
        ValueError: The folder begins with the home of a user who has none.
    """
    folder = given or os.environ.get("METAMER_JAX_CACHE")
    if folder:
        try:
            return pathlib.Path(folder).expanduser()
        except RuntimeError as error:
            raise ValueError(
                f"cache_dir must not begin with ~ here, got {folder!r}: {error}"
            ) from error
    with contextlib.suppress(RuntimeError):  # Newer versions of platformdirs; older: "~/.cache".
        usual = platformdirs.user_cache_path("metamer_jax")
        if usual.is_absolute():
            return usual
    found = pathlib.Path(tempfile.gettempdir()) / f"metamer_jax-{os.getuid()}"
    warnings.warn(
        f"the user has no home folder: what can be used again is kept in {found}; the "
        "environment's METAMER_JAX_CACHE names another folder",
        stacklevel=2,
    )
    return found


def digest(identity: Any) -> str:
    """Returns 16 hex digits that stand for a value of JSON types."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file's content, in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(path: pathlib.Path):
    """Returns a context in which no other process makes what lies at `path`.

    Raises:
        OSError: On entering, if the folder cannot be written.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(path.with_name(path.name + ".lock"))


def load_or_make(
    path: pathlib.Path,
    make: Callable[[], Mapping[str, np.ndarray]],
    expect: frozenset[str],
    *,
    mapped: frozenset[str] = frozenset(),
) -> dict[str, np.ndarray]:
    """Returns the arrays of an npz file, made and saved first where they are missing or damaged.

    A folder that cannot be written costs time, with a warning, not the result.

    Args:
        path: The file; its name must tell everything that the arrays depend on.
        make: Makes the arrays (no objects).
        expect: Their names.
        mapped: Which of them stay in the file, read-only: only what is looked at is in memory.

    Returns:
        The arrays, by name.
    """
    if (arrays := _load(path, expect, mapped)) is not None:
        return arrays
    try:
        held = lock(path).acquire()
    except OSError as error:
        _warn_unwritable(path.parent, error)
        return dict(make())
    with held:
        # Another process may have made it while this one waited.
        if (arrays := _load(path, expect, mapped)) is not None:
            return arrays
        arrays = dict(make())
        try:
            with atomic.atomic_write(path) as file:
                # pyrefly: ignore[bad-argument-type]: no array is called allow_pickle
                np.savez(file, **arrays)
        except OSError as error:
            _warn_unwritable(path.parent, error)
            return arrays
        kept = reading.map_npz(path, check=False)
        return {name: kept[name] if name in mapped else arrays[name] for name in arrays}


def _warn_unwritable(folder: pathlib.Path, error: OSError) -> None:
    warnings.warn(
        f"cannot write the cache folder {folder} ({error}): going on without; cache_dir or "
        "the environment's METAMER_JAX_CACHE names another",
        stacklevel=3,
    )


def _load(
    path: pathlib.Path, expect: frozenset[str], mapped: frozenset[str]
) -> dict[str, np.ndarray] | None:
    """Reads the arrays; None where there is no file, or a damaged one (zip checks its CRCs)."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # A piece at a time.
        found: dict[str, np.ndarray] = {} if damaged else reading.map_npz(path, check=False)
        if expect <= set(found):
            return {n: found[n] if n in mapped else np.array(found[n]) for n in expect}
        reason = f"{damaged} was altered" if damaged else f"holds {[*found]}, not {sorted(expect)}"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, *reading.ZIP_DAMAGE) as error:
        reason = str(error)
    if path.exists():
        warnings.warn(f"{path} is damaged ({reason}): making it anew", stacklevel=3)
    return None
