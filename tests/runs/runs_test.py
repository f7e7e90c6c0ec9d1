import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import jax
import numpy as np
import pandas as pd
import pytest

from metamer_jax import configs, runs, storage


def script(code, *arguments):
    """Starts a process that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestWriting:
    def test_npz_comes_back_as_it_was(self, tmp_path):
        arrays = {
            "waveform": np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32),
            "conv2d/edges": np.arange(4.0),
            "target_id": np.array([1, 2, 3], np.int32),
            "name": np.array(["left/0", "right/ü"]),
            "step": 7,
            "empty": np.zeros((0, 3)),
        }
        for compress in (False, True):
            path = tmp_path / f"{compress}" / "state.npz"
            storage.write_npz(path, arrays, compress=compress)
            found = storage.read_npz(path)
            assert list(found) == list(arrays)
            for name, value in arrays.items():
                np.testing.assert_array_equal(found[name], value)
                assert found[name].dtype == np.asarray(value).dtype
            with np.load(path) as plain:  # Nothing but NumPy is needed to read it.
                np.testing.assert_array_equal(plain["target_id"], [1, 2, 3])

    def test_equal_arrays_make_equal_files(self, tmp_path):
        for name in "ab":
            storage.write_npz(tmp_path / name, {"x": np.arange(5)})
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_npz_refuses_what_would_not_come_back(self, tmp_path):
        for value in ([{}, None], jax.numpy.zeros(3, jax.numpy.bfloat16)):
            with pytest.raises(ValueError, match="'odd'.*dtype"):
                storage.write_npz(tmp_path / "x.npz", {"odd": value})
        assert names(tmp_path) == []

    def test_json_is_plain(self, tmp_path):
        content = {"a": np.float32(0.5), "b": (1, np.nan), "c": np.arange(2), "d": tmp_path}
        storage.write_json(tmp_path / "x.json", content)
        expected = {"a": 0.5, "b": [1, None], "c": [0, 1], "d": str(tmp_path)}
        assert storage.read_json(tmp_path / "x.json") == expected

    def test_csv_comes_back_as_it_was(self, tmp_path):
        table = pd.DataFrame(
            {
                "word": ["7", "nan", "null"],
                "seed": [0, 1, 2],
                "relative_error": [1 / 3, np.nan, 1e-30],
                "class_match": [True, False, True],
                "reason": ["", "class: a, target b; spearman 0.1", 'say "x"'],
            }
        )
        storage.write_csv(tmp_path / "x.csv", table)
        found = storage.read_csv(tmp_path / "x.csv", text=("word",))
        pd.testing.assert_frame_equal(found, table, check_dtype=False)
        assert found["class_match"].dtype == bool and found["seed"].dtype == int
        storage.write_csv(tmp_path / "y.csv", [{"b": 1, "a": 2}], columns=["a", "b"])
        assert (tmp_path / "y.csv").read_text() == "a,b\n2,1\n"

    def test_a_failed_write_leaves_the_earlier_file_and_says_what_is_safe(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "state.npz"
        storage.write_npz(path, {"x": np.arange(3)})

        def full(_descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(storage.StorageError, match="No space left.*safe.*continues") as caught:
            storage.write_npz(path, {"x": np.arange(4)})
        assert caught.value.errno == errno.ENOSPC and str(path) in str(caught.value)
        np.testing.assert_array_equal(storage.read_npz(path)["x"], np.arange(3))
        assert names(tmp_path) == ["state.npz"]
        (tmp_path / "log.jsonl").write_text('{"a": 1}\n')
        with pytest.raises(storage.StorageError):
            storage.append_jsonl(tmp_path / "log.jsonl", {"a": 2})
        assert storage.read_jsonl(tmp_path / "log.jsonl") == [{"a": 1}]

    def test_killed_while_writing(self, tmp_path):
        process = script(
            """
            import sys, numpy as np
            from metamer_jax import storage
            for i in range(10**6):
                storage.write_npz(sys.argv[1], {"x": np.full(300_000, i)})
                storage.append_jsonl(sys.argv[2], {"i": i, "text": "x" * 5000})
                if i == 1:
                    print("started", flush=True)
            """,
            tmp_path / "state.npz",
            tmp_path / "log.jsonl",
        )
        process.stdout.readline()
        time.sleep(0.2)
        process.kill()
        process.wait()
        x = storage.read_npz(tmp_path / "state.npz")["x"]
        assert np.all(x == x[0])
        assert [r["i"] for r in storage.read_jsonl(tmp_path / "log.jsonl")][-1] in (x[0], x[0] - 1)


class TestDamage:
    def test_any_altered_or_missing_byte_of_an_npz_is_noticed(self, tmp_path):
        path = tmp_path / "state.npz"
        storage.write_npz(path, {"x": np.arange(20.0), "y": np.array(["a"])})
        whole = path.read_bytes()
        for i in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[i] ^= 0x10
            for content in (bytes(damaged), whole[:i]):
                path.write_bytes(content)
                with pytest.raises(storage.DamagedFileError, match="state.npz"):
                    storage.read_npz(path)
        path.write_bytes(whole + b"\0")
        assert not storage.is_done(path)
        path.write_bytes(whole)
        assert storage.is_done(path)

    def test_npz_of_others_is_refused(self, tmp_path):
        np.savez(tmp_path / "x.npz", x=np.arange(3))
        with pytest.raises(storage.DamagedFileError, match="write_npz"):
            storage.read_npz(tmp_path / "x.npz")

    def test_is_done_needs_every_file(self, tmp_path, caplog):
        storage.write_npz(tmp_path / "a.npz", {"x": 1})
        storage.write_json(tmp_path / "b.json", {})
        assert storage.is_done(tmp_path / "a.npz", tmp_path / "b.json")
        assert not storage.is_done(tmp_path / "a.npz", tmp_path / "c.json")
        (tmp_path / "b.json").write_text('{"a":')
        assert not storage.is_done(tmp_path / "a.npz", tmp_path / "b.json")
        assert "b.json" in caplog.text
        with pytest.raises(storage.DamagedFileError, match="b.json"):
            storage.read_json(tmp_path / "b.json")

    def test_a_torn_last_line_of_a_log_is_dropped_and_replaced(self, tmp_path):
        path = tmp_path / "logs" / "training.jsonl"
        assert storage.read_jsonl(path) == []
        storage.append_jsonl(path, {"epoch": 0, "loss": np.float32(1.5)})
        with open(path, "a") as file:
            file.write('{"epoch": 1, "lo' + "x" * 70000)
        assert storage.read_jsonl(path) == [{"epoch": 0, "loss": 1.5}]
        storage.append_jsonl(path, {"epoch": 1})
        assert [r["epoch"] for r in storage.read_jsonl(path)] == [0, 1]
        storage.write_jsonl(path, storage.read_jsonl(path)[:1])
        assert [r["epoch"] for r in storage.read_jsonl(path)] == [0]
        path.write_text('{"epoch": 0\n{"epoch": 1}\n')
        with pytest.raises(storage.DamagedFileError, match="line 1"):
            storage.read_jsonl(path)


class TestOpenRun:
    def test_writes_settings_and_continues_with_the_same(self, tmp_path):
        config = configs.ExperimentConfig(seed=3)
        folder = tmp_path / "runs" / "a"
        with runs.open_run(folder, config) as run:
            assert not run.resumed and run.path("a", "b") == folder / "a" / "b"
        saved = json.loads((folder / "config.json").read_text())
        assert saved["schema_version"] == 1
        assert configs.from_dict(configs.ExperimentConfig, saved["experiment"]) == config
        for name in ("python", "jax", "flax", "optax", "numpy", "metamer_jax"):
            assert name in saved["environment"]
        assert saved["environment"]["platform"] == jax.default_backend()
        assert saved["environment"]["precision"] == "float32, matmul highest"
        before = (folder / "config.json").read_bytes()
        with runs.open_run(folder, config) as run:
            assert run.resumed
        assert (folder / "config.json").read_bytes() == before

    def test_other_settings_are_refused_by_name(self, tmp_path):
        config = configs.ExperimentConfig()
        runs.open_run(tmp_path, config).close()
        storage.write_json(tmp_path / "networks" / "made.json", {})
        other = dataclasses.replace(
            config, seed=1, synthesis=dataclasses.replace(config.synthesis, steps=7)
        )
        with pytest.raises(ValueError, match=r"seed: 0 before, 1 now.*synthesis\.steps"):
            runs.open_run(tmp_path, other)
        moved = dataclasses.replace(config, data=dataclasses.replace(config.data, cache_dir="x"))
        runs.open_run(tmp_path, moved).close()
        runs.open_run(tmp_path, other, may_differ=("seed", "synthesis")).close()

    def test_another_environment_is_recorded(self, tmp_path, monkeypatch):
        config = configs.ExperimentConfig()
        runs.open_run(tmp_path, config).close()
        monkeypatch.setattr(runs.folder, "environment", lambda config: {"jax": "9"})
        for _ in range(2):
            runs.open_run(tmp_path, config).close()
        saved = storage.read_json(tmp_path / "config.json")
        assert saved["resumed_in"] == [{"jax": "9"}] and saved["environment"] != {"jax": "9"}

    def test_damaged_or_newer_config(self, tmp_path):
        config = configs.ExperimentConfig()
        (tmp_path / "config.json").write_text('{"schema_')
        with pytest.raises(storage.DamagedFileError, match="config.json"):
            runs.open_run(tmp_path, config)
        (tmp_path / "config.json").write_text('{"schema_version": 2}')
        with pytest.raises(ValueError, match="schema_version 1.*got 2"):
            runs.open_run(tmp_path, config)

    def test_a_second_process_is_refused_until_the_first_is_gone(self, tmp_path):
        process = script(
            """
            import sys, time
            from metamer_jax import configs, runs
            run = runs.open_run(sys.argv[1], configs.ExperimentConfig())
            print("open", flush=True)
            time.sleep(60)
            """,
            tmp_path,
        )
        process.stdout.readline()
        match = f"{tmp_path} is in use by process {process.pid} "
        for _ in range(2):
            with pytest.raises(runs.FolderInUseError, match=match):
                runs.open_run(tmp_path, configs.ExperimentConfig())
        process.kill()
        process.wait()
        with runs.open_run(tmp_path, configs.ExperimentConfig()) as run:
            assert run.resumed

    def test_half_written_files_are_removed_and_others_kept(self, tmp_path):
        (tmp_path / "metamers").mkdir()
        for name in (".metamers.npz.0123456789ab.tmp", ".mine.tmp", "notes.tmp"):
            (tmp_path / "metamers" / name).write_text("x")
        runs.open_run(tmp_path, configs.ExperimentConfig()).close()
        assert names(tmp_path / "metamers") == [".mine.tmp", "notes.tmp"]

    def test_a_folder_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "run"):
            with pytest.raises(storage.StorageError, match="choose a folder") as caught:
                runs.open_run(folder, configs.ExperimentConfig())
            assert str(folder) in str(caught.value)

    def test_default_folder(self):
        folder = runs.default_folder("quick", "spoken_words", 0)
        assert folder.as_posix() == "runs/quick-spoken_words-seed0"


class TestReadRun:
    @pytest.fixture
    def folder(self, tmp_path):
        with runs.open_run(tmp_path, configs.ExperimentConfig(seed=3, networks=("conv2d",))):
            pass
        return tmp_path

    def test_reads_settings_whoever_works_there_and_writes_nothing(self, folder):
        with runs.open_run(folder, configs.ExperimentConfig(seed=3, networks=("conv2d",))):
            before = names(folder)
            run = runs.read_run(folder)
        assert run.config.seed == 3 and run.saved["schema_version"] == 1
        assert names(folder) == before and run.problems == []

    @pytest.mark.parametrize(
        "part, file, work",
        [
            ("networks", "networks/conv2d/weights.npz", "train the networks first"),
            ("verification", "verification/metamers.csv", "verify the metamers first"),
        ],
    )
    def test_what_must_be_there(self, folder, part, file, work):
        with pytest.raises(ValueError, match=f"{file} is not there: {work}"):
            runs.read_run(folder, needs=[part])
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text("")
        runs.read_run(folder, needs=[part])

    def test_no_run_and_one_of_another_version(self, folder, tmp_path):
        with pytest.raises(ValueError, match=r"config.json is not there: .* folder of a run"):
            runs.read_run(tmp_path / "none")
        saved = storage.read_json(folder / "config.json")
        for change, message in (
            ({"schema_version": 2}, "schema_version 1.*got 2"),
            ({"experiment": {"sed": 1}}, "cannot continue: .*no field"),
            ({"experiment": None}, "cannot continue: .*an object"),
            ({"experiment": {"seed": "x"}}, "cannot continue: seed must be a whole number"),
        ):
            storage.write_json(folder / "config.json", {**saved, **change})
            with pytest.raises(ValueError, match=message):
                runs.read_run(folder)

    def test_a_tolerant_reader_takes_what_it_understands(self, folder):
        saved = storage.read_json(folder / "config.json")
        saved["experiment"] |= {"from_the_future": 1, "targets_per_word": "x", "seed": 5}
        storage.write_json(folder / "config.json", saved)
        run = runs.read_run(folder, tolerant=True)
        assert run.config == configs.ExperimentConfig(seed=5, networks=("conv2d",))
        assert "from_the_future" in run.problems[0] and run.saved == saved
        (folder / "config.json").write_text('{"schema_')
        run = runs.read_run(folder, tolerant=True)
        assert run.config == configs.ExperimentConfig() and "not readable" in run.problems[0]
        (folder / "config.json").unlink()
        run = runs.read_run(folder, tolerant=True)
        assert run.config == configs.ExperimentConfig() and run.problems == []


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_becomes_a_flag(self, number, capfd):
        before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
        with runs.stop_on_sigterm() as stop_requested:
            assert not stop_requested()
            os.kill(os.getpid(), number)
            assert stop_requested()
            # A second time it acts as ever.
            assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
        assert "the state is saved first" in capfd.readouterr().err

    def test_a_process_saves_and_says_so(self):
        process = script(
            """
            import sys, time
            from metamer_jax import runs
            with runs.stop_on_sigterm() as stop_requested:
                print("started", flush=True)
                while not stop_requested():
                    time.sleep(0.01)
                print("saved", flush=True)
                sys.exit(runs.EXIT_STOPPED)
            """
        )
        process.stdout.readline()
        process.terminate()
        assert process.communicate(timeout=20)[0] == "saved\n"
        assert process.returncode == runs.EXIT_STOPPED == 143

    def test_off_the_main_thread_nothing_changes(self):
        found = []

        def work():
            with runs.stop_on_sigterm() as stop_requested:
                found.append(stop_requested())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [False]


def test_rows_streamed_make_the_file_of_the_whole_and_stay_on_disk(tmp_path):
    whole = {"a": np.arange(60.0).reshape(10, 3, 2), "empty": np.zeros((0, 4)), "n": np.int32(3)}
    storage.write_npz(tmp_path / "whole.npz", whole)
    parts = (whole["a"][i : i + 4] for i in range(0, 10, 4))
    streamed = storage.Rows((10, 3, 2), whole["a"].dtype, parts)
    storage.write_npz(tmp_path / "streamed.npz", {**whole, "a": streamed})
    assert (tmp_path / "streamed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    mapped = storage.map_npz(tmp_path / "streamed.npz")
    assert isinstance(mapped["a"], np.memmap)
    for name, values in whole.items():
        np.testing.assert_array_equal(mapped[name], values)
        assert mapped[name].dtype == np.asarray(values).dtype


def test_rows_that_are_not_what_they_claim_leave_nothing(tmp_path):
    for rows, message in (
        (
            storage.Rows((3, 2), np.float32, [np.zeros((2, 2), np.float32)]),
            "have 3 rows, got 2",
        ),
        (storage.Rows((3, 2), np.float32, [np.zeros((3, 2))]), "must have rows of float32"),
    ):
        with pytest.raises(ValueError, match=message):
            storage.write_npz(tmp_path / "rows.npz", {"a": rows})
    assert not list(tmp_path.iterdir())


def test_a_damaged_or_compressed_file_is_not_mapped(tmp_path):
    path = tmp_path / "a.npz"
    storage.write_npz(path, {"a": np.zeros(100)}, compress=True)
    with pytest.raises(storage.DamagedFileError, match="compressed"):
        storage.map_npz(path)
    storage.write_npz(path, {"a": np.zeros(100)})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(storage.DamagedFileError, match="not whole"):
        storage.map_npz(path)
