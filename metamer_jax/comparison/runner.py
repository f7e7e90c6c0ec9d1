"""The work of a comparison: train, synthesise, verify, cross-test; each part once.

    with open_folder(folder, comparison):
        run_all(ComparisonFolder(folder, comparison), recordings)

Every entry and seed is an ordinary run folder, runs/<entry>-seed<seed>/, on which every other
driver works too. Recordings, split, targets and the recordings of the null distribution are the
same for all. Parts come in an order such that what is there at any time is worth reading: entry
after entry at the first seed, then the further seeds.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from metamer_jax import audio, configs, pipeline, runs, storage
from metamer_jax.auditory import exact
from metamer_jax.comparison import entries as entry_lists
from metamer_jax.comparison.entries import Entry
from metamer_jax.data import Recordings
from metamer_jax.pipeline import clip_cache
from metamer_jax.runs import manifest
from metamer_jax.runtime import progress

StopRequested = Callable[[], bool]

TRAIN, SYNTHESIZE, VERIFY, CROSS_TEST = KINDS = ("train", "synthesize", "verify", "cross_test")
NATURAL = "natural"  # Name of what is heard of the targets themselves.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, and how all of it is trained, synthesised and verified."""

    entries: tuple[str, ...]  # Labels, see `entries.Entry`.
    seeds: tuple[int, ...] = (0,)  # Of first weights, order of training and starting noise.
    experiment: configs.ExperimentConfig  # Its networks and training are of entries without one.

    def __post_init__(self):
        entry_lists.parse(self.entries)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be one or more, each once, got {self.seeds}")


# A comparison may be continued with more networks and seeds than it had.
MAY_DIFFER = ("entries", "seeds", *(f"experiment.{field}" for field in runs.MAY_DIFFER))


class Member(NamedTuple):
    """One entry in one seed: a network of its own."""

    entry: Entry
    seed: int

    @property
    def name(self) -> str:
        """The folder of its run, and its name in the cross-tests."""
        return f"{self.entry.folder}-seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class ComparisonFolder:
    """A comparison's folder."""

    folder: pathlib.Path
    comparison: Comparison
    _done: set = dataclasses.field(default_factory=set, repr=False, compare=False)  # It stays so.

    @functools.cached_property
    def entries(self) -> tuple[Entry, ...]:
        """The networks that are compared, in order."""
        return entry_lists.parse(self.comparison.entries)

    @functools.cached_property
    def members(self) -> tuple[Member, ...]:
        """All of them, seed by seed."""
        return tuple(Member(e, seed) for seed in self.comparison.seeds for e in self.entries)

    def path(self, *parts: str) -> pathlib.Path:
        """Returns the path of something in the folder."""
        return self.folder.joinpath(*parts)

    @property
    def clips_folder(self) -> pathlib.Path:
        """Where networks leave the changed clips of their epochs to each other."""
        return self.path("training", "clips")

    def settings(self, member: Member) -> configs.ExperimentConfig:
        """The settings of a member's run."""
        return entry_lists.settings(self.comparison.experiment, member.entry, member.seed)

    def open(self, member: Member) -> runs.Run:
        """Opens (or makes) a member's run folder, to work in it."""
        return runs.open_run(self.path("runs", member.name), self.settings(member))

    def read(self, member: Member) -> runs.Run:
        """A member's run folder to read from, whoever works in it."""
        return runs.Run(self.path("runs", member.name), self.settings(member), resumed=True)

    def is_done(self, kind: str, member: Member) -> bool:
        """Whether a part of the work is done."""
        if (kind, member) not in self._done and self._look(kind, member):
            self._done.add((kind, member))
        return (kind, member) in self._done

    def _look(self, kind, member):
        if kind == CROSS_TEST:
            return not self.unheard(member.name)
        run = self.read(member)
        if kind == TRAIN:
            files = manifest.networks_of(member.entry.network)[:2]
        elif kind == SYNTHESIZE:
            files = [manifest.metamers_of(member.entry.network, s) for s in run.config.stages]
        else:
            files = [manifest.VERIFICATION[-1]]
        return run.is_done(*files)

    def unheard(self, name: str) -> list[Member]:
        """The listeners that have not heard the metamers of that member (or the targets) yet."""
        path = self.path("cross_test", f"{name}.npz")
        heard = set(storage.map_npz(path, check=False)) if storage.is_done(path) else set()
        return [m for m in self.members if m.name not in heard]

    def waiting(self, name: str) -> list[Member]:
        """Those of them that are trained, and could."""
        return [m for m in self.unheard(name) if self.is_done(TRAIN, m)]


