"""Lets networks listen to a run's metamers, as a stand-in for people that is always there.

  metamer-jax listen machines --workdir=runs/mine --listeners=6
  metamer-jax listen machines --workdir=runs/mine --experiment=runs/mine/listening
  metamer-jax listen machines --workdir=runs/mine --share=0/2    # and, beside it, --share=1/2

Trains a panel on the run's words (other seeds, networks, augmentations; a minute or two each, kept
in listeners/ of the run folder, continued where it was interrupted), lets it and the run's own
networks hear every metamer as played, and fills in the trial table that people's answers make,
source "machine". With --experiment they take that experiment, file by file; without, they hear
every verified metamer of the run. `metamer-jax listen analyze` shows them beside people.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from metamer_jax import data, models, pipeline, runs
from metamer_jax.analysis import suite
from metamer_jax.commands import sharing
from metamer_jax.listening import listeners as machines
from metamer_jax.listening.config import VERIFIED
from metamer_jax.listening.results import summary, writing
from metamer_jax.listening.serving import sessions

flags.adopt_module_key_flags(sharing)

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the finished run.", required=True)
_LISTENERS = flags.DEFINE_integer(
    "listeners", 6, "Networks to train as listeners, beside the run's own.", 0
)
_RECIPES = flags.DEFINE_list(
    "recipes",
    list(machines.DEFAULT_RECIPES),
    f"Training recipes of the panel in turn, of {', '.join(machines.RECIPES)}.",
)
_NETWORKS = flags.DEFINE_list(
    "networks",
    [],
    f"Networks of the panel in turn, of {', '.join(models.PRESETS)}. Unset: "
    f"{', '.join(machines.DEFAULT_NETWORKS)}.",
)
_EPOCHS = flags.DEFINE_integer("epochs", None, "Training epochs at most.", 1)
_EXPERIMENT = flags.DEFINE_string(
    "experiment", None, "Folder of a built experiment for them to take. Unset: the run's metamers."
)
_VERIFIED = flags.DEFINE_enum(
    "verified",
    "pass",
    VERIFIED,
    "Of the run's metamers: those that passed verification and keep their class as played, or any.",
)
_OUT = flags.DEFINE_string(
    "out", None, f"Where the answers go. Unset: {machines.FOLDER}/ of the experiment or the run."
)
_DRAWS = flags.DEFINE_integer("draws", 10_000, "Permutations, and bootstrap samples.", 0)


def main(argv: Sequence[str]) -> None:
    run, shard = sharing.begin(lambda: runs.read_run(_WORKDIR.value, needs=["verification"]))
    experiment = sessions.load_experiment(_EXPERIMENT.value) if _EXPERIMENT.value else None
    listeners = machines.panel(
        run.config,
        _LISTENERS.value,
        recipes=_RECIPES.value,
        networks=_NETWORKS.value,
        epochs=_EPOCHS.value,
    )
    if listeners:
        with runs.stop_on_sigterm() as stop:
            recordings = data.load(run.config.data)
            machines.train_panel(run, recordings, listeners, stop=stop, shard=shard)
    networks = machines.load_panel(run, listeners)
    home = run.folder if experiment is None else experiment.folder
    folder = pathlib.Path(_OUT.value or home / machines.FOLDER)
    part = machines.Part(folder / "heard", shard or runs.Shard())
    if experiment is None:
        trials = machines.listen_to_run(run, networks, verified=_VERIFIED.value, part=part)
    else:
        trials = machines.listen_to_experiment(run, networks, experiment, part=part)
    if trials is None:
        print(f"Done by {part.shard}; share 0/{part.shard.count} writes the answers.")
        return
    found, read = writing.write_machines(
        trials,
        folder,
        words=pipeline.recorded_words(run),
        about=machines.accuracy(run, listeners),
        config=suite.AnalysisConfig(permutations=_DRAWS.value, resamples=_DRAWS.value),
    )
    print(summary.in_words(found, read))
    print(f"\nAnswers: {(folder / 'trials.csv').resolve()}")
    print(f"Report:  {(folder / 'report.html').resolve()}")
