"""What a comparison says, in words and tables of Markdown."""

from collections.abc import Iterator, Sequence

import pandas as pd

from metamer_jax.comparison import effects, runner, status
from metamer_jax.comparison.entries import CONNECTION, SAVED, SIZE, SavedEntry


def report(home: runner.ComparisonFolder, answers, found, entries, resampling) -> Iterator[str]:
    """Yields the lines of report.md.

    Args:
        home: The comparison's folder.
        answers: `tables.Answers`.
        found: The tables of `summary.write`, by name.
        entries: Whose metamers there are.
        resampling: How intervals were made.
    """
    seeds = pd.Series([m.entry.label for m in answers.makers]).value_counts()
    if home.trained:
        yield "# Does it matter how a network connects over frequency, or only how large it is?\n"
    else:
        yield "# What networks recognise of each other's metamers\n"
    yield (
        f"{len(entries)} network{'s, each' if len(entries) > 1 else ''} in {_range(seeds)} "
        f"seed{'s' if seeds.max() > 1 else ''}, "
        f"{len(answers.target_ids)} targets a stage {_origin(home, answers)}; chance "
        f"{100 * answers.chance:.1f} %. A metamer counts as recognised where a network that it was "
        "not made from hears the word spoken in the target. Unless it says otherwise, the "
        "networks that listen are those of other connections over frequency than the maker's (or, "
        "of a difference, than both makers'), the untrained ones apart. "
        f"Intervals ({100 * resampling.confidence:.0f} %) resample the makers' seeds and the "
        "targets at once, for these listeners; they are not corrected for the number of "
        "comparisons, and rather wide than narrow where single metamers differ much. Where all "
        "answers are alike an interval has no width, which of few targets says little.\n"
    )
    if seeds.min() < 2:
        yield (
            "**Some networks were trained in one seed only: their intervals do not say what "
            "another seed would change.**\n"
        )
    elif seeds.min() < 5:
        yield (
            "With so few seeds their part of the intervals is somewhat too small: of S seeds, "
            "(S - 1) / S of the variance.\n"
        )
    if any(isinstance(entry, SavedEntry) for entry in entries):
        yield (
            "Saved models are those of finished runs, with the metamers that they had. Stages of "
            'one name stand beside each other, whatever they compute. "all" is the mean over '
            "the stages of each network; differences of it are told only of networks with the same "
            "stages.\n"
        )
    yield "## The answer\n"
    yield from answer(found["differences"], found["magnitudes"])
    yield "\n## Differences of recognition, percentage points\n"
    yield from _differences(found["differences"], entries)
    yield "\n## Size of the differences\n"
    yield from _magnitudes(found["magnitudes"])
    yield "\n## Analyses of variance, targets as subjects\n"
    yield from _anova(found["anova"])
    yield "\n## The networks\n"
    yield from _networks(found["accuracy"], entries)
    yield "\n## Recognition by stage (%)\n"
    yield from _curves(found["curves"], answers, entries)
    yield "\n## Yields\n"
    yield from _yields(found["yields"], entries)
    yield "\n## Figures\n"
    for name, _ in _figure_names(answers, found):
        yield f"![{name}]({name}.png)"
    yield "\n## Done and left\n"
    yield "```\n" + status.table(home).rstrip() + "\n```"


def _origin(home, answers) -> str:
    config = home.comparison.experiment
    if not home.trained:
        return f"(those of {home.saved[0].label})"
    return (
        f"({config.targets_per_word} of each of {len(answers.words)} words), recipes "
        f"`{config.training.recipe}` and `{config.synthesis.recipe}`"
    )


def _figure_names(answers, found) -> Iterator[tuple[str, None]]:
    whos = set(found["curves"]["who"])
    if effects.OTHERS in whos:
        yield "curves_others", None
    yield "curves_itself", None
    if found["differences"]["difference"].notna().any():
        yield f"differences_{effects.ALL}", None
    for stage in [effects.ALL, *answers.stages]:
        yield f"matrix_{stage}", None


def answer(differences: pd.DataFrame, magnitudes: pd.DataFrame) -> Iterator[str]:
    """Says in plain words what the intervals say of the mean over the networks' stages."""
    rows = differences[(differences["stage"] == effects.ALL) & differences["difference"].notna()]
    if not rows["question"].str.startswith((CONNECTION, SAVED)).any():
        yield (
            "Nothing can be said yet: a difference needs two networks with the same stages, and a "
            "third, trained and no kin of theirs, that hears the metamers of both."
        )
        return
    for question, group in rows.groupby("question", sort=False):
        clear = group[(group["low"] > 0) | (group["high"] < 0)]
        head = f"- **{question}**: {len(clear)} of {len(group)} differences have an interval "
        spans = []
        for row in group.itertuples():
            text = f"{row.of} − {row.against} {_points(row.difference, row.low, row.high)}"
            spans.append(f"**{text}**" if row.Index in clear.index else text)
        yield f"{head}without zero{' (bold)' if len(clear) else ''}: {'; '.join(spans)}."
    sizes = magnitudes[magnitudes["stage"] == effects.ALL].set_index("question")
    for question in [q for q in sizes.index if q.endswith(" minus size")]:
        row = sizes.loc[question]
        plain = question.removesuffix(" minus size")
        if row["low"] > 0:
            verdict = "larger than"
        elif row["high"] < 0:
            verdict = "smaller than"
        else:
            verdict = "not told apart from"
        yield (
            f"- The differences of **{plain}** are on average {verdict} those of size within a "
            f"connection: {100 * sizes['magnitude'][plain]:.1f} against "
            f"{100 * sizes['magnitude'][SIZE]:.1f} points, difference "
            f"{_points(row['magnitude'], row['low'], row['high'])}."
        )


