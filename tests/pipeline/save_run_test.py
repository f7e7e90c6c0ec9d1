"""Run folders of any models: what is in them, and that everything else takes them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import metamer_jax as mj
from metamer_jax import pipeline, runs, storage
from metamer_jax.listening import listeners
from metamer_jax.listening.building import material
from metamer_jax.listening.config import ListeningConfig
from metamer_jax.own_models import saved, verifying

RATE_HZ, LENGTH = 4000, 1000
WORDS = ("ba", "da", "<ga>")


def open_run(folder):
    return runs.read_run(folder, needs=("networks", "verification"))


def syllable(rng, formant_hz):
    """A buzz of some pitch with energy about a formant: what the word is."""
    time = np.arange(LENGTH) / RATE_HZ
    pitch_hz = rng.uniform(90, 250)
    partials = pitch_hz * np.arange(1, int(RATE_HZ / 2 / pitch_hz))
    levels = np.exp(-(((partials - formant_hz) / 200) ** 2)) + 0.02
    phases = rng.uniform(0, 2 * np.pi, len(partials))
    sound = (levels * np.sin(2 * np.pi * np.outer(time, partials) + phases)).sum(1)
    return mj.audio.normalize(sound + 0.01 * rng.standard_normal(LENGTH)).astype(np.float32)


LABELS = np.arange(48) % 3
RECORDINGS = np.stack(
    [syllable(np.random.default_rng(i), (300, 800, 1500)[label]) for i, label in enumerate(LABELS)]
)
# Energy in three bands, each for a word: a network that is right without being trained.
BANDS = np.stack(
    [np.exp(-(((np.fft.rfftfreq(100, 1 / RATE_HZ) - f) / 250) ** 2)) for f in (300, 800, 1500)]
)


def bands_network(weights, waveform):
    power = jnp.abs(jnp.fft.rfft(waveform.reshape(-1, 100))) ** 2
    energy = jnp.maximum(power @ weights["bands"].T, 0)
    return {"energy": energy, "classes": jnp.log(energy.mean(0) + 1e-6)}


def linear_network(weights, heard):
    return {"mix/frames": jnp.maximum(heard @ weights["mix"], 0)}


EARS = mj.CochleagramConfig(
    sample_rate_hz=RATE_HZ,
    duration_s=0.25,
    envelope_rate_hz=100,
    low_hz=50,
    high_hz=2000,
    num_filters=10,
    sample_factor=1,
    lowpass_taps=101,
    method="multirate",
)
SETTINGS = {
    "recordings": RECORDINGS,
    "config": mj.SynthesisConfig(recipe="fast", steps=60, chunk_steps=30, seeds=(0, 1)),
    "target_ids": [0, 1, 5],
    "words": [WORDS[label] for label in LABELS[[0, 1, 5]]],
    "show_progress": False,
}
TARGETS = RECORDINGS[[0, 1, 5]]


@pytest.fixture(scope="module")
def found():
    weights = {"bands": BANDS.astype(np.float32), "key": jax.random.key(3)}
    bands = mj.wrap_model(bands_network, weights, num_samples=LENGTH)
    mix = np.random.default_rng(0).standard_normal((25, 12)).astype(np.float32)
    linear = mj.wrap_model(linear_network, {"mix": mix}, cochleagram=EARS)
    return {
        "bands": mj.make_metamers(
            bands,
            TARGETS,
            ["energy", "classes"],
            logits="classes",
            class_names=WORDS,
            sample_rate_hz=RATE_HZ,
            **SETTINGS,
        ),
        "linear": mj.make_metamers(linear, TARGETS, ["cochleagram", "mix/frames"], **SETTINGS),
    }


@pytest.fixture(scope="module")
def run(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "own"
    report = mj.save_run(folder, found)
    assert report == folder / "report.html" and "linear" in report.read_text("utf-8")
    return open_run(folder)


def test_sounds_of_one_word_are_saved_too(tmp_path):
    """Where every guess would be right there is no chance level."""
    one = {**SETTINGS, "words": ["yes"], "target_ids": [3]}
    bands = mj.wrap_model(
        bands_network,
        {"bands": BANDS.astype(np.float32), "key": jax.random.key(3)},
        num_samples=LENGTH,
    )
    found = mj.make_metamers(bands, RECORDINGS[[3]], ["energy"], sample_rate_hz=RATE_HZ, **one)
    report = mj.save_run(tmp_path / "run", {"bands": found})
    text = report.read_text("utf-8")
    assert "energy" in text and "<audio" in text
    table = pd.read_csv(tmp_path / "run/verification/metamers.csv")
    assert list(table["word"]) == ["yes", "yes"] and set(table["verdict"]) <= {"pass", "fail"}


def test_a_model_that_says_one_thing_is_told(found):
    bands = found["bands"]
    assert "takes all" not in repr(bands)
    same = {
        s: v._replace(table=v.table.assign(target_prediction=1)) for s, v in bands.verified.items()
    }
    assert "takes all 3 targets for 'da'" in repr(dataclasses.replace(bands, verified=same))


def test_a_saved_model_hears_what_the_model_hears(found, tmp_path):
    for name, each in found.items():
        folder = tmp_path / name
        stages = {f"own {stage}": stage for stage in each.made}
        saved.save_model(folder, each.model, each.variables, stages, logits=each.logits)
        model, variables = saved.load_model(folder)
        assert model == saved.load_program(folder) and model.stage_names == tuple(stages)
        logits, found_here = jax.jit(model.apply)(variables, RECORDINGS[:11])
        exact = verifying.exact(each.model, each.variables)
        for stage, activation in found_here.items():
            expected = verifying.activations(*exact, RECORDINGS[:11], stages[stage])
            scale = np.abs(expected).max()
            np.testing.assert_allclose(activation, expected, atol=1e-5 * scale, err_msg=stage)
        assert logits.shape == (11, 3 if name == "bands" else 1)


def test_the_folder_says_what_the_models_say(found, run):
    table = storage.read_csv(run.path("verification", "metamers.csv"), text=("word", "prediction"))
    for name, each in found.items():
        for stage in each.made:
            in_folder = stage.replace("/", ".")
            rows = table[(table["network"] == name) & (table["stage"] == in_folder)]
            expected = each.table[each.table["stage"] == stage]
            for column in ("seed", "word", "outcome", "steps"):
                assert list(rows[column]) == list(expected[column]), column
            assert list(rows["verdict"]) == list(expected["verdict"])
            for column in ("relative_error", "spearman", "level_db"):
                np.testing.assert_allclose(
                    rows[column], expected[column], rtol=1e-3, atol=1e-6, err_msg=column
                )
    bands = table[table["network"] == "bands"]
    assert list(bands["target_id"]) == [0, 0, 1, 1, 2, 2] * 2  # The targets stand first.
    assert bands["target_correct"].all() and set(bands["prediction"]) <= set(WORDS)
    assert pipeline.recorded_words(run) == ("ba", "da", "<ga>")
    sound = mj.audio.read(run.path("targets", "wav", "0_ba.wav"))[0]
    assert abs(20 * np.log10(sound.std()) + 23) < 0.1


def test_a_listening_test_can_be_built_and_machines_take_it(run):
    config = ListeningConfig(networks=(), practice_trials=0, natural_trials=0, catch_trials=0)
    made = material.load(run, config)
    assert made.words == WORDS and len(made.metamers) == 24
    bands = made.metamers[made.metamers["model"] == "bands"]
    assert bands["class_match"].all()
    trials = listeners.listen_to_run(run, listeners.load_panel(run, []), verified="any")
    natural = trials[(trials["participant"] == "bands") & (trials["kind"] == "natural")]
    assert list(natural["response"]) == ["ba", "da", "<ga>"] and natural["correct"].all()
    assert set(listeners.accuracy(run, [])["listener"]) == {"bands", "linear"}


def test_a_data_set_brings_natural_sounds(found, tmp_path):
    for i, sound in enumerate(RECORDINGS):
        word = "abc"[LABELS[i]] + WORDS[LABELS[i]].strip("<>")
        path = tmp_path / "sounds" / word / f"{i:02d}.wav"
        mj.audio.write_wav(path, mj.audio.to_playback(sound, RATE_HZ)[0], RATE_HZ)
    data = mj.DataConfig(
        dataset="wav_folder",
        data_dir=str(tmp_path / "sounds"),
        sample_rate_hz=RATE_HZ,
        duration_s=0.25,
        split="random",
        cache_dir=str(tmp_path / "cache"),
    )
    recordings = mj.load_recordings(data)
    bands = found["bands"]
    with pytest.raises(ValueError, match="data must be where the sounds are from"):
        mj.save_run(tmp_path / "run", bands, data=data)
    ids = [0, 16, 32]
    again = mj.make_metamers(
        (bands.model, bands.variables),
        0.2 * recordings.waveforms[ids],
        "energy",
        logits="classes",
        class_names=recordings.words,
        sample_rate_hz=RATE_HZ,
        level=0.02,  # The folder's sounds are at 0.1 all the same.
        **{**SETTINGS, "recordings": 0.2 * RECORDINGS, "target_ids": ids, "words": None},
    )
    mj.save_run(tmp_path / "run", {"bands": again}, data=data)
    opened = open_run(tmp_path / "run")
    assert opened.config.data == data
    targets = storage.read_npz(opened.path("targets", "targets.npz"))["waveform"]
    np.testing.assert_array_equal(targets, recordings.waveforms[ids])
    made = storage.read_csv(opened.path("verification", "metamers.csv"), text=("word",))
    assert list(made["target_id"]) == [0, 0, 16, 16, 32, 32] and made["target_correct"].all()
    assert made["word"].tolist() == [w for w in recordings.words for _ in range(2)]
    np.testing.assert_allclose(made["relative_error"], again.table["relative_error"], rtol=1e-3)


def test_what_does_not_go_together_is_refused(found, run, tmp_path):
    bands = found["bands"]
    with pytest.raises(ValueError, match="folder must be a new one, .* holds verified metamers"):
        mj.save_run(run.folder, found)

    def refused(match, sets):
        with pytest.raises(ValueError, match=match):
            mj.save_run(tmp_path / "run", sets)
        assert not (tmp_path / "run").exists()

    refused("found must hold metamers of one model or more", {})
    other = dataclasses.replace(found["linear"], words=("x", "y", "z"))
    refused(
        "models must have the same words, 'linear' has others", {"bands": bands, "linear": other}
    )
    refused("must have been verified", dataclasses.replace(bands, recordings=None))
    loud = dataclasses.replace(bands, sounds=2 * bands.sounds)
    refused("models must have the same sounds, 'loud' has others", {"bands": bands, "loud": loud})
    refused("models must have names of letters", {"a/b": bands})
