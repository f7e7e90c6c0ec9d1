"""What is done of a comparison, what is left, and how long that may take."""

import collections
from collections.abc import Callable, Sequence

from metamer_jax import configs, storage
from metamer_jax.comparison import runner
from metamer_jax.comparison.entries import UNTRAINED
from metamer_jax.runtime import progress

_LETTERS = {
    runner.TRAIN: "train",
    runner.SYNTHESIZE: "synth",
    runner.VERIFY: "verify",
    runner.CROSS_TEST: "cross",
}
_DONE, _LEFT = "x", "."


def recorder(
    home: runner.ComparisonFolder,
) -> Callable[[str, Sequence[runner.Member], float], None]:
    """Makes what `runner.run_all` calls after every part: it keeps its time and writes the table.

    Times go to timings.jsonl, from which later sittings estimate too, the table to status.txt.

    Returns:
        A function of the part's kind, its members and the seconds that it took.
    """

    def on_part(kind: str, members: Sequence[runner.Member], seconds: float) -> None:
        line = {
            "kind": kind,
            "entry": members[0].entry.label if kind != runner.CROSS_TEST else "",
            "members": len(members),
            "seconds": round(seconds, 2),
        }
        storage.append_jsonl(home.path("timings.jsonl"), line)
        storage.write_text(home.path("status.txt"), table(home))

    return on_part


def table(home: runner.ComparisonFolder) -> str:
    """Says for every entry and seed which parts are done, and what is left."""
    width = max(len(entry.title) for entry in home.entries)
    cell = 1 + sum(len(name) + 1 for name in _LETTERS.values())
    seeds = home.comparison.seeds if home.trained else ()
    lines = [" " * width + "".join(f"  seed {seed}".ljust(cell + 2) for seed in seeds)]
    names = " ".join(_LETTERS.values())
    lines.append(" " * width + "".join(f"  {names}".ljust(cell + 2) for _ in seeds))
    for entry in home.made_here:
        cells = ""
        for seed in seeds:
            marks = []
            for kind, name in _LETTERS.items():
                done = home.is_done(kind, runner.Member(entry, seed))
                marks.append((_DONE if done else _LEFT).ljust(len(name)))
            cells += f"  {' '.join(marks)}".ljust(cell + 2)
        lines.append(entry.title.ljust(width) + cells)
    for member in home.members[len(home.trained) :]:
        done = home.is_done(runner.CROSS_TEST, member)
        about = f"  finished run, cross {_DONE if done else _LEFT}"
        lines.append(member.entry.title.ljust(width) + about)
    lines.append(f"{_DONE} done, {_LEFT} left; cross: all networks have heard its metamers")
    return "\n".join([*(line.rstrip() for line in lines), "", *_left(home)]).lstrip("\n") + "\n"


def _left(home) -> list[str]:
    todo = collections.defaultdict(list)
    for kind, member in runner.left(home):
        todo[kind].append(member)
    if not todo:
        return ["Everything is done."]
    lines, total, unknown = [], 0.0, []
    estimate = seconds_each(home)
    for kind in runner.KINDS:
        members = todo[kind]
        if not members:
            continue
        each = [s for member in members if (s := estimate(kind, member)) is not None]
        if len(each) < len(members):
            unknown.append(kind)
            about = "time not known yet"
        else:
            total += sum(each)
            about = f"about {progress.duration(sum(each))}"
        lines.append(f"left: {kind.replace('_', '-'):<10} {len(members):3d}, {about}")
    known = f"in all about {progress.duration(total)}" if total else "in all: not known yet"
    return [*lines, known + (f", without {' and '.join(unknown)}" if unknown and total else "")]


def seconds_each(home: runner.ComparisonFolder) -> Callable[[str, runner.Member], float | None]:
    """Estimates how long a part takes one member, from the parts that were timed.

    Returns:
        A function of the kind of part and the member: the mean over that entry's, or, scaled by
        the evaluations of a training step, over those of all entries; None where nothing was timed.
    """
    sums = collections.defaultdict(lambda: [0.0, 0.0])
    weights = {member.entry.label: _weight(home.settings(member)) for member in home.members}
    for line in storage.read_jsonl(home.path("timings.jsonl")):
        kind, entry = line["kind"], line["entry"]
        for key, weight in (((kind, entry), 1.0), ((kind, None), weights.get(entry, 1.0))):
            if kind == runner.TRAIN and key[1] is None and weight == 0:
                continue
            sums[key][0] += line["seconds"]
            sums[key][1] += line["members"] * (weight if kind == runner.TRAIN else 1.0)

    def estimate(kind: str, member: runner.Member) -> float | None:
        own, general = sums.get((kind, member.entry.label)), sums.get((kind, None))
        if own:
            return own[0] / own[1]
        weight = weights[member.entry.label] if kind == runner.TRAIN else 1.0
        if weight == 0:
            return 0.0
        return weight * general[0] / general[1] if general else None

    return estimate


def _weight(config: configs.ExperimentConfig) -> float:
    """How many times the gradient is computed in a step of the training."""
    adversarial = config.training.adversarial
    if config.training.recipe == UNTRAINED:
        return 0.0
    attacked = adversarial.epsilon > 0 and not adversarial.random
    return 1.0 + (adversarial.num_steps if attacked else 0)
