"""Settings: what is refused and why, presets, and the way to a file and back."""

import dataclasses
import json
import math
import re

import jax
import numpy as np
import pytest

from metamer_jax import configs
from metamer_jax.listening import config as listening_config

Cochleagram = configs.CochleagramConfig
PRESETS = {
    **{f"cochleagram {name}": c for name, c in configs.COCHLEAGRAMS.items()},
    **{f"training {name}": c for name, c in configs.TRAINING_RECIPES.items()},
    **{f"synthesis {name}": c for name, c in configs.SYNTHESIS_RECIPES.items()},
    **{f"preset {name}": c for name, c in configs.PRESETS.items()},
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = PRESETS[name]
    restored = configs.from_dict(type(config), json.loads(configs.to_json(config)))
    assert restored == config and hash(restored) == hash(config)
    assert configs.differences(config, restored) == []


def test_recipes_and_presets_carry_their_names():
    for held, field in (
        (configs.TRAINING_RECIPES, "recipe"),
        (configs.SYNTHESIS_RECIPES, "recipe"),
        (configs.PRESETS, "preset"),
    ):
        for name, config in held.items():
            assert getattr(config, field) == name


def test_cochleagram_presets_have_the_published_sizes():
    sizes = {
        name: (c.num_samples, c.num_channels, c.num_frames)
        for name, c in configs.COCHLEAGRAMS.items()
    }
    assert sizes == {
        "speech_commands": (16000, 211, 200),
        "feather2019": (40000, 211, 400),
        "feather2023": (40000, 211, 390),
    }
    assert Cochleagram() == configs.COCHLEAGRAMS["speech_commands"]


@pytest.mark.parametrize(
    "changes,samples,stride,channels,frames",
    [
        (dict(sample_factor=1), 16000, 80, 52, 200),
        (dict(sample_factor=2), 16000, 80, 105, 200),
        (dict(lowpass_filter=False, highpass_filter=False), 16000, 80, 203, 200),
        (dict(highpass_filter=False), 16000, 80, 207, 200),
        (dict(duration_s=0.9999), 15998, 80, 211, 200),
        (dict(sample_rate_hz=11025, envelope_rate_hz=225, high_hz=5000), 11025, 49, 211, 225),
        (dict(lowpass_padding="valid", duration_s=1001 / 16000), 1001, 80, 211, 1),
    ],
)
def test_sizes_follow_from_the_settings(changes, samples, stride, channels, frames):
    config = Cochleagram(**changes)
    assert (config.num_samples, config.stride) == (samples, stride)
    assert (config.num_channels, config.num_frames) == (channels, frames)


def test_configs_are_keyword_only_frozen_and_hashable():
    with pytest.raises(TypeError):
        Cochleagram(16000)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cochleagram().power = 1.0
    assert len({Cochleagram(), Cochleagram(), Cochleagram(power=0.5)}) == 2


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "cls,changes,message",
    [
        (
            Cochleagram,
            dict(sample_rate_hz=0),
            "sample_rate_hz must be a whole number at least 1, got 0",
        ),
        (Cochleagram, dict(sample_rate_hz="16k"), "sample_rate_hz must be a whole number"),
        (Cochleagram, dict(duration_s=-1.0), "duration_s must be a positive number, got -1.0"),
        (Cochleagram, dict(duration_s=1e-5), "duration_s=1e-05 holds no two samples"),
        (
            Cochleagram,
            dict(envelope_rate_hz=NAN),
            "envelope_rate_hz must be a whole number at least 1",
        ),
        (
            Cochleagram,
            dict(envelope_rate_hz=150),
            r"envelope_rate_hz must divide sample_rate_hz=16000 .*got 150; .* are \(128, 160\)",
        ),
        (
            Cochleagram,
            dict(sample_rate_hz=11025, high_hz=5000),
            r"sample_rate_hz=11025 .*got 200; the nearest that do are \(175, 225\)",
        ),
        (Cochleagram, dict(envelope_rate_hz=32000), "envelope_rate_hz must divide"),
        (Cochleagram, dict(low_hz=-1), r"low_hz must be a number at least 0, got -1"),
        (Cochleagram, dict(low_hz=NAN), "low_hz must be a number"),
        (Cochleagram, dict(low_hz=8000), "low_hz must lie"),
        (Cochleagram, dict(high_hz=INF), "high_hz must be a positive number"),
        (Cochleagram, dict(high_hz=8001), r"high_hz must not exceed .*\(8000.0 Hz\), got 8001"),
        (Cochleagram, dict(num_filters=0), "num_filters must be a whole number at least 1"),
        (Cochleagram, dict(num_filters=2.5), "num_filters must be a whole number"),
        (Cochleagram, dict(num_filters=50.5), "num_filters must be a whole number"),
        (Cochleagram, dict(sample_factor=3), r"sample_factor must be 1 or even .*got 3"),
        (Cochleagram, dict(lowpass_taps=0), "lowpass_taps must be a whole number at least 1"),
        (Cochleagram, dict(compression="log"), "compression must be one of .*got 'log'"),
        (Cochleagram, dict(power=0), "power must be a positive number, got 0"),
        (Cochleagram, dict(scale=INF), "scale must be a positive number, got inf"),
        (Cochleagram, dict(gradient_limit=0), "gradient_limit must be a positive number"),
        (Cochleagram, dict(offset=-1e-8), "offset must be a number at least 0, got -1e-08"),
        (Cochleagram, dict(offset=NAN), "offset must be a number at least 0, got nan"),
        (Cochleagram, dict(compression="decibel"), "compression='decibel' needs offset > 0"),
        (
            Cochleagram,
            dict(rectification_gradient="pass", gradient_limit=None),
            "rectification_gradient='pass' needs a gradient_limit or offset > 0",
        ),
        (Cochleagram, dict(rectification_gradient="no"), "rectification_gradient must be one of"),
        (Cochleagram, dict(lowpass_padding="full"), "lowpass_padding must be one of"),
        (
            Cochleagram,
            dict(lowpass_padding="valid", duration_s=0.05),
            "lowpass_padding='valid' needs at least lowpass_taps=1001 samples, got 800",
        ),
        (Cochleagram, dict(method="exact"), "method must be one of .*got 'exact'"),
        (Cochleagram, dict(oversampling=1.9), "oversampling must be a number at least 2, got 1.9"),
        (configs.DataConfig, dict(dataset="timit"), "dataset must be one of"),
        (configs.DataConfig, dict(split="half"), "split must be one of"),
        (configs.DataConfig, dict(seed=-1), "seed must be a whole number"),
        (configs.DataConfig, dict(corpus_seed=0.5), "corpus_seed must be a whole number"),
        (
            configs.DataConfig,
            dict(num_speakers=0),
            "num_speakers must be a whole number at least 1",
        ),
        (configs.DataConfig, dict(words=("yes",)), "words must name at least two words"),
        (configs.DataConfig, dict(words="yes"), "words must be a list, each text, got 'yes'"),
        (configs.DataConfig, dict(words=("a", "a")), "words repeat"),
        (configs.DataConfig, dict(dataset="wav_folder"), "dataset='wav_folder' needs data_dir"),
        (configs.DataConfig, dict(data_dir="a", data_zip="b"), "data_dir and data_zip exclude"),
        (configs.AugmentConfig, dict(mixup=-1), "mixup must be a number at least 0"),
        (
            configs.AugmentConfig,
            dict(shift=1),
            r"shift must be a number at least 0 and below 1, got 1",
        ),
        (configs.AugmentConfig, dict(noise_snr_db=(9.0, 3.0)), "noise_snr_db must be"),
        (configs.AdversarialConfig, dict(epsilon=-0.1), "epsilon must be a number at least 0"),
        (configs.AdversarialConfig, dict(norm="l1"), "norm must be one of"),
        (configs.AdversarialConfig, dict(restarts=0), "restarts must be a whole number at least 1"),
        (configs.TrainingConfig, dict(epochs=-1), "epochs must be a whole number at least 0"),
        (configs.TrainingConfig, dict(schedule="step"), "schedule must be one of"),
        (configs.TrainingConfig, dict(patience=-1), "patience must be a whole number at least 0"),
        (configs.TrainingConfig, dict(weight_decay=-1), "weight_decay must be a number at least 0"),
        (
            configs.TrainingConfig,
            dict(ema_decay=1.0),
            r"ema_decay must be a number at least 0 and below 1",
        ),
        (configs.SynthesisConfig, dict(optimizer="sgd"), "optimizer must be one of"),
        (configs.SynthesisConfig, dict(steps=0), "steps must be a whole number at least 1"),
        (configs.SynthesisConfig, dict(loss="mse"), "loss must be one of"),
        (configs.SynthesisConfig, dict(matmul_precision="low"), "matmul_precision must be one of"),
        (configs.SynthesisConfig, dict(seeds=()), "seeds must hold at least one seed"),
        (configs.SynthesisConfig, dict(seeds=(1, 1)), "seeds repeat"),
        (
            configs.VerificationConfig,
            dict(null_recordings=45),
            "null_recordings must be a whole number at least 46",
        ),
        (configs.PlaybackConfig, dict(level_db=3.0), "level_db must be a number at least -60"),
        (configs.PlaybackConfig, dict(peak=1.5), "peak must be a number above 0 and at most 1"),
        (configs.PlaybackConfig, dict(ramp_s=-1), "ramp_s must be a number at least 0"),
        (configs.VerificationConfig, dict(max_relative_error=0), "max_relative_error must be"),
        (configs.ExperimentConfig, dict(stages=()), "stages must not be empty"),
        (configs.ExperimentConfig, dict(networks=("a", "a")), "networks repeat"),
        (
            configs.ExperimentConfig,
            dict(cochleagram=configs.COCHLEAGRAMS["feather2019"]),
            "data.sample_rate_hz=16000 and cochleagram.sample_rate_hz=20000 must agree",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(cls, changes, message):
    with pytest.raises(ValueError, match=message):
        cls(**changes)


@pytest.mark.parametrize("compression", ["power", "decibel", "none"])
def test_settings_that_a_compression_does_not_use_are_accepted(compression):
    Cochleagram(compression=compression, offset=1.0, power=0.5, gradient_limit=None)


def test_replace_given_leaves_what_is_none():
    config = configs.SynthesisConfig()
    changed = configs.replace_given(config, steps=7, tolerance=None, relu_override=False)
    assert (changed.steps, changed.tolerance, changed.relu_override) == (7, 0.0, False)
    assert configs.replace_given(config) == config
    with pytest.raises(ValueError, match="steps must be a whole number at least 1, got -1"):
        configs.replace_given(config, steps=-1)


def test_replace_dotted_reaches_nested_settings():
    config = configs.ExperimentConfig()
    assert configs.replace_dotted(config, "training.augment.shift", 0.2).training.augment.shift
    assert configs.replace_dotted(config, "stages", ["conv1"]).stages == ("conv1",)
    with pytest.raises(ValueError, match="TrainingConfig has no setting 'epoch'"):
        configs.replace_dotted(config, "training.epoch", 3)
    with pytest.raises(ValueError, match="'seed' has no settings"):
        configs.replace_dotted(config, "seed.x", 3)


def test_differences_name_nested_fields():
    old = configs.ExperimentConfig()
    new = configs.replace_dotted(configs.replace_dotted(old, "seed", 1), "synthesis.steps", 9)
    assert configs.differences(old, new) == [
        "seed: 0 before, 1 now",
        "synthesis.steps: 1500 before, 9 now",
    ]
    assert configs.differences(old, old) == []


def test_from_dict_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"CochleagramConfig has no field \['pwer'\]; it has"):
        configs.from_dict(Cochleagram, {"pwer": 0.3})
    with pytest.raises(ValueError, match="DataConfig has no field"):
        configs.from_dict(configs.ExperimentConfig, {"data": {"rate": 1}})
    with pytest.raises(ValueError, match="power must be a positive number"):
        configs.from_dict(Cochleagram, {"power": -1})
    assert configs.from_dict(Cochleagram, {}) == Cochleagram()


def test_a_stage_and_a_network_may_have_settings_of_their_own():
    config = configs.SynthesisConfig(learning_rate=0.1, cochleagram_learning_rate=0.3)
    assert config.for_stage("cochleagram") == configs.SynthesisConfig(learning_rate=0.3)
    assert config.for_stage("conv1") == configs.SynthesisConfig(learning_rate=0.1)
    config = dataclasses.replace(config, conv1_learning_rate=0.2)
    assert config.for_stage("conv1") == configs.SynthesisConfig(learning_rate=0.2)
    assert config.for_stage("conv2") == configs.SynthesisConfig(learning_rate=0.1)
    config = configs.SynthesisConfig(cochleagram_beta1=0.0, cochleagram_level_window=9)
    assert config.for_stage("cochleagram") == configs.SynthesisConfig(beta1=0.0, level_window=9)
    assert config.for_stage("conv1") == configs.SynthesisConfig()
    config = configs.SynthesisConfig(spectemp_start_rms=2.0)
    assert config.for_stage("conv1", "spectemp_small") == configs.SynthesisConfig(start_rms=2.0)
    paper = configs.SYNTHESIS_RECIPES["paper"]
    assert paper.for_stage("cochleagram") == paper


def test_a_recipe_is_applied_or_refused():
    fast = configs.SYNTHESIS_RECIPES["fast"]
    assert configs.SynthesisConfig(recipe="fast") == fast
    assert (fast.optimizer, fast.steps, fast.as_played) == ("relative_adam", 299, True)
    fewer = configs.SynthesisConfig(recipe="fast", steps=40, seeds=(0, 1))
    assert fewer == dataclasses.replace(fast, steps=40, seeds=(0, 1))
    for recipe in configs.SYNTHESIS_RECIPES.values():
        assert configs.from_dict(configs.SynthesisConfig, dataclasses.asdict(recipe)) == recipe
        for stage in ("cochleagram", "conv1", "dense"):
            recipe.for_stage(stage, "spectemp")
    paper = configs.SynthesisConfig()
    for config, name in ((paper, "fast"), (paper, "feather2019"), (fast, "paper")):
        with pytest.raises(ValueError, match=rf"recipe='{name}' must not have the settings of"):
            dataclasses.replace(config, recipe=name, batch_size=4)
    with pytest.raises(ValueError, match="recipe='fast' must not have the settings of 'paper'"):
        dataclasses.replace(paper, recipe="fast", steps=200)
    # feather2019 but for its name.
    assert configs.SynthesisConfig(steps=15000).recipe == "paper"
    with pytest.raises(ValueError, match="recipe must be one of .*, got 'fats'"):
        configs.SynthesisConfig(recipe="fats")


def test_saved_settings_are_not_changed_by_todays_recipe():
    saved = dataclasses.asdict(configs.SYNTHESIS_RECIPES["fast"])
    del saved["as_played"], saved["conv1_learning_rate"]
    found = configs.from_dict(configs.SynthesisConfig, {**saved, "learning_rate": 0.17})
    assert (found.as_played, found.conv1_learning_rate, found.beta1) == (False, None, 0.95)


CLASSES = [
    configs.ExperimentConfig(),
    configs.RobustnessConfig(),
    listening_config.ListeningConfig(),
]


@pytest.mark.parametrize("config", CLASSES, ids=lambda config: type(config).__name__)
def test_every_setting_says_what_it_means_and_refuses_what_it_is_not(config):
    for path, field in configs.paths_of(config).items():
        assert field.doc.endswith("."), path
        wrong = ["no", 0.5, -1.5, NAN, math.inf, True, "1", object(), b"x"]
        kind = field.items[0] if field.items else field.kind
        wrong = [v for v in wrong if not (kind is str and isinstance(v, str))]
        wrong = [v for v in wrong if not (kind is bool and isinstance(v, bool))]
        wrong = [v for v in wrong if not (kind is float and v in (0.5, -1.5))]
        for value in wrong:
            value = (value,) * (2 if len(field.items) == 2 else 1) if field.items else value
            message = rf"{re.escape(path)} must be {re.escape(field.wanted)}, got"
            with pytest.raises(ValueError, match=message):
                configs.replace_dotted(config, path, value)


def test_equal_settings_are_equal_however_they_were_given():
    given = configs.SynthesisConfig(
        steps=np.int64(7), learning_rate=1, tolerance=np.float32(0.5), seeds=[1, 2.0]
    )
    plain = configs.SynthesisConfig(steps=7, learning_rate=1.0, tolerance=0.5, seeds=(1, 2))
    assert given == plain and configs.to_json(given) == configs.to_json(plain)
    assert hash(given) == hash(plain)


def test_no_two_seeds_share_a_key():
    last = configs.ExperimentConfig(seed=2**32 - 1)
    keys = {tuple(jax.random.key_data(jax.random.key(s)).tolist()) for s in (0, last.seed, 2**31)}
    assert len(keys) == 3
    for seed in (2**32, -1):  # Of the same key as 0 and 2**32 - 1.
        with pytest.raises(ValueError, match="seed must be a whole number"):
            configs.ExperimentConfig(seed=seed)


def test_settings_that_must_agree_are_changed_together():
    config = configs.ExperimentConfig()
    both = {"data.duration_s": 1.5, "cochleagram.duration_s": 1.5}
    assert configs.replace_all(config, both).cochleagram.num_samples == 24000
    with pytest.raises(ValueError, match=r"data.duration_s=1.5 and cochleagram.duration_s=1.0"):
        configs.replace_dotted(config, "data.duration_s", 1.5)
    cochleagram = configs.CochleagramConfig(low_hz=20.0, high_hz=50.0)
    moved = configs.replace_all(cochleagram, {"low_hz": 60.0, "high_hz": 90.0})
    assert (moved.low_hz, moved.high_hz) == (60.0, 90.0)
    with pytest.raises(ValueError, match=r"^cochleagram\.low_hz must lie in \[0, high_hz\)"):
        configs.replace_dotted(config, "cochleagram.low_hz", 8000.0)


@pytest.mark.parametrize(
    "path, text, value",
    [
        ("synthesis.steps", "7", 7),
        ("synthesis.batch_size", "None", None),
        ("synthesis.relu_override", "false", False),
        ("synthesis.seeds", "3", (3,)),
        ("synthesis.seeds", "(0, 1)", (0, 1)),
        ("data.words", "7,nan", ("7", "nan")),
        ("data.words", "['yes', \"no\"]", ("yes", "no")),
        ("data.data_dir", "12", "12"),
        ("training.augment.noise_snr_db", "5,40", (5, 40)),
        ("playback.level_db", "-26", -26),
    ],
)
def test_a_command_says_settings_without_quotes(path, text, value):
    assert configs.from_text(configs.field_at(configs.ExperimentConfig(), path), text) == value


@pytest.mark.parametrize("text", ["many", "", "1.5 s", "__import__('os')"])
def test_words_where_numbers_are_meant(text):
    field = configs.field_at(configs.ExperimentConfig(), "synthesis.steps")
    with pytest.raises(ValueError, match="steps must be a whole number at least 1, got"):
        configs.from_text(field, text)


def test_settings_of_a_run_without_playback_are_those_it_had():
    config = configs.ExperimentConfig(seed=3)
    saved = json.loads(configs.to_json(config))
    del saved["playback"], saved["synthesis"]["as_played"]
    saved["verification"]["playback_level_db"] = -20.0
    found = configs.from_dict(configs.ExperimentConfig, saved)
    assert found.playback == configs.PlaybackConfig(level_db=-20.0, ramp_s=0.0)
    assert not found.synthesis.as_played
    assert dataclasses.replace(found, playback=config.playback) == config