def _points(value, low, high) -> str:
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _by_stage(stages, group, name) -> list[str]:
    """What a table has of each stage; nothing where it has no such row."""
    there = {
        row["stage"]: _points(row[name], row["low"], row["high"]) for _, row in group.iterrows()
    }
    return [there.get(stage, "") for stage in stages]


def _range(counts) -> str:
    return f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}-{counts.max()}"


def _markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *body = rows
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in body:
        yield "| " + " | ".join(row) + " |"


def _differences(table, entries) -> Iterator[str]:
    shown = table[table["difference"].notna()]
    for reason in dict.fromkeys(table.loc[table["difference"].isna(), "reason"]):
        yield (
            f"Left out, {reason}: "
            + ", ".join(
                dict.fromkeys(
                    f"{row.of} − {row.against}"
                    for row in table[table["reason"] == reason].itertuples()
                )
            )
            + "\n"
        )
    if shown.empty:
        return
    titles = {e.label: e.title for e in entries}
    stages = list(dict.fromkeys(shown["stage"]))
    rows = [["question", "difference", "listeners", *stages]]
    for (question, of, against), group in shown.groupby(["question", "of", "against"], sort=False):
        cells = _by_stage(stages, group, "difference")
        pair = f"{titles[of]} − {titles[against]}"
        rows.append([question, pair, str(group["scorers"].iloc[0]), *cells])
    yield from _markdown(rows)


def _magnitudes(table) -> Iterator[str]:
    if table.empty:
        yield "None yet."
        return
    yield (
        "Mean of |difference| over the contrasts of a question, percentage points. Chance makes "
        "all of them positive; read the differences to size.\n"
    )
    stages = list(dict.fromkeys(table["stage"]))
    rows = [["question", "contrasts", *stages]]
    for question, group in table.groupby("question", sort=False):
        cells = _by_stage(stages, group, "magnitude")
        rows.append([question, str(group["contrasts"].iloc[0]), *cells])
    yield from _markdown(rows)


def _anova(table) -> Iterator[str]:
    if table.empty:
        yield "None: too few networks, listeners or targets."
        return
    rows = [["design", "effect", "F", "df", "p (Greenhouse-Geisser)", "p (permutation)", "n"]]
    for row in table.itertuples():
        df = f"{row.df1:.0f}, {row.df2:.0f}"
        numbers = [f"{row.F:.2f}", df, f"{row.p_gg:.3f}", f"{row.p_perm:.3f}", f"{row.n:.0f}"]
        if row.reason:
            numbers = [row.reason, df, "", "", f"{row.n:.0f}"]
        rows.append([row.design, row.effect, *numbers])
    yield from _markdown(rows)


def _networks(table, entries) -> Iterator[str]:
    sizes = [c for c in table.columns if c.endswith("_size")]
    heads = [c.removesuffix("_size") + " size" for c in sizes]
    rows = [["network", "parameters", *heads, "test accuracy by seed (%)"]]
    for entry in entries:
        own = table[table["entry"] == entry.label]
        scores = ", ".join(f"{100 * a:.1f}" for a in own["test_accuracy"].dropna())
        cells = [f"{size:,.0f}" if size == size else "" for size in own[sizes].iloc[0]]
        rows.append([entry.title, f"{own['parameters'].iloc[0]:,}", *cells, scores])
    yield from _markdown(rows)


def _curves(table, answers, entries) -> Iterator[str]:
    stages = [effects.NATURAL, *answers.stages, effects.ALL]
    rows = [["made from", "heard by", *stages]]
    for entry in entries:
        for who in effects.WHO:
            own = table[(table["entry"] == entry.label) & (table["who"] == who)]
            if own.empty:
                continue
            own = own.set_index("stage").reindex(stages)
            cells = [
                f"{100 * row.mean:.0f} [{100 * row.low:.0f}, {100 * row.high:.0f}]"
                if row.mean == row.mean  # Else it has no such stage.
                else ""
                for row in own[["mean", "low", "high"]].itertuples(index=False, name="Row")
            ]
            rows.append([entry.title, who, *cells])
    yield from _markdown(rows)


def _yields(table, entries) -> Iterator[str]:
    if table.empty:
        yield "Nothing is verified yet."
        return
    titles = {e.label: e.title for e in entries}
    heads = ["class match (%)", "passed (%)", "median relative error", "median Spearman"]
    rows = [["network", "stage", "metamers", *heads]]
    for row in table.itertuples():
        cells = [
            f"{100 * row.class_match:.0f} [{100 * row.class_match_low:.0f}, "
            f"{100 * row.class_match_high:.0f}]",
            f"{100 * row.passed:.0f} [{100 * row.passed_low:.0f}, {100 * row.passed_high:.0f}]",
            f"{row.relative_error:.3f} [{row.relative_error_low:.3f}, "
            f"{row.relative_error_high:.3f}]",
            f"{row.spearman:.3f} [{row.spearman_low:.3f}, {row.spearman_high:.3f}]",
        ]
        rows.append([titles.get(row.entry, row.entry), row.stage, str(row.metamers), *cells])
    yield from _markdown(rows)
