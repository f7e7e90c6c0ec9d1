"""Tests of the whole chain on a small run: what it leaves, resuming, and what it refuses."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import small_run
import soundfile

from metamer_jax import audio, configs, pipeline, runs, storage
from metamer_jax.configs import TRAINING_RECIPES
from metamer_jax.listening import listeners as machines
from metamer_jax.pipeline import hearing


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    small_run.write_recordings(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(recordings, cache, tmp_path_factory):
    """A whole run, and its settings."""
    folder = tmp_path_factory.mktemp("run")
    config = small_run.config(recordings, cache)
    report = pipeline.reproduce(config, folder)
    assert report == folder / "report.html"
    return folder, config


@pytest.fixture(scope="module")
def two_networks(recordings, cache, tmp_path_factory):
    """A verified run of two networks, its settings, and whose metamers had to be made."""
    config = dataclasses.replace(
        small_run.config(recordings, cache),
        networks=("frequency_grouped", "frequency_dense"),
        stages=("cochleagram",),
        training=TRAINING_RECIPES["untrained"],
    )
    folder, made = tmp_path_factory.mktemp("two"), []
    synthesize_stage = pipeline.synthesize._synthesize_stage

    def counted(*args):
        made.append(args[4])
        synthesize_stage(*args)

    with pytest.MonkeyPatch.context() as patch, runs.open_run(folder, config) as run:
        patch.setattr(pipeline.synthesize, "_synthesize_stage", counted)
        clips = pipeline.load_recordings(run)
        pipeline.train_networks(run, clips)
        pipeline.synthesize_metamers(run, clips)
        pipeline.verify_metamers(run, clips)
    return folder, config, made


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", "report.html", "summary.json")
        and "figures" not in path.parts
    }  # fmt: skip


def test_a_run_folder_holds_everything_it_promises(finished):
    folder, config = finished
    names = set(files_of(folder))
    for name in (
        "config.json",
        "targets/targets.csv",
        "networks/frequency_grouped/weights.npz",
        "networks/frequency_grouped/training.jsonl",
        "metamers/frequency_grouped/dense/metamers.npz",
        "verification/metamers.csv",
        "verification/null.json",
    ):
        assert name in names
    assert not [name for name in names if "state" in name or "batch" in name or "tmp" in name]
    result = json.loads((folder / "networks/frequency_grouped/result.json").read_text())
    assert np.sum(result["confusion"]) == 6  # A tenth of 60 clips.
    made = storage.read_npz(folder / "metamers/frequency_grouped/dense/metamers.npz")
    assert made["waveform"].shape == (4, 1, 2000)
    assert list(made["seed"]) == list(config.synthesis.seeds)


def test_verification_measures_what_the_synthesis_reached(finished):
    folder, _ = finished
    table = pd.read_csv(folder / "verification/metamers.csv")
    assert len(table) == 2 * 4
    # The exact model sees what the multirate one saw, to its accuracy.
    np.testing.assert_allclose(
        table["optimised_relative_error"],
        table["synthesis_relative_error"],
        rtol=0.02,
        atol=2e-3,
    )
    assert set(table.loc[table["stage"] == "cochleagram", "decided_by"]) == {"spearman"}
    assert set(table.loc[table["stage"] == "dense", "decided_by"]) == {"relative_error"}
    by_stage = pd.read_csv(folder / "verification/stages.csv")
    assert len(by_stage) == len(table) * 2 * 5
    matched = by_stage[
        (by_stage["stage"] == by_stage["measured_stage"]) & (by_stage["version"] == "played")
    ]
    np.testing.assert_allclose(
        matched.sort_values(["stage", "target_id"])["spearman"],
        table.sort_values(["stage", "target_id"])["spearman"],
    )
    yields = pd.read_csv(folder / "verification/yields.csv")
    everything = yields[yields["word"] == "all"].set_index("stage")
    assert everything.loc["dense", "passed"] == sum(
        table.loc[table["stage"] == "dense", "verdict"] == "pass"
    )


def test_other_networks_listen_to_what_is_played(two_networks):
    """Against networks that hear the files by themselves, as machine listeners do."""
    folder, _, _ = two_networks
    run = runs.read_run(folder)
    heard = pd.read_csv(folder / "verification/heard.csv", keep_default_na=False)
    listeners = machines.load_panel(run, ())
    expected = machines.listen_to_run(run, listeners, verified="any")
    keys = ["participant", "kind", "model", "layer", "target_id"]
    both = heard.merge(expected, on=keys, suffixes=("", "_expected"))
    assert len(both) == len(heard) == len(expected) == 2 * (2 * 4 + 4)
    assert (both["response"] == both["response_expected"]).all()
    assert (both["correct"] == (both["response"] == both["word"])).all()
    table = pd.read_csv(folder / "verification/metamers.csv")
    own = heard[heard["participant"] == heard["model"]].merge(
        table, left_on=["model", "layer", "target_id"], right_on=["network", "stage", "target_id"]
    )
    assert len(own) == len(table)
    assert (own["response"] == own["prediction"]).all()
    assert (own["verdict_x"] == own["verdict_y"]).all()


def test_recognition_counts_verified_metamers_listener_by_listener(two_networks):
    folder, _, _ = two_networks
    table = pd.read_csv(folder / "verification/recognition.csv")
    heard = pd.read_csv(folder / "verification/heard.csv", keep_default_na=False)
    assert set(table["source"]) == {"machine"}
    for row in table.itertuples():
        counted = [
            answer.response == answer.word
            for answer in heard.itertuples()
            if (answer.participant, answer.model, answer.layer, answer.verdict)
            == (row.listener, row.model, row.layer, "pass")
        ]
        assert (row.correct, row.trials) == (sum(counted), len(counted))
        assert row.own == (row.listener == row.model)
        assert row.wilson_low <= row.proportion <= row.wilson_high


def test_nothing_verified_is_a_table_without_rows():
    heard = hearing.of_targets(np.array([3]), np.array(["no"]), {"a": np.array(["yes"])})
    table = hearing.recognition(heard, chance=0.5)
    assert len(table) == 0 and {"listener", "model", "layer", "proportion"} <= set(table)


def test_sounds_on_disk_are_16_bit_at_one_level(finished):
    folder, _ = finished
    level_db = json.loads((folder / "metamers/playback.json").read_text())["level_db"]
    assert level_db == -23
    paths = [*folder.glob("metamers/*/*/wav/*.wav"), *folder.glob("targets/wav/*.wav")]
    assert len(paths) == 2 * 4 + 4
    for path in paths:
        assert soundfile.info(path).subtype == "PCM_16"
        sound, rate = soundfile.read(path)
        assert rate == small_run.SAMPLE_RATE_HZ
        assert abs(20 * np.log10(np.sqrt(np.mean(sound**2))) - level_db) < 0.01


def test_a_second_call_makes_nothing_again(finished):
    folder, config = finished
    before, report = files_of(folder), (folder / "report.html").stat().st_mtime_ns
    pipeline.reproduce(config, folder)
    assert files_of(folder) == before
    assert (folder / "report.html").stat().st_mtime_ns == report


def test_an_interrupted_run_equals_an_uninterrupted_one(finished, tmp_path):
    folder, config = finished
    calls, ends = 0, (2, 5, 9, 14, 20)

    def stop():
        nonlocal calls
        calls += 1
        return calls in ends

    interruptions = 0
    while True:
        try:
            with runs.open_run(tmp_path / "run", config) as run:
                recordings = pipeline.load_recordings(run)
                pipeline.train_networks(run, recordings, stop=stop)
                pipeline.synthesize_metamers(run, recordings, stop=stop)
            break
        except SystemExit as exit_:
            assert exit_.code == runs.EXIT_STOPPED
            interruptions += 1
    assert interruptions == len(ends)
    for stage in config.stages:
        name = f"metamers/frequency_grouped/{stage}/metamers.npz"
        whole, parts = storage.read_npz(folder / name), storage.read_npz(tmp_path / "run" / name)
        assert set(whole) == set(parts)
        for key, values in whole.items():
            np.testing.assert_array_equal(parts[key], values, err_msg=f"{stage} {key}")


def test_a_damaged_part_is_made_again(finished):
    folder, config = finished
    path = folder / "metamers/frequency_grouped/dense/metamers.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with runs.open_run(folder, config) as run:
        pipeline.synthesize_metamers(run, pipeline.load_recordings(run))
    assert path.read_bytes() == whole


def test_other_settings_are_refused_by_name(finished, recordings, cache):
    folder, _ = finished
    other = small_run.config(recordings, cache, targets_per_word=3)
    with pytest.raises(ValueError, match="targets_per_word: 2 before, 3 now"):
        pipeline.reproduce(other, folder)


def test_stages_out_of_order_say_what_to_do_first(recordings, cache, tmp_path):
    config = small_run.config(recordings, cache)
    with runs.open_run(tmp_path, config) as run:
        loaded = pipeline.load_recordings(run)
        with pytest.raises(ValueError, match=r"train the networks first .* train --workdir="):
            pipeline.synthesize_metamers(run, loaded)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"targets_per_word": 50}, "targets_per_word=50 is more than .* of 'fall'"),
        ({"stages": ("dense", "conv9")}, r"stages must be of .*'dense'.*, got \['conv9'\]"),
        ({"stages": ("relu1",), "networks": ("conv2d", "cochcnn9")}, "conv2d has none of the st"),
        ({"networks": ("conv3d",)}, "must name one of .*got 'conv3d'"),
        ({"data.data_dir": "/nowhere"}, "/nowhere"),
        ({"data.words": ("rise", "fell")}, "fell"),
        ({"training.augment.background_snr_db": (5.0, 9.0)}, "background_snr_db needs recordings"),
    ],
)
def test_what_cannot_be_is_refused_before_the_folder_is_made(
    recordings, cache, tmp_path, changes, message
):
    config = configs.replace_all(small_run.config(recordings, cache), changes)
    with pytest.raises(ValueError, match=message):
        pipeline.reproduce(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_is_not_locked_before_something_is_made(finished, tmp_path):
    _, config = finished
    with pipeline.open_run(tmp_path, config):
        pass
    other = dataclasses.replace(config, targets_per_word=1, seed=4)
    with pipeline.open_run(tmp_path, other) as (run, loaded):
        assert not run.resumed and len(loaded)
    assert runs.read_run(tmp_path).config == other


def test_networks_are_taken_from_another_run(finished, tmp_path):
    folder, config = finished
    more = dataclasses.replace(config, targets_per_word=1, stages=("logits",))
    with pipeline.open_run(tmp_path / "more", more, networks_from=folder) as (run, loaded):
        pipeline.train_networks(run, loaded)
    for name in ("weights.npz", "result.json", "training.jsonl"):
        path = "networks/frequency_grouped/" + name
        assert (tmp_path / "more" / path).read_bytes() == (folder / path).read_bytes()
    for changes, message in (
        ({"seed": 1}, "follow from other settings .seed: 0 before, 1 now"),
        ({"networks": ("conv2d",)}, "networks/conv2d holds no trained network"),
    ):
        with pytest.raises(ValueError, match=message):
            config_now = dataclasses.replace(more, **changes)
            with pipeline.open_run(tmp_path / "new", config_now, networks_from=folder):
                pass
        assert not (tmp_path / "new").exists()


def test_targets_are_the_same_for_every_network_and_come_from_the_test_split(finished):
    folder, config = finished
    with runs.open_run(folder, config) as run:
        recordings = pipeline.load_recordings(run)
    chosen = pipeline.choose_targets(recordings, 2, seed=0)
    assert set(recordings.splits[chosen]) == {"test"}
    assert list(np.bincount(recordings.labels[chosen])) == [2, 2]
    np.testing.assert_array_equal(chosen, pipeline.choose_targets(recordings, 2, seed=0))


def test_metamers_of_the_cochleagram_are_made_once_for_all_networks(two_networks):
    folder, config, made = two_networks
    first, second = (
        storage.read_npz(folder / "metamers" / network / "cochleagram" / "metamers.npz")
        for network in config.networks
    )
    assert made == ["frequency_grouped"]
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)


def test_as_it_is_played_the_saved_metamer_is_the_file(finished, tmp_path):
    """The path to the ear in the graph, from the networks of another run; one verdict is left."""
    folder, config = finished
    config = dataclasses.replace(
        config, synthesis=dataclasses.replace(config.synthesis, as_played=True)
    )
    pipeline.reproduce(config, tmp_path, networks_from=folder)
    table = pd.read_csv(tmp_path / "verification/metamers.csv")
    assert not [name for name in table if name.startswith(("optimised", "played"))]
    assert (table["level_db"] == config.playback.level_db).all()
    # The multirate cochleagram, and 16 bits, are all that verification finds otherwise.
    np.testing.assert_allclose(
        table["relative_error"], table["synthesis_relative_error"], rtol=0.02, atol=3e-3
    )
    made = storage.read_npz(tmp_path / "metamers/frequency_grouped/dense/metamers.npz")
    gain = 10 ** (config.playback.level_db / 20) / audio.RMS
    files = sorted((tmp_path / "metamers/frequency_grouped/dense/wav").iterdir())
    by_target = {int(path.name.split("_")[0]): path for path in files}
    for target_id, sound in zip(made["target_id"], made["waveform"][:, 0], strict=True):
        played, _ = soundfile.read(by_target[int(target_id)])
        np.testing.assert_allclose(played, gain * sound, atol=0.6 / 32768)
    by_stage = pd.read_csv(tmp_path / "verification/stages.csv")
    assert set(by_stage["version"]) == {"played"}
    assert "not what was optimised" not in (tmp_path / "report.html").read_text("utf-8")
    assert "not what was optimised" in (folder / "report.html").read_text("utf-8")