# Parts.


def run_all(
    home: ComparisonFolder,
    recordings: Recordings,
    *,
    together: bool = True,
    keep_clips: bool = False,
    stop: StopRequested = lambda: False,
    on_part: Callable[[str, Sequence[Member], float], None] | None = None,
    on_round: Callable[[], object] | None = None,
) -> None:
    """Does what is left.

    Args:
        home: The comparison's folder.
        recordings: Its recordings.
        together: Train all seeds of an entry at once, before its first metamers are made.
        keep_clips: Leave training/clips, the changed clips of every epoch, which the networks share
            while they train, for networks that will be added; else it is deleted after the last.
        stop: Says whether to end; what is done so far is saved.
        on_part: Called after every part of the work with what it was, of whom, and its seconds.
        on_round: Called after the cross-tests of every seed.
    """
    natural = functools.cache(
        lambda: pipeline.natural_sounds(home.read(home.members[0]), recordings, stop=stop)
    )

    def timed(kind, members, work, *args, **options):
        started = time.monotonic()
        work(home, members, *args, **options)
        if on_part is not None:
            on_part(kind, members, time.monotonic() - started)

    for seed in home.comparison.seeds:
        for entry in home.entries:
            member = Member(entry, seed)
            seeds = home.comparison.seeds if together else (seed,)
            untrained = [m for m in (Member(entry, s) for s in seeds) if not home.is_done(TRAIN, m)]
            if untrained:
                timed(TRAIN, untrained, _train, recordings, stop=stop)
            if not keep_clips and all(home.is_done(TRAIN, m) for m in home.members):
                clip_cache.remove(home.clips_folder)
            if not home.is_done(SYNTHESIZE, member):
                timed(SYNTHESIZE, [member], _synthesize, recordings, stop=stop)
            if not home.is_done(VERIFY, member):
                timed(VERIFY, [member], _verify, recordings, natural(), stop=stop)
        if todo := [m for m in made(home) if home.waiting(m.name)]:
            timed(CROSS_TEST, todo, cross_test, stop=stop)
        if on_round is not None:
            on_round()


def _train(home, members, recordings, *, stop):
    if len(members) == 1:
        with home.open(members[0]) as run:
            pipeline.train_networks(run, recordings, clips_folder=home.clips_folder, stop=stop)
        return
    seeds = "-".join(str(member.seed) for member in members)
    with contextlib.ExitStack() as opened:
        pipeline.train_ensemble(
            [opened.enter_context(home.open(member)) for member in members],
            recordings,
            state_path=home.path("training", f"{members[0].entry.folder}-seeds{seeds}.npz"),
            clips_folder=home.clips_folder,
            stop=stop,
        )


def _synthesize(home, members, recordings, *, stop):
    (member,) = members
    with home.open(member) as run:
        _share_cochleagram_metamers(home, member, run)
        pipeline.synthesize_metamers(run, recordings, stop=stop)


def _share_cochleagram_metamers(home, member, run):
    """Takes the metamers of the stage `cochleagram` from another network of the same seed.

    No network is behind that stage: with one seed, so one starting noise, they are the same.
    """

    name = manifest.metamers_of(member.entry.network, "cochleagram")
    if "cochleagram" not in run.config.stages or run.is_done(name):
        return
    for other in home.members:
        theirs, made = home.read(other), manifest.metamers_of(other.entry.network, "cochleagram")
        if other != member and other.seed == member.seed and theirs.is_done(made):
            logging.info("%s: metamers of the cochleagram are those of %s", member.name, other.name)
            storage.write_bytes(run.path(name), theirs.path(made).read_bytes())
            run.record(name)
            return


