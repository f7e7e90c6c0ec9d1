"""What a run has made: one manifest, by which every "is it done" is answered.

manifest.json holds for every finished file its SHA-256 and a digest of the settings and files that
it follows from. A file counts as done while it is the one that was recorded and would follow from
the same today. Sounds and figures are recorded by folder ("targets/wav/"). Of several processes
each writes a part of its own, manifest-1-of-4.json, so that none has to lock another out, on
whatever file system; what is recorded is what all parts say together.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from metamer_jax import configs
from metamer_jax.runs.shares import Shard
from metamer_jax.storage import cache
from metamer_jax.storage.reading import DamagedFileError, read_json
from metamer_jax.storage.writing import storage_errors, write_json

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
_PART = re.compile(r"manifest(-\d+-of-\d+)?\.json")
_log = logging.getLogger(__name__)

# Settings that say where things are, or how fast, not what they are.
MAY_DIFFER = ("data.cache_dir",)

TRAINING = ("weights.npz", "result.json", "training.jsonl")
TARGETS = ("targets/targets.csv", "targets/targets.npz")
VERIFICATION = tuple(
    f"verification/{name}"
    for name in (
        *("null.json", "null_histograms.npz", "stages.csv", "yields.csv"),
        *("heard.csv", "recognition.csv", "metamers.csv"),
    )
)
REPORT = ("report.html", "figures/")


class Entry(NamedTuple):
    """What is known of a finished file, or of all files of a folder together."""

    sha256: str
    size: int  # Bytes.
    changed_ns: int  # Time of the last change of content or place, the latest of a folder.
    made_of: str  # Digest of what it follows from.


def networks_of(network: str) -> list[str]:
    """Names of what training leaves."""
    return [f"networks/{network}/{name}" for name in TRAINING]


def metamers_of(network: str, stage: str) -> str:
    """Name of the metamers of one stage."""
    return f"metamers/{network}/{stage}/metamers.npz"


def verification_of(conditions: Iterable[tuple[str, str]]) -> list[str]:
    """Names of what verification leaves for networks and stages: tables, and sounds as played."""
    played = [f"metamers/{network}/{stage}/wav/" for network, stage in conditions]
    return [*VERIFICATION, "metamers/playback.json", "targets/wav/", *played]


class Manifest:
    """A run's manifest, as its files have it now; several processes may add to it at once."""

    def __init__(self, folder: pathlib.Path, config: Any, shard: Shard | None = None):
        self._folder, self._config, self._shard = folder, config, shard or Shard()
        self._read: tuple[list[tuple[str, int, int]], dict[str, Any]] | None = None
        self._hashed: dict[str, Entry] = {}  # Found to be as recorded, this time.
        self._moved: dict[str, Entry] = {}  # As recorded, with another time.
        self.hash_always = False  # Whether an unchanged size and time are not enough.

    @property
    def path(self) -> pathlib.Path:
        """Where this process writes."""
        shard = self._shard
        part = "" if shard.count == 1 else f"-{shard.index}-of-{shard.count}"
        return self._folder / MANIFEST.replace(".", f"{part}.")

    def exists(self) -> bool:
        """Whether the run has one, damaged or not."""
        return bool(parts(self._folder))

    def saved(self) -> Mapping[str, Any]:
        """What the files hold together; nothing of one that is missing or damaged."""
        known, found = [], []
        for path in parts(self._folder):
            try:
                stat = path.stat()
            except FileNotFoundError:  # Taken over by the manifest of all since it was listed.
                continue
            known.append((path.name, stat.st_mtime_ns, stat.st_size))
        if self._read is None or self._read[0] != known:
            for name, *_ in known:
                with contextlib.suppress(FileNotFoundError):
                    found.append(self._part(self._folder / name))
            self._read = known, _together([part for part in found if part])
        return self._read[1]

    def _part(self, path: pathlib.Path) -> dict[str, Any]:
        try:
            return _checked(read_json(path))
        except DamagedFileError as error:
            _log.warning("%s; what it said is lost", error)
            return {}

    def settle(self) -> None:
        """Makes one manifest of the parts of shares, none of which works any more."""
        others = [path for path in parts(self._folder) if path.name != MANIFEST]
        if others:
            with storage_errors(self._folder / MANIFEST):
                self._write(self.saved(), self._folder / MANIFEST)
            for path in others:
                path.unlink(missing_ok=True)

    @property
    def adopted(self) -> bool:
        """Whether the run was under way before it had a manifest."""
        return bool(self.saved().get("adopted"))

    def entries(self) -> dict[str, Entry]:
        """Returns what is recorded, by name."""
        return {name: Entry(**entry) for name, entry in self.saved().get("files", {}).items()}

    def record(
        self, names: Iterable[str], *, settings: Any = None, adopted: bool | None = None
    ) -> None:
        """Adds files that are finished, after those that they follow from.

        Args:
            names: Relative to the run's folder; a folder's ends in "/".
            settings: What config.json says, to be known again; None: nothing new.
            adopted: Whether the run was under way before it had a manifest; None: as recorded.
        """
        with storage_errors(self.path):
            saved = self._own()
            entries, own = self.entries(), dict(saved.get("files", {}))
            for name in names:
                found = look_at(self._folder, name)
                entries[name] = found._replace(made_of=self._made_of(name, entries))
                self._hashed[name] = entries[name]
                own[name] = entries[name]._asdict()
                self._moved.pop(name, None)
            files = dict(sorted(own.items()))
            known = list(saved.get("settings", []))
            if settings is not None and settings_digest(settings) not in known:
                known.append(settings_digest(settings))
            if adopted is not None:
                saved["adopted"] = adopted
            self._write(
                {"schema_version": SCHEMA_VERSION, **saved, "settings": known, "files": files}
            )

    def _own(self) -> dict[str, Any]:
        """What this process writes to: its part, or all there is where it is alone."""
        if self._shard.count == 1:
            return dict(self.saved())
        return self._part(self.path) if self.path.exists() else {}

    def _write(self, content: Mapping[str, Any], path: pathlib.Path | None = None) -> None:
        content = {name: value for name, value in content.items() if name != "digest"}
        write_json(path or self.path, {**content, "digest": cache.digest(content)})

    def made_of(self, name: str) -> str:
        """Digest of the settings and files that `name` would follow from today."""
        return self._made_of(name, self.entries())

    def _made_of(self, name: str, entries: Mapping[str, Entry]) -> str:
        settings, inputs = _origin(self._config, name, entries)
        files = {i: entries[i].sha256 if i in entries else None for i in inputs}
        return cache.digest({"settings": settings, "files": files})

    def trouble(self, name: str) -> str | None:
        """Says what is wrong with a file; None where nothing is, or there is no file."""
        entries = self.entries()
        entry, there = entries.get(name), (self._folder / name).exists()
        if entry is None:
            # A process that was ended leaves such files too: nothing need be damaged.
            return f"is not in {MANIFEST}: unfinished, or not of this run" if there else None
        if not there:
            return "is gone"
        if (altered := self._altered(name, entry)) is not None:
            return altered
        if entry.made_of != self._made_of(name, entries):
            return "follows from other settings or files than those of today"
        return None

    def is_sound(self, name: str) -> bool:
        """Whether a file is there, as it was made, of what there is today."""
        return name in self.entries() and self.trouble(name) is None

    def _altered(self, name: str, entry: Entry) -> str | None:
        known = self._hashed.get(name) == entry or not self.hash_always
        if known and _seen(self._folder, name) == entry[1:3]:
            return None
        found = look_at(self._folder, name)
        if found.sha256 != entry.sha256:
            return "was altered after it was made"
        self._hashed[name] = entry
        if found[1:3] != entry[1:3]:
            self._moved[name] = found._replace(made_of=entry.made_of)
        return None

    def renew(self) -> None:
        """Takes over the times of files that were copied, so that they are not read again."""
        if self._moved:
            with storage_errors(self.path):
                saved = dict(self.saved())
                for name, entry in self._moved.items():
                    if saved["files"].get(name, {}).get("sha256") == entry.sha256:
                        saved["files"] = {**saved["files"], name: entry._asdict()}
                self._write(saved)
            self._moved.clear()

    def unsound(self) -> dict[str, str]:
        """Reads every file and returns what is wrong, by name."""
        self.hash_always = True
        known = {*self.entries(), *files_made(self._folder)} - {*REPORT}
        return {name: reason for name in sorted(known) if (reason := self.trouble(name))}


