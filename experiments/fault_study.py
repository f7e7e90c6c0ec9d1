"""What a synthesis survives: kills, full disks, damage. Prints a table, writes it as JSON.

  python -m experiments.reproduce --preset=smoke
  python -m experiments.fault_study --workdir=runs/smoke-spoken_words-seed0 --kills=20

Works on copies of a run with trained networks. After every fault the same command is run again to
its end; "lost" counts the tries after which finished work was gone, the message was not the one
expected, or what was made was not, bit for bit, that of an uninterrupted run (but for seconds).
"silent" counts damages after which no message named the file. Kills strike a part (training,
synthesis, verification, report) after its imports and before its end; the notes in the JSON say
where each one landed.
"""

import collections
import contextlib
import faulthandler
import functools
import hashlib
import logging
import logging.handlers
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from absl import flags

from experiments import damages, disks
from metamer_jax import configs, pipeline, runs, storage
from metamer_jax.commands import drivers, report, settings, synthesize, train, verify
from metamer_jax.runs import manifest
from metamer_jax.storage import atomic

flags.adopt_module_key_flags(settings)

_KILLS = flags.DEFINE_integer("kills", 20, "SIGKILLs of each kind.", 1)
_FAULTS = flags.DEFINE_list(
    "faults",
    None,
    "Which faults; unset: all, and with them 'damages' to all "
    "files of a run, finished and under way.",
)
_OUT = flags.DEFINE_string("out", "fault_study.json", "The table as JSON.")
_STUDY_SEED = flags.DEFINE_integer("study_seed", 0, "Of the moments at which faults strike.", 0)
_CHILD = flags.DEFINE_string("child", None, "Used by the study itself.")

_WAIT_S = 600
_DAMAGES = "damages"
_AT_WORK = "at work\n"
# The parts of a run, one after the other: the command, and what of `pipeline` does the work.
_PARTS = {
    "training": (train, "train_networks"),
    "synthesis": (synthesize, "synthesize_metamers"),
    "verification": (verify, "verify_metamers"),
    "report": (report, "write_report"),
}


class Lost(Exception):
    """A fault cost something."""


# The process that faults strike.


def _run_child(mode: str, argv: Sequence[str]) -> None:
    """Runs a part of a run, saving after every chunk; "torn:3" is a synthesis that dies in write 3.

    It says when its imports and its recordings are behind it, and on SIGUSR1 where it is.
    """
    pipeline.synthesize.SAVE_INTERVAL_S = 0.0
    kind, _, number = mode.partition(":")
    if kind == "torn":
        _die_within_write(int(number))
    command, name = _PARTS.get(kind, _PARTS["synthesis"])
    work = getattr(pipeline, name)

    def told(*args: Any, **kwargs: Any) -> Any:
        print(_AT_WORK, end="", flush=True)
        return work(*args, **kwargs)

    faulthandler.register(signal.SIGUSR1, all_threads=False)
    setattr(pipeline, name, told)
    command.main(argv)


