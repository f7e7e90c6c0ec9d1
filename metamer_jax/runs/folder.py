"""The run folder: its settings, who has it open, and in what environment it was made."""

import dataclasses
import functools
import importlib.metadata
import json
import logging
import os
import pathlib
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from metamer_jax import configs
from metamer_jax.runs import manifest, shares
from metamer_jax.runs.manifest import MAY_DIFFER, Manifest
from metamer_jax.runs.shares import Shard
from metamer_jax.runtime import pasting
from metamer_jax.storage.reading import is_done, read_json
from metamer_jax.storage.writing import Path, storage_errors, write_json

try:
    import fcntl
except ImportError:  # Windows: a second process on one folder goes unnoticed there.
    fcntl = None

CONFIG = "config.json"
SCHEMA_VERSION = 1

# Settings that may change within a folder: what follows from them is made again, the rest stays.
MAY_CHANGE = ("preset", "networks", "stages", "verification")

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")  # Names that files.atomic_write uses.
_log = logging.getLogger(__name__)


class FolderInUseError(RuntimeError):
    """Another process works in the run folder."""


def default_folder(preset: str, dataset: str, seed: int) -> pathlib.Path:
    """Returns where a run goes unless told otherwise, below the current folder."""
    return pathlib.Path("runs") / f"{preset}-{dataset}-seed{seed}"