def parts(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files that hold what a run has made: one, and one of each share that works on it."""
    return sorted(path for path in folder.glob("manifest*.json") if _PART.fullmatch(path.name))


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What parts say together; of a file that several name, what was seen last."""
    if len(found) < 2:
        return found[0] if found else {}
    files: dict[str, Any] = {}
    for part in found:
        for name, entry in part["files"].items():
            if name not in files or entry["changed_ns"] >= files[name]["changed_ns"]:
                files[name] = entry
    settings = [digest for part in found for digest in part.get("settings", [])]
    return {
        "schema_version": SCHEMA_VERSION,
        "adopted": any(part.get("adopted") for part in found),
        "settings": list(dict.fromkeys(settings)),
        "files": dict(sorted(files.items())),
    }


def look_at(folder: pathlib.Path, name: str) -> Entry:
    """What a file is, or all those of a folder: reads them."""
    if name.endswith("/"):
        digest = hashlib.sha256()
        for path in _inside(folder / name):
            digest.update(f"{path.name} {cache.file_digest(path)}\n".encode())
        return Entry(digest.hexdigest(), *_seen(folder, name), "")
    return Entry(cache.file_digest(folder / name), *_seen(folder, name), "")


def _inside(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")


def _seen(folder: pathlib.Path, name: str) -> tuple[int, int]:
    """Size and time of change, of a folder the sum and the latest."""
    # The system's own time counts too: that of the content can be set by anybody.
    paths = _inside(folder / name) if name.endswith("/") else [folder / name]
    stats = [os.stat(path) for path in paths]
    times = [max(s.st_mtime_ns, s.st_ctime_ns) for s in stats]
    return sum(s.st_size for s in stats), max(times, default=0)


def _checked(saved: Any) -> dict[str, Any]:
    """Returns what a manifest holds.

    Raises:
        DamagedFileError: It is none.
    """
    files = saved.get("files") if isinstance(saved, dict) else None
    fields = set(Entry._fields)
    if not isinstance(files, dict) or any(
        not isinstance(entry, dict) or set(entry) != fields for entry in files.values()
    ):
        raise DamagedFileError(f"{MANIFEST} must list files with {sorted(fields)}")
    content = {name: value for name, value in saved.items() if name != "digest"}
    if saved.get("digest", cache.digest(content)) != cache.digest(content):  # Once it had none.
        raise DamagedFileError(f"{MANIFEST} was altered after it was written")
    return saved


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Digest of the settings in config.json, whatever version of the package wrote them."""
    data = settings.get("data")
    if isinstance(data, Mapping):  # Where the cache is may be another.
        settings = {**settings, "data": {k: v for k, v in data.items() if k != "cache_dir"}}
    return cache.digest(json.loads(json.dumps(settings)))


def files_made(folder: pathlib.Path) -> list[str]:
    """Names of what a run has made, in the order in which one follows from the other."""
    patterns = (
        *(f"networks/*/{name}" for name in TRAINING),
        *TARGETS,
        "metamers/*/*/metamers.npz",
        *VERIFICATION,
        "metamers/playback.json",
        "targets/wav",
        "metamers/*/*/wav",
        "report.html",
        "figures",
    )
    found = []
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            found.append(path.relative_to(folder).as_posix() + "/" * path.is_dir())
    return found


def _origin(
    config: Any, name: str, entries: Mapping[str, Entry]
) -> tuple[dict[str, Any], list[str]]:
    """Returns the settings and the files that a file follows from."""
    parts = name.rstrip("/").split("/")
    published = _settings(config, "weights", "class_names")
    trained = _settings(config, "seed", "target_seed", "data", "cochleagram", "training")
    chosen = _settings(config, "targets_per_word", "data")
    chosen |= {"resolved_target_seed": config.resolved_target_seed}
    weights = [f"networks/{network}/weights.npz" for network in config.networks]
    if name in REPORT:
        return _settings(config), [n for n in entries if n not in REPORT]
    if parts[0] == "networks":
        return trained | published | {"network": parts[1]}, []
    if name in TARGETS:
        return chosen, []
    if parts[0] == "metamers" and parts[-1] not in ("playback.json", "wav"):
        network, stage = parts[1:3]
        config = dataclasses.replace(config, synthesis=config.synthesis.for_stage(stage))
        played = ("playback",) if config.synthesis.as_played else ()
        settings = _settings(config, "seed", "cochleagram", "synthesis", *played) | chosen
        # No network has a part in the cochleagram: its metamers are the same for all.
        inputs = [] if stage == "cochleagram" else [f"networks/{network}/weights.npz"]
        return settings | {"stage": stage}, inputs
    made = [metamers_of(n, s) for n in config.networks for s in config.stages]
    return (
        _settings(config, "networks", "stages", "verification", "playback", "data"),
        [*weights, TARGETS[1], *(name for name in made if name in entries)],
    )


def _settings(config: Any, *groups: str) -> dict[str, Any]:
    """Returns settings by dotted path but those that are the defaults.

    So a setting that a later version adds, with a default that changes nothing, changes no digest.
    """
    found = {}
    for path, field in configs.paths_of(config).items():
        value = configs.value_at(config, path)
        group = not groups or path in groups or path.split(".")[0] in groups
        if group and value != field.default and path not in MAY_DIFFER:
            found[path] = value
    return found
