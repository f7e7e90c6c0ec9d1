"""Damages to a run folder, for the fault study and the tests: what they hit, and what they do.

A damage is a function of the folder that returns the names of the files that it damaged. Where a
run cannot go on by itself, `settle` is what the message tells the user to do.
"""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from metamer_jax import runs, storage
from metamer_jax.runs import manifest

Damage = Callable[[pathlib.Path], list[str]]

# Of each of these patterns the first file.
FILES = (
    "networks/*/weights.npz",
    "networks/*/result.json",
    "networks/*/training.jsonl",
    "targets/targets.npz",
    "targets/targets.csv",
    "targets/wav/*.wav",
    "metamers/*/*/metamers.npz",
    "metamers/*/*/wav/*.wav",
    "metamers/playback.json",
    "verification/null.json",
    "verification/null_histograms.npz",
    "verification/stages.csv",
    "verification/yields.csv",
    "verification/metamers.csv",
    "report.html",
    "figures/*.png",
    "manifest.json",
    "config.json",
)


def _first(folder: pathlib.Path, pattern: str) -> pathlib.Path:
    return sorted(folder.glob(pattern))[0]


def _change(pattern: str, change: Callable[[bytes], bytes | None], *, keep_time: bool = False):
    def damage(folder: pathlib.Path) -> list[str]:
        path = _first(folder, pattern)
        stat, content = path.stat(), change(path.read_bytes())
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
            if keep_time:
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return [path.relative_to(folder).as_posix()]

    return damage


def cut(content: bytes) -> bytes:
    """The first half."""
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    """The same with another bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _swap(*patterns: str) -> Damage:
    def damage(folder: pathlib.Path) -> list[str]:
        paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        first, second = paths[0], paths[-1]
        spare = folder / ".spare"
        for source, target in ((first, spare), (second, first), (spare, second)):
            shutil.move(source, target)
        return [path.relative_to(folder).as_posix() for path in (first, second)]

    return damage


def _stale_report_of_tomorrow(folder: pathlib.Path) -> list[str]:
    report = folder / "report.html"
    report.write_text("<p>Of another run.")
    os.utime(report, (4e9, 4e9))
    return ["report.html"]


def _more_passed(folder: pathlib.Path) -> list[str]:
    """Edits verdicts, and hides it: the same size and time."""
    name = "verification/metamers.csv"
    return _change(name, lambda c: c.replace(b",fail,", b",pass,"), keep_time=True)(folder)


def _edit_settings(**changes) -> Damage:
    def damage(folder: pathlib.Path) -> list[str]:
        saved = storage.read_json(folder / "config.json")
        saved["experiment"] |= changes
        (folder / "config.json").write_text(json.dumps(saved, indent=2) + "\n")
        return ["config.json"]

    return damage


FINISHED: dict[str, Damage] = {
    **{f"{name} cut short": _change(name, cut) for name in FILES},
    **{f"{name} emptied": _change(name, lambda content: b"") for name in FILES},
    **{f"{name} replaced by {{}}": _change(name, lambda content: b"{}") for name in FILES},
    **{f"{name} deleted": _change(name, lambda content: None) for name in FILES},
    **{f"{name} altered": _change(name, flip) for name in FILES if name != "config.json"},
    "another seed in config.json": _edit_settings(seed=7),
    "other words in config.json": _edit_settings(stages=["logits"]),
    "metamers of two stages swapped": _swap("metamers/*/*/metamers.npz"),
    "sounds as played swapped": _swap("metamers/*/*/wav/*.wav"),
    "tables swapped": _swap("verification/yields.csv", "verification/metamers.csv"),
    "verdicts edited": _more_passed,
    "an old report of tomorrow": _stale_report_of_tomorrow,
}


def _arrays(pattern: str, change: Callable[[dict], dict]) -> Damage:
    """Changes a saved state's arrays, and gives it a good checksum."""

    def damage(folder: pathlib.Path) -> list[str]:
        path = _first(folder, pattern)
        storage.write_npz(path, change(storage.read_npz(path)))
        return [path.relative_to(folder).as_posix()]

    return damage


