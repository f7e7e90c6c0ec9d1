"""Tests that no damage to a run is silent, and that none costs what can be made again."""

import dataclasses
import logging
import shutil

import pytest
import small_run

from experiments import damages
from metamer_jax import configs, pipeline, runs, storage
from metamer_jax.runs import manifest


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run, its settings, and what it made."""
    recordings, cache = (tmp_path_factory.mktemp(name) for name in ("recordings", "cache"))
    small_run.write_recordings(recordings)
    config = small_run.config(recordings, cache)
    folder = tmp_path_factory.mktemp("run") / "run"
    pipeline.reproduce(config, folder)
    return folder, config, damages.contents(folder)


@pytest.fixture
def go_on(finished, caplog):
    def to_the_end(folder):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            pipeline.reproduce(finished[1], folder)
        return caplog.text

    return to_the_end


def copy(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


SAMPLE = [
    "networks/*/weights.npz replaced by {}",
    "metamers of two stages swapped",
    "metamers/*/*/wav/*.wav deleted",
    "verdicts edited",
    "an old report of tomorrow",
    "sounds as played swapped",
    "tables swapped",
    "manifest.json altered",
    "config.json deleted",
    "another seed in config.json",
]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_damage_to_a_finished_run_is_named_and_mended(finished, go_on, tmp_path, name):
    folder = copy(finished, tmp_path)
    found = damages.judge(folder, damages.FINISHED[name], finished[2], go_on)
    assert not found.silent and not found.lost, found.said
    assert go_on(folder) == ""  # And then everything is done.


@pytest.mark.parametrize("name", [n for n in damages.SYNTHESIS if "beyond" in n or "swapped" in n])
def test_a_damage_to_a_synthesis_under_way(finished, go_on, tmp_path, name):
    folder = copy(finished, tmp_path)
    shutil.rmtree(folder / "metamers")
    calls = iter([False] * 8)
    with (
        pytest.raises(SystemExit),
        pipeline.open_run(folder, finished[1]) as (run, recordings),
    ):
        pipeline.synthesize_metamers(run, recordings, stop=lambda: next(calls, True))
    found = damages.judge(folder, damages.SYNTHESIS[name], finished[2], go_on)
    assert not found.silent and not found.lost, found.said


@pytest.mark.parametrize("name", [n for n in damages.TRAINING if "not finite" in n])
def test_a_damage_to_a_training_under_way(finished, go_on, tmp_path, name):
    folder = copy(finished, tmp_path)
    shutil.rmtree(folder / "networks")
    with (
        pytest.raises(SystemExit),
        pipeline.open_run(folder, finished[1]) as (run, recordings),
    ):
        pipeline.train_networks(run, recordings, stop=lambda: True)
    found = damages.judge(folder, damages.TRAINING[name], finished[2], go_on)
    assert not found.silent and not found.lost, found.said


def test_a_run_made_before_gets_a_manifest_and_says_so(finished, go_on, tmp_path):
    folder = copy(finished, tmp_path)
    (folder / runs.MANIFEST).unlink()
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.*z")}
    run = runs.read_run(folder)
    assert run.is_done("networks/frequency_grouped/weights.npz")  # Reading writes none.
    assert not (folder / runs.MANIFEST).exists()
    assert f"recorded in {runs.MANIFEST}" in go_on(folder)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.*z")} == before
    entries = storage.read_json(folder / runs.MANIFEST)["files"]
    assert set(entries) == set(manifest.files_made(folder))
    assert go_on(folder) == ""


def test_what_an_ended_process_left_is_not_told_as_damaged(finished, tmp_path, caplog):
    folder, name = copy(finished, tmp_path), "networks/other/weights.npz"
    (folder / name).parent.mkdir()
    (folder / name).write_bytes(b"half")
    assert not runs.read_run(folder).is_done(name)
    assert f"{name} is not in manifest.json: unfinished, or not of this run" in caplog.text


def test_a_stage_may_be_added_and_verdicts_changed(finished, go_on, tmp_path):
    folder, config, expected = copy(finished, tmp_path), *finished[1:]
    more = configs.replace_all(
        config,
        {"stages": (*config.stages, "logits"), "verification.max_relative_error": 0.5},
    )
    pipeline.reproduce(more, folder)
    found = damages.contents(folder)
    kept = [n for n in expected if "verification" not in n and "wav" not in n]
    assert {n: found[n] for n in kept} == {n: expected[n] for n in kept}
    assert "metamers/frequency_grouped/logits/metamers.npz" in found
    assert runs.read_run(folder).config == more
    with pytest.raises(ValueError, match="synthesis.steps: 30 before, 31 now.*--networks_from"):
        synthesis = dataclasses.replace(config.synthesis, steps=31)
        pipeline.reproduce(dataclasses.replace(more, synthesis=synthesis), folder)


def test_recordings_that_changed_are_refused(finished, tmp_path):
    folder = copy(finished, tmp_path)
    with pipeline.open_run(folder, finished[1]) as (run, recordings):
        louder = dataclasses.replace(recordings, waveforms=2 * recordings.waveforms)
        with pytest.raises(ValueError, match="the recordings are not those that .* was made of"):
            pipeline.synthesize_metamers(run, louder)
