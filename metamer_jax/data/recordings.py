"""Recordings as arrays: checked, brought to one length, rate and level, and split."""

import collections
import dataclasses
import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from metamer_jax import audio, configs
from metamer_jax.runtime import progress
from metamer_jax.storage import cache

_log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
_HELD_OUT = 0.1  # Share of the validation and of the test split; the paper's 80/10/10.
_SKIPPING = "--skip_bad_files goes on without such files"
_VERSION = 2  # Of what `_collect` makes; part of the cache's key.
_REFUSALS = ("allow_padding", "allow_upsampling")
_ARRAYS = frozenset(
    "waveforms labels names speakers duplicates bad_files bad_reasons cut passed_over".split()
)


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Spoken words, ready for the cochleagram."""

    # [recording, time] float32, mean 0, rms 0.1; shorter sounds were filled up with zeros. Those of
    # `load` stay in the cached file, read-only: `storage.take` reads rows of them.
    waveforms: np.ndarray
    labels: np.ndarray  # [recording] int32, index into `words`.
    names: np.ndarray  # [recording] str, unique: "<word>/<file name without its ending>".
    speakers: np.ndarray  # [recording] str; "" where unknown.
    splits: np.ndarray  # [recording] str, one of SPLITS.
    words: tuple[str, ...]
    sample_rate_hz: int
    summary: dict[str, Any]  # Of all splits; JSON types.
    # [piece, time] float32, mean 0, rms 0.1; without pieces where the source has no noise.
    noise: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, split: str) -> "Recordings":
        """Returns the recordings of one split, in the same order."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
        return self.select(np.flatnonzero(self.splits == split))

    def select(self, indices: Sequence[int] | np.ndarray) -> "Recordings":
        """Returns the recordings at `indices`, in that order."""
        arrays = ("waveforms", "labels", "names", "speakers", "splits")
        return dataclasses.replace(self, **{name: getattr(self, name)[indices] for name in arrays})


@dataclasses.dataclass(frozen=True)
class Clip:
    """One sound as it lies in its source."""

    file: str  # What to call it in errors.
    name: str
    word: str
    speaker: str
    samples: np.ndarray  # [time]
    sample_rate_hz: int
    official_split: str = ""  # One of SPLITS where the source has a split of its own.


@dataclasses.dataclass(frozen=True)
class Source:
    """Where recordings come from."""

    identity: Mapping[str, Any]  # JSON types; tells one source's content from another's.
    words: tuple[str, ...]
    num_clips: int | None  # None: not known beforehand.
    # Yields clips and, for files that are no sound, errors; in any order.
    clips: Callable[[], Iterable[Clip | audio.AudioFileError]]
    # Yields pieces [time] of background noise of the length and rate asked for.
    noise: Callable[[], Iterable[np.ndarray]] | None = None
    official: bool = False  # Whether clips may say their official split.
    # Returns files that lie among the words' and are no sounds, or none that can be read.
    passed_over: Callable[[], Sequence[str]] = tuple


def speaker_of(stem: str) -> str:
    """Returns the speaker in a Speech Commands file name, "<speaker>_nohash_<number>", else ""."""
    match = re.fullmatch(r"(.+)_nohash_\d+", stem)
    return match.group(1) if match else ""


