"""Metamers of a model of one's own, checked as those of the project's networks are.

heard = AsPlayed(sample_rate_hz, level=0.1)
made = synthesize(key, sounds, ids, stage_fn=stage, variables=variables, parametrisation=heard)
found = verify(
    model, variables, "conv2", made, sounds, recordings, logits="output", parametrisation=heard
)
found.table[["relative_error", "spearman", "verdict", "reason"]]
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from metamer_jax import audio, metamers, verification
from metamer_jax import cochleagram as cochleagrams
from metamer_jax.configs import PlaybackConfig, VerificationConfig
from metamer_jax.own_models.wrapping import OwnModel, Variables, stage_fn
from metamer_jax.runtime import progress
from metamer_jax.runtime.batches import in_batches

if TYPE_CHECKING:
    import pandas as pd


def activations(
    model: OwnModel,
    variables: Variables,
    sounds: np.ndarray,
    stage: str,
    *,
    batch_size: int = 8,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Returns what one stage does with sounds: [sound, time] to [sound, ...].

    At the highest precision of matrix products, and with the exact cochleagram if the variables
    hold its filters (`exact`).

    Raises:
        ValueError: The sounds are not finite floating-point numbers [sound, time].
    """
    sounds = checked("sounds", sounds, model)
    fn = stage_fn(model, stage, relu_override=False)
    respond = functools.partial(_respond, variables, stage_fn=fn)
    return in_batches(respond, sounds, batch_size, on_batch)


@functools.partial(jax.jit, static_argnames="stage_fn")
def _respond(variables, batch, *, stage_fn):
    with jax.default_matmul_precision("highest"):
        return jax.vmap(functools.partial(stage_fn, variables))(batch)


def exact(model: OwnModel, variables: Variables) -> tuple[OwnModel, Variables]:
    """Returns the model with the exact (dense) cochleagram; itself where that is so already."""
    config = model.cochleagram
    if config is None or config.method == "dense":
        return model, variables
    config = dataclasses.replace(config, method="dense")
    filters = cochleagrams.design_cochleagram(config)
    return dataclasses.replace(model, cochleagram=config), {**variables, "filters": filters}


class Verification(NamedTuple):
    """What `verify` found."""

    table: "pd.DataFrame"  # A row per metamer.
    null: verification.NullDistribution  # Of the matched stage.


