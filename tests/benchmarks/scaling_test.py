"""What is computed from measured rates of many metamers on many processes; the study, once."""

import dataclasses
import subprocess
import sys

import pytest
import small_run

from experiments import scaling_estimate, scaling_tables
from metamer_jax import runs, storage
from metamer_jax.benchmarks import aot

RATES = scaling_estimate.Rates(
    batch_size=10,
    batch_s={"cochleagram": 2.0, "conv2d conv1": 6.0},
    first_batch_s=5.0,
    stage_s=3.0,
    verified_first_s=7.0,
    verified_s=0.5,
    verified_parts=3,
    verified_together=40,
    heard_s=0.1,
    sound_bytes=4.0,
    metamer_bytes=100.0,
    read_bytes_per_s=1000.0,
    write_bytes_per_s=500.0,
)
# A step of 4 ms by its bytes, and of 1 ms by its arithmetic.
POD = scaling_estimate.Pod(
    chips=8,
    chips_per_host=4,
    step=aot.Cost(60.0, 0.001 * aot.V5E_FLOPS_PER_S, 0.004 * aot.V5E_BYTES_PER_S, 0, 0),
    targets_per_chip=5,
    evaluations=10,
)


@pytest.mark.parametrize("units", [1, 7, 8, 9])
@pytest.mark.parametrize("shares", [1, 2, 8, 20])
def test_the_longest_share_is_that_which_is_dealt_most(units, shares):
    dealt = [sum(map(runs.Shard(i, shares).owns, range(units))) for i in range(shares)]
    assert scaling_estimate.longest_share(units, shares) == max(dealt)


def test_metamers_of_a_core_hour():
    assert RATES.per_core_hour() == {"cochleagram": 18000.0, "conv2d conv1": 6000.0}
    assert scaling_estimate.core_hours(RATES, 36000) == pytest.approx(1 + 3)


def test_cores_by_hand():
    # 100 targets: ten batches at each of two stages, of which the first of three shares has seven.
    assert scaling_estimate.on_cores(RATES, 200, 3) == pytest.approx(
        {
            "synthesis": 5 + 3 + 7 * (2 + 6) / 2,
            "batches joined": 100 * 100 * (3 / 1000 + 1 / 500),
            "verification": 7
            + 3 * 40 * 0.5,  # Of nine units of 40, 40 and 20 targets each has three.
            "machine listeners": 67 * 0.1,
        }
    )
    alone = scaling_estimate.on_cores(RATES, 200, 1)
    assert alone["verification"] == pytest.approx(7 + 3 * 100 * 0.5)
    assert scaling_estimate.longest(alone) == "verification"


def test_a_pod_by_hand():
    # Batches of 5 sounds on each of a host's 4 chips: five at each stage, five for each host.
    parts = scaling_estimate.on_pod(RATES, 200, POD)
    assert parts == pytest.approx(
        {
            "compiling the steps": 2 * 60,
            "steps": 5 * 10 * 0.004,
            "targets read": 100 * 4 / 1000,
            "batches written": 100 * 100 / 500,
            "batches joined": 100 * 100 * (3 / 1000 + 1 / 500),
            "verification": 7 + 5 * 40 * 0.5,
            "machine listeners": 100 * 0.1,
        }
    )
    assert POD.bound_by == "bytes"
    slow = POD.step._replace(flops=0.005 * aot.V5E_FLOPS_PER_S)
    assert dataclasses.replace(POD, step=slow).bound_by == "arithmetic"


def test_tables_say_what_was_measured():
    def took(wall_s, cpu_s):
        return {part: {"wall_s": wall_s, "cpu_s": cpu_s} for part in scaling_tables.PARTS}

    found = {
        "turns": {"one": [took(9.0, 8.0), took(11.0, 9.0)], "two": [took(6.0, 10.0)] * 2},
        "targets": 40,
        "networks_s": {"conv2d": 4.0},
        "environment": {"jax": "1.2.3"},
        "load_average_before": 0.01,
        "programs_compiled_while_measured": 0,
        "files_compared": 31,
        "files_different": [],
        "done_s": 2.5,
        "rates": dataclasses.asdict(RATES),
    }
    text = scaling_tables.of_study(found, 200, POD)
    assert "| train | 10.0 | 6.0 | 1.67 | 0.83 | 2.0 | 8.5 | 10.0 |" in text
    assert "| report | 10.0 | 6.0 |  |  | 2.0 | 8.5 | 10.0 |" in text
    # Of eight batches each makes four; each but one of three parts is the first's.
    assert f"gives {5 + 3 + 4 * 4:.1f} s of synthesis and {7 + 2 * 40 * 0.5:.1f} s of" in text
    assert "What takes longest is compiling the steps." in text
    assert "**Not equal: weights.npz.**" in scaling_tables.of_study(
        {**found, "files_different": ["weights.npz"]}, 200, POD
    )


@pytest.mark.parametrize("text", ["", "<!-- scaling_study -->\n", "<!-- end -->"])
def test_a_page_without_a_place_for_tables_is_refused(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="page.md must have one part between"):
        scaling_tables.marked(page)
    page.write_text("a\n<!-- scaling_study -->\nold\n<!-- end -->\nb\n")
    assert scaling_tables.marked(page) == (
        "a\n<!-- scaling_study -->\n",
        "<!-- end -->\nb\n",
    )


@pytest.mark.slow  # Two minutes.
def test_the_study_compares_two_shares_with_one_process(tmp_path):
    def study(*flags):
        command = [sys.executable, "-m", "experiments.scaling_study", *flags]
        return subprocess.run(command, cwd=small_run.ROOT, capture_output=True, text=True)

    out = tmp_path / "scaling.json"
    done = study("--quick", f"--out={out}")
    assert done.returncode == 0, done.stderr
    found = storage.read_json(out)
    assert found["files_different"] == [] and found["files_compared"] > 20
    assert all(
        turn[p]["wall_s"] > 0 for turn in found["turns"]["two"] for p in scaling_tables.PARTS
    )
    assert len(found["rates"]["batch_s"]) == 4 and min(found["rates"]["batch_s"].values()) > 0
    again = study(f"--measured={out}", f"--docs={small_run.ROOT}/docs/measurements/scaling.md")
    assert again.returncode == 2 and "--docs wants the whole study" in again.stderr
    again = study(f"--measured={out}", "--metamers=5000")
    assert again.returncode == 0 and "5,000 metamers" in again.stdout
    again = study(f"--measured={small_run.ROOT}/docs/benchmarks/0.2.0.json")
    assert again.returncode == 2 and "must be a file that this study wrote" in again.stderr
