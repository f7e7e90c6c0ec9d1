"""Synthesises metamers from the run's trained networks: metamers/ in the run folder.

  metamer-jax synthesize --workdir=runs/mine

All of a machine's devices are used. Several processes, on one machine or on several that share
the run folder, each make a part of the batches; `metamer-jax verify` joins them. So do training,
verification and `metamer-jax reproduce`:

  metamer-jax synthesize --workdir=runs/mine --share=0/2     # and the same with --share=1/2
"""

from collections.abc import Sequence

from absl import flags

from metamer_jax import pipeline
from metamer_jax.commands import settings, sharing

flags.adopt_module_key_flags(settings)
flags.adopt_module_key_flags(sharing)


def main(argv: Sequence[str]) -> None:
    with settings.open_run(continues=True) as (run, recordings, stop):
        pipeline.synthesize_metamers(run, recordings, stop=stop)
    print(f"Metamers: {run.path('metamers').resolve()}")
