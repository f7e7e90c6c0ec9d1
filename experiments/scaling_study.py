"""How a whole run scales: one process on one core against two shares, a core each.

  python -m experiments.scaling_study                # 20 minutes on two cores that idle
  python -m experiments.scaling_study --docs=docs/measurements/scaling.md
  python -m experiments.scaling_study --quick        # two minutes: proves that it runs
  python -m experiments.scaling_study --measured=scaling_study.json --metamers=5000

Every process is bound to its core, so that XLA has one thread. A first run fills the compilation
cache; then the whole chain (train, synthesize, verify, listen machines, report) is run in turns by
one process and by two, and everything that they made is compared byte for byte, times apart.
Prints tables, and writes as JSON what it measured: the seconds of each part and, by the times of
files, of a batch and of a metamer's verification. From these it computes what --metamers at recipe
'fast' take on many cores and, with what XLA counts of the step compiled for a TPU v5e, on a pod.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from experiments import damages, scaling_estimate, scaling_tables
from metamer_jax import audio, configs, runs, storage
from metamer_jax.benchmarks import aot
from metamer_jax.commands import drivers
from metamer_jax.listening import listeners as machines
from metamer_jax.pipeline import verify
from metamer_jax.runtime import progress

_TURNS = flags.DEFINE_integer("turns", 2, "Runs of each kind, in alternation.", 1)
_QUICK = flags.DEFINE_bool("quick", False, "One small run of each kind, on an empty cache.")
_METAMERS = flags.DEFINE_integer("metamers", 1_000_000, "Metamers to compute the cost of.", 1)
_CHIPS = flags.DEFINE_integer("chips", 256, "TPU v5e chips of the pod, four to a host.", 4)
_TPU = flags.DEFINE_bool(
    "tpu",
    False,
    "Compile the step for a TPU anew (libtpu, extra [tpu]; minutes). Else its counts are those "
    "in docs/measurements/speed.md.",
)
_MEASURED = flags.DEFINE_string("measured", None, "JSON of an earlier study: nothing is measured.")
_OUT = flags.DEFINE_string("out", "scaling_study.json", "What was measured, as JSON.")
_DOCS = flags.DEFINE_string("docs", None, "Page whose marked part becomes the tables.")

_KINDS = {"one": 1, "two": 2}
# The last row of "The step compiled for a TPU" in docs/measurements/speed.md: 64 targets on four
# chips, a chip's part; no operation of it talks to another chip.
_V5E_STEP = aot.Cost(216.0, 15.2e9, 0.780e9, 0, 0)
_TARGETS_PER_CHIP, _CHIPS_PER_HOST = 16, 4


def _config() -> configs.ExperimentConfig:
    """A run of whose stages each share makes two whole batches."""
    if _QUICK.value:
        base, changes = (
            configs.PRESETS["smoke"],
            {
                "data.duration_s": 0.5,
                "cochleagram.duration_s": 0.5,
                "cochleagram.num_filters": 20,
                "data.words": ("down", "go"),
                "networks": ("frequency_grouped", "frequency_dense"),
                "stages": ("conv1", "dense"),
                "synthesis.batch_size": 2,
                "training.epochs": 2,
            },
        )
    else:
        base, changes = (
            configs.PRESETS["quick"],
            {
                "data.num_speakers": 25,
                "stages": ("cochleagram", "conv1", "conv2", "dense"),
                "synthesis.batch_size": 8,
                "training.epochs": 3,
                "verification.null_recordings": 200,
            },
        )
    return configs.replace_all(base, {"targets_per_word": 4, **changes})


def batch_size_of(config: configs.ExperimentConfig) -> int:
    """Targets of a batch, and so metamers, since each has one seed."""
    assert config.synthesis.batch_size is not None and len(config.synthesis.seeds) == 1
    return config.synthesis.batch_size


class Study:
    """Runs of one config, each in a folder of its own, with one compilation cache."""

    def __init__(self, scratch: pathlib.Path):
        self.cores = sorted(os.sched_getaffinity(0))[:2]
        if len(self.cores) < 2:
            raise ValueError(f"two cores are compared with one, but there is only {self.cores}")
        self.config, self.scratch, self.cache = _config(), scratch, scratch / "jit"
        epochs = self.config.training.epochs
        self.panel = machines.panel(self.config, 2, networks=["frequency_grouped"], epochs=epochs)
        self._of_listeners = [
            "--listeners=2", "--networks=frequency_grouped", f"--epochs={epochs}",
            "--verified=any", f"--draws={100 if _QUICK.value else 2000}",
        ]  # fmt: skip

    def chain(self, name: str, shares: int, bar: Any) -> "Chain":
        """Makes a whole run."""
        with runs.open_run(self.scratch / name, self.config) as run:
            chain = Chain(run.folder, self.config)
        for part in scaling_tables.PARTS:
            chain.began_s[part] = time.time()
            chain.took[part] = self.part(
                chain.folder, part, 1 if part in scaling_tables.ALONE else shares
            )
            if part == "synthesize":
                chain.look_at_batches()
            bar.update(1)
        return chain

    def part(self, folder: pathlib.Path, part: str, shares: int = 1) -> dict[str, float]:
        """Runs a part in so many processes at once, each bound to a core.

        Returns:
            "wall_s", and "cpu_s" of all of them.

        Raises:
            ValueError: One of them failed.
        """
        log = self.scratch / f"{folder.name}-{part}.log"
        arguments = self._of_listeners if part == "machine_listeners" else []
        cpu_s, begin, pending = _children_cpu_s(), time.monotonic(), {}
        try:
            for index, core in zip(range(shares), self.cores, strict=False):
                share = [f"--share={index}/{shares}"] if shares > 1 else []
                with log.open("a") as file, bound_to(core):
                    process = subprocess.Popen(  # It has its parent's core.
                        [sys.executable, "-m", f"experiments.{part}", f"--workdir={folder}",
                         *arguments, *share],
                        stdout=file, stderr=subprocess.STDOUT,
                        cwd=pathlib.Path(__file__).parents[1],
                        env={**os.environ, "JAX_PLATFORMS": "cpu",
                             "JAX_COMPILATION_CACHE_DIR": str(self.cache)},
                    )  # fmt: skip
                pending[process.pid] = process
            while pending:
                pid, status = os.wait()
                process = pending.pop(pid)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise ValueError(f"{part} failed: {log.read_text()[-2000:]}")
        finally:
            for process in pending.values():
                process.kill()
                process.wait()
        return {"wall_s": time.monotonic() - begin, "cpu_s": _children_cpu_s() - cpu_s}

    def programs(self) -> int:
        """Number of programs in the compilation cache."""
        return sum(1 for _ in self.cache.glob("*-cache"))


@dataclasses.dataclass
class Chain:
    """A whole run: what its parts took, and when its files were made."""

    folder: pathlib.Path
    config: configs.ExperimentConfig
    took: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    began_s: dict[str, float] = dataclasses.field(default_factory=dict)
    batches: list[list[tuple[str, float]]] = dataclasses.field(default_factory=list)

    def conditions(self) -> list[tuple[str, str]]:
        """Networks and stages, in the order in which they are dealt."""
        return list(itertools.product(self.config.networks, self.config.stages))

    def targets(self) -> int:
        """Number of targets."""
        return len(storage.read_csv(self.folder / "targets" / "targets.csv"))

    def look_at_batches(self) -> None:
        """Notes by share which stage's batch it made when; they are gone once they are joined."""
        self.batches = [[] for _ in range(2)]
        for number, (network, stage) in enumerate(self.conditions()):
            for path in self.folder.glob(f"metamers/{network}/{stage}/batch_*.npz"):
                batch = int(path.stem.removeprefix("batch_")) // batch_size_of(self.config)
                name = stage if stage == "cochleagram" else f"{network} {stage}"
                self.batches[(number + batch) % 2].append((name, path.stat().st_mtime))
        for made in self.batches:
            made.sort(key=lambda each: each[1])

    def verified(self) -> list[list[float]]:
        """When, by share, the first metamer of each network and stage was verified."""
        first = [
            min(p.stat().st_mtime for p in (self.folder / "metamers" / n / s / "wav").iterdir())
            for n, s in self.conditions()
        ]
        return [sorted(first[share::2]) for share in range(2)]

    def contents(self) -> dict[str, object]:
        """What it made, its listeners included, times and reports apart."""
        found = damages.contents(self.folder)
        for path in sorted(self.folder.glob("listeners/*")):
            found |= {f"{path.name}/{k}": each for k, each in damages.contents(path).items()}
        return found


