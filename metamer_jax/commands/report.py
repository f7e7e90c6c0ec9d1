"""Writes report.html and figures/ from what the run folder holds so far.

metamer-jax report --workdir=runs/mine
"""

from collections.abc import Sequence

from absl import flags

from metamer_jax import pipeline, runs
from metamer_jax.commands import drivers, settings

flags.adopt_module_key_flags(settings)


def main(argv: Sequence[str]) -> None:
    config, folder = drivers.begin(settings.config_and_folder)
    runs.read_run(folder)  # There must be one.
    with runs.open_run(folder, config) as run:
        report = pipeline.write_report(run)
    print(f"Report: {report.resolve()}")
