"""The exact model's view of sounds: what verification measures, made into tables.

Everything here is computed from the dense cochleagram in float32 at the highest matrix product
precision, whatever fast path made the metamers.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from metamer_jax import auditory, cochleagram, metamers, programs, verification
from metamer_jax.configs import CochleagramConfig, VerificationConfig

if TYPE_CHECKING:
    import pandas as pd

VERSIONS = ("raw", "played")
_NETWORK_BATCH = 64
_HEARD_AT_ONCE = 128  # Exact cochleagrams of a second weigh 170 kB each.


class Heard(NamedTuple):
    """Sounds as one network hears them."""

    predictions: np.ndarray  # [sound] int, index of the word.
    activations: dict[str, np.ndarray]  # Stage -> [sound, ...].


def exact(config: CochleagramConfig) -> CochleagramConfig:
    """Returns the config of the exact cochleagram."""
    return dataclasses.replace(config, method="dense")


def dense_cochleagrams(
    waveforms: np.ndarray,
    config: CochleagramConfig,
    *,
    batch_size: int = 8,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Computes exact cochleagrams [sound, channel, frame] of waveforms [sound, time]."""
    config = exact(config)
    filters = cochleagram.design_cochleagram(config)
    shape = (len(waveforms), config.num_channels, config.num_frames)
    out = np.empty(shape, np.float32)
    for rows, batch in _padded(waveforms, min(batch_size, len(waveforms))):
        with jax.default_matmul_precision("highest"):
            made = _cochleagrams(batch, filters, config=config)
        out[rows] = np.asarray(made)[: len(out[rows])]
        if on_batch is not None:
            on_batch(len(out[rows]))
    return out


_cochleagrams = programs.jit(cochleagram.cochleagram, static_argnames="config")


def hear(
    model: nn.Module,
    variables: auditory.Variables,
    cochleagrams: np.ndarray,
    stages: Sequence[str] | None = None,
) -> Heard:
    """Runs a network on cochleagrams [sound, channel, frame], keeping some stages (None: all)."""
    programs.make_room()
    stages = auditory.stage_names(model) if stages is None else tuple(stages)
    variables = auditory.without_filters(variables)
    predictions, kept = [], {stage: [] for stage in stages}
    for rows, batch in _padded(cochleagrams, min(_NETWORK_BATCH, len(cochleagrams))):
        logits, activations = _apply(variables, batch, model=model, stages=stages)
        count = len(cochleagrams[rows])
        predictions.append(np.argmax(np.asarray(logits)[:count], axis=-1))
        for stage in stages:
            kept[stage].append(np.asarray(activations[stage])[:count])
    return Heard(
        np.concatenate(predictions), {stage: np.concatenate(v) for stage, v in kept.items()}
    )


