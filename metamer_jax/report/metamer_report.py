"""The report of a run: targets and metamers to hear and see, and every figure and number.

Everything comes from the run folder's files. Parts not made yet are said to be missing, so that a
run can be looked at while it goes on.
"""

import pathlib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metamer_jax import figures, storage
from metamer_jax.analysis import paper
from metamer_jax.report import charts, page, recognition, sample
from metamer_jax.report.contents import CochleagramFn, Key, RunContents, picture_name, sound_name
from metamer_jax.report.run_folder import RunFolder
from metamer_jax.runtime import pasting

_COMMANDS = {
    "training": "train",
    "metamers": "synthesize",
    "verification": "verify",
    "listening": "listen build",
}


def write_report(
    run_folder: pathlib.Path | str,
    *,
    max_metamers: int = 160,
    seed: int = 0,
    max_megabytes: float = 20.0,
    cochleagram_fn: CochleagramFn | None = None,
    save_figures: bool = True,
    leave_out: Mapping[str, str] = types.MappingProxyType({}),
) -> pathlib.Path:
    """Writes `report.html`, and the figures as PNG, into a run folder.

    All metamers of a seeded sample of targets are embedded, then as many of the metamers that
    failed verification as fit; the page says how many of how many.

    Args:
        run_folder: May be unfinished: missing parts are named in the page.
        max_metamers: Upper bound of the sample (at least one target is always shown).
        seed: Of the sample.
        max_megabytes: Upper bound of the page, 10^6 bytes.
        cochleagram_fn: Draws the pictures, [sound, time] -> [sound, channel, frame]; None: the
            run's own cochleagram.
        save_figures: Also write `figures/*.png`.
        leave_out: Files of the folder that are not to be believed, and why.

    Returns:
        The page's path.

    Raises:
        ValueError: `run_folder` is no folder, a bound is not positive, or the page without any
            sound already exceeds `max_megabytes`.
    """
    folder = pathlib.Path(run_folder)
    if not folder.is_dir():
        raise ValueError(f"run_folder must be an existing folder, got {str(run_folder)!r}")
    for name, value in (("max_metamers", max_metamers), ("max_megabytes", max_megabytes)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")
    run = RunContents(RunFolder(folder, leave_out), cochleagram_fn)
    curves = recognition.curves(run)
    drawn = charts.draw(run, curves, folder / "figures" if save_figures else None)
    drawn |= dict(curves=curves, yields=charts.count_yields(run))
    units = sample.choose_units(run, max_metamers, seed)
    html = _fit(run, drawn, units, seed=seed, max_bytes=int(max_megabytes * 1e6))
    if save_figures:
        charts.save_pairs(run, units, folder / "figures")
    path = folder / "report.html"
    storage.write_text(path, html)
    return path


def _fit(
    run: RunContents,
    drawn: Mapping[str, Any],
    units: Sequence[tuple[int, int]],
    *,
    seed: int,
    max_bytes: int,
) -> str:
    """Renders the page with as many of the chosen sounds as `max_bytes` allows."""
    bare = len(_render(run, drawn, [], set(), seed=seed).encode("utf-8"))
    if bare > max_bytes:
        raise ValueError(
            f"max_megabytes must be at least {bare / 1e6:.2f} for this run (the page without any "
            f"sound), got {max_bytes / 1e6:g}"
        )
    per_sound = 2500  # Bytes of markup around one sound, generously.
    failed = sample.failed_keys(run, seed)
    budget = max_bytes - bare
    while True:
        used, shown, embedded = 0, [], set()

        def take(keys: Sequence[int | Key], embedded: set[Any] = embedded, room: int = 0) -> int:
            new = [key for key in dict.fromkeys(keys) if key not in embedded]
            run.embed(new)
            size = sum(run.embedded_bytes(key) + per_sound for key in new)
            if size > room:
                return -1
            embedded.update(new)
            return size

        for unit in units:
            size = take([unit[0], *sample.unit_keys(run, unit)], room=budget - used)
            if size < 0:
                break
            used += size
            shown.append(unit)
        for start in range(0, len(failed), 8):
            pairs = failed[start : start + 8]
            # One by one where the whole group no longer fits.
            for group in (pairs,) if used + 8e5 < budget else [(pair,) for pair in pairs]:
                keys = [key for pair in group for key in (pair[2], pair)]
                used += max(take(keys, room=budget - used), 0)
        html = _render(run, drawn, shown, embedded, seed=seed)
        excess = len(html.encode("utf-8")) - max_bytes
        if excess <= 0:
            return html
        budget -= excess + per_sound


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield prefix + name, ", ".join(map(str, value)) or "none"
        else:
            yield prefix + name, "not set" if value is None else str(value)


def _setting_groups(run: RunContents) -> list[dict[str, Any]]:
    plain = {k: v for k, v in run.settings.items() if not isinstance(v, Mapping)}
    nested = {k: v for k, v in run.settings.items() if isinstance(v, Mapping)}
    groups = [dict(title="run", rows=list(_flatten(plain)))] if plain else []
    if not run.is_trained_here:
        nested.pop("training", None)
    groups += [dict(title=name, rows=list(_flatten(value))) for name, value in nested.items()]
    if run.environment:
        groups.append(dict(title="environment", rows=list(_flatten(run.environment))))
    return groups


def _data_facts(run: RunContents) -> list[tuple[str, str]]:
    return list(_flatten(run.data_summary))


def _axes(run: RunContents) -> dict[str, Any]:
    """Tick labels of every picture, with places in percent of its height and width."""
    pictures = list(run.pictures.values())
    ticks = []
    if pictures:
        channels = len(pictures[0])
        wanted = (200, 1000, 4000)
        ticks = [
            (figures.hz_label(f), round(100 * (place + 0.5) / channels, 1))
            for f, place in figures.frequency_ticks(run.center_hz(channels), wanted)
        ]
    duration_ms = 1000 * run.config.data.duration_s
    return dict(
        hz=ticks, ms=[(f"{duration_ms * k / 2:g}", 50 * k) for k in range(3)], unit="Hz, ms"
    )


def _card(run: RunContents, key: int | Key) -> dict[str, Any]:
    """What the page says about one sound."""
    target_id = key[2] if isinstance(key, tuple) else key
    word = run.word(target_id)
    target = run.targets.loc[target_id] if target_id in run.targets.index else {}
    card = dict(
        sound=sound_name(key) if sound_name(key) in run.media else None,
        picture=picture_name(key) if picture_name(key) in run.media else None,
        word=word,
        target_id=target_id,
        speaker=target.get("speaker", ""),
        name=target.get("name", ""),
        row=None,
    )
    if not isinstance(key, tuple):
        spoken = f"{'' if run.of_own_sounds else 'the spoken word '}“{word}”, target {target_id}"
        file = f"target_{target_id}_{word}.wav"
        return card | dict(kind="target", title="target", label=spoken, file=file)
    network, stage, _, seed = key
    label = f"metamer of “{word}”, target {target_id}, {network} matched at {stage}, seed {seed}"
    return card | dict(
        kind="metamer",
        file=f"{network}_{stage}_{target_id}_{seed}_{word}.wav",
        title=stage,
        network=network,
        stage=stage,
        seed=seed,
        label=label,
        row=run.row(key),
    )


def _listen(run: RunContents, units: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Groups the sample by word and target, a row per network and seed."""
    words: dict[str, dict[int, list[int]]] = {}
    for target_id, seed in sorted(units):
        words.setdefault(run.word(target_id), {}).setdefault(target_id, []).append(seed)
    order = {word: place for place, word in enumerate(run.words)}
    groups = []
    for word in sorted(words, key=lambda w: order.get(w, len(order))):
        blocks = []
        for target_id, seeds in words[word].items():
            rows = []
            for network in run.networks:
                for seed in seeds:
                    cards: list[dict[str, Any]] = []
                    for stage in run.stages[network]:
                        targets, made = run.ids.get((network, stage), ([], []))
                        there = target_id in targets and seed in made
                        key = (network, stage, target_id, seed)
                        cards.append(_card(run, key) if there else dict(title=stage, kind="none"))
                    verified = [c["row"] for c in cards if c.get("row")]
                    heard = verified[0].get("target_prediction") if verified else None
                    rows.append(
                        dict(network=network, seed=seed, cards=cards, heard=heard, seeds=seeds)
                    )
            blocks.append(dict(target=_card(run, target_id), rows=rows))
        is_named = not run.of_own_sounds or [word] != [str(target_id) for target_id in words[word]]
        groups.append(dict(word=word, is_named=is_named, blocks=blocks))
    return groups


def _failures(run: RunContents, embedded: set[Any]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    if run.metamers is None:
        return groups
    failed = run.metamers[~run.metamers["passed"]]
    for network in run.networks:
        for stage in run.stages[network]:
            chosen = failed[(failed["network"] == network) & (failed["stage"] == stage)]
            if chosen.empty:
                continue
            rows = []
            for row in chosen.to_dict("records"):
                key = (network, stage, int(row["target_id"]), int(row["seed"]))
                card = _card(run, key)
                pair = [_card(run, key[2]), card] if key in embedded else None
                rows.append(dict(row=row, pair=pair, word=card["word"], speaker=card["speaker"]))
            groups.append(dict(network=network, stage=stage, rows=rows))
    return groups


def _shown_counts(
    run: RunContents, units: Sequence[tuple[int, int]], failures: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    return dict(
        metamers=sum(len(sample.unit_keys(run, unit)) for unit in units),
        all_metamers=run.num_metamers,
        targets=len({target_id for target_id, _ in units}),
        all_targets=len(set().union(*(targets for targets, _ in run.ids.values()))),
        failures=sum(row["pair"] is not None for group in failures for row in group["rows"]),
        all_failures=sum(len(group["rows"]) for group in failures),
    )


def _word_yields(run: RunContents) -> list[dict[str, Any]]:
    """A table per network, words by stages, of passed and made."""
    table = (
        charts.count_yields(run, by="word")
        if run.metamers is not None and "word" in run.metamers
        else None
    )
    if table is None:
        return []
    made = table.set_index(["network", "word", "stage"])
    groups = []
    for network in run.networks:
        rows = []
        for word in run.words:
            cells = []
            for stage in run.stages[network]:
                at = (network, word, stage)
                cells.append(made.xs(at).to_dict() if at in made.index else None)
            if any(cells):
                rows.append(dict(word=word, cells=cells))
        if rows:
            groups.append(dict(network=network, stages=run.stages[network], rows=rows))
    return groups


def _render(
    run: RunContents,
    drawn: Mapping[str, Any],
    units: Sequence[tuple[int, int]],
    embedded: set[Any],
    *,
    seed: int,
) -> str:
    run.media.forget_shown()
    yields = drawn["yields"]
    cells = {}
    if yields is not None:
        cells = {(r["network"], r["stage"]): r for r in yields.to_dict("records")}
    failures = _failures(run, embedded)
    verified = None
    if run.metamers is not None and len(run.metamers):
        verified = dict(
            metamers=len(run.metamers),
            passed=int(run.metamers["passed"].sum()),
            class_match=int(run.metamers["class_match"].sum()),
            optimised=int(run.metamers["passed_optimised"].sum())
            if "passed_optimised" in run.metamers
            else None,
        )
    title = "Metamers of " + " and ".join(run.networks) if run.networks else "Metamers"
    return page.render(
        "metamer_report.html.jinja",
        title=title,
        run_name=run.files.path.resolve().name,
        run=run,
        config=run.config,
        drawn=drawn,
        cells=cells,
        word_yields=_word_yields(run),
        answer=recognition.in_words(run, drawn["curves"]),
        in_yields=recognition.yields_in_words(run, yields),
        unjudged=recognition.unjudged(run),
        has_classes=any(run.classes(network) for network in run.networks),
        recognized=recognition.shown(run, drawn["curves"]),
        natural=recognition.natural(run),
        beside_the_paper=recognition.is_the_papers(run),
        table_1=recognition.table_1(run),
        paper=paper,
        verified=verified,
        listen=_listen(run, units),
        failures=failures,
        shown=_shown_counts(run, units, failures),
        sample_seed=seed,
        media=run.media,
        axes=_axes(run),
        unit=charts.unit_of_envelope(run.config.cochleagram),
        settings=_setting_groups(run),
        data_facts=_data_facts(run),
        commands=_commands(run),
        network_color=figures.network_color,
    )


def _commands(run: RunContents) -> dict[str, str]:
    """Returns what makes the parts that may be missing."""
    folder = run.files.path
    flag = f"--workdir={folder}"
    found = {part: pasting.command(name, flag) for part, name in _COMMANDS.items()}
    # Of own sounds there are no others to practise with. Where their names are no classes, whether
    # a model is right is not known, and what people can tell is whether two sounds are the same.
    more = ["--practice_trials=0"] if run.of_own_sounds else []
    if recognition.unjudged(run):
        more += ["--task=same_different", "--set=require_correct=false"]
    to = f"--out={folder / 'listening'}"
    return found | {"listening": pasting.command(_COMMANDS["listening"], flag, to, *more)}
