"""What every stage of the pipeline needs: keys, targets, names of files, and a way to end."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import numpy as np
from absl import logging

from metamer_jax import auditory, configs, models, runs, storage, verification
from metamer_jax.data import Recordings
from metamer_jax.own_models.saved import SavedModel
from metamer_jax.pipeline import assessment
from metamer_jax.runs import manifest

if TYPE_CHECKING:
    import pandas as pd

StopRequested = Callable[[], bool]

# What of a run follows from its seed: one key each.
INIT, START, CLIPS = range(3)


def key_of(run: runs.Run, purpose: int) -> jax.Array:
    """PRNG key of one of the purposes above."""
    return jax.random.fold_in(jax.random.key(run.config.seed), purpose)


def leave() -> NoReturn:
    """Ends a process that was told to, once its state is saved."""
    logging.warning("ended as told; the state is saved")
    raise SystemExit(runs.EXIT_STOPPED)


def stages_of(run: runs.Run, model: models.Network | SavedModel) -> list[str]:
    """The stages of the run that a network has, in the order of processing."""
    if isinstance(model, SavedModel):
        return [stage for stage in model.stage_names if stage in run.config.stages]
    known = models.stage_names(run.config.networks)
    if unknown := sorted(set(run.config.stages) - set(known)):
        raise ValueError(f"stages {unknown} are not among {known}")
    return [stage for stage in auditory.stage_names(model) if stage in run.config.stages]


def metamer_wav(
    run: runs.Run, network: str, stage: str, target_id: int, seed: int, word: str
) -> pathlib.Path:
    """Returns where a metamer's sound is, as it is played.

    Args:
        run: The run.
        network: Name of the network.
        stage: Name of the matched stage.
        target_id: The target's id.
        seed: Seed of the metamer.
        word: The word spoken in the target.

    Returns:
        Path of a 16-bit file.
    """
    return run.path("metamers", network, stage, "wav", f"{target_id}_{seed}_{word}.wav")


def target_wav(run: runs.Run, target_id: int, word: str) -> pathlib.Path:
    """Returns where a target's sound is, as it is played.

    Args:
        run: The run.
        target_id: The target's id.
        word: The word spoken in it.

    Returns:
        Path of a 16-bit file.
    """
    return run.path("targets", "wav", f"{target_id}_{word}.wav")


def read_verified(run: runs.Run) -> "pd.DataFrame":
    """Reads what became of a run's metamers.

    Args:
        run: A run that was verified.

    Returns:
        A row per metamer, with the columns of verification/metamers.csv as they are called today.
    """
    path = run.path("verification", "metamers.csv")
    return verification.current_columns(storage.read_csv(path, text=verification.TEXTS))


def write_result(
    run: runs.Run, network: str, words: Sequence[str], params: Any, **more: Any
) -> None:
    """Writes networks/<network>/result.json: what a network is, and how it does.

    Args:
        run: The run.
        network: Name of the network.
        words: What its classes are called.
        params: Its trainable parameters.
        **more: What else is to be said of it.
    """
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    result = {"network": network, "words": list(words), "parameters": parameters, **more}
    storage.write_json(run.path("networks", network, "result.json"), result)


def candidates(config: configs.ExperimentConfig, recordings: Recordings) -> Recordings:
    """Returns recordings of which those of the test split may be targets.

    A network that was trained elsewhere has learnt from none: each may be.

    Args:
        config: The run's settings.
        recordings: Its recordings.
    """
    if config.weights is None:
        return recordings
    return dataclasses.replace(recordings, splits=np.full(len(recordings), "test"))


def choose_targets(recordings: Recordings, per_word: int, seed: int) -> np.ndarray:
    """Draws `per_word` recordings of every word from the test split.

    Returns:
        [target] indices into the recordings, which are the targets' ids; words in order.

    Raises:
        ValueError: The test split has fewer of some word.
    """
    chosen = []
    for label, word in enumerate(recordings.words):
        held_out = np.flatnonzero((recordings.splits == "test") & (recordings.labels == label))
        if len(held_out) < per_word:
            raise ValueError(
                f"targets_per_word={per_word} is more than the test split's {len(held_out)} "
                f"recordings of {word!r}"
            )
        order = np.random.default_rng([seed, label]).permutation(len(held_out))
        chosen.append(np.sort(held_out[order[:per_word]]))
    return np.concatenate(chosen)


def chosen_targets(run: runs.Run, recordings: Recordings) -> np.ndarray:
    """Indices [target] into the recordings, of the targets that the run's settings choose."""
    config = run.config
    return choose_targets(
        candidates(config, recordings), config.targets_per_word, config.resolved_target_seed
    )


def write_targets(run: runs.Run, recordings: Recordings, targets: np.ndarray) -> None:
    """Writes targets/, or sees that what is there are these targets.

    Args:
        run: The run.
        recordings: Its recordings.
        targets: Indices [target] into them.

    Raises:
        ValueError: The run was made of other recordings.
    """
    path = run.path("targets", "targets.npz")
    if run.is_done(*manifest.TARGETS):
        saved = storage.map_npz(path, check=False)["waveform"]
        same = len(saved) == len(targets) and all(
            map(
                np.array_equal,
                storage.in_rows(saved, np.arange(len(saved))),
                storage.in_rows(recordings.waveforms, targets),
            )
        )
        if not same:
            raise ValueError(
                f"the recordings are not those that {run.folder} was made of: targets of "
                f"{path} differ; give this run a folder of its own"
            )
        return
    import pandas as pd

    table = pd.DataFrame(assessment.recording_columns(targets, recordings))
    table = table.rename(columns={"target_name": "name"}).assign(target_id=targets, split="test")
    columns = ["target_id", "name", "word", "speaker", "split"]
    storage.write_csv(run.path("targets", "targets.csv"), table, columns)
    storage.write_npz(
        path,
        {
            "waveform": storage.Rows(
                (len(targets), *recordings.waveforms.shape[1:]),
                recordings.waveforms.dtype,
                storage.in_rows(recordings.waveforms, targets),
            ),
            "target_id": targets,
            "label": recordings.labels[targets],
        },
    )
    run.record(*manifest.TARGETS)
