"""The flags that the drivers share, and how they become one frozen config.

A preset (or, with --workdir, the settings that the folder's run was made with), then the flags
below, then --set for everything else.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

from absl import flags

from experiments import drivers
from metamer_jax import configs, models, runs
from metamer_jax.cochleagram import accuracy

_PRESET = flags.DEFINE_enum(
    "preset",
    None,
    sorted(configs.PRESETS),
    "Settings to start from: 'quick' (minutes on a laptop), 'paper' (the whole experiment) or "
    "'smoke' (proves that every part runs). Unset: the settings of the run in --workdir, else "
    "'quick'.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run folder. Unset: runs/<preset>-<dataset>-seed<seed>."
)
_SEED = flags.DEFINE_integer(
    "seed", None, "Seed of the first weights, the choice of targets and the starting noise."
)
_DATASET = flags.DEFINE_enum("dataset", None, configs.DATASETS, "Recordings to use.")
_DATA_ZIP = flags.DEFINE_string(
    "data_zip",
    None,
    "mini_speech_commands, speech_commands: take this archive instead of downloading TensorFlow's; "
    "speech_commands takes a zip, tar or tar.gz, and several with commas between.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "A folder that holds <word>/*.wav (flac, ogg).")
_SPLIT = flags.DEFINE_enum(
    "split",
    None,
    ("auto", "random", "speaker", "official"),
    "80/10/10 over clips, or over voices, or speech_commands' own.",
)
_WORDS = flags.DEFINE_list("words", None, "Words to use, e.g. --words=yes,no,stop.")
_SKIP_BAD_FILES = flags.DEFINE_bool(
    "skip_bad_files", None, "Leave out sound files that cannot be used, and count them."
)
_NETWORKS = flags.DEFINE_list("networks", None, f"Networks, of {', '.join(models.PRESETS)}.")
_TRAINING = flags.DEFINE_enum(
    "training", None, sorted(configs.TRAINING_RECIPES), "Recipe to train the networks by."
)
_EPOCHS = flags.DEFINE_integer("epochs", None, "Training epochs at most.")
_STAGES = flags.DEFINE_list(
    "stages",
    None,
    f"Stages to match: of the paper's networks {', '.join(configs.STAGES)}. Unset: those of the "
    "preset or run; with --networks, every stage of theirs.",
)
_TARGETS = flags.DEFINE_integer("targets_per_word", None, "Target recordings of each word.")
_RECIPE = flags.DEFINE_enum(
    "recipe", None, sorted(configs.SYNTHESIS_RECIPES), "Recipe to synthesise by."
)
_AS_PLAYED = flags.DEFINE_bool(
    "as_played",
    None,
    "Make metamers of the sound that will be played (mean, ramps, level) and not of a waveform of "
    "any level. Unset: as the recipe has it; 'fast' does, the publications' recipes do not.",
)
_STEPS = flags.DEFINE_integer("steps", None, "Gradient steps of each metamer.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Metamers synthesised at once.")
_NULL = flags.DEFINE_integer(
    "null_recordings", None, "Natural recordings whose pairs make the null distribution."
)
_TOLERANCE = flags.DEFINE_float(
    "cochleagram_tolerance",
    None,
    "Largest relative error of the multirate cochleagram against the exact one in float64; sets "
    "its grids, and says what error was measured. Unset: cochleagram.oversampling as it is.",
    lower_bound=0,
)
_SET = flags.DEFINE_multi_string(
    "set",
    [],
    "Any other setting, by its dotted name in config.json: --set=synthesis.learning_rate=0.01",
)


def config_and_folder() -> tuple[configs.ExperimentConfig, pathlib.Path]:
    """Returns what the flags ask for, and the run folder.

    Raises:
        ValueError: A setting does not exist or has a value that cannot be.
    """
    base = _base()
    config = config_from(base)
    for network in config.networks:
        models.build_model(network, num_words=2)  # Refuses an unknown one before any work.
    if config.networks != base.networks and _STAGES.value is None:
        config = dataclasses.replace(config, stages=models.stage_names(config.networks))
    folder = _WORKDIR.value or runs.default_folder(config.preset, config.data.dataset, config.seed)
    return config, pathlib.Path(folder)


def config_from(config: configs.ExperimentConfig) -> configs.ExperimentConfig:
    """Returns the settings with those replaced that flags ask for.

    Raises:
        ValueError: A setting does not exist or has a value that cannot be.
    """
    training = synthesis = None
    if _TRAINING.value is not None:
        training = configs.TRAINING_RECIPES[_TRAINING.value]
    if _RECIPE.value is not None:
        synthesis = configs.SYNTHESIS_RECIPES[_RECIPE.value]
    networks, stages = drivers.tuple_or_none(_NETWORKS.value), drivers.tuple_or_none(_STAGES.value)
    config = configs.replace_given(
        config,
        seed=_SEED.value,
        networks=networks,
        stages=stages,
        targets_per_word=_TARGETS.value,
        training=training,
        synthesis=synthesis,
    )
    config = dataclasses.replace(
        config,
        data=configs.replace_given(
            config.data,
            dataset=_DATASET.value,
            data_zip=_DATA_ZIP.value,
            data_dir=_DATA_DIR.value,
            split=_SPLIT.value,
            words=drivers.tuple_or_none(_WORDS.value),
            skip_bad_files=_SKIP_BAD_FILES.value,
        ),
        training=configs.replace_given(config.training, epochs=_EPOCHS.value),
        synthesis=configs.replace_given(
            config.synthesis,
            as_played=_AS_PLAYED.value,
            steps=_STEPS.value,
            batch_size=_BATCH_SIZE.value,
        ),
        verification=configs.replace_given(config.verification, null_recordings=_NULL.value),
    )
    for assignment in _SET.value:
        config = configs.replace_dotted(config, *drivers.assignment(assignment))
    if _TOLERANCE.value is not None:
        cochleagram, error = accuracy.within(config.cochleagram, _TOLERANCE.value)
        print(f"cochleagram.oversampling={cochleagram.oversampling:g}: relative error {error:.1e}")
        config = dataclasses.replace(config, cochleagram=cochleagram)
    return config


@contextlib.contextmanager
def open_run(
    argv: Sequence[str], share: Callable[[], runs.Share | None] = lambda: None
) -> Iterator[tuple[runs.Run, Callable[[], bool]]]:
    """Opens the run that the flags ask for, to compute in it until done or told to end.

    Args:
        argv: As `main` has it.
        share: Says which of several processes this is. Called before anything is computed.

    Yields:
        The run, and the function that says whether SIGTERM has come.

    Raises:
        app.UsageError: The flags do not make settings.
    """
    (config, folder), of_run = drivers.begin(argv, lambda: (config_and_folder(), share()))
    with (
        drivers.clear_errors(),
        runs.open_run(folder, config, share=of_run) as run,
        runs.stop_on_sigterm() as stop,
    ):
        yield run, stop


def _base() -> configs.ExperimentConfig:
    if _PRESET.value is None and _WORKDIR.value is not None:
        path = pathlib.Path(_WORKDIR.value) / "config.json"
        if path.exists():
            return configs.from_dict(
                configs.ExperimentConfig, json.loads(path.read_text("utf-8"))["experiment"]
            )
    return configs.PRESETS[_PRESET.value or "quick"]
