"""Tests of many devices, on one machine: virtual ones, and two processes on loopback."""

import json
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import small_run

from metamer_jax import metamers, pipeline, runs, storage


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder with a trained network, and its settings."""
    recordings = tmp_path_factory.mktemp("recordings")
    small_run.write_recordings(recordings)
    config = small_run.config(recordings, tmp_path_factory.mktemp("cache"), stages=("dense",))
    folder = tmp_path_factory.mktemp("run")
    with runs.open_run(folder, config) as run:
        pipeline.train_networks(run, pipeline.load_recordings(run))
    return folder, config


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run")


@pytest.mark.slow
def test_eight_devices_make_what_one_makes_without_a_word_to_each_other():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    script = [sys.executable, "tests/sharded.py"]
    done = subprocess.run(
        script, capture_output=True, cwd=small_run.ROOT, check=True,
        env={**environment, "PYTHONPATH": str(small_run.ROOT), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["devices"] == found["placed on"] == 8
    assert found["placed back"]
    assert found["collectives"] == []
    assert found["steps"] == 6
    # Rounding, grown over six steps of 1e-3.
    assert found["difference"] < 1e-5 < 1e-3 < found["moved"]


def test_a_mesh_must_divide_the_targets():
    class Mesh:
        size = 4

    with pytest.raises(ValueError, match="multiple of the mesh's 4 devices, got 6"):
        metamers.init(
            None, np.zeros((6, 10)), range(6), stage_fn=lambda v, x: x, mesh=Mesh()
        )  # fmt: skip


def share(folder, index, count, port):
    return small_run.start_synthesis(
        folder, f"--coordinator=localhost:{port}", f"--num_processes={count}",
        f"--process_id={index}",
    )  # fmt: skip


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_share_the_targets_and_verification_joins_them(trained, folder, tmp_path):
    config = trained[1]
    port = free_port()
    processes = [share(folder, i, 2, port) for i in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    stages = [folder / "metamers/frequency_grouped" / stage for stage in config.stages]
    for stage in stages:
        assert sorted(p.name for p in stage.iterdir()) == [
            *("batch_000000.npz", "batch_000003.npz", "batches.json")
        ]

    (stages[0] / "batch_000003.npz").rename(tmp_path / "aside")
    with runs.open_run(folder, config) as run:
        recordings = pipeline.load_recordings(run)
        ids = pipeline.choose_targets(recordings, 2, seed=0)
        message = rf"1 of 4 targets are not synthesised \(ids {ids[3]}\); .* synthesize --workdir="
        with pytest.raises(ValueError, match=message):
            pipeline.verify_metamers(run, recordings)
        (tmp_path / "aside").rename(stages[0] / "batch_000003.npz")
        pipeline.verify_metamers(run, recordings)

    alone = shutil.copytree(trained[0], tmp_path / "alone")
    with runs.open_run(alone, config) as run:
        pipeline.synthesize_metamers(run, recordings)
    for stage in config.stages:
        name = f"metamers/frequency_grouped/{stage}/metamers.npz"
        assert list(storage.read_npz(folder / name)["target_id"]) == list(ids)
        assert not list((folder / name).parent.glob("batch*"))
        assert (folder / name).read_bytes() == (alone / name).read_bytes()
    assert len(storage.read_csv(folder / "verification/metamers.csv")) == 4


def test_shares_work_side_by_side_and_keep_others_out(folder, trained):
    config = trained[1]
    first = runs.open_run(folder, config, shard=runs.Shard(0, 2))
    second = runs.open_run(folder, config, shard=runs.Shard(1, 2))
    with first, second:
        with pytest.raises(runs.FolderInUseError, match="in use by process"):
            runs.open_run(folder, config)
        with pytest.raises(runs.FolderInUseError, match="in use by process"):
            runs.open_run(folder, config, shard=runs.Shard(1, 2))
    runs.open_run(folder, config).close()
    with pytest.raises(ValueError, match=r"index must lie in \[0, count\), got index=2, count=2"):
        runs.Shard(2, 2)
