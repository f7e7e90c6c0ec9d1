"""Machine listeners: a panel on a tiny run, the matrix, agreement with people, the driver."""

import dataclasses
import pathlib
import subprocess
import sys
import threading

import jax
import numpy as np
import pandas as pd
import pytest
import small_run

from metamer_jax import analysis, audio, auditory, pipeline, runs, storage
from metamer_jax.auditory import exact
from metamer_jax.figures import listening as plots
from metamer_jax.listening import config as listening
from metamer_jax.listening import listeners as machines
from metamer_jax.listening import responses
from metamer_jax.listening.building import build, material
from metamer_jax.listening.listeners import hearing
from metamer_jax.listening.results import tables
from metamer_jax.listening.serving import sessions
from metamer_jax.storage import checkpoints

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    small_run.write_recordings(folder / "words")
    return small_run.config(folder / "words", folder / "cache")


@pytest.fixture(scope="module")
def finished(recordings, tmp_path_factory):
    """A run of both networks, verified leniently: what it is made of does not matter here."""
    config = dataclasses.replace(
        recordings,
        networks=("conv2d", "frequency_grouped"),
        stages=("cochleagram",),
        synthesis=dataclasses.replace(recordings.synthesis, steps=10),
    )
    folder = tmp_path_factory.mktemp("run")
    with runs.open_run(folder, config) as run:
        loaded = pipeline.load_recordings(run)
        pipeline.train_networks(run, loaded)
        pipeline.synthesize_metamers(run, loaded)
        pipeline.verify_metamers(run, loaded)
    return runs.read_run(folder, needs=["verification"]), loaded


@pytest.fixture(scope="module")
def trained(finished):
    run, loaded = finished
    listeners = machines.panel(run.config, 2, recipes=("paper", "masked"), epochs=2)
    machines.train_panel(run, loaded, listeners)
    return listeners


class TestPanel:
    def test_networks_and_recipes_in_turn_and_seeds_of_their_own(self, recordings):
        found = machines.panel(recordings, 6, recipes=("paper", "noise"))
        assert [listener.name for listener in found] == [
            *("conv2d-paper-seed1", "frequency_grouped-paper-seed1"),
            *("conv2d-noise-seed2", "frequency_grouped-noise-seed2"),
            *("conv2d-paper-seed3", "frequency_grouped-paper-seed3"),
        ]
        assert recordings.seed not in [listener.seed for listener in found]
        assert found[2].training.augment.noise_snr_db is not None
        assert machines.panel(recordings, 3, recipes=("paper", "noise")) == found[:3]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"recipes": ("loud",)}, "recipes must be among .*'loud'"),
            ({"networks": ("ear",)}, "networks must be among .*'ear'"),
            ({"count": -1}, "count must be a whole number"),
        ],
    )
    def test_refuses_what_there_is_not(self, recordings, changes, message):
        with pytest.raises(ValueError, match=message):
            machines.panel(recordings, **{"count": 1, **changes})


