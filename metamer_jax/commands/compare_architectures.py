"""Does it matter how a network connects over frequency, or only how large it is?

  metamer-jax compare --workdir=runs/compare
  metamer-jax compare --networks=conv2d,conv2d:untrained --seeds=0,1
  metamer-jax compare --networks=paper --runs=runs/mine,runs/crepe
  metamer-jax compare --workdir=runs/compare --report_only
  metamer-jax compare --workdir=runs/compare --share=0/2    # and, beside it, --share=1/2

Trains every network of the list in every seed, synthesises and verifies metamers of every stage,
and lets every network hear the metamers of all. --networks takes names of networks, with a training
recipe of their own after a colon, and names of sets. --runs adds the networks of finished runs,
those of somebody's own models too (mj.save_run), with the metamers that they have, which must be of
the sounds that are compared; with --runs alone nothing is trained. Stop it whenever you like: the
same command continues, and takes more networks, runs and seeds than it had. status.txt says what is
left; report/ holds tables, figures and report.md, written anew after every seed, and by
--report_only from what is there, also while another process works.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from metamer_jax import configs, data, pipeline, runs, storage
from metamer_jax.commands import settings, sharing
from metamer_jax.comparison import entries, runner, status, summary

flags.adopt_module_key_flags(settings)
flags.adopt_module_key_flags(sharing)

_FLAGS = flags.FLAGS
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds in which every network is trained.")
_SET = flags.DEFINE_enum(
    "set_of_networks",
    "all",
    sorted(entries.SETS),
    "Networks to compare, unless --networks names them: 'all' are the four connections, their "
    "controls of equal size, an antialiased network, and other ways of training.",
)
_RUNS = flags.DEFINE_list(
    "runs", [], "Folders of finished runs whose networks are compared with the others as they are."
)
_TOGETHER = flags.DEFINE_bool(
    "train_together", True, "Train all seeds of a network at once, on the same changes of clips."
)
_KEEP_CLIPS = flags.DEFINE_bool(
    "keep_clips",
    False,
    "Leave training/clips, the changed clips of every epoch (one gigabyte), when all networks are "
    "trained: networks and seeds added later then train sooner. It may be deleted at any time.",
)
_REPORT_ONLY = flags.DEFINE_bool(
    "report_only", False, "Write the report of what is there (after missing cross-tests)."
)
_STATUS_ONLY = flags.DEFINE_bool("status_only", False, "Say what is done and left, and end.")
_DRAWS = flags.DEFINE_integer("draws", 4000, "Bootstrap samples.", 100)

# One target of each word, the fast recipes, the published widths' training with augmentation.
_DEFAULTS = configs.ExperimentConfig(
    preset="compare",
    targets_per_word=1,
    training=configs.TRAINING_RECIPES["augmented"],
    synthesis=configs.SYNTHESIS_RECIPES["fast"],
)


def main(argv: Sequence[str]) -> None:
    home, shard = sharing.begin(_home)
    if _STATUS_ONLY.value:
        print(status.table(home))
        return
    with runs.stop_on_sigterm() as stop:
        if _REPORT_ONLY.value:
            runner.cross_test(home, stop=stop)
        else:
            _work(home, shard, stop)
            if shard is not None and shard.index > 0:
                print(f"Done by {shard}; share 0/{shard.count} writes the report")
                return
        path = summary.write(home, resamples=_DRAWS.value)
    print(f"Report: {path.resolve()}")


def _work(home: runner.ComparisonFolder, shard: runs.Shard | None, stop) -> None:
    runs.check(home.folder, home.comparison, may_differ=runner.MAY_DIFFER)
    recordings = None
    if any(runner.left(home)):  # Then what cannot be is said before the folder is made.
        for member in home.trained:
            pipeline.check_networks(home.settings(member))
        if home.trained:
            config = home.settings(home.trained[0])
            recordings = data.load(config.data)
            pipeline.check_recordings(config, recordings)
        runner.check_saved(home, recordings)
    with runner.open_folder(home.folder, home.comparison, shard=shard):
        print(status.table(home), flush=True)
        storage.write_text(home.path("status.txt"), status.table(home))
        if recordings is not None and (shard is None or shard.owns(0)):
            with home.open(home.trained[0]) as run:
                storage.write_json(run.path("data", "summary.json"), recordings.summary)
        runner.run_all(
            home,
            recordings,
            together=_TOGETHER.value,
            keep_clips=_KEEP_CLIPS.value,
            shard=shard,
            stop=stop,
            on_part=status.recorder(home),
            on_round=lambda: summary.write(home, resamples=_DRAWS.value),
        )


def _home() -> runner.ComparisonFolder:
    """Returns the folder and the comparison that the flags ask for.

    Raises:
        ValueError: A network, recipe, seed or setting does not exist.
    """
    folder = pathlib.Path(_FLAGS.workdir or "runs/compare")
    labels = _FLAGS.networks or entries.SETS[_SET.value]
    if _RUNS.value and not _FLAGS.networks and not _FLAGS["set_of_networks"].present:
        labels = ()
    base = settings.config_from(_base(folder, labels))
    base = configs.replace_given(base, networks=_DEFAULTS.networks)
    comparison = runner.Comparison(
        entries=tuple(entry.label for entry in entries.parse(labels)) if labels else (),
        runs=tuple(str(pathlib.Path(run).resolve()) for run in _RUNS.value),
        seeds=tuple(int(seed) for seed in _SEEDS.value),
        experiment=base,
    )
    home = runner.ComparisonFolder(folder, comparison)
    home.saved  # noqa: B018  Refuses runs that cannot be read.
    return home


def _base(folder: pathlib.Path, labels: Sequence[str]) -> configs.ExperimentConfig:
    """A preset, or the settings of the comparison in the folder, or of the first run."""
    if _FLAGS.preset is not None:
        return configs.PRESETS[_FLAGS.preset]
    if (folder / runs.CONFIG).exists():
        return runs.read_run(folder, runner.Comparison).config.experiment
    if not labels:
        return runs.read_run(_RUNS.value[0]).config
    return _DEFAULTS