def _die_within_write(number: int) -> None:
    whole, count = atomic.atomic_write, 0

    class Torn:
        def __init__(self, file: BinaryIO):
            self._file = file

        def write(self, content: bytes) -> int:
            self._file.write(bytes(content)[: len(content) // 2])
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

    @contextlib.contextmanager
    def torn(path: str | os.PathLike) -> Iterator[BinaryIO]:
        nonlocal count
        count += 1
        with whole(path) as file:
            # pyrefly: ignore[invalid-yield]: `write` is all that is asked of it
            yield Torn(file) if count == number else file

    atomic.atomic_write = torn


def _limit_files(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _start(folder: pathlib.Path, mode: str = "plain", *more: str, limit: int | None = None):
    """Starts the child on a folder; `limit` is the size in bytes that its files may have."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.fault_study", f"--workdir={folder}",
         f"--child={mode}", *more],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=functools.partial(_limit_files, limit) if limit else None,
    )  # fmt: skip


def _end(child: subprocess.Popen, code: int = 0, message: str = "") -> str:
    output = child.communicate(timeout=_WAIT_S)[0]
    if child.returncode != code:
        raise Lost(f"exit status {child.returncode} instead of {code}: {output[-600:]}")
    if message not in output or "Traceback" in output:
        raise Lost(f"{message!r} is not in: {output[-600:]}")
    return output


# What is compared.


def _digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns {name: SHA-256} of everything finished below metamers/, and of the targets."""
    paths = [*folder.glob("metamers/*/*/metamers.npz"), *folder.glob("metamers/*/*/batch_*.npz")]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


class Study:
    """The uninterrupted run, and fresh copies of what came before it."""

    def __init__(self, trained: pathlib.Path, scratch: pathlib.Path):
        self._trained, self._scratch, self._count = trained, scratch, 0
        self.random = random.Random(_STUDY_SEED.value)
        self.folder = scratch / "run"

    @functools.cached_property
    def expected(self) -> dict[str, str]:
        """Digests of the metamers of an uninterrupted run."""
        folder = self.fresh()
        _end(_start(folder))
        return _digests(folder)

    def before(self, part: str) -> pathlib.Path:
        """A run as it is before a part: made by the parts before it, from the settings alone."""
        folder = self._scratch / f"before-{part}"
        if not folder.exists():
            place = list(_PARTS).index(part)
            if place == 0:
                folder.mkdir()
                shutil.copy(self._trained / runs.CONFIG, folder)
            else:
                earlier = list(_PARTS)[place - 1]
                shutil.copytree(self.before(earlier), folder)
                _end(_start(folder, earlier))
        return folder

    def at(self, part: str) -> pathlib.Path:
        """A copy of the run before a part, in the same place each time: the report tells it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        return shutil.copytree(self.before(part), self.folder)

    def fresh(self, below: pathlib.Path | None = None) -> pathlib.Path:
        self._count += 1
        return shutil.copytree(
            self._trained,
            (below or self._scratch) / f"run{self._count}",
            ignore=shutil.ignore_patterns("metamers", "verification", "figures", "report.html"),
        )

    def check(self, folder: pathlib.Path) -> None:
        """Checks the results of a run that came to its end."""
        if _digests(folder) != self.expected:
            raise Lost("the metamers differ from those of an uninterrupted run")
        _nothing_left(folder)

    def stopped(self, folder: pathlib.Path) -> pathlib.Path:
        """Stops a run by SIGTERM once it has saved a state; returns the state's path."""
        child = _start(folder)
        path = _wait_for(folder, "metamers/*/*/state_*.npz", child)
        child.terminate()
        _end(child, runs.EXIT_STOPPED)
        states = list(folder.glob("metamers/*/*/state_*.npz"))
        if not states:
            raise Lost(f"SIGTERM left no state beside {path}")
        return states[0]

    def resume(self, folder: pathlib.Path, message: str = "") -> None:
        _end(_start(folder), 0, message)
        self.check(folder)


def _nothing_left(folder: pathlib.Path) -> None:
    for path in folder.rglob(".*.tmp"):
        raise Lost(f"{path} was left behind")


def _wait_for(folder: pathlib.Path, pattern: str, child: subprocess.Popen) -> pathlib.Path:
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        for path in folder.glob(pattern):
            return path
        if child.poll() is not None:
            raise Lost(f"no {pattern} before the end: {child.communicate()[0][-600:]}")
        time.sleep(0.01)
    raise Lost(f"no {pattern} within {_WAIT_S} s")


def _wait_for_work(child: subprocess.Popen) -> None:
    """Waits until a process says that it has begun the work itself."""
    for line in child.stdout or ():
        if line == _AT_WORK:
            return
    raise Lost(f"exit status {child.wait()} before the work")


def _kept(before: dict[str, str], folder: pathlib.Path) -> None:
    """Checks that what was finished is still there, as it was or joined with the rest."""
    after = _digests(folder)
    for name, digest in before.items():
        joined = str(pathlib.PurePath(name).parent / "metamers.npz")
        if after.get(name) != digest and joined not in after:
            raise Lost(f"{name} was finished, and is gone")


# The faults. Each yields once a try, and raises `Lost` where one cost something.


def _killed_in(part: str) -> Callable[[Study], Iterator[str]]:
    """SIGKILL at random moments of a part: of a new run, of what that left, and then to its end"""

    def fault(study: Study) -> Iterator[str]:
        _end(_start(study.at(part), part))  # Compiles: the next is as fast as those that are hit.
        child = _start(study.at(part), part)
        _wait_for_work(child)
        begin = time.monotonic()
        _end(child)
        seconds, expected = time.monotonic() - begin, _finished(study.folder)
        struck = 0
        while struck < _KILLS.value:
            folder, done, kept = study.at(part), {}, {}
            for _ in range(min(2, _KILLS.value - struck)):
                child = _start(folder, part)
                _wait_for_work(child)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(study.random.uniform(0.0, seconds))
                landed = _strike(child)
                _kept(kept, folder)
                done, kept = done | _recorded(folder), _digests(folder)
                if landed is not None:
                    struck += 1
                    yield landed
            said = _end(_start(folder, part)).splitlines()
            if wrong := [w for w in said if "warning: " in w and ": unfinished, or" not in w]:
                raise Lost(f"damage is told where there was none: {wrong}")
            found = _finished(folder)
            if different := [name for name in expected if found.get(name) != expected[name]]:
                raise Lost(f"{different} are not those of an uninterrupted run")
            if again := [n for n, t in done.items() if (folder / n).stat().st_mtime_ns != t]:
                raise Lost(f"{again} were finished, and made again")
            _nothing_left(folder)

    return fault


def _finished(folder: pathlib.Path) -> dict[str, object]:
    """What a run made, with its report."""
    names = [name for name in manifest.REPORT if (folder / name).exists()]
    reports = {name: manifest.look_at(folder, name).sha256 for name in names}
    return damages.contents(folder) | reports


def _recorded(folder: pathlib.Path) -> dict[str, int]:
    """When what the run says is finished was written; the report is at every call."""
    names = set(runs.read_run(folder).manifest.entries()) - {*manifest.REPORT}
    return {n: (folder / n).stat().st_mtime_ns for n in names if not n.endswith("/")}


def _strike(child: subprocess.Popen) -> str | None:
    """Kills a process; returns in which function of the package, None where it had ended."""
    if child.poll() is not None:
        return None
    child.send_signal(signal.SIGUSR1)
    time.sleep(0.02)  # For the stack, which the process writes at once.
    child.kill()
    output = child.communicate()[0]
    if child.returncode != -signal.SIGKILL:
        return None
    # Of deep stacks only the innermost hundred calls are told: those are JAX's tracing.
    inside = re.search(r'"[^"]*/metamer_jax/([^"]*)\.py", line \d+ in (\S+)', output)
    return f"{inside[1]}:{inside[2]}" if inside else "jax"


def _killed_within_write(study: Study) -> Iterator[str]:
    """SIGKILL in the middle of a write"""
    folder, struck = study.fresh(), 0
    while struck < _KILLS.value:
        number = study.random.randint(1, 12)
        before = _digests(folder)
        child = _start(folder, f"torn:{number}")
        child.communicate(timeout=_WAIT_S)
        if child.returncode not in (0, -signal.SIGKILL):
            raise Lost(f"exit status {child.returncode}")
        _kept(before, folder)
        if child.returncode:
            struck += 1
            yield f"write {number}"
        else:  # Fewer writes were left than that.
            study.check(folder)
            folder = study.fresh()
    study.resume(folder)


def _terminated(study: Study) -> Iterator[str]:
    """SIGTERM"""
    folder = study.fresh()
    study.stopped(folder)
    study.resume(folder)
    yield f"exit status {runs.EXIT_STOPPED}"


def _damaged(pattern: str, damage: Callable[[bytes], bytes]):
    def fault(study: Study) -> Iterator[str]:
        folder = study.fresh()
        if pattern == "state":
            path = study.stopped(folder)
        else:
            _end(_start(folder))
            path = sorted(folder.glob("metamers/*/*/metamers.npz"))[0]
        path.write_bytes(damage(path.read_bytes()))
        study.resume(folder, "it is made again")
        yield "made again"

    return fault


def _full_disk(study: Study) -> Iterator[str]:
    """A full disk"""
    with disks.mounted("size=1g") as disk:
        if disk is None:
            folder = study.fresh()
            _end(_start(folder, limit=60_000), 1, "free some space")
            note = "limit on file size"
        else:
            whole, folder = study.fresh(), study.fresh(disk)
            _end(_start(whole))
            first = min(path.stat().st_size for path in whole.glob("metamers/*/*/metamers.npz"))
            used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            disks.remount(disk, f"size={(used + first) // 1024 + 32}k")
            _end(_start(folder), 1, "free some space")
            disks.remount(disk, "size=1g")
            note = "tmpfs"
        study.resume(folder)
    yield note


def _unwritable(study: Study) -> Iterator[str]:
    """A folder that may not be written to"""
    with disks.mounted("size=1g") as disk:
        if disk is None:
            folder, note = study.fresh(), "permissions"
            folder.chmod(0o500)
            if os.access(folder, os.W_OK):
                return  # The superuser may always.
        else:
            folder, note = study.fresh(disk), "read-only file system"
            disks.remount(disk, "ro")
        _end(_start(folder), 1, "choose a folder that you may write to")
        if disk is None:
            folder.chmod(0o700)
        else:
            disks.remount(disk, "rw")
        study.resume(folder)
    yield note


def _second_process(study: Study) -> Iterator[str]:
    """A second process on the same folder"""
    folder = study.fresh()
    child = _start(folder)
    _wait_for_work(child)
    child.send_signal(signal.SIGSTOP)  # So that it does not end before the second has started.
    try:
        _end(_start(folder), 1, "is in use by process")
    finally:
        child.send_signal(signal.SIGCONT)
    _end(child)
    study.check(folder)
    yield "refused"


def _other_settings(study: Study) -> Iterator[str]:
    """Changed settings on resume"""
    folder = study.fresh()
    study.stopped(folder)
    before = _digests(folder)
    other = _start(folder, "plain", "--set=synthesis.start_rms=0.02")
    _end(other, 2, "synthesis.start_rms: 0.01 before, 0.02 now")
    _kept(before, folder)
    study.resume(folder)
    yield "refused by name"


FAULTS = {
    **{f"kill_in_{part}": _killed_in(part) for part in _PARTS},
    "kill_within_write": _killed_within_write,
    "sigterm": _terminated,
    "truncated_state": _damaged("state", damages.cut),
    "altered_state": _damaged("state", damages.flip),
    "truncated_metamers": _damaged("metamers", damages.cut),
    "altered_metamers": _damaged("metamers", damages.flip),
    "full_disk": _full_disk,
    "unwritable_folder": _unwritable,
    "second_process": _second_process,
    "changed_settings": _other_settings,
}


# Damages, each to a copy of a run that is finished or under way, which then goes on to its end.


def _study_damages(config: configs.ExperimentConfig, trained: pathlib.Path) -> list[dict]:
    """Tries every damage; returns {damage, tries, silent, lost, said}."""
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = pathlib.Path(scratch) / "whole"
        shutil.copytree(trained, whole)
        _go_on(config, whole)
        expected = damages.contents(whole)
        for state, tried in (
            (None, damages.FINISHED),
            ("metamers", damages.SYNTHESIS),
            ("networks", damages.TRAINING),
        ):
            begun = pathlib.Path(scratch) / "begun"
            shutil.copytree(whole, begun)
            if state is not None:
                _stop_within(config, begun, state)
                patterns = damages.STATES[state]
                if not all(any(begun.glob(pattern)) for pattern in patterns):
                    raise ValueError(
                        f"--workdir must be a run that leaves {patterns} together while it is "
                        "under way: two batches a stage or more (--batch_size), got one"
                    )
            for name, damage in tried.items():
                folder = pathlib.Path(scratch) / "damaged"
                shutil.copytree(begun, folder)
                found = damages.judge(folder, damage, expected, functools.partial(_go_on, config))
                shutil.rmtree(folder)
                row = {"damage": name, "tries": 1, "silent": int(found.silent)}
                table.append({**row, "lost": int(found.lost), "said": found.said})
                print(f"| {name} | 1 | {row['silent']} | {int(found.lost)} |", flush=True)
            shutil.rmtree(begun)
    return table


def _go_on(config: configs.ExperimentConfig, folder: pathlib.Path) -> str:
    """Continues a run to its end and returns its warnings."""
    listener = logging.handlers.BufferingHandler(capacity=10**6)
    listener.setLevel(logging.WARNING)
    logging.getLogger().addHandler(listener)
    try:
        pipeline.reproduce(config, folder)
    finally:
        logging.getLogger().removeHandler(listener)
    return "\n".join(record.getMessage() for record in listener.buffer)


def _stop_within(config: configs.ExperimentConfig, folder: pathlib.Path, part: str) -> None:
    """Begins a part anew and stops it once it has saved a state, of synthesis after a batch."""
    shutil.rmtree(folder / part)
    pattern = "*/state.npz" if part == "networks" else "*/*/batch_*.npz"

    def stop() -> bool:
        return any((folder / part).glob(pattern))

    with contextlib.suppress(SystemExit), pipeline.open_run(folder, config) as (run, recordings):
        pipeline.train_networks(run, recordings, stop=stop)
        pipeline.synthesize_metamers(run, recordings, stop=stop)


def _struck(name: str, study: Study) -> dict[str, Any]:
    """Strikes with one fault as often as asked, and says how often something was lost."""
    notes: list[str] = []
    lost = 0
    try:
        for note in FAULTS[name](study):
            notes.append(note)
    except Lost as error:
        notes.append(str(error))
        lost = 1
    print(f"| {name} | {len(notes)} | {lost} |", flush=True)
    for note, count in collections.Counter(notes).most_common() if "kill_in" in name else ():
        print(f"    {count} in {note}")
    return {"fault": name, "tries": len(notes), "lost": lost, "notes": notes}


def main(argv: Sequence[str]) -> None:
    if _CHILD.value:
        _run_child(_CHILD.value, argv)
        return
    chosen = _FAULTS.value or [*FAULTS, _DAMAGES]
    if unknown := sorted(set(chosen) - {*FAULTS, _DAMAGES}):
        raise ValueError(f"--faults must be of {[*FAULTS, _DAMAGES]}, got {unknown}")
    config, trained = settings.config_and_folder()
    weights = [trained / "networks" / network / "weights.npz" for network in config.networks]
    if not storage.is_done(*weights):
        raise ValueError(f"--workdir must be a run with trained networks, got {trained}")
    damaged = _study_damages(config, trained) if _DAMAGES in chosen else []
    table = []
    chosen = [name for name in chosen if name != _DAMAGES]
    with tempfile.TemporaryDirectory() as scratch:
        if chosen:
            study = Study(trained, pathlib.Path(scratch))
            table = [_struck(name, study) for name in chosen]
    storage.write_json(_OUT.value, {"faults": table, "damages": damaged})
    if damaged:
        tries, silent, lost = (sum(r[k] for r in damaged) for k in ("tries", "silent", "lost"))
        print(f"{tries} damages: {silent} silent, {lost} lost something")
    rows = [(row["fault"].replace("_", " "), row["tries"], row["lost"]) for row in table]
    print(f"\n{drivers.markdown(('fault', 'tries', 'lost'), rows)}")
    for row in table:
        if row["lost"]:
            print(f"{row['fault']}: {row['notes'][-1]}")
    if any(row["lost"] or row.get("silent") for row in (*damaged, *table)):
        sys.exit(1)


if __name__ == "__main__":
    drivers.run(main)