@contextlib.contextmanager
def bound_to(core: int) -> Iterator[None]:
    """Binds this process, and those that it starts meanwhile, to a core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _children_cpu_s() -> float:
    """CPU seconds of the processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _measure(study: Study) -> dict[str, Any]:
    """Runs everything, and returns what is written as JSON."""
    load = os.getloadavg()[0]
    turns = 1 if _QUICK.value else _TURNS.value
    chains: dict[str, list[Chain]] = {kind: [] for kind in _KINDS}
    done, total = [], (turns * len(_KINDS) + (not _QUICK.value)) * len(scaling_tables.PARTS)
    with progress.bar(total, "scaling", unit="part") as bar:
        if not _QUICK.value:
            study.chain("warm", 2, bar)
        programs = study.programs()
        for turn, (kind, shares) in itertools.product(range(turns), _KINDS.items()):
            chains[kind].append(study.chain(f"{kind}-{turn}", shares, bar))
            if kind == "one":
                done.append(study.part(chains[kind][-1].folder, "verify")["wall_s"])
    expected, *others = (c.contents() for c in itertools.chain(*chains.values()))
    names = set(expected).union(*others)
    different = [n for n in sorted(names) if any(o.get(n) != expected.get(n) for o in others)]
    return {
        "environment": runs.environment(study.config),
        "settings": dataclasses.asdict(study.config),
        "quick": _QUICK.value,
        "targets": chains["one"][0].targets(),
        "load_average_before": load,
        "programs_compiled_while_measured": study.programs() - programs,
        "files_compared": len(expected),
        "files_different": different,
        "turns": {kind: [chain.took for chain in each] for kind, each in chains.items()},
        "networks_s": _training_s(chains["one"]),
        "done_s": statistics.median(done),
        "rates": dataclasses.asdict(_rates(study, chains["two"])),
    }


