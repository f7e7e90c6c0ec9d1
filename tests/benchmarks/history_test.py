"""What the benchmark keeps of each release."""

import json
import pathlib
import subprocess
import sys

import pytest
import small_run

import metamer_jax
from metamer_jax.benchmarks import history

ROOT = pathlib.Path(small_run.ROOT)


@pytest.mark.slow
def test_a_release_is_written_beside_the_earlier_ones(tmp_path):
    folder = tmp_path / "history"
    folder.mkdir()
    for name in ("0.10.0.json", "0.9.1.json"):
        rows = [{"stage": "cochleagram", "method": "multirate", "ratio": 9.0}]
        (folder / name).write_text(json.dumps({"rows": rows}))
    command = [
        sys.executable, "-m", "experiments.benchmark", f"--out={tmp_path}", f"--history={folder}",
        "--stages=cochleagram", "--nodense",
        "--batch_sizes=2", "--rounds=1", "--steps=1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = json.loads((folder / f"{metamer_jax.__version__}.json").read_text())
    assert made == json.loads((tmp_path / "benchmark.json").read_text())
    assert {row["method"] for row in made["rows"]} == {"yardstick", "multirate"}
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name, content, said",
    [("draft.json", "{}", "must have a release for its name"), ("0.1.0.json", "[]", "with rows")],
)
def test_what_is_no_release_is_refused_before_anything_is_timed(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        history.read(tmp_path)


def test_the_kept_releases_are_in_order():
    kept = history.read(ROOT / "docs/benchmarks")
    assert [*kept][-1] == metamer_jax.__version__ and [*kept][0] == "0.1.0"
    for rows in kept.values():
        assert all(row["ratio"] > 0 and row["ms_per_target_step"] > 0 for row in rows)