@dataclasses.dataclass
class Run:
    """A run folder: to be read from, or open to work in.

    Open it is this process's alone until `close`, or the end of a `with` block.
    """

    folder: pathlib.Path
    config: Any
    resumed: bool  # Whether the folder held this run already.
    shard: Shard = Shard()
    saved: Mapping[str, Any] = dataclasses.field(repr=False, default_factory=dict)  # config.json.
    problems: list[str] = dataclasses.field(default_factory=list)  # Of a tolerant reader.
    _locks: list[int] = dataclasses.field(repr=False, default_factory=list)
    _told: set[tuple[str, str]] = dataclasses.field(repr=False, default_factory=set)

    def path(self, *parts: str) -> pathlib.Path:
        """Returns the path of something in the folder."""
        return self.folder.joinpath(*parts)

    @functools.cached_property
    def manifest(self) -> Manifest:
        """What the run has made; of runs, not of other folders that are opened."""
        return Manifest(self.folder, self.config, self.shard)

    def is_done(self, *names: str) -> bool:
        """Says whether files are those that the run made, of the settings and files of today.

        A file that is there and is not counts as not there, with a warning. Of a run without
        manifest, which was made before there were any, it is enough that they are whole.

        Args:
            *names: Relative to the folder, as in manifest.json; those of folders end in "/".

        Returns:
            Whether all of them are.
        """
        if not self.manifest.exists():
            return is_done(*(self.path(n) for n in names if not n.endswith("/")))
        unsound = [name for name in names if not self.manifest.is_sound(name)]
        for name in unsound:
            reason = self.manifest.trouble(name)
            if reason is not None and (name, reason) not in self._told:
                self._told.add((name, reason))
                _log.warning("%s %s; it is made again", self.path(name), reason)
        return not unsound

    def record(self, *names: str) -> None:
        """Says that files are finished, those that follow from others after them."""
        self.manifest.record(names)

    def missing(self, path: pathlib.Path, work: str, command: str) -> ValueError:
        """Makes the error of a file that is not there.

        Args:
            path: The file.
            work: What is to be done first, e.g. "train the networks".
            command: The command that does it, as of `pasting.command`.

        Returns:
            The error, to be raised.
        """
        command = pasting.command(command, f"--workdir={self.folder}")
        return ValueError(f"{path} is not there: {work} first ({command})")

    def wait(
        self, owed: Callable[[], Mapping[str, int]], stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Waits for what other shares owe, where there are any.

        Args:
            owed: Function that says what is missing, and the number of the unit of work that makes
                it; what is this share's own is not waited for.
            stop: Function that says whether to end.

        Raises:
            ShareMissingError: The others make no progress.
            SystemExit: `stop` said so.
        """

        def of_others():
            return {name: n for name, n in owed().items() if not self.shard.owns(n)}

        if self.shard.count > 1:
            shares.wait(self.folder, self.shard, of_others, stop)

    def close(self) -> None:
        """Lets other processes open the folder."""
        if self._locks and self.shard.count == 1:
            self.manifest.renew()
        while self._locks:
            lock = self._locks.pop()
            os.ftruncate(lock, 0)
            os.close(lock)  # Which unlocks it, as the end of the process would.

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_run(
    folder: Path,
    config: Any,
    *,
    may_differ: Sequence[str] = MAY_DIFFER,
    shard: Shard | None = None,
) -> Run:
    """Makes a run's folder, or opens it to continue the run.

    A new folder gets config.json: schema_version, experiment (the settings) and environment. When
    the run is continued, that file stays; an environment that differs is added to `resumed_in`.
    Half-written files that a killed process left are removed.

    Args:
        folder: Where; missing parents are made.
        config: The run's settings, a frozen dataclass of `configs`.
        may_differ: Dotted fields (or groups of them) that need not be as they were.
        shard: Which of several processes this is; they may have the folder open together. None:
            it wants the folder to itself.

    Returns:
        The open run; use it in a `with` block.

    Raises:
        ValueError: The folder holds a run with other settings; the message names them.
        FolderInUseError: Another process has it open.
        DamagedFileError: Its config.json cannot be read.
        StorageError: The folder cannot be made or written to.
    """
    folder = pathlib.Path(folder)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        locks = _lock_folder(folder, shard)
    run = Run(folder, config, False, shard or Shard(), _locks=locks)
    try:
        if shard is None:
            _remove_temporaries(folder)  # Else they may be another process's, being written.
        run.resumed = _check_or_write_config(folder, config, may_differ, run.shard)
        if shard is None:
            run.manifest.settle()
    except BaseException:
        run.close()
        raise
    return run


class _Part(NamedTuple):
    """What a part of a run leaves, by pattern, and how it is made."""

    pattern: str
    work: str
    module: str


_PARTS = {
    "networks": _Part("networks/{network}/weights.npz", "train the networks", "train"),
    "verification": _Part("verification/metamers.csv", "verify the metamers", "verify"),
}


def read_run(
    folder: Path,
    kind: type = configs.ExperimentConfig,
    *,
    needs: Sequence[str] = (),
    tolerant: bool = False,
) -> Run:
    """Opens a run to read from, whoever works in it: nothing is locked or written.

    Args:
        folder: The run's folder.
        kind: Class of its settings.
        needs: Parts that must be there, of "networks" and "verification".
        tolerant: Whether to open whatever is there: settings that are missing or that this version
            of the package does not understand are the defaults, and `problems` of the run says so.

    Returns:
        The run, with its settings and in `saved` all of config.json.

    Raises:
        ValueError: There is no run, or none of this version's, or a part of it is not there.
        DamagedFileError: Its config.json cannot be read.
    """
    folder = pathlib.Path(folder)
    path = folder / CONFIG
    problems: list[str] = []
    saved: Any = {}
    try:
        saved = read_json(path)
        config = _settings_of(saved, path, kind)
    except FileNotFoundError:
        if not tolerant:
            raise ValueError(
                f"{path} is not there: {folder} must be the folder of a run "
                f"({pasting.command('reproduce', f'--workdir={folder}')} makes one)"
            ) from None
        config = kind()
    except ValueError as error:
        if not tolerant:
            raise
        problems.append(f"{CONFIG}: {error}")
        saved = saved if isinstance(saved, dict) else {}
        config = _as_far_as_understood(kind, saved.get("experiment"))
    run = Run(folder, config, True, saved=saved, problems=problems)
    for part in () if tolerant else needs:
        pattern, work, module = _PARTS[part]
        for network in config.networks:
            file = run.path(pattern.format(network=network))
            if not file.is_file():
                raise run.missing(file, work, module)
    return run


def _settings_of(saved: Any, path: pathlib.Path, kind: type) -> Any:
    """Returns the settings that config.json holds.

    Raises:
        ValueError: They are another version's.
    """
    version = saved.get("schema_version") if isinstance(saved, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{path} must have schema_version {SCHEMA_VERSION} for this version of metamer_jax, "
            f"got {version!r}; use the version that made it, or another folder"
        )
    try:
        return configs.from_dict(kind, saved.get("experiment"))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds settings that this version of metamer_jax cannot continue: {error}"
        ) from error


def _as_far_as_understood(kind: type, settings: Any) -> Any:
    """Returns the defaults with those of the settings that can be."""
    config = kind()
    for name, value in settings.items() if isinstance(settings, dict) else ():
        try:
            part = {**json.loads(configs.to_json(config)), name: value}
            config = configs.from_dict(kind, part)
        except ValueError:
            continue  # `problems` names the first that is not understood.
    return config


def _lock_folder(folder: pathlib.Path, shard: Shard | None) -> list[int]:
    """Returns open files that hold the folder's locks; the system frees them if we are killed.

    Processes with a shard hold the folder's lock together, and each one of its own.
    """
    if fcntl is None:
        return []
    if shard is None:
        return _lock(folder, ".lock", fcntl.LOCK_EX)
    together = _lock(folder, ".lock", fcntl.LOCK_SH)
    try:
        own = f".lock-{shard.index}-of-{shard.count}"
        return together + _lock(folder, own, fcntl.LOCK_EX)
    except BaseException:
        for lock in together:
            os.close(lock)
        raise


def _lock(folder: pathlib.Path, name: str, kind: int) -> list[int]:
    assert fcntl is not None  # `_lock_folder` goes on without where there is none.
    lock = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 200, 0).decode("utf-8", "replace").strip()
        os.close(lock)
        raise FolderInUseError(
            f"run folder {folder} is in use by {holder or 'another process'}; wait for it to end, "
            f"or give this run a folder of its own"
        ) from error
    except OSError as error:  # A file system without locks.
        os.close(lock)
        _log.warning("cannot lock %s (%s): see that one process at a time uses it", folder, error)
        return []
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {platform.node()}".encode(), 0)
    return [lock]


def _remove_temporaries(folder: pathlib.Path) -> None:
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def check(folder: Path, config: Any, *, may_differ: Sequence[str] = MAY_DIFFER) -> None:
    """Says whether `open_run` would take the folder, as far as that can be said from outside.

    Args:
        folder: The run's folder, which may not exist yet.
        config: The run's settings.
        may_differ: As of `open_run`.

    Raises:
        ValueError: It holds a run with other settings; the message names them.
        DamagedFileError: Its config.json cannot be read.
    """
    _earlier_config(pathlib.Path(folder), config, may_differ)


def _earlier_config(
    folder: pathlib.Path, config: Any, may_differ: Sequence[str]
) -> tuple[Mapping[str, Any], Any] | None:
    """Returns what config.json holds, and the settings in it; None where nothing follows from it.

    Raises:
        ValueError: It holds other settings, was altered, or is gone.
    """
    path = folder / CONFIG
    # Looked at first: another share may be making the folder, whose first file is config.json.
    made = Manifest(folder, config).exists() or manifest.files_made(folder)
    if not path.exists():
        if made:
            raise ValueError(
                f"{path} is gone, and what {folder} holds follows from its settings: restore it, "
                f"or give this run a folder of its own"
            )
        return None
    saved = read_json(path)
    before = _settings_of(saved, path, type(config))
    known = Manifest(folder, before).saved().get("settings")
    if known and manifest.settings_digest(saved["experiment"]) not in known:
        raise ValueError(
            f"{path} was altered after the run was begun: it holds other settings than those that "
            f"{manifest.MANIFEST} names; restore it, or give this run a folder of its own"
        )
    found = [line for line in configs.differences(before, config) if not names(may_differ, line)]
    if all(names(MAY_CHANGE, line) for line in found):
        return saved, before
    if _nothing_made(folder):
        return None
    raise ValueError(
        f"run folder {folder} holds a run with other settings ({'; '.join(found)}); continue it "
        f"with the same settings, or give this run a folder of its own (with --networks_from="
        f"{folder} it takes the networks of this one, where they follow from the same settings)"
    )


def _nothing_made(folder: pathlib.Path) -> bool:
    """Whether a run was begun and has made nothing: its settings may still be others."""
    known = {CONFIG, "data/summary.json", *(path.name for path in manifest.parts(folder))}
    return not any(
        path.is_file()
        and path.stat().st_size
        and not path.name.startswith(".")
        and path.relative_to(folder).as_posix() not in known
        for path in folder.rglob("*")
    )


def _check_or_write_config(
    folder: pathlib.Path, config: Any, may_differ: Sequence[str], shard: Shard
) -> bool:
    """Returns whether the folder held a run with these settings."""
    path = folder / CONFIG
    current = environment(config)
    existed = path.exists()
    earlier = _earlier_config(folder, config, may_differ)
    if earlier is None:
        if existed and shard.count > 1:
            raise ValueError(
                f"run folder {folder} was begun with other settings and has made nothing yet: "
                "remove it, or give all shares of this run a folder of their own"
            )
        if existed:
            _log.warning("%s had made nothing yet: its settings are replaced by these", folder)
            for part in manifest.parts(folder):
                part.unlink(missing_ok=True)
        saved = {"schema_version": SCHEMA_VERSION, "experiment": config, "environment": current}
        write_json(path, saved)
        _begin_manifest(folder, config, shard)
        return False
    saved, before = earlier
    _begin_manifest(folder, before, shard)
    changed = [line for line in configs.differences(before, config) if names(MAY_CHANGE, line)]
    if changed:
        _log.warning("%s: what follows from these is made again: %s", folder, "; ".join(changed))
        saved = {**saved, "experiment": json.loads(configs.to_json(config))}
        Manifest(folder, config, shard).record((), settings=saved["experiment"])
        write_json(path, saved)
    environments = [saved.get("environment"), *saved.get("resumed_in", [])]
    if current not in environments:
        _log.warning("the run in %s is continued in another environment: see config.json", folder)
        write_json(path, {**saved, "resumed_in": [*saved.get("resumed_in", []), current]})
    return True


def _begin_manifest(folder: pathlib.Path, config: Any, shard: Shard) -> None:
    """Sees that a run has a manifest: of what is there, if it was made before there were any."""
    made = Manifest(folder, config, shard)
    if not isinstance(config, configs.ExperimentConfig) or made.saved():
        return
    found = [n for n in manifest.files_made(folder) if n.endswith("/") or is_done(folder / n)]
    settings = read_json(folder / CONFIG)["experiment"]
    made.record(found, settings=settings, adopted=not _nothing_made(folder))
    if found:
        _log.warning(
            "%s has no manifest, it may be of an earlier version: %d files are taken as they are "
            "and recorded in %s",
            *(folder, len(found), manifest.MANIFEST),
        )


def names(fields: Sequence[str], difference: str) -> bool:
    """Says whether fields, or groups of them, name what a line of `differences` is about."""
    name = difference.split(":", 1)[0]
    return any(name == field or name.startswith(f"{field}.") for field in fields)


def environment(config: Any = None) -> dict[str, Any]:
    """Returns what results may depend on besides the settings: versions, device, precision."""
    import jax

    found: dict[str, Any] = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "metamer_jax"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    matmul = getattr(getattr(config, "synthesis", None), "matmul_precision", "highest")
    return found | {
        "system": f"{platform.system()} {platform.machine()}",
        "platform": jax.default_backend(),
        "device": jax.local_devices()[0].device_kind,
        "devices": jax.local_device_count(),
        "precision": f"float32, matmul {matmul}",
    }
