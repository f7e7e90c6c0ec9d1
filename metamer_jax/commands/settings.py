"""The flags that the drivers share, and how they become one frozen config.

A preset (or, with --workdir, the settings that the folder's run was made with), then the flags
below, then --set for everything else.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator

from absl import flags

from metamer_jax import configs, data, models, pipeline, runs
from metamer_jax.cochleagram import accuracy
from metamer_jax.commands import drivers, sharing

_PRESET = flags.DEFINE_enum(
    "preset",
    None,
    sorted(configs.PRESETS),
    "Settings to start from, which hold where no flag says otherwise: 'quick' (minutes on a "
    "laptop), 'paper' (the whole experiment) or 'smoke' (proves that every part runs). Unset: the "
    "settings of the run in --workdir, else 'quick'.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run folder. Unset: runs/<preset>-<dataset>-seed<seed>."
)
_TRAINING = flags.DEFINE_enum(
    "training", None, sorted(configs.TRAINING_RECIPES), "Recipe to train the networks by."
)
_RECIPE = flags.DEFINE_enum(
    "recipe", None, sorted(configs.SYNTHESIS_RECIPES), "Recipe to synthesise by."
)
_changed = drivers.setting_flags(
    configs.ExperimentConfig(),
    {
        "seed": "seed",
        "networks": "networks",
        "weights": "weights",
        "class_names": "class_names",
        "stages": "stages",
        "targets_per_word": "targets_per_word",
        "dataset": "data.dataset",
        "data_dir": "data.data_dir",
        "data_zip": "data.data_zip",
        "split": "data.split",
        "words": "data.words",
        "skip_bad_files": "data.skip_bad_files",
        "sample_rate_hz": ("data.sample_rate_hz", "cochleagram.sample_rate_hz"),
        "duration_s": ("data.duration_s", "cochleagram.duration_s"),
        "epochs": "training.epochs",
        "steps": "synthesis.steps",
        "as_played": "synthesis.as_played",
        "batch_size": "synthesis.batch_size",
        "null_recordings": "verification.null_recordings",
    },
    defaults=False,
    more={
        "networks": f"Of {', '.join(models.PRESETS)}.",
        "weights": "Sets the cochleagram, rate and duration to those of Feather et al. (2023).",
        "stages": f"Of the paper's networks {', '.join(configs.STAGES)}. With --networks, every "
        "stage of theirs.",
    },
)
_NETWORKS_FROM = flags.DEFINE_string(
    "networks_from",
    None,
    "Folder of a run whose trained networks this one takes instead of training: for another "
    "recipe, more targets or other stages. Its settings hold where no flag says otherwise.",
)
_TOLERANCE = flags.DEFINE_float(
    "cochleagram_tolerance",
    None,
    "Largest relative error of the multirate cochleagram against the exact one in float64; sets "
    "its grids, and says what error was measured. Unset: cochleagram.oversampling as it is.",
    lower_bound=0,
)


def config_and_folder() -> tuple[configs.ExperimentConfig, pathlib.Path]:
    """Returns what the flags ask for, and the run folder.

    Raises:
        ValueError: A setting does not exist or has a value that cannot be.
    """
    base = _base()
    config = config_from(base)
    if config.networks != base.networks and flags.FLAGS.stages is None:
        config = dataclasses.replace(config, stages=models.stage_names(config.networks))
    if _NETWORKS_FROM.value is not None and _WORKDIR.value is None:
        raise ValueError("--networks_from needs --workdir, the folder of the new run")
    folder = _WORKDIR.value or runs.default_folder(config.preset, config.data.dataset, config.seed)
    return config, pathlib.Path(folder)


def config_from(config: configs.ExperimentConfig) -> configs.ExperimentConfig:
    """Returns the settings with those replaced that flags ask for.

    Raises:
        ValueError: A setting does not exist or has a value that cannot be.
    """
    if flags.FLAGS.weights is not None:
        config = configs.with_published_ears(config)
    if _TRAINING.value is not None:
        config = dataclasses.replace(config, training=configs.TRAINING_RECIPES[_TRAINING.value])
    if _RECIPE.value is not None:
        config = dataclasses.replace(config, synthesis=configs.SYNTHESIS_RECIPES[_RECIPE.value])
    config = _changed(config)
    if _TOLERANCE.value is not None:
        cochleagram, error = accuracy.within(config.cochleagram, _TOLERANCE.value)
        print(f"cochleagram.oversampling={cochleagram.oversampling:g}: relative error {error:.1e}")
        config = dataclasses.replace(config, cochleagram=cochleagram)
    return config


def networks_from() -> str | None:
    """Returns the folder of the run whose networks are taken."""
    return _NETWORKS_FROM.value


@contextlib.contextmanager
def open_run(
    *, continues: bool = False
) -> Iterator[tuple[runs.Run, data.Recordings, Callable[[], bool]]]:
    """Opens the run that the flags ask for, to compute in it until done or told to end.

    Args:
        continues: Whether the folder must hold a run, unless trained networks come from elsewhere.

    Yields:
        The run, its recordings, and the function that says whether to end.

    Raises:
        ValueError: The flags do not make settings, or the run cannot be.
    """
    (config, folder), of_run = sharing.begin(config_and_folder)
    if continues and networks_from() is None and config.weights is None:
        runs.read_run(folder)
    with (
        runs.stop_on_sigterm() as stop,
        pipeline.open_run(folder, config, networks_from=networks_from(), shard=of_run) as opened,
    ):
        yield *opened, stop


def _base() -> configs.ExperimentConfig:
    if _PRESET.value is None:
        if _WORKDIR.value is not None and (pathlib.Path(_WORKDIR.value) / runs.CONFIG).exists():
            return runs.read_run(_WORKDIR.value).config
        if _NETWORKS_FROM.value is not None:
            return runs.read_run(_NETWORKS_FROM.value).config
    return configs.PRESETS[_PRESET.value or "quick"]
