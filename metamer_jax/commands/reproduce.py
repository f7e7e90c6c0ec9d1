"""Runs the whole chain: trains, synthesises, verifies, and writes the report.

  metamer-jax reproduce                      # preset 'quick', minutes on a laptop
  metamer-jax reproduce --preset=paper --dataset=mini_speech_commands
  metamer-jax reproduce --listening          # and builds a listening experiment of it
  metamer-jax reproduce --networks_from=runs/mine --workdir=runs/more --targets_per_word=4

  metamer-jax reproduce --workdir=runs/mine --share=0/2    # and, beside it, --share=1/2

The same command again continues a run that was interrupted. `--listening` builds the experiment
with its defaults (the paper's procedure) into listening/ of the run folder;
`metamer-jax listen build --workdir=<run folder>` afterwards does the same, with
settings. Either can be served by metamer-jax listen serve.
"""

from collections.abc import Sequence

from absl import flags

from metamer_jax import pipeline, runs
from metamer_jax.commands import closing, settings, sharing
from metamer_jax.listening import config as listening
from metamer_jax.listening.building import build, material
from metamer_jax.runtime import pasting

flags.adopt_module_key_flags(settings)
flags.adopt_module_key_flags(sharing)

_LISTENING = flags.DEFINE_bool(
    "listening", False, "End with a listening experiment, in listening/ of the run folder."
)


def main(argv: Sequence[str]) -> None:
    (config, folder), shard = sharing.begin(settings.config_and_folder)
    report = pipeline.reproduce(config, folder, networks_from=settings.networks_from(), shard=shard)
    if shard is not None and shard.index > 0:
        print(f"Done by {shard}; share 0/{shard.count} writes the report: {report.resolve()}")
        return
    print(closing.table(runs.read_run(folder)))
    print(f"Report: {report.resolve()}")
    if _LISTENING.value:
        out = folder / "listening"
        design = listening.ListeningConfig()
        run = runs.read_run(folder, needs=["verification"])
        build.write(build.make(material.load(run, design), design), out)
        print(f"Listening experiment: {(out / 'private' / 'report.html').resolve()}")
        print(f"Serve it: {pasting.command('listen serve', f'--experiment={out}')}")
    else:
        next_one = pasting.command("listen build", f"--workdir={folder}")
        print(f"Next, an experiment for listeners: {next_one}")
