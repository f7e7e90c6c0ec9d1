"""Verifies the run's metamers on the exact model: verification/ and wav/ in the run folder.

metamer-jax verify --workdir=runs/mine
"""

from collections.abc import Sequence

from absl import flags

from metamer_jax import pipeline
from metamer_jax.commands import settings, sharing

flags.adopt_module_key_flags(settings)
flags.adopt_module_key_flags(sharing)


def main(argv: Sequence[str]) -> None:
    with settings.open_run(continues=True) as (run, recordings, stop):
        pipeline.verify_metamers(run, recordings, stop=stop)
    print(f"Verification: {run.path('verification').resolve()}")
