"""What the scaling study found, and what follows from it, as Markdown."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import scaling_estimate
from metamer_jax.benchmarks import aot

PARTS = ("train", "synthesize", "verify", "machine_listeners", "report")
ALONE = ("report",)  # One process, whatever the number of shares.
_CORES = (1, 2, 16, 128, 1024)
_BEGIN, _END = "<!-- scaling_study -->\n", "<!-- end -->"
_DIVIDES = """\
"Does not divide": twice the two shares' time less the one's, which is what would stay with any
number of shares if the rest were dealt evenly. Training is not: it is dealt by network
({trained}). The report is one process's.
"""
_RATES = """\
Batches of {size}. A metamer is verified in {verified:.0f} ms, heard by four networks in
{heard:.0f} ms, and takes {kilobytes:.0f} kB in its batch's file. Files are read and checked at
{read:.0f} MB/s, written at {written:.0f} MB/s.
"""
_MANY = """\
**Computed, not measured**: {metamers:,} metamers, of {targets:,} targets at each of {stages}
stages, are {core_hours:,.1f} core-hours of synthesis at these rates. (For the two shares above the
same arithmetic gives {synthesis:.1f} s of synthesis and {verification:.1f} s of verification.) With
a share a core, one part after the other:
"""
_POD = """\
**Computed, seen on no device**: the same on {chips:,} chips of a TPU v5e, {hosts} hosts with a
share each. A step takes no less than XLA's counts of it allow: {gflop:.1f} GFLOP and {gb:.3f} GB
for {sounds} sounds on a chip, at {peak:.1f} TFLOP/s (float32, six passes of bfloat16) and
{bandwidth:.0f} GB/s. It is bound by {bound_by}; {evaluations} steps of a metamer are {ms:.1f} ms of
a chip. They are those of the full cochleagram, counted at every stage; networks' stages read less.
A stage's program is compiled in {compile_s:.0f} s, as it was on a loaded machine. All other rows
are at the rates of a core above, those of host and chip being unknown:
"""
_BOUND = """\
What takes longest is {longest}. Verification is dealt by {together} targets of a network and stage,
joining by network and stage, to {joined} processes at most.
"""


def marked(path: pathlib.Path) -> tuple[str, str]:
    """Returns a page's text up to the mark that begins the tables, and from that which ends them.

    Raises:
        ValueError: There are no such marks, or several.
    """
    text = path.read_text("utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end or _BEGIN in rest or _END in after:
        raise ValueError(f"{path} must have one part between {_BEGIN.strip()} and {_END}")
    return before + begin, end + after


def of_study(found: Mapping[str, Any], metamers: int, pod: scaling_estimate.Pod) -> str:
    """Returns what was measured and what follows.

    Args:
        found: What the study writes as JSON.
        metamers: How many to compute the cost of.
        pod: What else to compute it for.
    """
    rates = scaling_estimate.Rates(**found["rates"])
    return "\n".join(
        (
            _of_parts(found),
            _of_fixed(found, rates),
            _of_many(rates, found["targets"], metamers, pod),
        )
    )


def _of_parts(found: Mapping[str, Any]) -> str:
    def median(kind, part, what):
        return statistics.median(turn[part][what] for turn in found["turns"][kind])

    rows, sums = [], [0.0] * 4
    for part in PARTS:
        values = [
            median(kind, part, what) for what in ("wall_s", "cpu_s") for kind in ("one", "two")
        ]
        sums = [a + b for a, b in zip(sums, values, strict=True)]
        rows.append(_part_cells(part.replace("_", " "), *values, divided=part not in ALONE))
    rows.append(_part_cells("all", *sums, divided=True))
    head = [
        *("part", "one process, s", "two shares, s", "speed-up", "efficiency"),
        *("does not divide, s", "CPU s of one", "CPU s of two"),
    ]
    trained = ", ".join(f"{name} {s:.1f} s" for name, s in found["networks_s"].items())
    return "\n".join((_about(found), _table(head, rows), _DIVIDES.format(trained=trained)))


def _part_cells(name, one, two, one_cpu, two_cpu, *, divided):
    scaling = [f"{one / two:.2f}", f"{one / two / 2:.2f}"] if divided else ["", ""]
    seconds = [f"{s:.1f}" for s in (one, two, max(0.0, 2 * two - one), one_cpu, two_cpu)]
    return [name, *seconds[:2], *scaling, *seconds[2:]]


def _about(found: Mapping[str, Any]) -> str:
    turns, different = len(found["turns"]["one"]), found["files_different"]
    if different:
        equal = f"**Not equal: {', '.join(different)}.**"
    else:
        equal = (
            f"All {found['files_compared']} files and folders of sounds that a run and its "
            "listeners left (weights, metamers, sounds,\nverification) were equal byte for byte, "
            "times apart."
        )
    return (
        f"Medians of {turns} turn{'s' * (turns > 1)}; jax {found['environment']['jax']}, load "
        f"average before the first process {found['load_average_before']:.2f};\n"
        f"{found['programs_compiled_while_measured']} programs came to the compilation cache "
        f"meanwhile. {equal}\n"
    )


def _of_fixed(found: Mapping[str, Any], rates: scaling_estimate.Rates) -> str:
    rows = [
        ("a process that finds everything done (imports, recordings)", found["done_s"]),
        ("synthesis: up to the first batch, without it", rates.first_batch_s),
        ("synthesis: a further stage, without its batches", rates.stage_s),
        ("verification: up to the first metamer", rates.verified_first_s),
    ]
    per_hour = rates.per_core_hour()
    stages = [[name, f"{s:.2f}", f"{per_hour[name]:,.0f}"] for name, s in rates.batch_s.items()]
    told = _RATES.format(
        size=rates.batch_size,
        verified=1000 * rates.verified_s,
        heard=1000 * rates.heard_s,
        kilobytes=rates.metamer_bytes / 1e3,
        read=rates.read_bytes_per_s / 1e6,
        written=rates.write_bytes_per_s / 1e6,
    )
    return "\n".join(
        (
            "What a process takes for itself, however small its share:\n",
            _table(["what", "s"], [[name, f"{s:.1f}"] for name, s in rows]),
            "Rates of a core whose neighbour is as busy:\n",
            _table(["stage", "s a batch", "metamers per core-hour"], stages),
            told,
        )
    )


def _of_many(
    rates: scaling_estimate.Rates, measured: int, metamers: int, pod: scaling_estimate.Pod
) -> str:
    rows = []
    for cores in _CORES:
        parts = scaling_estimate.on_cores(rates, metamers, cores)
        times = map(_duration, (*parts.values(), sum(parts.values())))
        rows.append([f"{cores:,}", *times, scaling_estimate.longest(parts)])
    names = scaling_estimate.on_cores(rates, metamers, 1)
    two = scaling_estimate.on_cores(rates, measured * len(rates.batch_s), 2)
    many = _MANY.format(
        synthesis=two["synthesis"],
        verification=two["verification"],
        metamers=metamers,
        targets=scaling_estimate.targets_of(rates, metamers),
        stages=len(rates.batch_s),
        core_hours=scaling_estimate.core_hours(rates, metamers),
    )
    parts = scaling_estimate.on_pod(rates, metamers, pod)
    of_pod = _POD.format(
        chips=pod.chips,
        hosts=pod.hosts,
        gflop=pod.step.flops / 1e9,
        gb=pod.step.bytes_accessed / 1e9,
        sounds=pod.targets_per_chip,
        peak=aot.V5E_FLOPS_PER_S / 1e12,
        bandwidth=aot.V5E_BYTES_PER_S / 1e9,
        bound_by=pod.bound_by,
        evaluations=pod.evaluations,
        ms=1000 * pod.evaluations * pod.step.floor_s / pod.targets_per_chip,
        compile_s=pod.step.compile_s,
    )
    bound = _BOUND.format(
        longest=scaling_estimate.longest(parts),
        together=rates.verified_together,
        joined=len(rates.batch_s),
    )
    pod_rows = [[name, _duration(s)] for name, s in parts.items()]
    return "\n".join(
        (
            many,
            _table(["cores", *names, "all", "longest"], rows),
            of_pod,
            _table(["part", "computed"], pod_rows),
            bound,
        )
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return "\n".join((lines[0], "|" + "---|" * len(head), *lines[1:])) + "\n"


def _duration(seconds: float) -> str:
    for unit, length in (("s", 1), ("min", 60)):
        if seconds < 120 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds / 3600:,.1f} h"
