"""What memory grows with the number of targets: peak resident memory of each part, in MiB.

  python -m experiments.memory_study --targets=500,5000

Every part runs in a process of its own, on made-up recordings that lie in a file, as those of a
run do, and on a stage too small to take time or memory. "targets" writes targets/, "pipeline" makes
their metamers, "report" shows them, "synthesize" is `mj.synthesize` with its outputs in memory.
"""

import dataclasses
import pathlib
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import jax
import numpy as np
from absl import flags

from metamer_jax import auditory, configs, metamers, pipeline, report, runs, storage
from metamer_jax.commands import drivers
from metamer_jax.data import Recordings

_TARGETS = flags.DEFINE_list("targets", ["500", "5000"], "Numbers of targets.")
_DURATION_S = flags.DEFINE_float("duration_s", 1.0, "Length of a target, s.", 0.01)
_PART = flags.DEFINE_string("part", None, "Used by the study itself.")
_FOLDER = flags.DEFINE_string("folder", None, "Used by the study itself.")

_NETWORK, _STAGE, _RATE_HZ = "frequency_grouped", "cochleagram", 16000
_SYNTHESIS = configs.SynthesisConfig(steps=2, chunk_steps=2, batch_size=50, as_played=False)
MIB = 2**20


def every_other_sample(variables, waveform):
    """A stage whose activation is the waveform's every other sample."""
    del variables
    return 3 * waveform[::2]


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not say a process's peak of resident memory")


def _config() -> configs.ExperimentConfig:
    config = configs.replace_all(
        configs.PRESETS["smoke"],
        {"data.duration_s": _DURATION_S.value, "cochleagram.duration_s": _DURATION_S.value},
    )
    return dataclasses.replace(
        config,
        networks=(_NETWORK,),
        stages=(_STAGE,),
        targets_per_word=int(_TARGETS.value[0]) // 2,
        synthesis=_SYNTHESIS,
    )


def _write_recordings(folder: pathlib.Path, count: int) -> None:
    rng = np.random.default_rng(0)
    shape = (count, round(_DURATION_S.value * _RATE_HZ))
    sounds = (0.1 * rng.standard_normal((1, shape[1]), np.float32) for _ in range(count))
    storage.write_npz(folder / "sounds.npz", {"sounds": storage.Rows(shape, np.float32, sounds)})


def _recordings(folder: pathlib.Path) -> Recordings:
    sounds = storage.map_npz(folder / "sounds.npz", check=False)["sounds"]
    count = len(sounds)
    return Recordings(
        waveforms=sounds,
        labels=np.arange(count, dtype=np.int32) % 2,
        names=np.array([f"w/{i}" for i in range(count)]),
        speakers=np.array([""] * count),
        splits=np.array(["test"] * count),
        words=("fall", "rise"),
        sample_rate_hz=_RATE_HZ,
        summary={},
    )


def _targets(folder: pathlib.Path) -> None:
    recordings = _recordings(folder)
    with runs.open_run(folder / "run", _config()) as run:
        targets = pipeline.common.chosen_targets(run, recordings)
        pipeline.common.write_targets(run, recordings, targets)


def _pipeline(folder: pathlib.Path) -> None:
    model = types.SimpleNamespace(stage_names=(_STAGE,))
    with (
        mock.patch.object(pipeline.synthesize, "load_network", lambda *_: (model, {})),
        mock.patch.object(auditory, "with_filters", lambda variables, *_: variables),
        mock.patch.object(auditory, "stage_fn", lambda *_, **__: every_other_sample),
        runs.open_run(folder / "run", _config()) as run,
    ):
        pipeline.synthesize_metamers(run, _recordings(folder))


def _report(folder: pathlib.Path) -> None:
    report.write_report(folder / "run", max_metamers=20)


def _synthesize(folder: pathlib.Path) -> None:
    sounds: Any = _recordings(folder).waveforms  # NumPy's, mapped from a file.
    made = metamers.synthesize(
        jax.random.key(0),
        sounds,
        range(len(sounds)),
        stage_fn=every_other_sample,
        config=_SYNTHESIS,
    )
    print(f"outputs {sum(np.asarray(values).nbytes for values in made)}")


PARTS: dict[str, Callable[[pathlib.Path], None]] = {
    "targets": _targets,
    "pipeline": _pipeline,
    "report": _report,
    "synthesize": _synthesize,
}


def measure(count: int, duration_s: float, parts: Sequence[str] = tuple(PARTS)) -> dict[str, int]:
    """Runs parts in processes of their own, one after the other on one run.

    Args:
        count: Number of targets.
        duration_s: Length of each, s.
        parts: Which parts; "report" needs those before it.

    Returns:
        Peak resident memory of each, bytes, and "outputs", those of `mj.synthesize`.

    Raises:
        ValueError: A part failed.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in ("recordings", *parts):
            done = subprocess.run(
                [sys.executable, "-m", "experiments.memory_study", f"--part={part}",
                 f"--folder={folder}", f"--targets={count}", f"--duration_s={duration_s}"],
                capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[1],
            )  # fmt: skip
            if done.returncode:
                raise ValueError(f"{part} failed: {done.stderr[-2000:]}")
            said = dict(line.split() for line in done.stdout.splitlines() if " " in line)
            found |= {name: int(size) for name, size in said.items() if name in (part, "outputs")}
    return found


def main(argv: Sequence[str]) -> None:
    if _PART.value is not None and _FOLDER.value is not None:
        folder = pathlib.Path(_FOLDER.value)
        if _PART.value == "recordings":
            _write_recordings(folder, int(_TARGETS.value[0]))
        else:
            PARTS[_PART.value](folder)
        print(f"{_PART.value} {peak_bytes()}")
        return
    counts = [int(count) for count in _TARGETS.value]
    found = [measure(count, _DURATION_S.value) for count in counts]
    head = ("part", *(f"{count} targets, MiB" for count in counts))
    shown = (*PARTS, "outputs")
    rows = [(part, *(f"{sizes[part] / MIB:.0f}" for sizes in found)) for part in shown]
    print(drivers.markdown(head, rows))


if __name__ == "__main__":
    drivers.run(main)
