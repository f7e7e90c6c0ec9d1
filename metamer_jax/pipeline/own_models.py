"""Metamers of any model in one call, and as a run folder that everything else works on.

found = make_metamers((model, variables), sounds, ["conv2", "dense"], logits="classes",
                      recordings=recordings, sample_rate_hz=16000)
found                         # in a notebook: players, cochleagrams, verdicts
found.table                   # a row per metamer
save_run("runs/mine", found)  # for the report, the listening test, machine listeners
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from metamer_jax import audio, cochleagram, metamers, own_models
from metamer_jax.configs import (
    SYNTHESIS_RECIPES,
    CochleagramConfig,
    PlaybackConfig,
    SynthesisConfig,
    VerificationConfig,
)
from metamer_jax.configs.cochleagram import divisors_by_nearness
from metamer_jax.configs.synthesis import MIN_NULL_RECORDINGS
from metamer_jax.own_models import verifying
from metamer_jax.pipeline.assessment import first_columns
from metamer_jax.runtime import progress

if TYPE_CHECKING:
    import pandas as pd

_MOST_SHOWN = 8  # Targets in a notebook, where every sound is part of the page.
_FRAME_RATE_HZ = 200  # Of pictures of sounds, nearly.


@dataclasses.dataclass(frozen=True, eq=False)
class MetamerSet:
    """Metamers of one model's stages, with what they are of and what verification found.

    In a notebook it shows itself: players, cochleagrams and verdicts.

    Attributes:
        model: The model.
        variables: Its variables.
        sounds: [target, time] the targets.
        made: What the synthesis returned, by stage.
        verified: What verification found, by stage; empty where it was not asked for.
        config: How they were made.
        sample_rate_hz: Of the sounds.
        level: RMS at which the model takes sounds; None: it does not mind.
        target_ids: [target]
        words: [target] what each target is called, e.g. the word that is spoken.
        recordings: [recording, time] natural sounds of the null distribution; None: none.
        logits: The stage that has the classes; None: there are none.
        class_names: [class] what they are called.
        criteria: What counted as a metamer.
        seed: Of the starting noise, and of the pairs of the null distribution.
    """

    model: own_models.OwnModel
    variables: own_models.Variables
    sounds: np.ndarray
    made: Mapping[str, metamers.Synthesis]
    verified: Mapping[str, verifying.Verification]
    config: SynthesisConfig
    sample_rate_hz: int
    level: float | None
    target_ids: np.ndarray
    words: tuple[str, ...]
    recordings: np.ndarray | None
    logits: str | None
    class_names: tuple[str, ...]
    criteria: VerificationConfig
    seed: int

    @property
    def table(self) -> "pd.DataFrame":
        """A row per metamer: stage, word, and the columns of `verify` or, without, the outcome.

        What the model takes a sound for stands there as the class is called. Not verified, a row
        has outcome, steps, and relative_error as the synthesis measured it.
        """
        import pandas as pd

        parts = []
        for stage, made in self.made.items():
            if stage in self.verified:
                part = self.verified[stage].table
                for name in part.columns[part.columns.str.endswith("prediction")]:
                    part = part.assign(**{name: [self.class_names[i] for i in part[name]]})
            else:
                part = pd.DataFrame(made.columns(self.target_ids, self.config.seeds))
                part = part.assign(relative_error=made.relative_error.ravel())
            words = np.repeat(self.words, len(self.config.seeds))
            parts.append(part.assign(stage=stage, word=words))
        table = pd.concat(parts, ignore_index=True)
        return first_columns(table, ["stage", "word", "target_id", "seed"])

    def __repr__(self) -> str:
        return "\n".join(self._summary())

    def _summary(self):
        """A line a stage, and what speaks against the verdicts."""
        lines = []
        for stage, of_stage in self.table.groupby("stage", sort=False):
            errors = of_stage["relative_error"]
            many = "s, median" if len(of_stage) > 1 else ","
            line = f"{stage}: {len(of_stage)} metamer{many} relative error {errors.median():.3g}"
            if "verdict" in of_stage:
                passed = (of_stage["verdict"] == "pass").sum()
                pairs = self.verified[str(stage)].null.pairs
                line += f", {passed} verified (null distribution of {pairs:,} pairs)"
            lines.append(line)
        said = self.table.get("target_prediction")
        if said is not None and len(self.sounds) > 1 and said.nunique() == 1:
            lines.append(
                f"the model takes all {len(self.sounds)} targets for {said.iloc[0]!r}: that a "
                "metamer keeps its class says nothing here"
            )
        return lines

    def _repr_html_(self) -> str:
        from metamer_jax.report import notebook

        shown = min(_MOST_SHOWN, len(self.sounds))
        sounds = [self.sounds[:shown], *(made.waveform[:shown, 0] for made in self.made.values())]
        sounds = np.nan_to_num(np.stack(sounds, axis=1))  # [target, column, time]
        flat = sounds.reshape(-1, sounds.shape[-1])
        pictures = _cochleagrams(flat, self.picture_config)
        return notebook.table_of_sounds(
            self._files(sounds),
            pictures.reshape(*sounds.shape[:2], *pictures.shape[1:]),
            self.sample_rate_hz,
            rows=self.words[:shown],
            columns=("original", *self.made),
            captions=self._captions(shown),
            summary=(*self._summary(), *self._left_out(shown)),
        )

    def _files(self, sounds):
        """[target, column, time] int16 as played: metamers made to be so are faded already."""
        natural, made = sounds[:, :1], sounds[:, 1:]
        if self.config.as_played:
            played, _ = audio.to_int16(made, PlaybackConfig())
        else:
            played, _ = audio.to_playback(made, self.sample_rate_hz)
        return np.concatenate([audio.to_playback(natural, self.sample_rate_hz)[0], played], axis=1)

    def _captions(self, shown):
        """What stands below the sounds of the first targets, at their first seed."""
        of_stages = [
            of_stage.iloc[:: len(self.config.seeds)].head(shown).to_dict("records")
            for _, of_stage in self.table.groupby("stage", sort=False)
        ]
        return [("", *map(_caption, of_target)) for of_target in zip(*of_stages, strict=True)]

    def _left_out(self, shown):
        if shown < len(self.sounds):
            yield f"{shown} of {len(self.sounds)} targets are shown"
        if len(self.config.seeds) > 1:
            yield f"of {len(self.config.seeds)} seeds the first is shown"

    @property
    def picture_config(self) -> CochleagramConfig:
        """The cochleagram that sounds are drawn by: the model's, or one for their rate."""
        if self.model.cochleagram is not None:
            return dataclasses.replace(self.model.cochleagram, method="multirate")
        return picture_config(self.sounds.shape[1], self.sample_rate_hz)