def verify(
    model: OwnModel,
    variables: Variables,
    stage: str,
    made: metamers.Synthesis,
    sounds: np.ndarray,
    recordings: np.ndarray,
    *,
    logits: str | None,
    parametrisation: metamers.AsPlayed | None = None,
    level: float | None = audio.RMS,
    sample_rate_hz: int | None = None,
    playback: PlaybackConfig | None = None,
    target_ids: Sequence[int] | None = None,
    seeds: Sequence[int] = (0,),
    speakers: Sequence[str] | None = None,
    config: VerificationConfig | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> Verification:
    """Checks metamers of a model as they are played, on its exact cochleagram, against chance.

    A metamer passes if, as a 16-bit file, the model gives it its target's class, and its activation
    is more like the target's than those of any two different recordings are; see
    `verification.verdicts`.

    Args:
        model: The model, from `wrap_model`.
        variables: Its variables, from `wrap_model`.
        stage: Name of the matched stage.
        made: Metamers from `metamers.synthesize`.
        sounds: Targets [target, time].
        recordings: Natural sounds [recording, time] for the null distribution, of which
            `config.null_recordings` are drawn where there are more.
        logits: Name of the stage of which the largest entry is the class; None: the model has no
            classes, and the match alone decides.
        parametrisation: What made sounds as they are played in the synthesis, which then also says
            `level` and sample rate; None: the metamers were optimised as waveforms of any level,
            and are faded and levelled here.
        level: RMS at which the model was trained to take sounds; None: it does not mind.
        sample_rate_hz: Sample rate, Hz; by default the cochleagram's.
        playback: Level, ramps and largest peak of the files.
        target_ids: Integers [target]; by default 0, 1, ...
        seeds: Integers [seed], as for the synthesis.
        speakers: Speaker of each [recording], to count pairs of one speaker; None: unknown.
        config: Criteria of the verdict.
        seed: Seed of the recordings and pairs drawn.
        show_progress: Whether to show a bar.

    Returns:
        A row per metamer, targets in order and seeds within, and the stage's null distribution.
        The columns are target_id and seed; outcome and steps (how the synthesis ended, and when);
        level_db (of the file, dB re full scale); target_prediction, prediction and class_match
        (indices of classes, and whether they are one; missing without classes). Of the
        activations, s of the target and m of the metamer: relative_error (||s - m|| / ||s||),
        spearman, pearson_r, pearson_r2, snr_db (10 log10(sum s^2 / sum (s - m)^2)) and
        snr_of_norms_db (10 log10(||s|| / ||s - m||), half of it, as Feather et al. 2023 print it).
        Of the pairs of different recordings: null_max (their largest spearman) and
        null_percentile (how many have a smaller one than the metamer, percent). And decided_by
        ("spearman" or "relative_error"), verdict ("pass" or "fail") and reason (why it failed).
        Without a parametrisation the same of the waveform as it was optimised, "optimised_...".

    Raises:
        ValueError: There is no such stage, the arrays do not fit the model or each other, the
            sample rate is not known, or there are too few recordings for a null distribution.
    """
    import pandas as pd

    config = VerificationConfig() if config is None else config
    parametrised = parametrisation is not None
    if parametrisation is None:
        rate = _sample_rate_hz(model, sample_rate_hz)
        parametrisation = metamers.AsPlayed(rate, playback or PlaybackConfig(), level)
    playback = parametrisation.playback if playback is None else playback
    model, variables = exact(model, variables)
    sounds = checked("sounds", sounds, model)
    recordings = checked("recordings", recordings, model)
    waveforms = np.asarray(made.waveform)
    ids = np.arange(len(sounds)) if target_ids is None else np.asarray(target_ids)
    wanted = (len(sounds), len(seeds))
    if waveforms.shape[:2] != wanted or ids.shape != wanted[:1]:
        raise ValueError(
            f"made must hold metamers of {wanted} (targets, seeds) and target_ids one id a target, "
            f"got {waveforms.shape[:2]} and {ids.shape}"
        )
    drawn = np.random.default_rng([seed, 1]).permutation(len(recordings))
    drawn = np.sort(drawn[: config.null_recordings])
    of_target = np.repeat(np.arange(len(sounds)), len(seeds))
    count, waveforms = len(sounds), waveforms.reshape(-1, waveforms.shape[-1])
    rate, ramp_s = parametrisation.sample_rate_hz, playback.ramp_s
    faded = np.concatenate(
        [
            audio.fade(sounds, ramp_s, rate),
            waveforms if parametrised else audio.fade(waveforms, ramp_s, rate),
        ]
    )
    samples, level_db = audio.to_int16(faded, playback)
    versions = {"played": audio.heard(samples, level_db, parametrisation.level)}
    if not parametrised:
        versions["optimised"] = np.concatenate([sounds, waveforms])
    total = len(drawn) + len(faded) * len(versions) * (1 if logits is None else 2)
    style = None if show_progress else "none"
    with progress.bar(total, f"verifying {stage}", unit="sound", style=style) as bar:
        respond = functools.partial(
            activations, model, variables, batch_size=config.batch_size, on_batch=bar.update
        )
        matched = {name: respond(every, stage) for name, every in versions.items()}
        classes = {
            name: np.zeros(len(every), int) if logits is None else _classes(respond(every, logits))
            for name, every in versions.items()
        }
        null = verification.null_distribution(
            respond(recordings[drawn], stage),
            speakers=None if speakers is None else np.asarray(speakers)[drawn],
            fingerprints=verification.fingerprints(recordings[drawn]),
            seed=seed,
        )
    found = {
        **made.columns(ids, seeds),
        "level_db": level_db[count:],
        "target_prediction": classes["played"][:count][of_target],
    }
    for name in versions:
        responses = matched[name].reshape(len(faded), -1)
        quality = verification.match_quality(responses[:count][of_target], responses[count:])
        found |= verification.judged(
            name,
            classes[name][count:],
            classes[name][:count][of_target],
            quality,
            null=null,
            num_features=responses.shape[1],
            config=config,
            outcomes=found["outcome"],
        )
    table, without = pd.DataFrame(found), []
    if logits is None:
        without = [p + c for p in verification.PREFIXES.values() for c in _OF_CLASSES]
        without += ["target_prediction"]
    return Verification(table.drop(columns=without, errors="ignore"), null)


_OF_CLASSES = ("prediction", "class_match")


def _sample_rate_hz(model, given):
    if given is None and model.cochleagram is not None:
        return model.cochleagram.sample_rate_hz
    if given is None:
        raise ValueError(
            "sample_rate_hz, or the parametrisation that made the metamers, must be given where "
            "there is no cochleagram: sounds are faded over 10 ms as they are played"
        )
    return given


def _classes(logits):
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"logits must be a stage of one number a class, got shape {logits.shape[1:]} of a sound"
        )
    return logits.argmax(axis=1)


def checked(name: str, sounds: np.ndarray, model: OwnModel) -> np.ndarray:
    """Returns sounds [sound, time] as float32.

    Raises:
        ValueError: They are not finite floating-point numbers of the model's length; the message
            calls them `name`.
    """
    sounds = np.asarray(sounds)
    if sounds.ndim != 2 or sounds.shape[1] != model.num_samples or not len(sounds):
        raise ValueError(
            f"{name} must be [sound, time] of {model.num_samples} samples, got shape {sounds.shape}"
        )
    if sounds.dtype.kind != "f":
        raise ValueError(f"{name} must be floating point (about -1 to 1), got {sounds.dtype}")
    if not np.all(np.isfinite(sounds)):
        raise ValueError(f"{name} must be finite")
    return sounds.astype(np.float32)