class TestListening:
    def test_weights_are_kept_in_the_run_and_not_trained_twice(self, finished, trained):
        run, loaded = finished
        path = run.path("listeners", trained[1].name, "networks", trained[1].network)
        before = (path / "weights.npz").stat().st_mtime_ns
        machines.train_panel(run, loaded, trained)
        assert (path / "weights.npz").stat().st_mtime_ns == before
        own, other = (
            jax.tree.leaves(checkpoints.load(place / "weights.npz")[0]["params"])
            for place in (run.path("networks", trained[1].network), path)
        )
        assert not all(np.array_equal(a, b) for a, b in zip(own, other, strict=True))
        again = dataclasses.replace(trained[0], seed=99)
        with pytest.raises(ValueError, match="other settings.*seed"):
            machines.train_panel(run, loaded, [again])

    def test_two_shares_train_what_one_process_trains(self, finished, trained, tmp_path):
        run, loaded = finished
        shared = dataclasses.replace(run, folder=tmp_path)
        second, first = (runs.Shard(i, 2, timeout_s=30) for i in (1, 0))
        other = threading.Thread(
            target=machines.train_panel, args=(shared, loaded, trained), kwargs={"shard": second}
        )
        other.start()
        machines.train_panel(shared, loaded, trained, shard=first)
        other.join()
        for listener in trained:
            weights = f"listeners/{listener.name}/networks/{listener.network}/weights.npz"
            assert shared.path(weights).read_bytes() == run.path(weights).read_bytes()

    def test_the_first_share_names_the_one_that_it_waits_for(self, finished, trained, tmp_path):
        run, loaded = finished
        shared, shard = dataclasses.replace(run, folder=tmp_path), runs.Shard(0, 2, timeout_s=0.1)
        with pytest.raises(runs.ShareMissingError, match=f"{trained[1].name}.*run share 1/2 again"):
            machines.train_panel(shared, loaded, trained, shard=shard)

    def test_hears_what_the_exact_model_hears(self, finished, trained):
        run, loaded = finished
        networks = machines.load_panel(run, trained)
        names = [network.name for network in networks]
        assert names == [*run.config.networks, *(listener.name for listener in trained)]
        waveforms = loaded.waveforms[:5]
        samples, _ = audio.to_playback(waveforms, run.config.data.sample_rate_hz)
        found = machines.hear(networks, samples, run.config.cochleagram)
        dense = dataclasses.replace(run.config.cochleagram, method="dense")
        for network, predictions in zip(networks, found, strict=True):
            variables = auditory.with_filters(network.variables, network.model, dense)
            sounds = audio.normalize(audio.from_int16(samples))
            logits, _ = auditory.forward(network.model, variables, sounds, config=dense)
            np.testing.assert_array_equal(predictions, np.argmax(logits, axis=-1))

    def test_shares_hear_blocks_of_their_own_and_nothing_twice(
        self, finished, trained, tmp_path, monkeypatch
    ):
        run, loaded = finished
        monkeypatch.setattr(hearing, "_BLOCK", 2)
        networks, config = machines.load_panel(run, trained), run.config.cochleagram
        samples, _ = audio.to_playback(loaded.waveforms[:5], run.config.data.sample_rate_hz)
        files = [tmp_path / f"{number}.wav" for number in range(5)]
        for path, sound in zip(files, samples, strict=True):
            audio.write_wav(path, sound, run.config.data.sample_rate_hz)
        files = audio.SoundFiles(files, run.config.data.sample_rate_hz)
        alone = machines.hear(networks, samples, config)
        first, second, whole = (
            machines.Part(tmp_path / "heard", shard)
            for shard in (runs.Shard(0, 2, timeout_s=0.1), runs.Shard(1, 2), runs.Shard())
        )
        with pytest.raises(runs.ShareMissingError, match="block 1 of what is heard of share 1/2"):
            machines.hear(networks, files, config, part=first)
        assert machines.hear(networks, files, config, part=second) is None
        recognize = exact.recognize
        monkeypatch.delattr(exact, "recognize")
        for part in (first, whole):
            found = machines.hear(networks, files, config, part=part)
            np.testing.assert_array_equal(found, alone)
        monkeypatch.setattr(exact, "recognize", recognize, raising=False)
        fewer = machines.hear(networks[1:], files, config, part=whole)
        np.testing.assert_array_equal(fewer, alone[1:])

    def test_every_network_is_scored_on_every_networks_metamers(self, finished, trained):
        run, _ = finished
        trials = machines.listen_to_run(run, machines.load_panel(run, trained), verified="any")
        assert list(trials.columns) == list(responses.COLUMNS)
        assert set(trials["source"]) == {"machine"}
        assert len(trials) == 4 * (2 * 4 + 4)  # Listeners, metamers of two networks, targets.
        matrix = analysis.recognition_matrix(trials, chance=0.5)
        assert len(matrix) == 4 * 2 and matrix["own"].sum() == 2
        assert (matrix["trials"] == 4).all()
        right = trials[trials["kind"] == "metamer"].groupby("participant")["correct"].sum()
        assert matrix.groupby("listener")["correct"].sum().to_dict() == right.to_dict()
        others = machines.of_others(trials)
        assert len(others) == len(trials) - 8
        assert (trials["correct"] == (trials["response"] == trials["word"])).all()

    def test_only_what_passed_unless_told_otherwise(self, finished, trained):
        run, _ = finished
        table = storage.read_csv(run.path("verification", "metamers.csv"))
        passed = int((table["verdict"] == "pass").sum())
        networks = machines.load_panel(run, trained)[:1]
        if not passed:
            with pytest.raises(ValueError, match="no metamer passed"):
                machines.listen_to_run(run, networks)
        else:
            trials = machines.listen_to_run(run, networks)
            assert (trials["kind"] == "metamer").sum() == passed
        with pytest.raises(ValueError, match="verified must be one of"):
            machines.listen_to_run(run, networks, verified="all")

    def test_takes_an_experiment_file_by_file(self, finished, trained, tmp_path):
        run, _ = finished
        settings = listening.ListeningConfig(
            conditions=2,
            practice_trials=0,
            headphone_check="none",
            verified="any",
            require_correct=False,
            calibration_s=0.2,
        )
        build.write(build.make(material.load(run, settings), settings), tmp_path)
        experiment = sessions.load_experiment(tmp_path)
        networks = machines.load_panel(run, trained)
        trials = machines.listen_to_experiment(run, networks, experiment)
        presented = responses.AnswerKey(experiment).presented()
        assert len(trials) == len(networks) * sum(presented.values())
        assert set(trials["participant"]) == {network.name for network in networks}
        assert set(trials["condition"]) == set(experiment.conditions)
        assert set(trials["source"]) == {"machine"}
        answers = trials.groupby(["participant", "stimulus_id"])["response"].nunique()
        assert (answers == 1).all()  # In whatever condition.