def load(source: Source, config: configs.DataConfig) -> Recordings:
    """Reads a source, or what an earlier call kept of it, and splits it.

    Args:
        source: Where the recordings come from.
        config: Their rate, length and split; whether bad files are left out.

    Returns:
        The recordings, in an order that does not depend on the source's.

    Raises:
        audio.AudioFileError: A file is bad and `config.skip_bad_files` is off.
        ValueError: A word has no recordings, or the split cannot be made.
    """
    identity = {
        "version": _VERSION,
        "dataset": config.dataset,
        "source": dict(source.identity),
        "words": list(source.words),
        "sample_rate_hz": config.sample_rate_hz,
        "num_samples": config.num_samples,
    }
    # What is refused is kept, too; without refusals the name of the cached file is as it was.
    identity |= {name: False for name in _REFUSALS if not getattr(config, name)}
    folder = cache.cache_dir(config.cache_dir) / "recordings"
    extra = {"official_splits": source.official, "noise": source.noise is not None}
    arrays = cache.load_or_make(
        # Bad files are kept in it, too: a strict call never takes a lenient one's for good.
        folder / f"{config.dataset}-{cache.digest(identity)}.npz",
        lambda: _collect(source, config),
        _ARRAYS | {name for name, given in extra.items() if given},
        mapped=frozenset({"waveforms"}),
    )
    skipped = dict(zip(arrays["bad_files"].tolist(), arrays["bad_reasons"].tolist(), strict=True))
    for file, reason in skipped.items():
        if not config.skip_bad_files:
            raise audio.AudioFileError(file, f"{reason}; {_SKIPPING}")
    labels, names, speakers = arrays["labels"], arrays["names"], arrays["speakers"]
    duplicates = arrays["duplicates"]
    rule = _split_rule(config, arrays.get("official_splits"))
    if rule == "official":
        splits = arrays["official_splits"]
    else:
        splits = split_recordings(rule, config.seed, names, speakers, duplicates)
    noise = arrays.get("noise", np.zeros((0, config.num_samples), np.float32))
    summary = {
        "dataset": config.dataset,
        "source": dict(source.identity),
        "sample_rate_hz": config.sample_rate_hz,
        "duration_s": config.duration_s,
        "split": rule,
        "seed": config.seed,
        "recordings": len(labels),
        "counts": _counts(labels, splits, source.words),
        "speakers": {s: len(set(speakers[splits == s].tolist()) - {""}) for s in SPLITS},
        "duplicates": _describe_duplicates(duplicates, names, labels),
        "skipped": skipped,
        "noise_pieces": len(noise),
        "passed_over": _count_endings(arrays["passed_over"].tolist()),
        "cut_by_a_frame": len(arrays["cut"]),
    }
    _tell(arrays["passed_over"].tolist(), arrays["cut"].tolist())
    return Recordings(
        waveforms=arrays["waveforms"],
        labels=labels,
        names=names,
        speakers=speakers,
        splits=splits,
        words=source.words,
        sample_rate_hz=config.sample_rate_hz,
        summary=summary,
        noise=noise,
    )


def _split_rule(config: configs.DataConfig, official: np.ndarray | None) -> str:
    """The rule that the config means: "auto" is "official" where the source has that split."""
    if official is None or (config.split == "auto" and not official.all()):
        return config.resolved_split
    if config.split not in ("auto", "official"):
        return config.split
    if not official.all():
        raise ValueError(
            "split='official' needs the archive's validation_list.txt and testing_list.txt, and "
            "the source has not both of them; split='speaker' draws one by voices"
        )
    if missing := sorted(set(SPLITS) - set(official.tolist())):
        raise ValueError(f"split='official' puts no recording of these words into {missing}")
    return "official"


def _count_endings(files: Iterable[str]) -> dict[str, int]:
    endings = (re.search(r"(\.[^./]*)?$", file) for file in files)
    return dict(collections.Counter(found[0].lower() for found in endings if found))


def _tell(passed_over: Sequence[str], cut: Sequence[str]) -> None:
    """Says what was done to files without being asked."""
    if passed_over:
        counts = _count_endings(passed_over).items()
        _log.warning(
            "%d files that are no sounds, or none that can be read, were passed over: %s (such as "
            "%s)",
            len(passed_over),
            ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in counts),
            passed_over[0],
        )
    if cut:
        _log.warning(
            "%d recordings are longer than duration_s by one frame, which was cut off (such as %s)",
            len(cut),
            cut[0],
        )