def _caption(row):
    text = f"relative error {row['relative_error']:.3g}"
    if row.get("verdict") == "pass":
        return f"{text}, verified"
    return f"{text}; {row['reason']}" if "verdict" in row else text


def picture_config(num_samples: int, sample_rate_hz: int) -> CochleagramConfig:
    """A cochleagram for sounds of any length and rate, to look at."""
    return CochleagramConfig(
        sample_rate_hz=sample_rate_hz,
        duration_s=num_samples / sample_rate_hz,
        envelope_rate_hz=divisors_by_nearness(sample_rate_hz, _FRAME_RATE_HZ)[0],
        # No filter between two bins of a short sound.
        low_hz=max(50.0, 2 * sample_rate_hz / num_samples),
        high_hz=min(8000.0, sample_rate_hz / 2),
        num_filters=40,
        sample_factor=1,
        method="multirate",
    )


def _cochleagrams(waveforms, config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Silent channels of short sounds.
        filters = cochleagram.design_cochleagram(config)
    return np.asarray(_heard(waveforms.astype(np.float32), filters, config=config))


_heard = jax.jit(cochleagram.cochleagram, static_argnames="config")


def make_metamers(
    model: Any,
    sounds: np.ndarray,
    stages: Sequence[str] | str,
    *,
    variables: Any = None,
    recordings: np.ndarray | None = None,
    logits: str | None = None,
    sample_rate_hz: int | None = None,
    level: float | None = audio.RMS,
    config: SynthesisConfig | str = "fast",
    words: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    target_ids: Sequence[int] | None = None,
    verification: VerificationConfig | None = None,
    verify: bool = True,
    seed: int = 0,
    show_progress: bool = True,
    **wrapping: Any,
) -> MetamerSet:
    """Makes metamers of some sounds at some stages of a model, verifies and shows them.

    Args:
        model: What `wrap_model` or `load_published` returned, or what `wrap_model` takes.
        sounds: [target, time] floating point, as the model wants them.
        stages: Stages to match, of `model.stage_names`.
        variables: As `wrap_model` takes them, where `model` is not wrapped yet.
        recordings: [recording, time] natural sounds, whose pairs say how alike different sounds
            are by chance (the null distribution): the more the better. None: `sounds`.
        logits: The stage of which the largest entry is the class; None: a published network's own,
            and of others the match alone decides.
        sample_rate_hz: Of the sounds; may be left out where the model begins with a cochleagram.
        level: RMS at which the model was trained to take sounds; None: it does not mind.
        config: Settings of the synthesis, or the name of a recipe. Where they make sounds as they
            are played (`as_played`, as recipe fast), these are the metamers.
        words: [target] what each is called; None: the class that the model gives it, or a number.
        class_names: [class] what classes are called; None: a published network's, or numbers.
        target_ids: [target] distinct integers that the starting noise follows from; None: 0, 1, ...
        verification: What counts as a metamer.
        verify: Whether to verify them.
        seed: Of the starting noise, and of the null distribution's pairs.
        show_progress: Show bars.
        wrapping: Further arguments of `wrap_model`, where `model` is not wrapped yet.

    Returns:
        The metamers, verified; in a notebook they show themselves.

    Raises:
        ValueError: Something does not fit, or there are too few recordings to verify by.
    """
    if isinstance(model, own_models.Published):
        logits = "final" if logits is None else logits
        class_names = model.class_names if class_names is None else class_names
        model = model.model, model.variables
    model, variables = _wrapped(model, variables, sounds, wrapping)
    if model.cochleagram is not None:
        sample_rate_hz = model.cochleagram.sample_rate_hz
    if sample_rate_hz is None:
        raise ValueError("sample_rate_hz must be given: the model begins with no cochleagram")
    config = _recipe(config)
    criteria = VerificationConfig() if verification is None else verification
    stages = (stages,) if isinstance(stages, str) else tuple(stages)
    fns = {
        stage: own_models.stage_fn(model, stage, relu_override=config.relu_override)
        for stage in stages
    }
    sounds = verifying.checked("sounds", sounds, model)
    natural = sounds if recordings is None else recordings
    if verify:
        recordings = natural = verifying.checked("recordings", natural, model)
        if len(recordings) < MIN_NULL_RECORDINGS:
            raise ValueError(
                f"recordings must be {MIN_NULL_RECORDINGS} natural sounds or more to verify by "
                f"(hundreds, better), got {len(recordings)}; verify=False does without"
            )
    ids = np.arange(len(sounds)) if target_ids is None else np.asarray(target_ids)
    class_names, classes = _classes(model, variables, sounds, logits, class_names)
    named = words if words is not None else ids.tolist() if classes is None else classes
    words = tuple(map(str, named))
    if len(words) != len(sounds):
        raise ValueError(f"words must be {len(sounds)}, one a sound, got {len(words)}")
    heard_as = {"sample_rate_hz": sample_rate_hz, "level": level}
    as_played = metamers.AsPlayed(**heard_as) if config.as_played else None
    made, verified = {}, {}
    for stage, fn in fns.items():
        made[stage] = _synthesize(
            fn, stage, variables, sounds, ids, config, as_played, seed, show_progress
        )
        if verify:
            verified[stage] = verifying.verify(
                model,
                variables,
                stage,
                made[stage],
                sounds,
                natural,
                logits=logits,
                parametrisation=as_played,
                **heard_as,
                target_ids=ids.tolist(),
                seeds=config.seeds,
                config=criteria,
                seed=seed,
                show_progress=show_progress,
            )
    return MetamerSet(
        model=model,
        variables=variables,
        sounds=sounds,
        made=made,
        verified=verified,
        config=config,
        sample_rate_hz=sample_rate_hz,
        level=level,
        target_ids=ids,
        words=words,
        recordings=recordings,
        logits=logits,
        class_names=class_names,
        criteria=criteria,
        seed=seed,
    )


def _wrapped(model, variables, sounds, wrapping):
    is_pair = isinstance(model, tuple) and len(model) == 2
    if isinstance(model, own_models.OwnModel) or (is_pair and variables is not None):
        raise ValueError("model must be both of what wrap_model returned, (model, variables)")
    if is_pair and isinstance(model[0], own_models.OwnModel):
        if wrapping:
            raise ValueError(f"a wrapped model takes no {[*wrapping]}: give them to wrap_model")
        return model
    if wrapping.get("cochleagram") is None:
        wrapping = {"num_samples": np.shape(sounds)[-1], **wrapping}
    return own_models.wrap_model(model, variables, **wrapping)


def _classes(model, variables, sounds, logits, class_names):
    """Returns what classes are called, and the one of each sound; None where there are none."""
    if logits is None:
        return (), None
    responses = verifying.activations(model, variables, sounds, logits)
    class_names = range(responses.shape[-1]) if class_names is None else class_names
    class_names = tuple(map(str, class_names))
    if responses.ndim != 2 or len(class_names) != responses.shape[1]:
        raise ValueError(
            f"class_names must be one a class of {logits!r}, of shape {responses.shape[1:]}, got "
            f"{len(class_names)}"
        )
    return class_names, [class_names[index] for index in responses.argmax(axis=1)]


def _recipe(config):
    if isinstance(config, SynthesisConfig):
        return config
    if config not in SYNTHESIS_RECIPES:
        raise ValueError(
            f"config must be settings or one of {[*SYNTHESIS_RECIPES]}, got {config!r}"
        )
    return SYNTHESIS_RECIPES[config]


def _synthesize(fn, stage, variables, sounds, ids, config, parametrisation, seed, show_progress):
    config = config.for_stage(stage)
    left, before = len(sounds), 0.0
    style = None if show_progress else "none"
    with progress.bar(len(sounds) * config.steps, stage, unit="step", style=style) as bar:

        def on_chunk(state, info):
            nonlocal left, before
            running = np.asarray(state.metamer.outcome) == metamers.Outcome.RUNNING
            steps = np.where(running, np.asarray(state.metamer.step), config.steps).mean()
            real = min(left, len(running))  # The last batch is padded.
            error = np.asarray(info.relative_error[-1])
            bar.update((steps - before) * real, median=np.nanmedian(error), worst=np.nanmax(error))
            left, before = (left, steps) if running.any() else (left - real, 0.0)

        return metamers.synthesize(
            jax.random.key(seed),
            sounds,
            ids,
            stage_fn=fn,
            variables=variables,
            parametrisation=parametrisation,
            config=config,
            on_chunk=on_chunk,
        )
