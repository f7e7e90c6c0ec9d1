"""Where an experiment's files go: beside an earlier build, and in its place once all are there."""

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

from metamer_jax import storage

# What a build leaves, private/ last: who finds design.json finds everything.
PARTS = ("public", "conditions", "study.jzip", "private")
_NEW = ".listening_build"  # What is being written; within it _OLD, what is being replaced.
_OLD = "replaced"
# Names that builds give their files, this version's and earlier ones'.
_OURS = re.compile(
    r"public/(index\.html|style\.css|\w+\.js|vendor/[\w.-]+|audio/s[0-9a-f]{12}\.wav)"
    r"|conditions/(condition_\d+\.wav|condition_\d+_form\.csv|create_forms\.gs)"
    r"|private/(manifest\.csv|answer_key\.csv|report\.html|design\.json)"
    r"|study\.jzip"
)


def check_replaceable(folder: pathlib.Path) -> None:
    """Refuses a folder in which a build would take the place of anything but a build.

    Args:
        folder: Where an experiment is to go.

    Raises:
        ValueError: Something stands there under our names that no build left; the message names
            it. Nothing was changed.
    """
    if (folder / _NEW).is_dir():
        _put_back(folder)
    present = [name for name in PARTS if os.path.lexists(folder / name)]
    if not present:
        return
    mark = folder / "private" / "design.json"
    if not mark.is_file() or "design_sha256" not in _object(mark):
        raise ValueError(
            f"{folder / present[0]} is there, and {mark} does not say that it is an earlier "
            f"experiment's: give the experiment a folder of its own"
        )
    for name in present:
        for path in [folder / name, *sorted((folder / name).rglob("*"))]:
            inside = path.relative_to(folder).as_posix()
            if path.is_symlink() or (path.is_file() and not _OURS.fullmatch(inside)):
                raise ValueError(
                    f"{path} was not made by a build and would be deleted with the earlier one: "
                    f"move it away, or give the experiment a folder of its own"
                )


def _object(path: pathlib.Path) -> dict:
    found = storage.read_json(path)
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def beside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields an empty folder to write to, whose parts take their places when the block ends well.

    Args:
        folder: Where the parts go; `check_replaceable` has found nothing against it.

    Raises:
        StorageError: A part could not be moved.
    """
    new = folder / _NEW
    with storage.storage_errors(new):
        new.mkdir(parents=True)
    try:
        yield new
        with storage.storage_errors(new):
            (new / _OLD).mkdir()
            for name in reversed(PARTS):  # Without its mark first, a build is none.
                if (folder / name).exists():
                    (folder / name).rename(new / _OLD / name)
            for name in PARTS:
                (new / name).rename(folder / name)
    finally:
        _put_back(folder)


def _put_back(folder: pathlib.Path) -> None:
    """Ends a build that was interrupted: where nothing new came, the old part returns."""
    old = folder / _NEW / _OLD
    if old.is_dir() and not (folder / "private").exists():
        before = [name for name in PARTS if (old / name).exists()]
        # Without an earlier build, whatever took its place is the unfinished one's.
        for name in before or PARTS:
            new = folder / name
            if new.is_dir():
                shutil.rmtree(new)
            else:
                new.unlink(missing_ok=True)
        for name in before:
            (old / name).replace(folder / name)
    shutil.rmtree(folder / _NEW, ignore_errors=True)
