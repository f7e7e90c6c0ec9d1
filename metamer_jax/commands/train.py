"""Trains the run's networks to recognise words: networks/ in the run folder.

metamer-jax train --preset=paper --training=augmented --workdir=runs/mine
"""

from collections.abc import Sequence

from absl import flags

from metamer_jax import pipeline
from metamer_jax.commands import settings, sharing

flags.adopt_module_key_flags(settings)
flags.adopt_module_key_flags(sharing)


def main(argv: Sequence[str]) -> None:
    with settings.open_run() as (run, recordings, stop):
        pipeline.train_networks(run, recordings, stop=stop)
    print(f"Networks: {run.path('networks').resolve()}")
