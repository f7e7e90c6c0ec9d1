"""Times a step of synthesis for every stage, batch size and method, against a plain dense path.

  metamer-jax benchmark --out=runs/benchmark

Prints a table and writes benchmark.json and benchmark.png. "ratio" is the yardstick's time at its
best batch size over the row's; the yardstick (an inverse FFT of every band at the full sample rate)
is measured anew with every stage, in turns with its rows. A full step: forward, backward, update.
"""

import functools
import io
import pathlib
from collections.abc import Sequence

import jax
from absl import flags

import metamer_jax
from metamer_jax import configs, figures, pipeline, runs, storage
from metamer_jax.benchmarks import aot, history, steps
from metamer_jax.cochleagram import accuracy
from metamer_jax.commands import drivers
from metamer_jax.runtime import compilation, progress

_NETWORKS = configs.ExperimentConfig().networks  # The paper's two.
_OUT = flags.DEFINE_string("out", "runs/benchmark", "Folder for benchmark.json and .png.")
_HISTORY = flags.DEFINE_string(
    "history",
    None,
    "Folder with a file of figures for each release: this release's is written there, and all are "
    "drawn in history.png.",
)
_STAGES = flags.DEFINE_list(
    "stages",
    ["cochleagram", *(f"{n} {s}" for n in _NETWORKS for s in configs.STAGES[1:])],
    "What to time: 'cochleagram' or '<network> <stage>', comma-separated.",
)
_BATCHES = flags.DEFINE_list("batch_sizes", ["4", "8", "16"], "Targets at once.")
_DENSE = flags.DEFINE_bool("dense", True, "Time the exact cochleagram, too.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Measurements of each row; the median counts.", 1)
_STEPS = flags.DEFINE_integer("steps", 5, "Steps in a measurement.", 1)
_RECIPE = flags.DEFINE_enum(
    "recipe", "paper", sorted(configs.SYNTHESIS_RECIPES), "Whose optimiser makes the update."
)
_TPU = flags.DEFINE_bool(
    "tpu",
    False,
    "Compile the full cochleagram's step for four chips of a TPU v5e, too, and say what XLA "
    "expects of it. Needs libtpu (extra [tpu]) and minutes, but no TPU.",
)


_YARDSTICK = [steps.Case("cochleagram", "yardstick", size) for size in (1, 2)]


def groups() -> list[list[steps.Case]]:
    """What is timed together, by stage."""
    sizes = [int(size) for size in _BATCHES.value]
    found = [[steps.Case(s, "multirate", b) for b in sizes] for s in _STAGES.value]
    if _DENSE.value:
        found.insert(0, [steps.Case("cochleagram", "dense", size) for size in (1, 2)])
    return found


def main(argv: Sequence[str]) -> None:
    if _TPU.value and (reason := aot.missing()):
        raise ValueError(f"--tpu: {reason}")
    if _HISTORY.value is not None:
        history.read(_HISTORY.value)
    pipeline.enable_compilation_cache()
    config = configs.CochleagramConfig()
    synthesis = configs.SYNTHESIS_RECIPES[_RECIPE.value]
    rows = []
    for group in progress.track(groups(), "measuring", unit="stage"):
        compilation.make_room()
        measured = _measure(group, config, synthesis)
        # The yardstick stands in the table once, as it was beside the first stage.
        rows += measured if not rows else measured[len(_YARDSTICK) :]
    print_table(rows)
    tpu = None
    if _TPU.value:
        tpu = aot.tpu_cochleagram_step_apart()._asdict()
        print(
            f"TPU {aot.TOPOLOGY}, 64 targets, a device: {tpu['flops'] / 1e9:.1f} GFLOP, "
            f"{tpu['bytes_accessed'] / 1e9:.3f} GB accessed, {tpu['compile_s']:.0f} s to compile"
        )
    folder = pathlib.Path(_OUT.value)
    found = {
        "environment": runs.environment(),
        "device": str(jax.devices()[0]),
        "recipe": _RECIPE.value,
        "ceilings": _ceilings(),
        "rows": rows,
        "tpu": tpu,
    }
    storage.write_json(folder / "benchmark.json", found)
    _write_figure(folder / "benchmark.png", figures.benchmark_bars(rows))
    print(f"Written: {folder.resolve() / 'benchmark.json'}")
    if _HISTORY.value is not None:
        kept = pathlib.Path(_HISTORY.value)
        storage.write_json(kept / f"{metamer_jax.__version__}.json", found)
        _write_figure(kept / "history.png", figures.benchmark_history(history.read(kept)))
        print(f"History: {(kept / 'history.png').resolve()}")


def _write_figure(path, figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    storage.write_bytes(path, file.getvalue())


def _measure(group, config, synthesis):
    """Rows of the table: the yardstick's, then those of the group."""
    timed = [
        steps.prepare(case, config=config, synthesis=synthesis, steps=_STEPS.value)
        for case in (*_YARDSTICK, *group)
    ]
    steps.measure(timed, _ROUNDS.value)
    yardstick = min(t.ms_per_target_step for t in timed if t.case in _YARDSTICK)
    ceilings = _ceilings()
    return [
        {
            "stage": t.case.name,
            "method": t.case.method,
            "batch_size": t.case.batch_size,
            "ms_per_target_step": t.ms_per_target_step,
            "ratio": yardstick / t.ms_per_target_step,
            "cochleagram_error": _error(t.case.method, config),
            "compile_s": t.compile_s,
            "peak_mb": t.peak_bytes / 1e6,
            "mflop": t.flops / 1e6,
            "mbytes": t.bytes_accessed / 1e6,
            "part_of_floor": steps.floor_ms(t, ceilings) / t.ms_per_target_step,
            "spread": max(t.seconds) / min(t.seconds),
        }
        for t in timed
    ]


_ceilings = functools.cache(steps.device_ceilings)


@functools.cache
def _error(method, config):
    """Of the cochleagram, against float64; None of the yardstick, which is in no other use."""
    if method == "yardstick":
        return None
    return accuracy.cochleagram_error(configs.replace_given(config, method=method))


def print_table(rows: list[dict]) -> None:
    names = [n for n in rows[0] if n != "cochleagram_error"]
    cells = ([f"{r[n]:.3g}" if isinstance(r[n], float) else r[n] for n in names] for r in rows)
    print(drivers.markdown(names, cells))
    for method in ("dense", "multirate"):
        error = next((r["cochleagram_error"] for r in rows if r["method"] == method), None)
        if error is not None:
            print(f"{method} cochleagram against float64: relative error at most {error:.1e}")
