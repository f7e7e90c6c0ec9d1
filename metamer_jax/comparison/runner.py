"""The work of a comparison: train, synthesise, verify, cross-test; each part once.

    with open_folder(folder, comparison):
        run_all(ComparisonFolder(folder, comparison), recordings)

Every entry and seed is an ordinary run folder, runs/<entry>-seed<seed>/, on which every other
driver works too; networks of runs that are finished stay where they are. Recordings, split, targets
and the recordings of the null distribution are the same for all. Parts come in an order such that
what is there at any time is worth reading: entry after entry at the first seed, then the further
seeds.
"""

import collections
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
from metamer_jax.comparison import saved
from metamer_jax.comparison.entries import AnyEntry, Entry, SavedEntry
from metamer_jax.data import Recordings
from metamer_jax.pipeline import clip_cache, common
from metamer_jax.runs import manifest, shares
from metamer_jax.runtime import progress

StopRequested = Callable[[], bool]

TRAIN, SYNTHESIZE, VERIFY, CROSS_TEST = KINDS = ("train", "synthesize", "verify", "cross_test")
COCHLEAGRAM = "the cochleagram's metamers"  # Part of what is synthesised.
NATURAL = "natural"  # Name of what is heard of the targets themselves.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, and how all of it is trained, synthesised and verified."""

    entries: tuple[str, ...] = ()  # Labels, see `entries.Entry`.
    runs: tuple[str, ...] = ()  # Folders of finished runs, whose networks are compared too.
    seeds: tuple[int, ...] = (0,)  # Of first weights, order of training and starting noise.
    experiment: configs.ExperimentConfig  # Its networks and training are of entries without one.

    def __post_init__(self):
        if self.entries or not self.runs:
            entry_lists.parse(self.entries)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be one or more, each once, got {self.seeds}")


# A comparison may be continued with more networks and seeds than it had.
MAY_DIFFER = ("entries", "runs", "seeds", *(f"experiment.{field}" for field in runs.MAY_DIFFER))