def recognize(
    networks: Sequence[tuple[nn.Module, auditory.Variables]],
    waveforms: np.ndarray,
    config: CochleagramConfig,
    *,
    batch_size: int = 8,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Lets several networks hear the same sounds, through the exact cochleagram.

    Args:
        networks: (module, variables) of each.
        waveforms: [sound, time], at the level at which they are to be heard.
        config: Of the cochleagram.
        batch_size: Cochleagrams made at once.
        on_batch: Called with the number of sounds of which cochleagrams were made.

    Returns:
        [network, sound] int, index of the word that each hears.
    """
    found = np.empty((len(networks), len(waveforms)), int)
    for start in range(0, len(waveforms), _HEARD_AT_ONCE):
        rows = slice(start, min(start + _HEARD_AT_ONCE, len(waveforms)))
        cochleagrams = dense_cochleagrams(
            waveforms[rows], config, batch_size=batch_size, on_batch=on_batch
        )
        for i, (model, variables) in enumerate(networks):
            found[i, rows] = hear(model, variables, cochleagrams, stages=()).predictions
    return found


@functools.partial(jax.jit, static_argnames=("model", "stages"))
def _apply(variables, batch, *, model, stages):
    with jax.default_matmul_precision("highest"):
        logits, activations = model.apply(variables, batch)
    return logits, {stage: activations[stage] for stage in stages}


def _padded(values: np.ndarray, size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields batches of one size, the last one padded, and which rows each holds."""
    for start in range(0, len(values), size):
        rows = slice(start, min(start + size, len(values)))
        batch = values[rows]
        missing = size - len(batch)
        yield rows, np.pad(batch, [(0, missing)] + [(0, 0)] * (values.ndim - 1), mode="edge")


def null_distributions(
    model: nn.Module,
    variables: auditory.Variables,
    cochleagrams: np.ndarray,
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
        cochleagrams: [recording, channel, frame] exact cochleagrams.
        stages: Which stages.
        speakers: [recording] str.
        fingerprints: [recording] equal for recordings with equal samples.
        seed: Of the choice of pairs.
        known: Distributions made before; the stage `cochleagram` is the same for all networks.
    """
    found = dict(known or {})
    for stage in stages:
        if stage in found:
            continue
        # One stage at a time: all five of 1,500 recordings would fill a laptop's memory.
        if stage == "cochleagram":
            activations = cochleagrams
        else:
            activations = hear(model, variables, cochleagrams, [stage]).activations[stage]
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
        arrays = {name: np.array(values[targets]) for name, values in self.made._asdict().items()}
        arrays["trace_step"] = np.array(self.made.trace_step)
        made = metamers.Synthesis(**arrays)
        return self._replace(made=made, target_ids=self.target_ids[targets])


def assess(
    model: nn.Module,
    targets: Heard,
    versions: Mapping[str, Heard],
    metamer: StageMetamers,
    *,
    null: verification.NullDistribution,
    words: Sequence[str],
    config: VerificationConfig,
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Verifies the metamers of one network and stage.

    Args:
        model: The network; its stages are all measured.
        targets: The targets as heard, every stage.
        versions: "raw" and "played" metamers as heard, every stage; rows in the order target,
            seed.
        metamer: Which they are and how they came about.
        null: Of the matched stage.
        words: What the classes are called.
        config: What counts.

    Returns:
        A row per metamer (the columns of verification/metamers.csv but those that say which
        recording the target is), and a row per metamer, version and measured stage.
    """
    import pandas as pd

    shape = metamer.made.outcome.shape
    of_target = np.repeat(np.arange(shape[0]), shape[1])
    words = np.asarray(words)
    target_words = words[targets.predictions][of_target]
    identity = {
        "stage": metamer.stage,
        "target_id": metamer.target_ids[of_target],
        "seed": np.tile(metamer.seeds, shape[0]),
    }
    outcomes = [metamers.Outcome(o).name.lower() for o in metamer.made.outcome.ravel()]
    table = pd.DataFrame(
        {
            **identity,
            "stage_index": auditory.stage_names(model).index(metamer.stage),
            "outcome": outcomes,
            "steps": metamer.made.steps.ravel(),
            "synthesis_relative_error": metamer.made.relative_error.ravel(),
            "target_prediction": target_words,
        }
    )
    long = []
    for version in VERSIONS:
        heard = versions[version]
        predictions = words[heard.predictions]
        for stage, activation in heard.activations.items():
            quality = verification.match_quality(targets.activations[stage][of_target], activation)
            long.append(
                pd.DataFrame(
                    {
                        **identity,
                        "version": version,
                        "measured_stage": stage,
                        "class_match": predictions == target_words,
                        **quality._asdict(),
                    }
                )
            )
            if stage != metamer.stage:
                continue
            decided = verification.verdicts(
                predictions,
                target_words,
                quality,
                null=null,
                num_features=int(np.prod(activation.shape[1:])),
                config=config,
                outcomes=outcomes,
            )
            prefix = "" if version == "raw" else "played_"
            columns = {"prediction": predictions, **quality._asdict(), **decided._asdict()}
            if version == "played":
                for repeated in ("null_max", "decided_by"):
                    del columns[repeated]
            for name, values in columns.items():
                table[prefix + name] = values
    return table, pd.concat(long, ignore_index=True)


def recording_columns(ids: Sequence[int], recordings: Any) -> dict[str, np.ndarray]:
    """Says which recordings the targets `ids` (indices into the recordings) are."""
    ids = np.asarray(ids)
    return {
        "word": np.asarray(recordings.words)[recordings.labels[ids]],
        "target_name": recordings.names[ids],
        "speaker": recordings.speakers[ids],
    }
