"""What a stage's metamers are worth: measures and verdicts in tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import numpy as np

from metamer_jax import auditory, metamers, verification
from metamer_jax.auditory.exact import Responses, Sounds, hears_waveforms, run_network
from metamer_jax.configs import VerificationConfig

if TYPE_CHECKING:
    import pandas as pd


class Compared(NamedTuple):
    """What a network does with targets and with metamers that were prepared alike."""

    targets: Responses  # Rows [target].
    metamers: Responses  # Rows in the order target, seed.


def null_distributions(
    model: nn.Module,
    variables: auditory.Variables,
    sounds: Sounds,
    stages: Sequence[str],
    *,
    speakers: np.ndarray,
    fingerprints: np.ndarray,
    seed: int,
    known: Mapping[str, verification.NullDistribution] | None = None,
) -> dict[str, verification.NullDistribution]:
    """Makes each stage's null distribution over pairs of natural recordings.

    Args:
        model: The network.
        variables: Its variables.
        sounds: The recordings.
        stages: Names of the stages.
        speakers: Speaker of each [recording].
        fingerprints: Labels [recording], equal for recordings with equal samples.
        seed: Seed of the choice of pairs.
        known: Distributions made before; the stage `cochleagram` is the same for all networks.

    Returns:
        Null distribution of each stage.
    """
    found = dict(known or {})
    for stage in stages:
        if stage in found:
            continue
        # One stage at a time: all five of 1,500 recordings would fill a laptop's memory.
        if stage == "cochleagram" and not hears_waveforms(model):
            activations = sounds.cochleagrams
        else:
            activations = run_network(model, variables, sounds, [stage]).activations[stage]
        found[stage] = verification.null_distribution(
            activations, speakers=speakers, fingerprints=fingerprints, seed=seed
        )
    return {stage: found[stage] for stage in stages}


class StageMetamers(NamedTuple):
    """The finished metamers of one network and stage, and what their targets are."""

    stage: str
    made: metamers.Synthesis
    target_ids: np.ndarray  # [target]
    seeds: np.ndarray  # [seed]

    def rows(self, targets: slice) -> "StageMetamers":
        """Returns those of some targets, in memory."""
        made = self.made.rows(targets)
        return self._replace(made=made, target_ids=self.target_ids[targets])


def assess(
    model: nn.Module,
    versions: Mapping[str, Compared],
    metamer: StageMetamers,
    *,
    null: verification.NullDistribution,
    words: Sequence[str],
    config: VerificationConfig,
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Verifies the metamers of one network and stage.

    Args:
        model: The network; its stages are all measured.
        versions: Responses at every stage to the sounds as they are "played" and, where these are
            others, as they were "optimised".
        metamer: Metamers, with their targets and how their synthesis ended.
        null: Null distribution of the matched stage.
        words: Names of the classes.
        config: Criteria of the verdict.

    Returns:
        A row per metamer (the columns of verification/metamers.csv but those that say which
        recording the target is), and a row per metamer, version and measured stage.
    """
    import pandas as pd

    ended = metamer.made.columns(metamer.target_ids, metamer.seeds)
    identity = {"stage": metamer.stage, "target_id": ended["target_id"], "seed": ended["seed"]}
    of_target = np.repeat(np.arange(len(metamer.target_ids)), len(metamer.seeds))
    names = np.asarray(words)
    target_words = names[versions["played"].targets.predictions][of_target]
    table = pd.DataFrame({"stage": metamer.stage, **ended}).assign(
        stage_index=auditory.stage_names(model).index(metamer.stage),
        synthesis_relative_error=metamer.made.relative_error.ravel(),
        target_prediction=target_words,
    )
    long = []
    for version, (targets, made) in versions.items():
        wanted = names[targets.predictions][of_target]
        predictions = names[made.predictions]
        for stage, activation in made.activations.items():
            quality = verification.match_quality(targets.activations[stage][of_target], activation)
            long.append(
                pd.DataFrame(
                    {
                        **identity,
                        "version": version,
                        "measured_stage": stage,
                        "class_match": predictions == wanted,
                        **quality._asdict(),
                    }
                )
            )
            if stage == metamer.stage:
                judged = verification.judged(
                    version,
                    predictions,
                    wanted,
                    quality,
                    null=null,
                    num_features=int(np.prod(activation.shape[1:])),
                    config=config,
                    outcomes=ended["outcome"],
                )
                table = table.assign(**judged)
    return table, pd.concat(long, ignore_index=True)


def first_columns(table: "pd.DataFrame", names: Sequence[str]) -> "pd.DataFrame":
    """Returns a table with these columns first, the others as they were."""
    return table[[*names, *(name for name in table.columns if name not in names)]]


def recording_columns(ids: Sequence[int] | np.ndarray, recordings: Any) -> dict[str, np.ndarray]:
    """Says which recordings the targets `ids` (indices into the recordings) are."""
    rows = np.asarray(ids)
    return {
        "word": np.asarray(recordings.words)[recordings.labels[rows]],
        "target_name": recordings.names[rows],
        "speaker": recordings.speakers[rows],
    }