def _training_s(chains: list[Chain]) -> dict[str, float]:
    """Seconds in which one process trained each network."""
    return {
        network: statistics.median(
            storage.read_json(chain.folder / "networks" / network / "result.json")["seconds"]
            for chain in chains
        )
        for network in chains[0].config.networks
    }


def _rates(study: Study, chains: list[Chain]) -> scaling_estimate.Rates:
    """What files' times say of processes that had a busy one beside them."""
    batch_s, gaps, begun = {}, [], []
    verified, verified_from = [], []
    for chain in chains:
        targets = chain.targets()
        for made, first in zip(chain.batches, chain.verified(), strict=True):
            begun.append((made[0][0], made[0][1] - chain.began_s["synthesize"]))
            for (stage, before_s), (after, s) in itertools.pairwise(made):
                if stage == after:
                    batch_s.setdefault(stage, []).append(s - before_s)
                else:
                    gaps.append((after, s - before_s))
            verified += [(b - a) / targets for a, b in itertools.pairwise(first)]
            verified_from.append(first[0] - chain.began_s["verify"])
    batch_s = {stage: statistics.median(found) for stage, found in batch_s.items()}
    return scaling_estimate.Rates(
        batch_size=batch_size_of(study.config),
        batch_s=batch_s,
        first_batch_s=_beside_batches(begun, batch_s),
        stage_s=_beside_batches(gaps, batch_s),
        verified_first_s=statistics.median(verified_from),
        verified_s=statistics.median(verified),
        verified_parts=len(chains[0].conditions()),
        verified_together=verify.VERIFIED_AT_ONCE,
        **_hearing(study, chains[0]),
        **_files(study, chains[0]),
    )


