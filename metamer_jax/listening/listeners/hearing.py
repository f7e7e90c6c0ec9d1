"""Networks listen to the sounds of a run or of an experiment, as they are played to people."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from metamer_jax import audio, configs, pipeline, runs, storage, verification
from metamer_jax.auditory import exact
from metamer_jax.listening import responses
from metamer_jax.listening.building.material import verified_in_order
from metamer_jax.listening.config import VERIFIED
from metamer_jax.listening.listeners.panels import SOURCE, Network
from metamer_jax.listening.serving import sessions
from metamer_jax.runs import shares
from metamer_jax.runtime import progress
from metamer_jax.storage import cache

_BLOCK = 128  # Sounds that are dealt together; a block of a second weighs 8 MB.


class Part(NamedTuple):
    """What one process hears of many sounds, and where what was heard is kept.

    Attributes:
        folder: Where it is kept, by blocks of sounds, for the next call and for other processes.
        shard: Which of several processes on that folder this is; `Shard()`: it is alone.
    """

    folder: pathlib.Path
    shard: runs.Shard


def hear(
    networks: Sequence[Network],
    samples: np.ndarray | audio.SoundFiles,
    config: configs.CochleagramConfig,
    *,
    batch_size: int = 8,
    part: Part | None = None,
) -> np.ndarray | None:
    """Lets networks listen to sounds as they are played.

    As any recording, a sound reaches a network at mean 0 and RMS 0.1, through the exact
    cochleagram.

    Args:
        networks: Who listens.
        samples: [sound, time] int16, or their files, of which a block is read at a time.
        config: Settings of the cochleagram.
        batch_size: Cochleagrams made at once.
        part: Of several processes each hears blocks of its own, and the first waits for the others.
            None: all is heard here, and nothing kept.

    Returns:
        [network, sound] int, index of the word, of each network's own, that it hears; None of a
        process that is not the first.

    Raises:
        ShareMissingError: Another process makes no progress.
    """
    folder, shard = part or (None, runs.Shard())
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(samples), _BLOCK)]
    made_of = "" if folder is None else _digest(networks, config)
    found: dict[int, np.ndarray] = {}

    def is_known(number):
        if folder is not None and number not in found:
            path = folder / f"block_{number:06d}.npz"
            arrays = storage.read_npz(path) if storage.is_done(path) else {}
            if arrays and str(arrays["made_of"]) == made_of + _content(samples[blocks[number]]):
                found[number] = arrays["heard"]
        return number in found

    todo = [n for n in range(len(blocks)) if shard.owns(n) and not is_known(n)]
    total = sum(len(range(len(samples))[blocks[number]]) for number in todo)
    with progress.bar(total, "machine listeners", unit="sound") as bar:
        for number in todo:
            block = samples[blocks[number]]
            found[number] = exact.recognize(
                [(network.model, network.variables) for network in networks],
                np.stack([audio.normalize(audio.from_int16(sound)) for sound in block]),
                config,
                batch_size=batch_size,
                on_batch=bar.update,
            )
            if folder is not None:
                kept = {"heard": found[number], "made_of": made_of + _content(block)}
                storage.write_npz(folder / f"block_{number:06d}.npz", kept)
    if shard.index > 0:
        return None
    if folder is not None:
        shares.wait(
            folder,
            shard,
            lambda: {
                f"block {n} of what is heard": n for n in range(len(blocks)) if not is_known(n)
            },
        )
    return np.concatenate([found[number] for number in range(len(blocks))], axis=1)


def _content(array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _digest(networks, config) -> str:
    """What the answers follow from, the sounds apart."""
    heard_by = [
        [network.name, *map(_content, jax.tree.leaves(network.variables))] for network in networks
    ]
    return cache.digest([heard_by, dataclasses.asdict(config)])


def score(
    networks: Sequence[Network],
    samples: np.ndarray | audio.SoundFiles,
    table: pd.DataFrame,
    *,
    config: configs.CochleagramConfig,
    batch_size: int = 8,
    part: Part | None = None,
) -> pd.DataFrame | None:
    """Scores every network on every sound: the trial table of `responses`, source "machine".

    Args:
        networks: Who listens.
        samples: [sound, time] int16, as played, or their files.
        table: A row per sound: stimulus_id, kind, word, and model, layer, layer_index, target_id
            of metamers.
        config: Settings of the cochleagram.
        batch_size: Cochleagrams made at once.
        part: As of `hear`.

    Returns:
        A row per network and sound; None where `hear` returns none. A trial is right where the
        network hears the word that was spoken in the target, as a person's is.
    """
    heard = hear(networks, samples, config, batch_size=batch_size, part=part)
    if heard is None:
        return None
    unknown: dict[str, Any] = dict.fromkeys(("condition", "batch", "headphones"), pd.NA)
    tables = []
    for network, predictions in zip(networks, heard, strict=True):
        answers = np.asarray(network.words, dtype=object)[predictions]
        tables.append(
            table.assign(
                participant=network.name,
                session=network.name,
                **unknown,
                trial=np.arange(1, len(table) + 1),
                response=answers,
                correct=(answers == table["word"].to_numpy(object)).astype(float),
                rt_ms=np.nan,
                reloaded=False,
                source=SOURCE,
            )
        )
    return pd.concat(tables, ignore_index=True)[list(responses.COLUMNS)]


def listen_to_run(
    run: runs.Run, networks: Sequence[Network], *, verified: str = "pass", part: Part | None = None
) -> pd.DataFrame | None:
    """Scores every network on every metamer of a finished run, and on the targets, as played.

    Args:
        run: The run.
        networks: Who listens.
        verified: "pass": metamers that passed verification; "any": all of them.
        part: As of `hear`.

    Returns:
        As `score`; targets are of kind "natural".

    Raises:
        ValueError: No metamer passed, or a file is missing.
    """
    if verified not in VERIFIED:
        raise ValueError(f"verified must be one of {VERIFIED}, got {verified!r}")
    table = verified_in_order(run)
    if verified == "pass":
        table = table[table["verdict"] == "pass"]
    if table.empty:
        raise ValueError("no metamer passed verification; verified='any' takes all of them")
    files, rows = [], []
    for entry in table.to_dict("records"):
        which = entry["network"], entry["stage"], entry["target_id"], entry["seed"]
        files.append(pipeline.metamer_wav(run, *which, entry["word"]))
        place = entry["network"], entry["stage"], entry["stage_index"]
        rows.append(("-".join(map(str, which)), "metamer", *place, which[2], entry["word"]))
    targets = storage.read_csv(run.path("targets", "targets.csv"), text=verification.TEXTS)
    for target, word in zip(targets["target_id"], targets["word"], strict=True):
        files.append(pipeline.target_wav(run, target, word))
        rows.append((f"target-{target}", "natural", "", "", pd.NA, target, word))
    columns = ("stimulus_id", "kind", "model", "layer", "layer_index", "target_id", "word")
    return score(
        networks,
        audio.SoundFiles(files, run.config.data.sample_rate_hz),
        pd.DataFrame(rows, columns=list(columns)),
        config=run.config.cochleagram,
        batch_size=run.config.verification.batch_size,
        part=part,
    )


def listen_to_experiment(
    run: runs.Run,
    networks: Sequence[Network],
    experiment: sessions.Experiment,
    *,
    part: Part | None = None,
) -> pd.DataFrame | None:
    """Lets networks take every condition of an experiment, with the very files that people hear.

    Args:
        run: That the experiment was built from.
        networks: Who listens; each has a session in every condition.
        experiment: From `sessions.load_experiment`.
        part: As of `hear`.

    Returns:
        The trial table that `responses` makes of sessions, source "machine"; None where `hear`
        returns none.

    Raises:
        ValueError: The experiment has other words than the run's recordings, or a file is missing.
    """
    words = pipeline.recorded_words(run)
    if set(experiment.words) != set(words):
        raise ValueError(
            f"the experiment's words must be those of the run's recordings, {list(words)}, got "
            f"{list(experiment.words)}"
        )
    key = responses.AnswerKey(experiment)
    presented = {condition: key.stimuli(condition) for condition in experiment.conditions}
    stimuli = sorted({stimulus for sounds in presented.values() for stimulus, _ in sounds})
    files = [experiment.public / "audio" / f"{stimulus}.wav" for stimulus in stimuli]
    heard = hear(
        networks,
        audio.SoundFiles(files, run.config.data.sample_rate_hz),
        run.config.cochleagram,
        batch_size=run.config.verification.batch_size,
        part=part,
    )
    if heard is None:
        return None
    found = []
    for network, predictions in zip(networks, heard, strict=True):
        answer = dict(zip(stimuli, (network.words[i] for i in predictions), strict=True))
        for condition, sounds in presented.items():
            found.append(
                {
                    **experiment.identity,
                    "session_id": f"machine-{network.name}-{condition:03d}"[-64:].lstrip("-_"),
                    "participant": network.name,
                    "condition": condition,
                    "trials": [
                        {
                            "trial": entry["trial"],
                            "stimulus_id": stimulus,
                            "response": answer[stimulus],
                        }
                        for stimulus, entry in sounds
                    ],
                    "complete": True,
                }
            )
    return responses.from_sessions(found, experiment, source=SOURCE, name="machine").trials