class Member(NamedTuple):
    """One entry in one seed: a network of its own."""

    entry: AnyEntry
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
    def made_here(self) -> tuple[Entry, ...]:
        """The networks that the comparison trains, in order."""
        return entry_lists.parse(self.comparison.entries) if self.comparison.entries else ()

    @functools.cached_property
    def saved(self) -> tuple[SavedEntry, ...]:
        """Those of finished runs."""
        return saved.read(self.comparison.runs)

    @property
    def entries(self) -> tuple[AnyEntry, ...]:
        """The networks that are compared, in order."""
        return (*self.made_here, *self.saved)

    @functools.cached_property
    def trained(self) -> tuple[Member, ...]:
        """Those that the comparison trains, seed by seed."""
        return tuple(Member(e, seed) for seed in self.comparison.seeds for e in self.made_here)

    @functools.cached_property
    def members(self) -> tuple[Member, ...]:
        """All of them: those of finished runs last, each in the seed that it has."""
        return (*self.trained, *(Member(entry, entry.seed) for entry in self.saved))

    def path(self, *parts: str) -> pathlib.Path:
        """Returns the path of something in the folder."""
        return self.folder.joinpath(*parts)

    @property
    def clips_folder(self) -> pathlib.Path:
        """Where networks leave the changed clips of their epochs to each other."""
        return self.path("training", "clips")

    def settings(self, member: Member) -> configs.ExperimentConfig:
        """The settings of a member's run."""
        if isinstance(member.entry, SavedEntry):
            return self.read(member).config
        return entry_lists.settings(self.comparison.experiment, member.entry, member.seed)

    def open(self, member: Member) -> runs.Run:
        """Opens (or makes) a member's run folder, to work in it."""
        return runs.open_run(self.path("runs", member.name), self.settings(member))

    def read(self, member: Member) -> runs.Run:
        """A member's run folder to read from, whoever works in it."""
        if isinstance(member.entry, SavedEntry):
            return runs.read_run(member.entry.run)
        return runs.Run(self.path("runs", member.name), self.settings(member), resumed=True)

    def stages(self, member: Member) -> tuple[str, ...]:
        """The stages of a member's metamers."""
        if isinstance(member.entry, SavedEntry):
            return member.entry.stages
        return tuple(self.settings(member).stages)

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The classes of the listeners, of the first that there is.

        Raises:
            ValueError: There is none.
        """
        for member in self.members:
            if member.entry.listens and self.is_done(TRAIN, member):
                return pipeline.class_names(self.read(member), member.entry.network, ())
        raise ValueError(
            f"none of {', '.join(e.label for e in self.entries)} tells the words of the targets "
            "apart: give a network that can listen (--networks)"
        )

    def targets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """What is compared; None: no network has made metamers of it yet.

        Returns:
            target_id [target], waveform [target, time], and label [target] in `words`.
        """
        for member in self.trained or self.members[:1]:
            if self.is_done(SYNTHESIZE, member):
                run = self.read(member)
                arrays = storage.read_npz(run.path(manifest.TARGETS[1]))
                labels = [self.words.index(word) for word in saved.target_words(run)]
                return arrays["target_id"], arrays["waveform"], np.array(labels)
        return None

    def rows(self, member: Member, waveforms: np.ndarray) -> np.ndarray | slice:
        """Places of targets that are compared, `waveforms`, among those of a member's run."""
        if isinstance(member.entry, SavedEntry):
            return saved.rows_of(member.entry, waveforms)
        return slice(None)

    def is_done(self, kind: str, member: Member) -> bool:
        """Whether a part of the work is done."""
        if (kind, member) not in self._done and self._look(kind, member):
            self._done.add((kind, member))
        return (kind, member) in self._done

    def _look(self, kind, member):
        if kind == CROSS_TEST:
            return not self.unheard(member.name)
        if isinstance(member.entry, SavedEntry):
            return True
        run = self.read(member)
        if kind == TRAIN:
            files = manifest.networks_of(member.entry.network)[:2]
        elif kind == COCHLEAGRAM:
            files = [made for made in _metamers(run, member) if "/cochleagram/" in made]
        elif kind == SYNTHESIZE:
            files = _metamers(run, member)
        else:
            files = [manifest.VERIFICATION[-1]]
        return run.is_done(*files)

    def unheard(self, name: str) -> list[Member]:
        """The listeners that have not heard the metamers of that member (or the targets) yet."""
        path = self.path("cross_test", f"{name}.npz")
        heard = set(storage.map_npz(path, check=False)) if storage.is_done(path) else set()
        return [m for m in self.members if m.name not in heard and self.can_hear(m)]

    def can_hear(self, member: Member) -> bool:
        """Whether a member is asked at all: models that know other classes are not."""
        return not isinstance(member.entry, SavedEntry) or member.entry.listens

    def waiting(self, name: str) -> list[Member]:
        """Those of them that are trained, and could."""
        return [m for m in self.unheard(name) if self.is_done(TRAIN, m)]


def _metamers(run, member):
    return [manifest.metamers_of(member.entry.network, stage) for stage in run.config.stages]


# Parts.


def check_saved(home: ComparisonFolder, recordings: Recordings | None) -> None:
    """Refuses networks of finished runs that cannot stand beside the others.

    Args:
        home: The comparison's folder.
        recordings: Its recordings; None: nothing is trained, and the targets are those of the first
            run.

    Raises:
        ValueError: They are of other sounds, or nobody can listen.
    """
    reference = home.settings(home.members[0])
    if recordings is not None:
        chosen = common.choose_targets(
            recordings, reference.targets_per_word, reference.resolved_target_seed
        )
        waveforms = storage.take(recordings.waveforms, chosen)
    else:
        compared = home.targets()
        assert compared is not None  # A run that is finished has some.
        waveforms = compared[1]
    for member in home.members[len(home.trained) :]:
        run = home.read(member)
        config = run.config
        try:
            home.rows(member, waveforms)
        except ValueError as error:
            first, other = (dataclasses.asdict(each.data) for each in (reference, config))
            differ = [
                f"{k} {first[k]!r}, there {other[k]!r}" for k in first if first[k] != other[k]
            ]
            raise ValueError(
                f"{error}. Compared are targets of {home.members[0].name}; settings of data that "
                f"differ: {'; '.join(differ) or 'none'}"
            ) from error
        for name, theirs, ours in (
            ("sample_rate_hz", config.data.sample_rate_hz, reference.data.sample_rate_hz),
            ("synthesis.seeds", len(config.synthesis.seeds), len(reference.synthesis.seeds)),
        ):
            if theirs != ours:
                raise ValueError(f"{name} of {run.folder} must be {ours}, got {theirs}")


