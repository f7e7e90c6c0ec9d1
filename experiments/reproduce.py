"""Runs the whole chain: trains, synthesises, verifies, and writes the report.

  python -m experiments.reproduce                      # preset 'quick', minutes on a laptop
  python -m experiments.reproduce --preset=paper --dataset=mini_speech_commands
  python -m experiments.reproduce --listening          # and builds a listening experiment of it
  python -m experiments.reproduce --networks_from=runs/mine --workdir=runs/more --targets_per_word=4

The same command again continues a run that was interrupted. `--listening` builds the experiment
with its defaults (the paper's procedure) into listening/ of the run folder;
`python -m experiments.build_listening_test --workdir=<run folder>` afterwards does the same, with
settings. Either can be served by experiments.serve_listening_test.
"""

from collections.abc import Sequence

from absl import flags

from experiments import drivers, settings
from metamer_jax import pipeline, runs
from metamer_jax.listening import config as listening
from metamer_jax.listening.building import build, material

flags.adopt_module_key_flags(settings)

_LISTENING = flags.DEFINE_bool(
    "listening", False, "End with a listening experiment, in listening/ of the run folder."
)


def main(argv: Sequence[str]) -> None:
    config, folder = drivers.begin(settings.config_and_folder)
    report = pipeline.reproduce(config, folder, networks_from=settings.networks_from())
    print(f"Report: {report.resolve()}")
    if _LISTENING.value:
        out = folder / "listening"
        design = listening.ListeningConfig()
        run = runs.read_run(folder, needs=["verification"])
        build.write(build.make(material.load(run, design), design), out)
        print(f"Listening experiment: {(out / 'private' / 'report.html').resolve()}")
        print(f"Serve it: python -m experiments.serve_listening_test --experiment={out}")


if __name__ == "__main__":
    drivers.run(main)