def people_and_machines(noise, seed=0):
    """Trials in which people answer as machines do, up to noise."""
    random = np.random.default_rng(seed)
    tables = []
    for source, count in (("page", 8), ("machine", 5)):
        for who in range(count):
            for model in ("a", "b"):
                for depth, share in enumerate((0.95, 0.8, 0.5, 0.2)):
                    share = np.clip(share + noise * random.standard_normal(), 0.02, 0.98)
                    for target in range(10):
                        tables.append(
                            {
                                "participant": f"{source}{who}",
                                "kind": "metamer",
                                "model": model,
                                "layer": f"l{depth}",
                                "layer_index": depth,
                                "target_id": target,
                                "correct": float(random.random() < share),
                                "source": source,
                            }
                        )
    table = pd.DataFrame(tables)
    return table[table["source"] == "page"], table[table["source"] == "machine"]


class TestAgreement:
    def test_correlation_of_cells_is_found(self):
        people, panel = people_and_machines(0.05)
        found = machines.agreement(people, panel).set_index(["level", "model"])
        cells = found.loc[("cell", "all")]
        a, b = (
            t.groupby(["participant", "model", "layer"])["correct"]
            .mean()
            .groupby(["model", "layer"])
            .mean()
            for t in (people, panel)
        )
        assert cells["pearson_r"] == pytest.approx(np.corrcoef(a, b)[0, 1])
        assert cells["spearman_r"] == pytest.approx(a.corr(b, method="spearman"))
        assert cells["pearson_low"] <= cells["pearson_r"] <= 1 and cells["pearson_r"] > 0.9
        assert (cells["n"], cells["listeners"], cells["machines"]) == (8, 8, 5)
        assert set(found.index) == {
            ("cell", "all"),
            ("cell", "a"),
            ("cell", "b"),
            ("metamer", "all"),
        }
        assert found.loc[("metamer", "all"), "n"] == 80

    def test_the_interval_holds_its_estimate(self):
        """A bootstrap over listeners has noisier means than the data: it lay below all of it."""
        people, panel = people_and_machines(0.3)
        row = machines.agreement(people, panel).set_index("level").loc["metamer"]
        assert row["pearson_low"] < row["pearson_r"] < row["pearson_high"]
        assert row["spearman_low"] < row["spearman_r"] < row["spearman_high"]

    def test_says_why_there_is_none(self):
        people, panel = people_and_machines(0.05)
        same = machines.agreement(people.assign(correct=1.0), panel)
        assert set(same["reason"]) == {"zero variance"} and same["pearson_r"].isna().all()
        one = machines.agreement(people[people["participant"] == "page0"], panel)
        assert one["reason"].iloc[0] == "one listener: no interval"
        assert np.isfinite(one["pearson_r"].iloc[0]) and np.isnan(one["pearson_low"].iloc[0])

    def test_a_networks_own_metamers_do_not_count(self):
        people, panel = people_and_machines(0.05)
        own = panel[panel["participant"] == "machine0"].assign(participant="a", correct=1.0)
        found = machines.agreement(people, pd.concat([panel, own]))
        assert found.iloc[0]["machines"] == 6
        only = machines.agreement(people, pd.concat([panel, own[own["model"] == "a"]]))
        pd.testing.assert_frame_equal(only, machines.agreement(people, panel))


@pytest.mark.slow
def test_the_driver_listens_and_says_that_nobody_did(finished, trained):
    run, _ = finished
    done = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.machine_listeners", f"--workdir={run.folder}"),
            *("--listeners=2", "--recipes=paper,masked", "--epochs=2", "--verified=any"),
            "--draws=100",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "MACHINE LISTENERS" in done.stdout
    folder = run.path(machines.FOLDER)
    assert {"trials.csv", "listeners.csv", "recognition_matrix.csv", "report.html"} <= {
        path.name for path in folder.iterdir()
    }
    text = (folder / "report.html").read_text("utf-8")
    assert plots.LABELS["machine"] in text and "people recognise" not in text
    assert storage.read_json(folder / "summary.json")["machine"] is True
    table = storage.read_csv(folder / "recognition.csv")
    assert table["n"].max() == 3  # A network does not judge its own.
    again = responses.read(folder / "trials.csv")
    with pytest.raises(ValueError, match="machines'"):
        tables.analyze(
            dataclasses.replace(
                again,
                trials=pd.concat([again.trials, again.trials.assign(source="page", session="p")]),
            )
        )