def prepare(
    samples: np.ndarray, from_hz: int, config: configs.DataConfig, *, file: str = "sound"
) -> np.ndarray:
    """Brings one sound to the config's rate and length, mean 0 and rms 0.1.

    Args:
        samples: [time], finite.
        from_hz: Its sample rate.
        config: Says the sample rate and duration wanted.
        file: What to call it in errors.

    Returns:
        [config.num_samples] float32. One frame too many is cut off.

    Raises:
        AudioFileError: It is longer than the duration or silent; or shorter by more than a frame,
            or of a lower rate, where the config allows no padding or no upsampling.
    """
    room, lasts = _room(from_hz, config), len(samples) / from_hz
    if len(samples) > room + 1:
        raise audio.AudioFileError(
            file,
            f"lasts {lasts:.4f} s, longer than duration_s={config.duration_s:g}; "
            f"--duration_s={math.ceil(10 * lasts) / 10:g} takes it whole",
        )
    if len(samples) < room - 1 and not config.allow_padding:
        raise audio.AudioFileError(
            file,
            f"lasts {lasts:.4f} s, shorter than duration_s={config.duration_s:g}; "
            "data.allow_padding=true fills it up with zeros",
        )
    samples = samples[:room]
    if from_hz < config.sample_rate_hz and not config.allow_upsampling:
        raise audio.AudioFileError(
            file,
            f"has {from_hz} Hz, less than sample_rate_hz={config.sample_rate_hz}; "
            f"data.allow_upsampling=true resamples it",
        )
    # Before filling up: a constant would gain an edge and pass for a sound.
    if np.std(samples, dtype=np.float64) < audio.SILENCE_RMS:
        raise audio.AudioFileError(file, "silent (its samples do not vary)")
    waveform = audio.resample(samples, from_hz, config.sample_rate_hz)
    waveform = np.pad(waveform, (0, config.num_samples - len(waveform)))
    return audio.normalize(waveform)


def _room(from_hz: int, config: configs.DataConfig) -> int:
    """Frames of a rate that the duration has room for; in whole numbers, so that it is exact."""
    return config.num_samples * from_hz // config.sample_rate_hz


def _collect(source: Source, config: configs.DataConfig) -> dict[str, np.ndarray]:
    """Reads every clip; sorted by word and name, whatever the order of the source."""
    rows, waveforms, cut, bad = [], [], [], {}
    with progress.bar(source.num_clips, "reading recordings", unit="clip") as shown:
        for clip in source.clips():
            shown.update()
            try:
                if isinstance(clip, audio.AudioFileError):
                    raise clip
                waveforms.append(prepare(clip.samples, clip.sample_rate_hz, config, file=clip.file))
                row = source.words.index(clip.word), clip.name, clip.speaker, clip.official_split
                rows.append(row)
                if len(clip.samples) > _room(clip.sample_rate_hz, config):
                    cut.append(clip.file)
            except audio.AudioFileError as error:
                if not config.skip_bad_files:
                    reason = f"{error.reason}; {_SKIPPING}"
                    raise audio.AudioFileError(error.file, reason) from error
                bad[error.file] = error.reason
    labels = np.array([row[0] for row in rows], np.int32)
    empty = [word for i, word in enumerate(source.words) if i not in set(labels.tolist())]
    if empty:
        raise ValueError(f"words without a usable recording: {empty} ({len(bad)} bad files)")
    names = [row[1] for row in rows]
    order = sorted(range(len(rows)), key=lambda i: rows[i][:2])
    stacked = np.empty((len(rows), config.num_samples), np.float32)
    for row, i in enumerate(order):
        stacked[row] = waveforms[i]
        waveforms[i] = None  # Of all 35 words of Speech Commands twice is too much.
    extra: dict[str, np.ndarray] = {}
    if source.official:
        extra["official_splits"] = np.array([row[3] for row in rows], dtype=np.str_)[order]
    if source.noise is not None:
        pieces = list(source.noise())
        extra["noise"] = np.array(pieces, np.float32).reshape(-1, config.num_samples)
    return {
        **extra,
        "waveforms": stacked,
        "labels": labels[order],
        "names": np.array(names, dtype=np.str_)[order],
        "speakers": np.array([row[2] for row in rows], dtype=np.str_)[order],
        "duplicates": duplicate_groups(stacked),
        "passed_over": np.array(source.passed_over(), dtype=np.str_),
        "cut": np.array(sorted(cut), dtype=np.str_),
        "bad_files": np.array(sorted(bad), dtype=np.str_),
        "bad_reasons": np.array([bad[file] for file in sorted(bad)], dtype=np.str_),
    }


def duplicate_groups(waveforms: np.ndarray) -> np.ndarray:
    """Finds recordings with the same samples.

    Args:
        waveforms: [recording, time].

    Returns:
        [recording] int: the index of the first recording with these samples (often its own).
    """
    first: dict[bytes, int] = {}
    groups = np.empty(len(waveforms), np.int64)
    for i, waveform in enumerate(waveforms):
        key = hashlib.blake2b(np.ascontiguousarray(waveform).data, digest_size=16).digest()
        groups[i] = first.setdefault(key, i)
    return groups