def _beside_batches(times: list[tuple[str, float]], batch_s: Mapping[str, float]) -> float:
    return statistics.median(s - batch_s[stage] for stage, s in times)


def _hearing(study: Study, chain: Chain) -> dict[str, float]:
    """How long the machine listeners take to hear a sound, once their programs are there."""
    run = runs.read_run(chain.folder)
    networks = machines.load_panel(run, study.panel)
    paths = sorted(chain.folder.glob("metamers/*/*/wav/*.wav"))[:32]
    sounds = audio.read_int16(paths, run.config.data.sample_rate_hz)
    machines.hear(networks, sounds[:8], run.config.cochleagram)
    begin = time.monotonic()
    machines.hear(networks, sounds, run.config.cochleagram)
    return {"heard_s": (time.monotonic() - begin) / len(sounds)}


def _files(study: Study, chain: Chain) -> dict[str, float]:
    """Bytes of a target and of a metamer, and how fast files of metamers are read and written."""
    path = next(chain.folder.glob("metamers/*/*/metamers.npz"))
    size, read_s, write_s = path.stat().st_size, [], []
    for _ in range(7):
        begin = time.monotonic()
        arrays = storage.read_npz(path)
        read_s.append(time.monotonic() - begin)
        begin = time.monotonic()
        storage.write_npz(study.scratch / "written.npz", arrays)
        write_s.append(time.monotonic() - begin)
    return {
        "sound_bytes": 4.0 * study.config.cochleagram.num_samples,
        "metamer_bytes": size / (len(arrays["target_id"]) * len(arrays["seed"])),
        "read_bytes_per_s": size / statistics.median(read_s),
        "write_bytes_per_s": size / statistics.median(write_s),
    }


def _pod(found: Mapping[str, Any]) -> scaling_estimate.Pod:
    step = aot.tpu_cochleagram_step_apart() if _TPU.value else _V5E_STEP
    evaluations = found["settings"]["synthesis"]["steps"] + 1
    return scaling_estimate.Pod(_CHIPS.value, _CHIPS_PER_HOST, step, _TARGETS_PER_CHIP, evaluations)


def main(argv: Sequence[str]) -> None:
    if _TPU.value and (reason := aot.missing()):
        raise ValueError(f"--tpu: {reason}")
    found = None if _MEASURED.value is None else storage.read_json(pathlib.Path(_MEASURED.value))
    if found is not None and not {"rates", "targets", "turns"} <= set(found):
        raise ValueError(f"--measured={_MEASURED.value} must be a file that this study wrote")
    if _DOCS.value is not None:
        scaling_tables.marked(pathlib.Path(_DOCS.value))
        if _QUICK.value if found is None else found["quick"]:
            raise ValueError("--docs wants the whole study, not --quick")
    if found is None:
        with tempfile.TemporaryDirectory() as scratch:
            study = Study(pathlib.Path(scratch))
            with bound_to(study.cores[0]):  # Before JAX makes its threads.
                found = _measure(study)
        storage.write_json(pathlib.Path(_OUT.value), found)
    tables = scaling_tables.of_study(found, _METAMERS.value, _pod(found))
    print(tables)
    if found["files_different"]:
        sys.exit(1)
    if _DOCS.value is not None:
        before, after = scaling_tables.marked(pathlib.Path(_DOCS.value))
        storage.write_text(pathlib.Path(_DOCS.value), f"{before}\n{tables}\n{after}")


if __name__ == "__main__":
    drivers.run(main)
