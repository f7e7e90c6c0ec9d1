"""A published checkpoint as the network of a run: targets from a folder, up to the report."""

import dataclasses
import pathlib

import numpy as np
import pytest
import torch_networks

import metamer_jax as mj
from metamer_jax import configs, pipeline, runs, storage
from metamer_jax.own_models import published

WIDTHS, DENSE, RATE_HZ = (16, 32, 64, 128, 64), 256, 4000
EARS = mj.CochleagramConfig(
    sample_rate_hz=RATE_HZ,
    duration_s=0.2,
    envelope_rate_hz=400,
    low_hz=50,
    high_hz=2000,
    num_filters=23,
    sample_factor=1,
    lowpass_taps=101,
    method="multirate",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    rng = np.random.default_rng(0)
    for i in range(46):
        sound = rng.standard_normal(800) * np.hanning(800)
        path = folder / "sounds" / ("dog" if i % 2 else "cello") / f"{i}.wav"
        mj.audio.write_wav(path, mj.audio.to_playback(sound, RATE_HZ)[0], RATE_HZ)
    state = torch_networks.as_trained(torch_networks.cnn9_state(WIDTHS, DENSE, 5, flat=128))
    np.savez(folder / "weights.npz", **{f"module.model.1.{k}": v for k, v in state.items()})
    (folder / "classes.txt").write_text("null\ncat\ncow\ndog\npig\n")
    return configs.ExperimentConfig(
        networks=("cochcnn9_small",),
        weights=str(folder / "weights.npz"),
        class_names=str(folder / "classes.txt"),
        stages=("relu1", "final"),
        data=mj.DataConfig(
            dataset="wav_folder",
            data_dir=str(folder / "sounds"),
            sample_rate_hz=RATE_HZ,
            duration_s=0.2,
            cache_dir=str(folder / "cache"),
        ),
        cochleagram=EARS,
        synthesis=mj.SynthesisConfig(recipe="fast", steps=20, chunk_steps=20),
        verification=mj.VerificationConfig(null_recordings=46),
    )


@pytest.mark.slow
def test_a_run_of_a_published_network(config, tmp_path):
    report = pipeline.reproduce(config, tmp_path / "run")
    assert "cochcnn9_small" in report.read_text("utf-8")
    run = runs.read_run(tmp_path / "run", needs=("networks", "verification"))
    result = storage.read_json(run.path("networks", "cochcnn9_small", "result.json"))
    assert result["words"] == ["null", "cat", "cow", "dog", "pig"]
    assert pipeline.recorded_words(run) == ("cello", "dog")
    model, variables = pipeline.load_network(run, "cochcnn9_small", 2)
    table = storage.read_csv(
        run.path("verification", "metamers.csv"), text=("word", "target_prediction")
    )
    assert model.num_words == 5
    expected = published.read_network("cochcnn9_small", config.weights, EARS)[1]
    np.testing.assert_array_equal(
        variables["params"]["conv0"]["kernel"], expected["params"]["conv0"]["kernel"]
    )
    # Two of each word, none of which need be in a test split.
    assert list(table["word"]) == ["cello", "cello", "dog", "dog"] * 2
    assert set(table["target_prediction"]) <= set(result["words"])
    correct = table["target_prediction"] == table["word"]
    assert list(table["target_correct"]) == list(correct)
    (tmp_path / "weights.npz").write_bytes(pathlib.Path(config.weights).read_bytes())
    moved = dataclasses.replace(config, weights=str(tmp_path / "weights.npz"))
    with pytest.raises(ValueError, match="holds a run with other settings .weights: "):
        pipeline.reproduce(moved, tmp_path / "run")


def test_settings_that_do_not_fit_weights():
    ears = configs.with_published_ears(configs.PRESETS["quick"])
    assert ears.data.sample_rate_hz == ears.cochleagram.sample_rate_hz == 20000
    assert ears.cochleagram.num_frames == 390 and ears.cochleagram.method == "multirate"
    with pytest.raises(ValueError, match="weights are of one network, got networks="):
        configs.ExperimentConfig(weights="a.pt")
    with pytest.raises(ValueError, match="class_names needs weights"):
        configs.ExperimentConfig(class_names="classes.txt")