def split_recordings(
    rule: str, seed: int, names: np.ndarray, speakers: np.ndarray, duplicates: np.ndarray
) -> np.ndarray:
    """Draws the training, validation and test recordings, 80/10/10.

    A recording's duplicates come with it. The last two have these sizes, or less where nothing
    more fits (whole speakers, sets of duplicates), or one block that is larger where all are.
    The recordings' order does not matter.

    Args:
        rule: "random", or "speaker" for disjoint voices.
        seed: Another one draws another split.
        names: [recording], unique.
        speakers: [recording], "" where unknown.
        duplicates: [recording], equal numbers for equal sounds (`duplicate_groups`).

    Returns:
        [recording] str, of SPLITS.

    Raises:
        ValueError: The rule is unknown, speakers are, or there is too little to split.
    """
    if rule not in ("random", "speaker"):
        raise ValueError(f"rule must be 'random' or 'speaker', got {rule!r}")
    if len(np.unique(names)) != len(names):
        raise ValueError("names must be unique")
    keys = [duplicates]
    if rule == "speaker":
        unknown = np.flatnonzero(speakers == "")
        if unknown.size:
            raise ValueError(
                f"a split by speaker needs every recording's speaker; {unknown.size} of "
                f"{len(names)} have none, such as {str(names[unknown[0]])!r} (expected "
                "'<speaker>_nohash_<number>'); split='random' needs none"
            )
        keys.append(np.unique(speakers, return_inverse=True)[1])
    order = np.argsort(names)
    blocks = _connected([key[order] for key in keys])
    if len(blocks) < len(SPLITS):
        what = "speakers" if rule == "speaker" else "different recordings"
        raise ValueError(f"a split needs at least {len(SPLITS)} {what}, got {len(blocks)}")
    rng = np.random.default_rng([seed, 1])
    blocks = [blocks[i] for i in rng.permutation(len(blocks))]
    held_out = max(1, round(_HELD_OUT * len(names)))
    splits = np.full(len(names), SPLITS[0], dtype=f"<U{max(map(len, SPLITS))}")
    for split, members in zip(SPLITS[1:], _take(blocks, held_out), strict=True):
        splits[order[members]] = split
    return splits


def _connected(keys: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Groups positions that share a value in any of `keys`, directly or through others."""
    num = len(keys[0])
    offset, edges = num, []  # One node for each position and each value.
    for key in keys:
        values, inverse = np.unique(key, return_inverse=True)
        edges.append(offset + inverse)
        offset += len(values)
    rows = np.tile(np.arange(num), len(keys))
    graph = scipy.sparse.coo_array(
        (np.ones(len(rows), np.int8), (rows, np.concatenate(edges))), shape=(offset, offset)
    )
    component = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][:num]
    members = np.argsort(component, kind="stable")
    starts = np.flatnonzero(np.diff(component[members])) + 1
    blocks = np.split(members, starts)
    return sorted(blocks, key=lambda block: int(block[0]))


def _take(blocks: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """Takes two sets of at most `size` positions, one block at least, from shuffled blocks."""
    sets, left = [], list(blocks)
    for unfilled in (2, 1):  # Sets that come after this one; each needs a block.
        taken, rest, room = [], [], size
        for i, block in enumerate(left):
            if len(block) <= room and len(rest) + len(left) - i > unfilled:
                taken.append(block)
                room -= len(block)
            else:
                rest.append(block)
        if not taken:  # All are too large: the smallest is the nearest.
            taken.append(rest.pop(int(np.argmin([len(block) for block in rest]))))
        sets.append(np.concatenate(taken))
        left = rest
    return sets


def _counts(
    labels: np.ndarray, splits: np.ndarray, words: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Recordings per split and word, "all" besides."""
    counts = {}
    for split in SPLITS:
        per_word = np.bincount(labels[splits == split], minlength=len(words)).tolist()
        counts[split] = {"all": sum(per_word), **dict(zip(words, per_word, strict=True))}
    return counts


def _describe_duplicates(
    groups: np.ndarray, names: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    values, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sets = [np.flatnonzero(inverse == i) for i in np.flatnonzero(counts > 1)]
    return {
        "sounds": len(sets),
        "copies": int(sum(len(members) - 1 for members in sets)),
        "sounds_under_several_words": sum(len(set(labels[m].tolist())) > 1 for m in sets),
        "names": [names[members].tolist() for members in sets],
    }