def run_all(
    home: ComparisonFolder,
    recordings: Recordings | None,
    *,
    together: bool = True,
    keep_clips: bool = False,
    shard: runs.Shard | None = None,
    stop: StopRequested = lambda: False,
    on_part: Callable[[str, Sequence[Member], float], None] | None = None,
    on_round: Callable[[], object] | None = None,
) -> None:
    """Does what is left.

    Of several shares each trains networks of its own, makes and verifies their metamers, and lets
    all hear the metamers of some; the files are those of one process.

    Args:
        home: The comparison's folder.
        recordings: Its recordings; None: everything is of finished runs.
        together: Train all seeds of an entry at once, before its first metamers are made.
        keep_clips: Leave training/clips, the changed clips of every epoch, which the networks share
            while they train, for networks that will be added; else it is deleted after the last.
        shard: Which of several processes this is; None: it is alone.
        stop: Says whether to end; what is done so far is saved.
        on_part: Called after every part of the work with what it was, of whom, and its seconds.
        on_round: Called after the cross-tests of every seed, where this process is alone.
    """
    shard = shard or runs.Shard()

    @functools.cache
    def natural():
        assert recordings is not None  # Where networks are trained.
        return pipeline.natural_sounds(home.read(home.trained[0]), recordings, stop=stop)

    def unit(member):
        """The member's number among what is dealt out: what is trained at once is one."""
        return home.made_here.index(member.entry) if together else home.trained.index(member)

    def wait(kind, members, number):
        def owed():
            return {f"{kind} of {m.name}": number(m) for m in members if not home.is_done(kind, m)}

        if shard.count > 1:
            shares.wait(home.folder, shard, owed, stop)

    def hear(members):
        if todo := [m for m in members if home.waiting(m.name)]:
            timed(CROSS_TEST, todo, cross_test, targets=shard.owns(0), stop=stop)

    def timed(kind, members, work, *args, **options):
        started = time.monotonic()
        work(home, members, *args, **options)
        if on_part is not None:
            on_part(kind, members, time.monotonic() - started)

    for seed in home.comparison.seeds:
        for entry in home.made_here:
            member = Member(entry, seed)
            if not shard.owns(unit(member)):
                continue
            seeds = home.comparison.seeds if together else (seed,)
            untrained = [m for m in (Member(entry, s) for s in seeds) if not home.is_done(TRAIN, m)]
            if untrained:
                timed(TRAIN, untrained, _train, recordings, stop=stop)
            if not keep_clips and all(home.is_done(TRAIN, m) for m in home.members):
                clip_cache.remove(home.clips_folder)
            if not home.is_done(SYNTHESIZE, member):
                if entry != home.made_here[0]:
                    wait(COCHLEAGRAM, [Member(home.made_here[0], seed)], unit)
                timed(SYNTHESIZE, [member], _synthesize, recordings, stop=stop)
            if not home.is_done(VERIFY, member):
                timed(VERIFY, [member], _verify, recordings, natural(), stop=stop)
        if shard.count == 1:
            hear(made(home))
            if on_round is not None:
                on_round()
    if shard.count > 1:
        wait(VERIFY, home.trained, unit)
        hear([m for i, m in enumerate(home.members) if shard.owns(i)])
        if shard.index == 0:
            wait(CROSS_TEST, home.members, home.members.index)


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
    for other in home.trained:
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
    targets: bool = True,
    stop: StopRequested = lambda: False,
) -> None:
    """Lets every trained network hear the metamers of every stage of the members, and the targets.

    Sounds are heard as they are played, through each listener's exact cochleagram, or its own
    front end. Leaves cross_test/<member>.npz, for each listener an array [stage, target, synthesis
    seed] of the words that it heard, by their number in `ComparisonFolder.words` (one more: a
    class that is none of these), and cross_test/natural.npz, [target].

    Args:
        home: The comparison's folder.
        members: Whose metamers; None: all that are made.
        targets: Whether the targets are heard, too.
        stop: Says whether to end before the next member.

    Raises:
        SystemExit: `stop` said so; what was done is saved.
    """
    members = made(home) if members is None else members
    compared = home.targets()
    if compared is None:
        return
    load = functools.cache(functools.partial(_load, home))
    target_id, natural, label = compared
    about = {"target_id": target_id, "label": label}
    first = home.settings(home.members[0])
    if targets:
        played = audio.to_playback(natural, first.data.sample_rate_hz, first.playback)
        _hear(home, load, NATURAL, audio.heard(*played), natural.shape[:1], about)
    for member in progress.track(members, "cross-test", unit="network"):
        if stop():
            raise SystemExit(runs.EXIT_STOPPED)
        if not home.waiting(member.name):
            continue
        run, rows = home.read(member), home.rows(member, natural)
        waveforms = np.stack(
            [
                np.asarray(pipeline.read_metamers(run, member.entry.network, s).made.waveform)[rows]
                for s in home.stages(member)
            ]
        )
        sounds = audio.heard(*pipeline.play_metamers(run, waveforms))
        sounds = sounds.reshape(-1, waveforms.shape[-1])
        _hear(home, load, member.name, sounds, waveforms.shape[:-1], about)


