"""Counterbalancing: who hears which metamer, when. Functions over arrays; no files, no sounds.

A *combination* is one network at one stage. Of every word there are targets; each combination has
a metamer of each target. A condition is what one listener hears, in batches with breaks between.

`latin` (the default), with M combinations, W words and T targets a word: condition c gives
combination m and word w the target (m + c) mod T, and batch b gives m the word (b + m) mod W.
With T >= M a condition so has M W sounds, no recording twice, every batch has every combination
once, and T conditions cover all M W T metamers. With T < M a condition holds each of the W T
recordings once, combinations are balanced to within one, and exactly over M conditions.

`shuffle` is the looser rule of the paper: each combination's metamers are shuffled and dealt to
conditions and batches, so that batches have every combination once; words and recordings fall as
they fall.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize

# Streams of random numbers that follow from one seed; each purpose has its own.
_TARGETS, _DEAL, _ORDER, _BATCHES = range(4)


class Plan(NamedTuple):
    """Which metamers are presented; one row per presentation, in no particular order."""

    condition: np.ndarray  # [presentation] int, from 0.
    batch: np.ndarray  # [presentation] int, from 0.
    combination: np.ndarray  # [presentation] int.
    word: np.ndarray  # [presentation] int.
    target: np.ndarray  # [presentation] int, index within the word; -1: a hole.

    def rows(self, which: np.ndarray) -> "Plan":
        """Returns some presentations, by mask or index."""
        return Plan(*(column[which] for column in self))


class Ordered(NamedTuple):
    """Presentations in the order in which they are heard, condition by condition."""

    condition: np.ndarray  # [presentation] int, from 0, ascending.
    batch: np.ndarray  # [presentation] int, from 0, ascending within a condition.
    position: np.ndarray  # [presentation] int, from 0 within the batch.
    trial: np.ndarray  # [presentation] int, from 0 within the condition.
    source: np.ndarray  # [presentation] int: row of the plan, or -1 - index of an extra.


def choose_targets(usable: np.ndarray, wanted: int | None, seed: int) -> np.ndarray:
    """Ranks each word's targets: those that serve the most combinations come first.

    Args:
        usable: [combination, word, target] bool: there is such a metamer, and it may be played.
        wanted: Targets a word of the design. None: as many as there are combinations, or as the
            word with the fewest has (words without any aside), if that is less.
        seed: Orders targets that serve equally many.

    Returns:
        [word, rank] int: the targets in order, all of them; targets that serve no combination are
        -1 and come last. The first T columns are the design's targets, the others are spare; T is
        `num_targets(...)` of the same arguments.
    """
    serves = usable.sum(axis=0)
    tie = np.random.default_rng([seed, _TARGETS]).random(serves.shape)
    order = np.lexsort((tie, -serves), axis=-1)
    return np.where(np.take_along_axis(serves, order, axis=-1) > 0, order, -1)


def num_targets(usable: np.ndarray, wanted: int | None) -> int:
    """Returns T, how many targets a word the design has: see `choose_targets`.

    Raises:
        ValueError: No metamer is usable.
    """
    available = usable.any(axis=0).sum(axis=-1)
    if not available.any():
        raise ValueError("usable must hold at least one metamer that may be played, got none")
    if wanted is not None:
        return wanted
    return int(min(usable.shape[0], available[available > 0].min()))


def latin(combinations: int, words: int, targets: int, conditions: int, *, seed: int = 0) -> Plan:
    """Makes the balanced plan; see the module's docstring.

    Args:
        combinations: M.
        words: W.
        targets: T, targets of each word.
        conditions: How many conditions; T (M, if T < M) or a multiple balance exactly.
        seed: Deals batches where T < M; the rest of the plan does not depend on it.

    Returns:
        The plan.
    """
    _check_counts(combinations=combinations, words=words, targets=targets, conditions=conditions)
    if targets >= combinations:
        c, m, w = np.indices((conditions, combinations, words)).reshape(3, -1)
        return Plan(c, (w - m) % words, m, w, (m + c) % targets)
    c, w, t = np.indices((conditions, words, targets)).reshape(3, -1)
    # Counting on through the words balances combinations within a condition; one further with
    # each condition gives every recording to every combination in turn.
    m = (w * targets + t - c) % combinations
    plan = Plan(c, np.zeros_like(c), m, w, t)
    return plan._replace(batch=_deal_batches(plan, combinations, words, seed))


def _deal_batches(plan: Plan, combinations: int, words: int, seed: int) -> np.ndarray:
    """Spreads each condition over batches that hold no combination twice, and words evenly."""
    batch = np.zeros_like(plan.batch)
    for condition in np.unique(plan.condition):
        random = np.random.default_rng([seed, _BATCHES, int(condition)])
        rows = random.permutation(np.flatnonzero(plan.condition == condition))
        num_batches = -(-len(rows) // combinations)
        taken = np.zeros((num_batches, combinations), bool)
        spoken = np.zeros((num_batches, words), int)
        for row in rows:
            m, w = plan.combination[row], plan.word[row]
            sizes = taken.sum(axis=1)
            order = np.lexsort((sizes, spoken[:, w], taken[:, m]))
            batch[row] = order[0]
            taken[order[0], m] = True
            spoken[order[0], w] += 1
    return batch


def shuffle(usable: np.ndarray, conditions: int, *, seed: int = 0) -> Plan:
    """Makes the paper's plan: usable metamers, shuffled and dealt; see the module's docstring.

    Args:
        usable: [combination, word, target] bool.
        conditions: How many; each has as many batches as there are words.
        seed: Seed of the shuffling.

    Returns:
        A plan in which each metamer comes once, as long as there are enough of its combination;
        after that they come again in other conditions, never twice in one. Where even that does
        not suffice, holes.
    """
    combinations, batches, _ = usable.shape
    _check_counts(conditions=conditions, batches=batches)
    rows = []
    for m in range(combinations):
        random = np.random.default_rng([seed, _DEAL, m])
        metamers = np.argwhere(usable[m])
        deck: list[np.ndarray] = []
        for c in range(conditions):
            hand: list[np.ndarray] = []
            while len(hand) < min(batches, len(metamers)):
                if not deck:
                    deck = list(random.permutation(metamers))
                # What a reshuffled deck brings a second time waits for the next condition.
                fresh = [card for card in deck if not any((card == h).all() for h in hand)]
                hand += fresh[:1]
                deck = [other for other in deck if other is not fresh[0]] if fresh else []
            holes = [np.array([-1, -1])] * (batches - len(hand))
            for b, (w, t) in enumerate(random.permutation(hand + holes)):
                rows.append((c, b, m, w, t))
    return Plan(*np.array(rows, int).T)


def fill(plan: Plan, usable: np.ndarray, targets: int) -> tuple[Plan, np.ndarray]:
    """Replaces targets whose metamer may not be played by others of the same word.

    Within a condition and word, as few as possible are left without a metamer, then as few as
    possible are changed, spare targets before the design's own; no recording comes twice.

    Args:
        plan: From `latin`; its targets are ranks within the word.
        usable: [combination, word, rank] bool, ordered as by `choose_targets`.
        targets: T: ranks below are the design's targets, the others spare.

    Returns:
        The plan with targets replaced, or -1 where no metamer is left, and [presentation] the
        target that the plan had.
    """
    target = plan.target.copy()
    uses = np.zeros(usable.shape)
    for condition in np.unique(plan.condition):
        for word in np.unique(plan.word):
            rows = np.flatnonzero((plan.condition == condition) & (plan.word == word))
            if not len(rows):
                continue
            m, wanted = plan.combination[rows], plan.target[rows]
            ranks = np.arange(usable.shape[2])
            # A hole costs more than any number of changes, a change more than any tie.
            cost = np.where(ranks < targets, 100.0, 10.0) + 0.1 * np.minimum(uses[m, word], 50)
            known = wanted < len(ranks)
            cost[np.flatnonzero(known), wanted[known]] = 0.0
            cost = np.where(usable[m, word], cost, 1e6)
            # As many columns without a target as there are rows: any of them may be a hole.
            cost = np.hstack([cost, np.full((len(rows), len(rows)), 1e5)])
            chosen = scipy.optimize.linear_sum_assignment(cost)[1]
            target[rows] = np.where(chosen < len(ranks), chosen, -1)
            found = chosen < len(ranks)
            np.add.at(uses, (m[found], word, chosen[found]), 1)
    return plan._replace(target=target), plan.target


def order(plan: Plan, *, extras: int = 0, seed: int = 0) -> Ordered:
    """Shuffles batches, and the sounds within them; adds other sounds; leaves out holes.

    Args:
        plan: What is presented.
        extras: Natural and catch trials of each condition, spread evenly over its batches at
            random places. They are told apart by number, 0 to extras - 1.
        seed: Seed of the shuffling.

    Returns:
        The presentations in the order in which they are heard.
    """
    columns: list[tuple[int, int, int, int, int]] = []
    for condition in np.unique(plan.condition):
        random = np.random.default_rng([seed, _ORDER, int(condition)])
        rows = np.flatnonzero((plan.condition == condition) & (plan.target >= 0))
        batches = [
            list(rows[plan.batch[rows] == b])
            for b in random.permutation(np.unique(plan.batch[plan.condition == condition]))
        ]
        batches = [batch for batch in batches if batch] or [[]]
        share = random.permutation(np.arange(extras) % len(batches))
        for extra, batch in zip(random.permutation(extras), share, strict=True):
            batches[batch].append(-1 - extra)
        trial = 0
        for b, batch in enumerate(batches):
            for position, source in enumerate(random.permutation(np.array(batch, int))):
                columns.append((int(condition), b, position, trial, int(source)))
                trial += 1
    return Ordered(*np.array(columns, int).reshape(-1, 5).T)


def draw_words(labels: np.ndarray, words: int, count: int, seed: Sequence[int]) -> np.ndarray:
    """Draws `count` sounds, words as evenly as possible.

    Args:
        labels: [sound] int, word of each.
        words: How many words there are.
        count: How many sounds to draw.
        seed: Seeds of the draw.

    Returns:
        [count] indices, all different; fewer if there are fewer sounds.
    """
    random = np.random.default_rng(list(seed))
    queues = [list(random.permutation(np.flatnonzero(labels == w))) for w in range(words)]
    drawn: list[int] = []
    while len(drawn) < count and any(queues):
        for w in random.permutation(words):
            if queues[w] and len(drawn) < count:
                drawn.append(int(queues[w].pop()))
    return np.array(drawn, int)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
