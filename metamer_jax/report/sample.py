"""Which metamers a report lets be heard: a sample of the targets, then those that failed."""

import numpy as np

from metamer_jax.report.contents import Key, RunContents


def choose_units(run: RunContents, max_metamers: int, seed: int) -> list[tuple[int, int]]:
    """Draws (target id, seed) pairs, the words in turn; each brings all networks and stages."""
    available: dict[tuple[int, int], int] = {}
    for targets, seeds in run.ids.values():
        for target_id in targets:
            for metamer_seed in seeds:
                unit = target_id, metamer_seed
                available[unit] = available.get(unit, 0) + 1
    random = np.random.default_rng(seed)
    by_word: dict[str, list[tuple[int, int]]] = {}
    for unit in sorted(available):
        by_word.setdefault(run.word(unit[0]), []).append(unit)
    shuffled = [[units[k] for k in random.permutation(len(units))] for units in by_word.values()]
    turns = [
        units[turn]
        for turn in range(max(map(len, shuffled), default=0))
        for units in shuffled
        if turn < len(units)
    ]
    chosen, count = [], 0
    for unit in turns:
        if chosen and count + available[unit] > max_metamers:
            break
        chosen.append(unit)
        count += available[unit]
    return chosen


def unit_keys(run: RunContents, unit: tuple[int, int]) -> list[Key]:
    """Returns the metamers of a (target id, seed) that were made, for every network and stage."""
    return [
        (network, stage, *unit)
        for (network, stage), (targets, seeds) in run.ids.items()
        if unit[0] in targets and unit[1] in seeds
    ]


def failed_keys(run: RunContents, seed: int) -> list[Key]:
    """Metamers that failed, the networks and stages in turn, each in a seeded order."""
    if run.metamers is None:
        return []
    random = np.random.default_rng([seed, 1])
    groups = []
    failed = run.metamers[~run.metamers["passed"]]
    for network in run.networks:
        for stage in run.stages[network]:
            rows = failed[(failed["network"] == network) & (failed["stage"] == stage)]
            if (network, stage) not in run.ids or rows.empty:
                continue
            targets, seeds = run.ids[network, stage]
            keys = [
                (network, stage, int(t), int(s))
                for t, s in zip(rows["target_id"], rows["seed"], strict=True)
                if int(t) in targets and int(s) in seeds
            ]
            groups.append([keys[k] for k in random.permutation(len(keys))])
    longest = max(map(len, groups), default=0)
    return [group[turn] for turn in range(longest) for group in groups if turn < len(group)]