def _load(home, member):
    """Module and variables of a network, and [class] the number of its classes in `home.words`."""
    run, network = home.read(member), member.entry.network
    classes = pipeline.class_names(run, network, ())
    known = {word: number for number, word in enumerate(home.words)}
    numbers = np.array([known.get(name, len(known)) for name in classes])
    return *pipeline.load_network(run, network, len(classes)), numbers


def _hear(home, load, name, waveforms, shape, about):
    """Adds to cross_test/<name>.npz what those hear of the waveforms who have not yet."""
    missing = home.waiting(name)
    if not missing:
        return
    path = home.path("cross_test", f"{name}.npz")
    found = storage.read_npz(path) if storage.is_done(path) else about
    by_ear = collections.defaultdict(list)  # Networks of one cochleagram hear it together.
    for member in missing:
        by_ear[home.settings(member).cochleagram].append(member)
    for ear, members in by_ear.items():
        networks = [load(member) for member in members]
        heard = exact.recognize(
            [(model, variables) for model, variables, _ in networks],
            waveforms,
            ear,
            batch_size=home.comparison.experiment.verification.batch_size,
        )
        for member, (*_, numbers), classes in zip(members, networks, heard, strict=True):
            found[member.name] = numbers[classes].reshape(shape)
    order = [*about, *(m.name for m in home.members if m.name in found)]  # Whoever came first.
    storage.write_npz(path, {name: found[name] for name in dict.fromkeys([*order, *found])})


def open_folder(
    folder: str | os.PathLike, comparison: Comparison, *, shard: runs.Shard | None = None
) -> runs.Run:
    """Opens a comparison's folder; use it in a `with` block.

    Args:
        folder: The comparison's folder, made if it is new.
        comparison: Settings; entries, runs and seeds may differ from those it was begun with.
        shard: Which of several processes this is; None: it wants the folder to itself.

    Returns:
        The open folder, to be closed.

    Raises:
        ValueError: The folder holds a comparison with other settings, or another process has it
            open.
    """
    return runs.open_run(folder, comparison, may_differ=MAY_DIFFER, shard=shard)


def left(home: ComparisonFolder) -> Iterator[tuple[str, Member]]:
    """The parts of the work that are not done, in no particular order."""
    for member in home.members:
        for kind in KINDS:
            if not home.is_done(kind, member):
                yield kind, member
