"""Tests that nothing finished is lost: kills, full disks, damaged files, a word to stop."""

import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import small_run

from metamer_jax import pipeline, runs, storage

FOLDER = "metamers/frequency_grouped/dense"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder with a trained network, its settings and its recordings."""
    recordings = tmp_path_factory.mktemp("recordings")
    small_run.write_recordings(recordings)
    cache = tmp_path_factory.mktemp("cache")
    config = small_run.config(recordings, cache, stages=("dense",))
    folder = tmp_path_factory.mktemp("run")
    with runs.open_run(folder, config) as run:
        loaded = pipeline.load_recordings(run)
        pipeline.train_networks(run, loaded)
    return folder, config, loaded


@pytest.fixture
def synthesize(trained, tmp_path):
    """Continues a copy of the run, up to the `stop_at`-th word to stop; returns its folder."""
    folder = shutil.copytree(trained[0], tmp_path / "run")

    def run_on(stop_at=None):
        calls = 0

        def stop():
            nonlocal calls
            calls += 1
            return calls == stop_at

        with runs.open_run(folder, trained[1]) as run:
            pipeline.synthesize_metamers(run, trained[2], stop=stop)
        return folder

    run_on.folder = folder
    return run_on


@pytest.fixture(scope="module")
def expected(trained, tmp_path_factory):
    """What an uninterrupted run leaves, byte for byte."""
    folder = shutil.copytree(trained[0], tmp_path_factory.mktemp("whole") / "run")
    with runs.open_run(folder, trained[1]) as run:
        pipeline.synthesize_metamers(run, trained[2])
    return (folder / FOLDER / "metamers.npz").read_bytes()


def truncate(content):
    return content[: len(content) // 2]


def alter(content):
    return content[:700] + bytes([content[700] ^ 1]) + content[701:]


@pytest.mark.parametrize("damage", [truncate, alter])
@pytest.mark.parametrize("name", ["state_000000", "state_000003", "batch_000000"])
def test_a_damaged_file_is_made_again_and_no_other(synthesize, expected, damage, name, caplog):
    with pytest.raises(SystemExit) as stopped:
        synthesize(stop_at=3 if name == "state_000000" else 9)
    assert stopped.value.code == runs.EXIT_STOPPED
    path = synthesize.folder / FOLDER / f"{name}.npz"
    path.write_bytes(damage(path.read_bytes()))
    synthesize()
    assert f"{path} " in caplog.text
    assert "it is made again" in caplog.text
    assert [p.name for p in (synthesize.folder / FOLDER).iterdir()] == ["metamers.npz"]
    assert (synthesize.folder / FOLDER / "metamers.npz").read_bytes() == expected


def test_a_full_disk_says_so_and_costs_nothing_finished(synthesize, expected):
    resource = pytest.importorskip("resource")
    with pytest.raises(SystemExit):
        synthesize(stop_at=8)  # One batch is done, the other under way.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(storage.StorageError, match=r"while writing .*free some space"):
            synthesize()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (synthesize.folder / FOLDER / "batch_000000.npz").exists()
    synthesize()
    assert (synthesize.folder / FOLDER / "metamers.npz").read_bytes() == expected


def test_a_folder_that_cannot_be_written_to_is_named(synthesize):
    (synthesize.folder / "metamers").write_text("a file, where a folder should be")
    with pytest.raises(storage.StorageError, match="choose a folder that you may write to"):
        synthesize()


@pytest.mark.slow
def test_three_kills_at_random_moments_change_nothing(trained, tmp_path):
    """SIGKILL, as the study under experiments/ does it, and a fresh process each time."""
    out = tmp_path / "faults.json"
    command = [
        sys.executable, "-m", "experiments.fault_study", f"--workdir={trained[0]}",
        "--faults=kill_in_synthesis", "--kills=3", f"--out={out}",
        f"--study_seed={time.time_ns() % 1000}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=small_run.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = storage.read_json(out)["faults"]
    assert [(row["fault"], row["tries"], row["lost"]) for row in found] == [
        ("kill_in_synthesis", 3, 0)
    ]


def test_sigterm_saves_and_exits_with_a_code_that_says_so(synthesize, expected, trained):
    process = small_run.start_synthesis(synthesize.folder, "--verbosity=0")
    while not (synthesize.folder / "targets/targets.npz").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == runs.EXIT_STOPPED, output
    assert re.search(r"To continue: \S*python\S* ", output)
    assert list((synthesize.folder / FOLDER).glob("state_*.npz"))
    synthesize()
    made = storage.read_npz(synthesize.folder / FOLDER / "metamers.npz")
    np.testing.assert_array_equal(
        made["target_id"], storage.read_npz(synthesize.folder / "targets/targets.npz")["target_id"]
    )
    assert (synthesize.folder / FOLDER / "metamers.npz").read_bytes() == expected
