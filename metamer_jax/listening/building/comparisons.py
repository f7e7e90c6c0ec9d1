"""Trials that ask whether a metamer can be told from its recording: same or different, and ABX.

A trial is one sound file: two or three short sounds with pauses between them. Every combination of
network and stage has, within a condition, all arrangements of its task equally often (to within
one), in an order that follows from the seed.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

PAUSE_S = 0.5
_ORIGINAL, _METAMER = 0, 1
_ARRANGEMENTS = 21  # Stream of random numbers; see `building.build` and `building.design`.


class Task(NamedTuple):
    """What is asked, and what may be heard."""

    answers: tuple[str, ...]
    arrangements: tuple[tuple[tuple[int, ...], str], ...]  # Sounds in order, and the right answer.


TASKS: Mapping[str, Task] = {
    # Of the same, both kinds: neither sound alone tells the answer.
    "same_different": Task(
        ("same", "different"),
        (
            ((_ORIGINAL, _ORIGINAL), "same"),
            ((_METAMER, _METAMER), "same"),
            ((_ORIGINAL, _METAMER), "different"),
            ((_METAMER, _ORIGINAL), "different"),
        ),
    ),
    "abx": Task(
        ("first", "second"),
        (
            ((_ORIGINAL, _METAMER, _ORIGINAL), "first"),
            ((_METAMER, _ORIGINAL, _METAMER), "first"),
            ((_ORIGINAL, _METAMER, _METAMER), "second"),
            ((_METAMER, _ORIGINAL, _ORIGINAL), "second"),
        ),
    ),
}


def deal(groups: Sequence[object], count: int, seed: int) -> np.ndarray:
    """Deals arrangements to presentations, equally often within each group.

    Args:
        groups: [presentation] hashable; which group each belongs to.
        count: Number of arrangements.
        seed: Seed of the order.

    Returns:
        [presentation] int, 0 to count - 1.
    """
    dealt = np.zeros(len(groups), int)
    members: dict[object, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    random = np.random.default_rng([seed, _ARRANGEMENTS])
    for rows in members.values():
        # What is left over of a group falls on any arrangement, not always on the first.
        cycle = np.tile(random.permutation(count), -(-len(rows) // count))[: len(rows)]
        dealt[rows] = random.permutation(cycle)
    return dealt


def arrange(
    manifest: pd.DataFrame,
    samples: Mapping[str, np.ndarray],
    originals: Mapping[int, np.ndarray],
    *,
    task: str,
    ids: Sequence[str],
    sample_rate_hz: int,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Makes each presentation a trial of its own, in which sounds are compared.

    Natural, catch and practice trials compare a recording with itself played backwards, which
    everybody tells apart.

    Args:
        manifest: A row per presentation of a single sound.
        samples: Sound of each stimulus id, [time] int16.
        originals: Recording that each metamer was made from, by target id, as it is played.
        task: Of `TASKS`.
        ids: A new stimulus id for each row.
        sample_rate_hz: Sample rate.
        seed: Seed of the arrangements.

    Returns:
        The manifest with new stimulus ids and the right answers, and the trials' sounds.

    Raises:
        ValueError: The recording of a metamer is not there.
    """
    asked = TASKS[task]
    cell = manifest.reindex(columns=["condition", "kind", "model", "layer"]).astype(str)
    groups = list(cell.itertuples(index=False, name=None))
    dealt = deal(groups, len(asked.arrangements), seed)
    pause = np.zeros(round(PAUSE_S * sample_rate_hz), np.int16)
    answers, sounds = [], {}
    rows = manifest[["stimulus_id", "kind", "target_id"]].to_dict("records")
    for row, arrangement, stimulus_id in zip(rows, dealt, ids, strict=True):
        sound = samples[row["stimulus_id"]]
        if row["kind"] == "metamer":
            target_id = row["target_id"]
            if target_id not in originals:
                raise ValueError(
                    f"originals must hold the recording of every target, {target_id} is missing"
                )
            pair = {_ORIGINAL: originals[target_id], _METAMER: sound}
        else:
            pair = {_ORIGINAL: sound, _METAMER: sound[::-1]}
        order, answer = asked.arrangements[arrangement]
        parts = [part for which in order for part in (pair[which], pause)][:-1]
        sounds[stimulus_id] = np.concatenate(parts)
        answers.append(answer)
    return manifest.assign(stimulus_id=list(ids), answer=answers), sounds
