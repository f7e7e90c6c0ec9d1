"""Tests of a run that several processes make: the same files as of one, one of them killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest
import small_run

from metamer_jax import configs, pipeline, runs, storage
from metamer_jax.commands import sharing
from metamer_jax.pipeline import verify
from metamer_jax.runs import shares


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run that one process made, and its settings."""
    recordings = tmp_path_factory.mktemp("recordings")
    small_run.write_recordings(recordings)
    config = small_run.config(
        recordings,
        tmp_path_factory.mktemp("cache"),
        networks=("frequency_grouped", "frequency_dense"),
    )
    folder = tmp_path_factory.mktemp("alone") / "run"
    make(folder, config)
    return folder, config


def make(folder, config, shard=None):
    with pipeline.open_run(folder, config, shard=shard) as (run, recordings):
        pipeline.train_networks(run, recordings)
        pipeline.synthesize_metamers(run, recordings)
        pipeline.verify_metamers(run, recordings)


@pytest.fixture(scope="module")
def reported(alone, tmp_path_factory):
    """A copy of the run, with its report."""
    folder = shutil.copytree(alone[0], tmp_path_factory.mktemp("reported") / "run")
    pipeline.reproduce(alone[1], folder)
    return folder


def begin(config, folder):
    """Makes the run's folder, so that `--workdir` alone says what it is."""
    with runs.open_run(folder, config):
        pass


def start(folder, *flags, command="reproduce", **environment):
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{command}", f"--workdir={folder}", *flags],
        cwd=small_run.ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(*processes):
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def made(folder):
    """{name: content} of all files but those that tell times, without what tells times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.name.startswith(".") or "report" in name:
            continue
        content = path.read_bytes()
        if path.name == "manifest.json":
            content = sorted(json.loads(content)["files"])
        elif path.name == "result.json":
            content = {k: v for k, v in json.loads(content).items() if k != "seconds"}
        elif path.name == "training.jsonl":
            content = [
                {k: v for k, v in line.items() if k != "seconds"}
                for line in storage.read_jsonl(path)
            ]
        elif path.parent.name == "figures" or name == "config.json":
            content = None
        found[name] = content
    return found


def test_two_shares_make_what_one_process_makes(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "VERIFIED_AT_ONCE", 3)  # Of four targets each verifies some.
    expected, folder = shutil.copytree(alone[0], tmp_path / "alone"), tmp_path / "run"
    shutil.rmtree(expected / "verification")
    make(expected, alone[1])
    other = threading.Thread(target=make, args=(folder, alone[1], runs.Shard(1, 2)))
    other.start()
    make(folder, alone[1], runs.Shard(0, 2))
    other.join()
    with runs.open_run(folder, alone[1]):  # One manifest of both.
        pass
    ours, theirs = made(folder), made(expected)
    assert [*ours] == [*theirs]
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.slow
def test_a_share_that_is_killed_and_run_again_changes_nothing(alone, reported, tmp_path):
    folder = tmp_path / "run"
    begin(alone[1], folder)
    first, second = (start(folder, f"--share={i}/2") for i in range(2))
    while not list(folder.glob("networks/frequency_dense/state.npz")):
        assert second.poll() is None, second.communicate()[0]
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    outputs = ended(first, start(folder, "--share=1/2"))
    assert outputs[0].count("share 0/2 waits for share 1/2: networks/frequency_dense/") == 1
    assert "share 0/2 writes the report" in outputs[1]
    ours, theirs = made(folder), made(reported)
    assert [*ours] == [*theirs]
    assert [name for name in ours if ours[name] != theirs[name]] == []
    (again,) = ended(start(folder, "--share=1/2"))
    assert "waits" not in again and made(folder) == ours


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
def test_four_processes_of_slurm_find_each_other_without_a_flag(alone, reported, tmp_path):
    folder = tmp_path / "run"
    begin(alone[1], folder)
    slurm = {
        "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "4",
        "JAX_COORDINATOR_PORT": free_port(),
    }  # fmt: skip
    ended(*(start(folder, SLURM_PROCID=str(i), SLURM_LOCALID="0", **slurm) for i in range(4)))
    assert made(folder) == made(reported)


def test_two_processes_of_slurm_find_each_other_without_a_flag():
    script = "from metamer_jax import configs, runs; print(runs.shard_of(configs.SharingConfig()))"
    slurm = {
        "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
        "JAX_COORDINATOR_PORT": free_port(), "JAX_PLATFORMS": "cpu",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=small_run.ROOT,
            env={**os.environ, **slurm, "SLURM_PROCID": i, "SLURM_LOCALID": "0"},
        )
        for i in "01"
    ]  # fmt: skip
    assert ended(*processes) == ["share 0/2\n", "share 1/2\n"]


@pytest.mark.parametrize("share", ["2/2", "1", "a/b", "-1/2", "0/0", "1/2/3"])
def test_shares_that_cannot_be_are_refused(share):
    with pytest.raises(ValueError, match=r"share must be I/N with 0 <= I < N, got"):
        runs.shard_of(configs.SharingConfig(share=share))


def test_who_waits_for_others_to_come_is_told(monkeypatch, caplog):
    def initialize(*_):
        time.sleep(0.1)
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    assert shares.shard_of(configs.SharingConfig()) is None and not caplog.records
    monkeypatch.setattr(shares, "_JOINING_S", 0.01)
    assert shares.shard_of(configs.SharingConfig()) is None
    (record,) = caplog.records
    assert "a process that is alone takes --share=0/1" in record.getMessage()


def test_processes_are_told_apart_before_anything_is_computed(monkeypatch):
    """Reading flags may compute (--cochleagram_tolerance), after which JAX cannot."""
    order = []
    monkeypatch.setattr(runs, "shard_of", lambda _: order.append("share"))
    monkeypatch.setattr(sharing, "_changed", lambda config: config)
    assert sharing.begin(lambda: order.append("flags")) == (None, None)
    assert order == ["share", "flags"]


def test_a_share_or_a_coordinator_and_all_of_that():
    with pytest.raises(ValueError, match="are given together, got host:1, None, 0"):
        configs.SharingConfig(coordinator="host:1", process_id=0)
    with pytest.raises(ValueError, match="one of the two"):
        configs.SharingConfig(share="0/2", coordinator="a:1", num_processes=2, process_id=0)
    assert runs.shard_of(configs.SharingConfig(share="0/1")) is None


def test_a_share_that_makes_no_progress_is_named(alone, tmp_path):
    folder = tmp_path / "run"
    with runs.open_run(folder, alone[1], shard=runs.Shard(0, 2, timeout_s=0.1)) as run:
        with pytest.raises(
            runs.ShareMissingError, match=r"thing of share 1/2.*run share 1/2 again"
        ):
            run.wait(lambda: {"thing": 3, "own": 0})
        run.wait(lambda: {"own": 2})


def test_parts_of_the_manifest_are_read_together_and_joined_by_who_is_alone(alone, tmp_path):
    folder, names = tmp_path / "run", ("targets/targets.csv", "targets/targets.npz")
    first, second = (runs.open_run(folder, alone[1], shard=runs.Shard(i, 2)) for i in (0, 1))
    with first, second:
        for run, name in zip((first, second), names, strict=True):
            storage.copy_file(alone[0] / name, run.path(name))
            run.record(name)
        assert first.is_done(*names) and second.is_done(*names)
    with runs.open_run(folder, alone[1]) as run:
        assert run.is_done(*names)
    assert [path.name for path in folder.glob("manifest*")] == ["manifest.json"]