def _not_finite(arrays: dict) -> dict:
    return {
        name: np.full_like(value, np.nan) if value.dtype.kind == "f" else value
        for name, value in arrays.items()
    }


def _without_the_first(arrays: dict) -> dict:
    return {name: arrays[name] for name in list(arrays)[1:]}


def _of_another(arrays: dict) -> dict:
    if "made_of" in arrays:
        return {**arrays, "made_of": np.array("0" * 16)}
    return {**arrays, "metadata": np.array(json.dumps({"made_of": ["0" * 16]}))}


def _steps_beyond(arrays: dict) -> dict:
    # Of the leaves of a metamer the last but one is its step.
    name = sorted(name for name in arrays if name.startswith("metamer_"))[-2]
    return {**arrays, name: arrays[name] + 10**6}


def _under_way(pattern: str) -> dict[str, Damage]:
    return {
        f"{pattern} cut short": _change(pattern, cut),
        f"{pattern} altered": _change(pattern, flip),
        f"{pattern} emptied": _change(pattern, lambda content: b""),
        f"{pattern} of other settings": _arrays(pattern, _of_another),
        f"{pattern} without an array": _arrays(pattern, _without_the_first),
    }


_STATE, _BATCH = "metamers/*/*/state_*.npz", "metamers/*/*/batch_*.npz"
SYNTHESIS: dict[str, Damage] = {
    **_under_way(_STATE),
    **_under_way(_BATCH),
    f"{_STATE} not finite": _arrays(_STATE, _not_finite),
    f"{_STATE} beyond the last step": _arrays(_STATE, _steps_beyond),
    f"{_STATE} and a batch swapped": _swap(_BATCH, _STATE),
}
_TRAINING = "networks/*/state.npz"
TRAINING: dict[str, Damage] = {
    **_under_way(_TRAINING),
    f"{_TRAINING} not finite": _arrays(_TRAINING, _not_finite),
}


# What a part that is under way must have left for its damages, by its folder.
STATES = {"metamers": (_STATE, _BATCH), "networks": (_TRAINING,)}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a damage: whether it was named, and whether everything is as it was."""

    silent: bool
    lost: bool
    said: str


def contents(folder: pathlib.Path) -> dict[str, object]:
    """Returns what a run made, without what differs each time: seconds, reports, who has it."""
    found: dict[str, object] = {}
    for name in manifest.files_made(folder):
        if name.endswith("result.json"):
            found[name] = {**storage.read_json(folder / name), "seconds": None}
        elif name.endswith("training.jsonl"):
            records = storage.read_jsonl(folder / name)
            found[name] = [{**record, "seconds": None} for record in records]
        elif name not in manifest.REPORT:
            found[name] = manifest.look_at(folder, name).sha256
    return found


def judge(
    folder: pathlib.Path,
    damage: Damage,
    expected: dict[str, object],
    go_on: Callable[[pathlib.Path], str],
) -> Outcome:
    """Damages a run, lets it go on, and says what came of it.

    Args:
        folder: The run, a copy of its own.
        damage: What to do to it.
        expected: `contents` of the run that was never damaged.
        go_on: Continues the run to its end and returns what it said; it may raise ValueError.
    """
    config = (folder / runs.CONFIG).read_bytes()
    names = damage(folder)
    try:
        said = go_on(folder)
    except ValueError as error:  # Refused: the user does what the message says.
        said = str(error)
        if names == [runs.CONFIG] and runs.CONFIG in said:
            (folder / runs.CONFIG).write_bytes(config)
            go_on(folder)
    named = all(name in said or f"{pathlib.PurePath(name).parent} " in said for name in names)
    found, wanted = contents(folder), dict(expected)
    if any(name.endswith("training.jsonl") for name in names):  # It is told that it is missing.
        found, wanted = (
            {n: v for n, v in c.items() if not n.endswith(".jsonl")} for c in (found, wanted)
        )
    return Outcome(silent=not named, lost=found != wanted, said=said)
