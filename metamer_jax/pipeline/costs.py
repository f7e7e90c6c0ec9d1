"""What the parts of a run cost beside each other, for the time that is left of all of them."""

from collections.abc import Iterator

import numpy as np

from metamer_jax import runs
from metamer_jax.data import Recordings
from metamer_jax.pipeline.train import conditions_of

# Seconds on two cores, from the rates in docs/measurements/speed.md. How fast a machine is, is
# measured as it goes; these only say how much of the work is still to come.
_TRAIN_CLIP_S = 0.0016  # A clip in an epoch,
_TRAIN_CLIP_OF_S = {"frequency_grouped": 0.0002, "frequency_dense": 0.0002}  # of these networks,
_CHANGED_CLIP_S = 0.0014  # and where each is changed before, that.
_COMPILE_S = 5.0  # A stage's program.
_COCHLEAGRAM_STEP_S, _NETWORK_STEP_S = 0.003, 0.0012  # A step of one target.
_SOUND_S = 0.04  # A sound's exact cochleagram, and what all networks answer.
_REPORT_S = 10.0


def of_run(run: runs.Run, recordings: Recordings, num_targets: int) -> dict[str, float]:
    """Returns what each part costs by the description of its bar, in the order of the chain.

    Args:
        run: The run.
        recordings: Its recordings.
        num_targets: How many of them are targets.
    """
    config = run.config
    clips = config.training.epochs * np.count_nonzero(recordings.splits == "train")
    change_s = _CHANGED_CLIP_S if config.training.augment.of_waveforms else 0.0
    found = {
        f"training {network}": clips * (_TRAIN_CLIP_OF_S.get(network, _TRAIN_CLIP_S) + change_s)
        for network in config.networks
    }
    synthesis = dict(_of_synthesis(run, recordings, num_targets))
    made = num_targets * (1 + len(synthesis) * len(config.synthesis.seeds))
    return found | synthesis | {
        "natural recordings": config.verification.null_recordings * _SOUND_S,
        "verifying": made * 2 * _SOUND_S,
        "report": _REPORT_S,
    }  # fmt: skip


def _of_synthesis(
    run: runs.Run, recordings: Recordings, num_targets: int
) -> Iterator[tuple[str, float]]:
    """Metamers of the cochleagram are made once for all networks."""
    step_s = {"cochleagram": _COCHLEAGRAM_STEP_S}
    for network, stage in conditions_of(run, recordings):
        if network == run.config.networks[0] or stage != "cochleagram":
            config = run.config.synthesis.for_stage(stage, network)
            steps = num_targets * len(config.seeds) * config.steps
            cost = _COMPILE_S + steps * step_s.get(stage, _NETWORK_STEP_S)
            yield f"{network} {stage}", cost