def _verify(home, members, recordings, natural, *, stop):
    (member,) = members
    with home.open(member) as run:
        pipeline.verify_metamers(run, recordings, natural=natural, stop=stop)


# Cross-tests.


def made(home: ComparisonFolder) -> list[Member]:
    """The members whose metamers are made."""
    return [m for m in home.members if home.is_done(SYNTHESIZE, m)]


def cross_test(
    home: ComparisonFolder,
    members: Sequence[Member] | None = None,
    *,
    stop: StopRequested = lambda: False,
) -> None:
    """Lets every trained network hear the metamers of every stage of the members, and the targets.

    Sounds are heard as they are played, through the exact cochleagram. Leaves
    cross_test/<member>.npz, for each listener an array [stage, target, synthesis seed] of the
    words that it heard, and cross_test/natural.npz, [target].

    Args:
        home: The comparison's folder.
        members: Whose metamers; None: all that are made.
        stop: Says whether to end before the next member.

    Raises:
        SystemExit: `stop` said so; what was done is saved.
    """
    members = made(home) if members is None else members
    if not members:
        return
    load = functools.cache(functools.partial(_load, home))
    targets = storage.read_npz(home.read(members[0]).path("targets", "targets.npz"))
    about = {name: targets[name] for name in ("target_id", "label")}
    first = home.read(members[0]).config
    rate_hz = first.data.sample_rate_hz
    sounds = audio.heard(*audio.to_playback(targets["waveform"], rate_hz, first.playback))
    _hear(home, load, NATURAL, sounds, sounds.shape[:1], about)
    for member in progress.track(members, "cross-test", unit="network"):
        if stop():
            raise SystemExit(runs.EXIT_STOPPED)
        if not home.waiting(member.name):
            continue
        run = home.read(member)
        waveforms = np.stack(
            [
                np.asarray(pipeline.read_metamers(run, member.entry.network, s).made.waveform)
                for s in run.config.stages
            ]
        )
        sounds = audio.heard(*pipeline.play_metamers(run, waveforms))
        sounds = sounds.reshape(-1, waveforms.shape[-1])
        _hear(home, load, member.name, sounds, waveforms.shape[:-1], about)


def _load(home, member):
    run, network = home.read(member), member.entry.network
    words = storage.read_json(run.path("networks", network, "result.json"))["words"]
    return pipeline.load_network(run, network, len(words))


def _hear(home, load, name, waveforms, shape, about):
    """Adds to cross_test/<name>.npz what those hear of the waveforms who have not yet."""
    missing = home.waiting(name)
    if not missing:
        return
    config = home.comparison.experiment
    heard = exact.recognize(
        [load(m) for m in missing],
        waveforms,
        config.cochleagram,
        batch_size=config.verification.batch_size,
    )
    path = home.path("cross_test", f"{name}.npz")
    before = storage.read_npz(path) if storage.is_done(path) else about
    found = {m.name: words.reshape(shape) for m, words in zip(missing, heard, strict=True)}
    storage.write_npz(path, {**before, **found})


def open_folder(folder: str | os.PathLike, comparison: Comparison) -> runs.Run:
    """Opens a comparison's folder for this process alone; use it in a `with` block.

    Args:
        folder: The comparison's folder, made if it is new.
        comparison: Settings; entries and seeds may differ from those it was begun with.

    Returns:
        The open folder, to be closed.

    Raises:
        ValueError: The folder holds a comparison with other settings, or another process has it
            open.
    """
    return runs.open_run(folder, comparison, may_differ=MAY_DIFFER)


def left(home: ComparisonFolder) -> Iterator[tuple[str, Member]]:
    """The parts of the work that are not done, in no particular order."""
    for member in home.members:
        for kind in KINDS:
            if not home.is_done(kind, member):
                yield kind, member
