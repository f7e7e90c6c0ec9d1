"""The methods section of an experiment as it was built, taken and analysed: a text to start from.

Every number in it comes from the design, the answers or the analysis. What no file tells (who was
recruited, who approved, what was paid) stands in it as [to be added: ...].
"""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

import metamer_jax
from metamer_jax import analysis
from metamer_jax.listening import responses
from metamer_jax.listening.building import comparisons
from metamer_jax.listening.listeners import simulated
from metamer_jax.listening.responses import answers, trial_table
from metamer_jax.listening.results.tables import Results
from metamer_jax.listening.serving import sessions
from metamer_jax.report import page

_SOFTWARE = ("numpy", "scipy", "pandas", "statsmodels", "mixedlm")
# What cites a reference, and the reference.
_REFERENCES = {
    "Woods et al., 2017": "Woods, K. J. P., Siegel, M. H., Traer, J., & McDermott, J. H. (2017). "
    "Headphone screening to facilitate web-based auditory experiments. Attention, Perception, & "
    "Psychophysics, 79, 2064-2072.",
    "Milne et al., 2021": "Milne, A. E., Bianco, R., Poole, K. C., Zhao, S., Oxenham, A. J., "
    "Billig, A. J., & Chait, M. (2021). An online headphone screening test based on dichotic "
    "pitch. Behavior Research Methods, 53, 1551-1562.",
    "Feather et al., 2023": "Feather, J., Leclerc, G., Mądry, A., & McDermott, J. H. (2023). "
    "Model metamers reveal divergent invariances between biological and artificial neural "
    "networks. Nature Neuroscience, 26, 2017-2034.",
    "Efron, 1987": "Efron, B. (1987). Better bootstrap confidence intervals. Journal of the "
    "American Statistical Association, 82, 171-185.",
    "Holm, 1979": "Holm, S. (1979). A simple sequentially rejective multiple test procedure. "
    "Scandinavian Journal of Statistics, 6, 65-70.",
    "Greenhouse & Geisser, 1959": "Greenhouse, S. W., & Geisser, S. (1959). On methods in the "
    "analysis of profile data. Psychometrika, 24, 95-112.",
    "Rouder et al., 2009": "Rouder, J. N., Speckman, P. L., Sun, D., Morey, R. D., & Iverson, G. "
    "(2009). Bayesian t tests for accepting and rejecting the null hypothesis. Psychonomic "
    "Bulletin & Review, 16, 225-237.",
    "Liang & Zeger, 1986": "Liang, K.-Y., & Zeger, S. L. (1986). Longitudinal data analysis using "
    "generalized linear models. Biometrika, 73, 13-22.",
    "Geirhos et al., 2020": "Geirhos, R., Meding, K., & Wichmann, F. A. (2020). Beyond accuracy: "
    "quantifying trial-by-trial behaviour of CNNs and humans by measuring error consistency. "
    "Advances in Neural Information Processing Systems, 33, 13890-13902.",
    "Miller & Nicely, 1955": "Miller, G. A., & Nicely, P. E. (1955). An analysis of perceptual "
    "confusions among some English consonants. Journal of the Acoustical Society of America, 27, "
    "338-352.",
    "Nili et al., 2014": "Nili, H., Wingfield, C., Walther, A., Su, L., Marslen-Wilson, W., & "
    "Kriegeskorte, N. (2014). A toolbox for representational similarity analysis. PLoS "
    "Computational Biology, 10, e1003553.",
    "Warden, 2018": "Warden, P. (2018). Speech Commands: A dataset for limited-vocabulary speech "
    "recognition. arXiv:1804.03209.",
    "Glasberg & Moore, 1990": "Glasberg, B. R., & Moore, B. C. J. (1990). Derivation of auditory "
    "filter shapes from notched-noise data. Hearing Research, 47, 103-138.",
}
_TO_ADD = "**[to be added: {}]**"
_CHECKS = {
    "antiphase": "In the antiphase check (Woods et al., 2017) the quietest of three 200-Hz tones "
    "(1 s, 100-ms ramps; one at -6 dB, one with opposite phase at the two ears) was to be named; "
    "it was passed with at least {limit} of {of} right.",
    "huggins": "In the Huggins pitch check (Milne et al., 2021) the one of three white noises "
    "that held a pitch (a band around 600 Hz with opposite phase at the two ears) was to be "
    "named; it was passed with at least {limit} of {of} right.",
}
_TASKS = {
    "words": "Listeners chose the word that they had heard {how} ({n}-alternative forced choice, "
    "chance {chance})",
    "same_different": "Each trial played two sounds with {pause} of silence between them, a "
    "metamer and its recording or one of them twice, and listeners said whether these were the "
    "same or different (chance {chance})",
    "abx": "Each trial played three sounds with {pause} of silence between them, a metamer and its "
    "recording in either order and one of them again, and listeners said whether the third was the "
    "first or the second (ABX, chance {chance})",
}


def text(results: Results, read: responses.Responses, experiment: sessions.Experiment) -> str:
    """Writes the methods section, in Markdown.

    Args:
        results: From `analyze`.
        read: What it was given.
        experiment: What was taken.

    Returns:
        The section; what no file tells stands in it as "[to be added: ...]".

    Raises:
        ValueError: The experiment's design or manifest cannot be read.
    """
    design, manifest = answers.read_design(experiment), answers.read_manifest(experiment)
    stimuli = [_recordings(design), _networks(design), _metamers(design, manifest)]
    procedure = [_session(design, read), _headphones(design, results)]
    procedure += [_conditions(design, manifest, results, read), _trials(design, manifest)]
    parts = [
        ("Participants", [_participants(results, read), _number(results), _exclusions(results)]),
        ("Stimuli", [*stimuli, _sounds(design, manifest)]),
        ("Apparatus and procedure", procedure),
        ("Statistical analysis", [_statistics(results), _further(results)]),
        ("Results in brief", [_recognized(results), _compared(results)]),
        ("Software and data", [_software(results, design)]),
    ]
    body = "\n\n".join(
        f"## {title}\n\n" + "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
        for title, paragraphs in parts
        if any(paragraphs)
    )
    cited = sorted(reference for cites, reference in _REFERENCES.items() if cites in body)
    top = "# Methods\n\n"
    if results.simulated:
        top += (
            "**Simulated listeners: no person took part.** They answered at random around curves "
            "of recognition that were put in; the text shows what it will say of people.\n\n"
        )
    return f"{top}{body}\n\n## References\n\n" + "\n".join(f"- {each}" for each in cited) + "\n"


def _participants(results: Results, read: responses.Responses) -> str:
    account = results.exclusions.sessions
    people, taken = account["participant"].nunique(), len(account)
    kept = account[account["kept"]]
    who = f"{_count(people, 'participant')} took part"
    if results.simulated:
        who = f"{_count(people, 'simulated listener')} took the experiment"
    where = " " + _TO_ADD.format(
        "where and how participants were recruited, what they were paid, who approved the study, "
        "whether their hearing was measured"
    )
    where += _consent(read)
    sessions_of = "" if taken == people else f" in {_count(taken, 'session')}"
    counted = (
        f"The analysis has the {len(results.exclusions.trials)} answers of "
        f"{_count(kept['participant'].nunique(), 'listener')}"
        f"{'' if len(kept) == kept['participant'].nunique() else f' in {len(kept)} sessions'}."
    )
    told = _told(read.questionnaire, set(kept["session"]))
    return f"{who}{sessions_of}.{where} {counted}{' ' + told if told else ''}"


def _consent(read: responses.Responses) -> str:
    """That consent was given, to which text, and by how many if not by all."""
    table = read.questionnaire
    if table is None or "consent_version" not in table:
        return ""
    versions = table["consent_version"].fillna("").astype(str)
    known = versions[versions != ""]
    if known.empty:
        return ""
    every = len(read.sessions)
    page = f"informed consent on the first page (version {_listed(sorted(set(known)))} of it)"
    if len(known) == every:
        return f" All gave their {page}."
    others = _TO_ADD.format(f"the consent of the other {every - len(known)}")
    return f" In {len(known)} of {_count(every, 'session')} listeners gave their {page}; {others}."


def _number(results: Results) -> str:
    """How many listeners, and what so many can show."""
    said = _TO_ADD.format("how the number of listeners was decided")
    table = results.tables.get("power")
    if table is None or not len(table):
        return said
    listeners = results.exclusions.trials["participant"].nunique()
    table = table[table["items"].isna() & (table["n"] <= max(listeners, table["n"].min()))]
    if table.empty:
        return said
    row = table.loc[table["n"].idxmax()]
    return (
        f"{said} By simulation, {row['n']:g} listeners give a two-sided paired t test between two "
        f"networks at one stage (level {row['alpha']:g}, {_count(int(row['trials']), 'trial')} per "
        f"listener and network) a power of {row['power']:.2f} where the shares of right answers "
        f"are {row['proportion_a']:.2f} and {row['proportion_b']:.2f}."
    )


def _told(questionnaire: pd.DataFrame | None, kept: set[str]) -> str:
    """What the listeners who count told of themselves, a sentence a question."""
    if questionnaire is None or questionnaire.empty:
        return ""
    table = questionnaire[questionnaire["session"].isin(kept)]
    table = table.drop_duplicates("participant")
    known = ("participant", "session", "condition", "consent_version", "language", "comments")
    found = []
    for name in table.columns.drop([c for c in known if c in table]):
        values = table[name].dropna()
        values = values[values.astype(str).str.strip() != ""]
        label = str(name).replace("_", " ")
        numbers = pd.to_numeric(values, errors="coerce")
        if values.empty:
            continue
        missing = len(table) - len(values)
        unknown = f"; {missing} did not say" if missing else ""
        if numbers.notna().all():
            sd = f", SD {numbers.std(ddof=1):.1f}" if len(numbers) > 1 else ""
            span = f"{numbers.min():g} to {numbers.max():g}"
            found.append(f"{label}: mean {numbers.mean():.1f}{sd}, {span}{unknown}")
            continue
        counts = values.astype(str).str.strip().value_counts()
        shown = ", ".join(f"{value} {n}" for value, n in list(counts.items())[:6])
        more = f" and {len(counts) - 6} other answers" if len(counts) > 6 else ""
        found.append(f"{label}: {shown}{more}{unknown}")
    return f"They told of themselves ({'; '.join(found)})." if found else ""


def _exclusions(results: Results) -> str:
    counts = results.exclusions.counts
    rules = counts[counts["dropped"].notna() & counts["judged"].notna()]
    lost = rules[rules["dropped"] > 0]
    dropped = [f"{n} as {why}" for n, why in zip(lost["dropped"], lost["meaning"], strict=True)]
    passed = rules[(rules["judged"] > 0) & (rules["dropped"] == 0)]
    passed = passed[~passed["rule"].isin(("unfit", "duplicates in the files"))]
    judged = [str(why).removesuffix(" (the paper's rule)") for why in passed["meaning"]]
    sentences = []
    if dropped:
        sentences.append(
            f"Sessions were excluded by rule, each counted under the first that it failed: "
            f"{'; '.join(dropped)}."
        )
    else:
        sentences.append("No session was excluded.")
    if judged:
        sentences.append(f"No session failed the other rules ({'; '.join(judged)}).")
    blank = counts.loc[counts["rule"] == "blank answers", "dropped_trials"]
    if len(blank) and blank.iloc[0] > 0:
        sentences.append(f"{blank.iloc[0]} sounds without an answer were left out.")
    sentences.append(_TO_ADD.format("whether these rules were fixed before the answers were seen"))
    return " ".join(sentences)


def _recordings(design: Mapping[str, Any]) -> str:
    run = design.get("run") or {}
    summary = run.get("recordings") or {}
    counts, speakers = summary.get("counts") or {}, summary.get("speakers") or {}
    dataset = str(run.get("dataset") or _TO_ADD.format("the recordings and their source"))
    named = list(design["words"])
    if design.get("task", "words") != "words":
        named = list(design.get("played_words") or ())
    words = _count(len(named), "word") + (f" ({', '.join(named)})" if len(named) <= 16 else "")
    about = f"Recordings were of the dataset {dataset}{_DATASETS.get(dataset, '')}"
    if counts:
        every = sum(count.get("all", 0) for count in counts.values())
        about += f": {every} recordings of {words}"
        if speakers:
            about += f" by {sum(speakers.values())} speakers"
        about += f", {summary['duration_s']:g} s long, sampled at {summary['sample_rate_hz']:g} Hz"
        splits = {"train": "training", "validation": "validation", "test": "test"}
        split = [f"{counts[name]['all']} for {splits[name]}" for name in splits if name in counts]
        by = ", no speaker in two of these" if summary.get("split") == "speaker" else ""
        about += f" ({', '.join(split)}{by})"
    return f"{about}. Metamers were made of recordings of the test set only."


_DATASETS = {
    "spoken_words": ", which is synthesised (espeak-ng)",
    "mini_speech_commands": ", a part of Speech Commands (Warden, 2018)",
    "speech_commands": ", Speech Commands (Warden, 2018)",
}


def _networks(design: Mapping[str, Any]) -> str:
    """What was trained, on what, and how well it recognises."""
    run = design.get("run") or {}
    accuracy, trained = run.get("accuracy") or {}, run.get("trained") or {}
    named = []
    for model in design.get("models") or []:
        facts = []
        if model in trained:
            facts.append(f"{trained[model]['parameters']:,} trainable parameters")
        if model in accuracy:
            facts.append(f"test accuracy {100 * accuracy[model]:.1f} %")
        named.append(f"{model} ({', '.join(facts)})" if facts else str(model))
    said = f"The networks were {_listed(named)}, which recognise these words."
    said += " " + _TO_ADD.format("their architectures, or where these are described")
    ear, training = run.get("cochleagram"), run.get("training")
    if trained and ear:
        compressed = {
            "power": f"raised to the power {ear['power']:g}",
            "decibel": "in decibels",
        }.get(str(ear["compression"]), "not compressed")
        said += (
            f" Each took a cochleagram of the sound: half-cosine filters, as wide as "
            f"{ear['num_filters']} that span {ear['low_hz']:g} to {ear['high_hz']:g} Hz evenly on "
            f"the ERB-number scale (Glasberg & Moore, 1990)"
            + (f" and {ear['sample_factor']} times as dense" if ear["sample_factor"] > 1 else "")
            + f", their Hilbert envelopes sampled at {ear['envelope_rate_hz']:g} Hz and "
            f"{compressed}."
        )
    if trained and training:
        epochs = _span([found["best_epoch"] for found in trained.values()])
        with_decay = "AdamW" if training["weight_decay"] else "Adam"
        said += (
            f" They were trained with {with_decay} (recipe {training['recipe']!r}, learning rate "
            f"{training['learning_rate']:g}, batches of {training['batch_size']}) for at most "
            f"{_count(training['epochs'], 'epoch')}; the weights of the epoch with the lowest loss "
            f"on the validation set were kept ({epochs})."
        )
    return said


def _metamers(design: Mapping[str, Any], manifest: pd.DataFrame) -> str:
    run = design.get("run") or {}
    played = manifest[manifest["kind"] == "metamer"]
    names = ["model", "layer", "target_id", "metamer_seed"]  # Old designs name fewer.
    distinct = played.drop_duplicates([name for name in names if name in played])
    synthesis = run.get("synthesis") or {}
    made = (
        f"A metamer is a sound that produces at one stage of a network the activation that a "
        f"recording produces there (Feather et al., 2023). They were made at the stages "
        f"{_listed(design.get('layers') or [])}"
    )
    if synthesis:
        made += (
            f" by {synthesis['steps']} steps of {_OPTIMIZERS.get(synthesis['optimizer'])} from "
            f"{synthesis['start']} noise, which lower {_LOSSES.get(synthesis['loss'])} "
            f"(recipe {synthesis['recipe']!r}, learning rate {synthesis['learning_rate']:g}"
            f"{_other_rates(synthesis)}, {synthesis['schedule']} schedule)"
        )
        if synthesis.get("relu_override"):
            made += "; gradients passed the rectification of the matched stage"
        if synthesis.get("as_played"):
            made += (
                "; the network was given each sound as it is played, with ramps and at its level"
            )
    chosen = _chosen(design, distinct)
    return f"{made}. {_verification(run)} {chosen}{_matched(design, distinct)}"


def _other_rates(synthesis: Mapping[str, Any]) -> str:
    """The learning rates of stages that have their own."""
    stages = ("cochleagram", "conv1")
    rates = {stage: synthesis.get(f"{stage}_learning_rate") for stage in stages}
    return "".join(f", {rate:g} at {stage}" for stage, rate in rates.items() if rate is not None)


_OPTIMIZERS = {
    "adam": "Adam",
    "relative_adam": "Adam with steps in proportion to the sound's local level",
    "normalized_gradient": "normalised gradient descent",
    "lbfgs": "L-BFGS",
}
_LOSSES = {
    "half_sum_of_squares": "half the squared distance of the activations",
    "relative_l2": "the distance of the activations relative to the recording's norm",
    "correlation": "one minus the correlation of the activations",
}


def _verification(run: Mapping[str, Any]) -> str:
    rules = run.get("verification") or {}
    if not rules:
        return _TO_ADD.format("how metamers were verified")
    pairs = [n for stages in (run.get("null_pairs") or {}).values() for n in stages.values()]
    size = f"{_span(pairs)} pairs" if pairs else "all pairs"
    three = rules.get("criterion") == "feather2023"
    measures = "the Spearman correlation of its activation with the recording's"
    if three:
        measures = (
            "each of Spearman's correlation, Pearson's correlation and the signal-to-noise ratio "
            "of its activation and the recording's"
        )
    said = (
        f"A metamer passed verification if the network heard the recording's word in it and "
        f"{measures} exceeded that of every one of {size} of different recordings (null "
        f"distribution, of {rules['null_recordings']} recordings)"
    )
    if rules["min_rank_features"] and not three:
        said += (
            f"; at stages of fewer than {rules['min_rank_features']} features, if the distance of "
            f"the activations was at most {100 * rules['max_relative_error']:g} % of the norm of "
            f"the recording's"
        )
    return f"{said}. Verified were the 16-bit files that were played."


def _matched(design: Mapping[str, Any], distinct: pd.DataFrame) -> str:
    """How well the metamers that were played match, stage by stage."""
    if "relative_error" not in distinct or distinct.empty:
        return ""
    table = distinct.assign(
        error=pd.to_numeric(distinct["relative_error"], errors="coerce"),
        place=pd.to_numeric(distinct["layer_index"], errors="coerce"),
    )
    shown = []
    for model in design.get("models") or []:
        layers = table[table["model"] == model].groupby("layer")
        medians = layers["error"].median()[layers["place"].first().sort_values().index]
        named = [f"{error:.2g} at {layer}" for layer, error in medians.items()]
        shown.append(f"of {model} {', '.join(named)}")
    return (
        f" The median distance of their activations from the recordings', relative to the norm of "
        f"these, was {'; '.join(shown)}."
    )


def _chosen(design: Mapping[str, Any], distinct: pd.DataFrame) -> str:
    config = design.get("config") or {}
    available, played = design.get("metamers_available"), len(distinct)
    failed = int(design.get("failed_metamers_played") or 0)
    said = f"{played} metamers of {distinct['target_id'].nunique()} recordings were played"
    if available:
        out = len(design.get("left_out") or [])
        said += f", of {available} that were made" + (f"; {out} were left out" if out else "")
        only = ["they failed verification"] if config.get("verified") == "pass" else []
        if config.get("require_correct"):
            only.append("a network misclassified the recording")
        said += f" (as {' or '.join(only)})" if only and out else ""
        spare = available - out - (played - failed)
        said += f"; the design had no place for {spare} more" if spare > 0 and not failed else ""
    said += "."
    if failed:
        said += f" {failed} of those that were played had failed verification."
    if design.get("holes"):
        said += f" {len(design['holes'])} places of the design had no metamer and were left empty."
    return said


def _sounds(design: Mapping[str, Any], manifest: pd.DataFrame) -> str:
    if not {"sample_rate_hz", "level_db"} <= set(design):
        return _TO_ADD.format("sample rate and level of the sounds")
    ramp = f"{1000 * design['ramp_s']:g}-ms raised-cosine ramps" if "ramp_s" in design else "ramps"
    return (
        f"All sounds were mono 16-bit files at {design['sample_rate_hz']:g} Hz with {ramp}, at an "
        f"RMS of {design['level_db']:g} dB re full scale (an RMS of 1)"
        f"{_quieter(design, manifest)}."
    )


def _quieter(design: Mapping[str, Any], manifest: pd.DataFrame) -> str:
    if "rms" not in manifest:
        return ""
    files = manifest.drop_duplicates("stimulus_id")
    level = 20 * np.log10(pd.to_numeric(files["rms"], errors="coerce"))
    quieter = int((level < design["level_db"] - 0.01).sum())
    if not quieter:
        return ""
    most = design["level_db"] - float(level.min())
    return (
        f"; {quieter} of {len(files)} were quieter, by {most:.1f} dB at most, as their peaks would "
        f"have been clipped"
    )


def _session(design: Mapping[str, Any], read: responses.Responses) -> str:
    config = design.get("config") or {}
    times = [s / 60 for s in trial_table.durations_s(read.sessions) if not np.isnan(s)]
    sources = set(read.sessions["source"])
    people = times and sources != {simulated.SOURCE}
    took = f" A session took {np.median(times):.1f} min (median)." if people else ""
    form = ", or by the conditions' recordings and a form" if "google_form" in sources else ""
    how = f"in a browser (jsPsych 8){form}"
    questions = "" if config.get("questionnaire") == [] else ", answered questions about themselves"
    return (
        f"The experiment was taken {how}; its sounds were the same at both ears. "
        + _TO_ADD.format(
            "where it was taken and with which sound card and headphones, the level in dB SPL and "
            "how it was calibrated, if it was"
        )
        + f" Listeners read the information, consented{questions}, "
        f"and set the volume: beginning at a quarter of the range, a noise at the level of the "
        f"sounds was to be loud but comfortable.{took} They could withdraw at any time, upon "
        f"which their answers were deleted."
    )


def _headphones(design: Mapping[str, Any], results: Results) -> str:
    limits = design.get("headphone_limits") or {}
    if not limits:
        return "There was no headphone check."
    trials = pd.Series([trial["check"] for trial in design["headphone"]]).value_counts()
    said = [_CHECKS[check].format(limit=n, of=trials[check]) for check, n in limits.items()]
    if (design.get("config") or {}).get("headphone_retry"):
        said.append("Who failed was given advice and one more try.")
    excluded = bool(results.settings.get("headphones"))
    said.append(
        "Everybody went on to the experiment; sessions that failed "
        + ("were excluded afterwards." if excluded else "were not excluded.")
    )
    return " ".join(["Headphones were checked first.", *said])


def _conditions(
    design: Mapping[str, Any],
    manifest: pd.DataFrame,
    results: Results,
    read: responses.Responses,
) -> str:
    """Who heard what: conditions, how they were dealt, and what is balanced in them."""
    heard = manifest[pd.to_numeric(manifest["condition"]) > 0]
    kinds = heard.groupby(["condition", "kind"]).size().unstack(fill_value=0)
    named = [
        f"{_span(kinds[kind])} {what}"
        for kind, what in (
            ("metamer", "metamers"),
            ("natural", "natural recordings"),
            ("catch", "natural recordings as catch trials"),
        )
        if kind in kinds
    ]
    batches = int(pd.to_numeric(heard["batch"]).max())
    parts = "one part" if batches == 1 else f"{batches} parts with breaks between them"
    rule = {
        "latin": "No condition had a recording twice, so that no listener heard two metamers of "
        "one; combinations of network and stage were spread evenly over its parts and balanced "
        "over the conditions"
        + (", but for the places left empty." if design.get("holes") else "."),
        "shuffle": "Metamers were assigned to conditions at random.",
    }.get(str(design.get("design")), "")
    kept = results.exclusions.sessions[results.exclusions.sessions["kept"]]
    taken = kept["condition"].astype(str).value_counts()
    every = taken.reindex(heard["condition"].unique(), fill_value=0)
    sources = set(read.sessions["source"])
    dealt = ", the least taken first" if sources & {"server", simulated.SOURCE} else ""
    return (
        f"There were {_count(design['conditions'], 'condition')}, each of {_listed(named)} in "
        f"{parts}, in an order drawn at random for the condition. {rule} A listener took one "
        f"condition{dealt}; each was taken by {_span(every)} of the listeners who count."
    )


def _trials(design: Mapping[str, Any], manifest: pd.DataFrame) -> str:
    config = design.get("config") or {}
    n = len(design["words"])
    typed = n > config.get("typed_beyond", n)
    how = f"from {n} by typing it, with suggestions" if typed else f"with one of {n} buttons"
    task = _TASKS[design.get("task", "words")].format(
        n=n, how=how, chance=_chance(1 / n), pause=f"{comparisons.PAUSE_S:g} s"
    )
    practice = int((pd.to_numeric(manifest["condition"]) == 0).sum())
    compares = design.get("task", "words") != "words"
    sounds = "a recording and itself played backwards" if compares else "natural recordings"
    shuffled = config.get("choice_order") == "shuffled"
    order = "shuffled for each listener" if shuffled else "the same for everybody"
    said = (
        f"A sound was played once, at the press of a button, and could be answered when "
        f"it had ended, without a limit of time. {task}; the order of the answers was {order}. In "
        f"the experiment itself there was no feedback."
    )
    if practice:
        first = f"Practice came first: {_count(practice, 'trial')} with {sounds} and feedback."
        said = f"{first} {said}"
    if config.get("confidence"):
        said += " After each answer they said how sure they were (1 to 5)."
    return said


def _statistics(results: Results) -> str:
    settings, have = results.settings, results.with_numbers
    unit = settings["unit"]
    said = [
        f"The unit of analysis was the {'listener' if unit == 'participant' else unit}: shares of "
        f"right answers were averaged over trials first. Chance was {_chance(settings['chance'])}. "
        f"Tests are two-sided unless it is said otherwise."
    ]
    if "recognition" in have and settings["resamples"]:
        said.append(
            f"Intervals are 95 % BCa bootstrap intervals over listeners (Efron, 1987; "
            f"{settings['resamples']} samples)."
        )
    if "recognition" in have and "p_chance" in results.tables["recognition"]:
        said.append(
            "Recognition was compared with chance by binomial tests over trials, which take all "
            "answers as independent."
        )
    if "compare_models" in have:
        table = results.tables["compare_models"]
        pairings = {"name": "name", "index": "place in the network"}
        how = pairings.get(str(settings["pairing"]), "a given table")
        n = pd.to_numeric(table["n"], errors="coerce").max()
        said.append(
            f"Networks were compared at each stage, paired by {how}, by two-sided paired t tests "
            f"over listeners (n up to {n:g}), with Holm's correction (Holm, 1979) over stages that "
            f"have variance, sign-flip permutations ({settings['permutations']}) beside them, and "
            f"dz as the effect size; where all listeners answered alike no test is given."
        )
    if "anova" in have:
        effects = list(dict.fromkeys(results.tables["anova"]["effect"]))
        said.append(
            f"A repeated-measures analysis of variance had the effects {_listed(effects)}, with "
            f"Greenhouse-Geisser and Huynh-Feldt corrections (Greenhouse & Geisser, 1959), partial "
            f"eta squared, and permutation p values (scheme {settings['scheme']!r}, "
            f"{settings['permutations']} permutations)."
        )
    if "gee" in have:
        said.append(
            "Single trials were modelled by a logistic regression with generalised estimating "
            "equations clustered by listener (Liang & Zeger, 1986)."
        )
    return " ".join(said)


def _recognized(results: Results) -> str:
    """The shares of right answers, with their intervals."""
    table = results.tables.get("recognition")
    if table is None or table.empty:
        return ""
    said = []
    for model, rows in table.groupby("model", sort=False):
        shares = []
        for row in rows.to_dict("records"):
            low, high = (100 * row[end] for end in ("ci_low", "ci_high"))
            interval = f" [{low:.0f}, {high:.0f}]" if low == low and high == high else ""
            shares.append(f"{100 * row['mean']:.0f} %{interval} at {row['layer']}")
        said.append(f"of {model} {', '.join(shares)}")
    n = _span(table["n"])
    return (
        f"Right answers to metamers (means over the {n} listeners of each stage, 95 % intervals): "
        f"{'; '.join(said)}."
    )


def _compared(results: Results) -> str:
    """The networks' differences, with their tests."""
    table = results.tables.get("compare_models")
    if table is None or "compare_models" not in results.with_numbers:
        return ""
    said = []
    for (a, b), rows in table.groupby(["model_a", "model_b"], sort=False):
        tests, untested = [], []
        for row in rows.to_dict("records"):
            if row["reason"]:
                untested.append(f"{row['layer']} ({row['reason']})")
                continue
            tests.append(
                f"{100 * row['difference']:+.0f} points at {row['layer']} (t({row['df']:g}) = "
                f"{row['statistic']:.2f}, {_p(row['p'])}, corrected {_p(row['p_holm'])}, dz = "
                f"{row['dz']:.2f})"
            )
        tests += [f"no test at {', '.join(untested)}"] if untested else []
        said.append(f"{b} less {a}: {'; '.join(tests)}.")
    return " ".join(said)


def _p(value: float) -> str:
    shown = page.p_value(value)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _further(results: Results) -> str:
    settings, have = results.settings, results.with_numbers
    sentences = {
        "anova_observers": "People were compared with the generating networks on the same sounds "
        "by a mixed analysis of variance (Feather et al., 2023).",
        "contrasts": f"Planned contrasts were corrected over their family "
        f"({settings['correction']}).",
        "bayes_factors": f"Evidence for no difference is given as JZS Bayes factors (Rouder et "
        f"al., 2009; Cauchy prior of width {analysis.bayes.MEDIUM:.3f}).",
        "equivalence": f"Two one-sided tests ask whether shares of right answers are equivalent "
        f"to within {settings['bound']:g}.",
        "mixed_model": f"A logistic mixed model had network, stage and their interaction as fixed "
        f"effects and crossed random effects {_random_effects(results)}.",
        "curve_summary": "The stage at which half was recognised was estimated by a logistic "
        "curve, its interval by bootstrap over listeners.",
        "split_half": "Reliability is the split-half correlation with Spearman-Brown's correction.",
        "noise_ceiling": "Noise ceilings are those of Nili et al., 2014.",
        "error_consistency": "Agreement in errors is kappa (Geirhos et al., 2020).",
        "transmitted_information": "Transmitted information (Miller & Nicely, 1955), response bias "
        "and the similarity of confusions describe what was heard instead.",
        "discrimination": "Sensitivity is d' by stage.",
        "response_times": "Response times are described, from the beginning of the sound.",
    }
    return " ".join(sentence for name, sentence in sentences.items() if name in have)


def _random_effects(results: Results) -> str:
    table = results.tables.get("mixed_model", pd.DataFrame())
    names = {
        "listener_sd": "of listeners",
        "listener_by_first_sd": "of listeners by network",
        "item_sd": "of recordings",
        "metamer_sd": "of metamers",
    }
    return _listed([said for sd, said in names.items() if sd in table and table[sd].notna().any()])


def _software(results: Results, design: Mapping[str, Any]) -> str:
    versions = [f"metamer_jax {metamer_jax.__version__}"]
    versions += [f"{name} {version}" for name in _SOFTWARE if (version := _version(name))]
    run = design.get("run") or {}
    made = run.get("environment") or {}
    names = ("metamer_jax", "jax", "flax", "optax")
    with_run = [f"{name} {made[name]}" for name in names if made.get(name)]
    networks = f"Networks and metamers were made with {_listed(with_run)}. " if with_run else ""
    return (
        f"{networks}Answers were analysed with Python {platform.python_version()}, "
        f"{_listed(versions)}; seed {results.settings['seed']}. The experiment is "
        f"{design['experiment_id']}, its design has the SHA-256 {design['design_sha256']}, built "
        f"from a run of preset {run.get('preset')!r} with seed {run.get('seed')}. "
        + _TO_ADD.format("where data, sounds and code can be had; whether it was preregistered")
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _span(values: Sequence[int] | pd.Series) -> str:
    low, high = int(min(values)), int(max(values))
    return f"{low}" if low == high else f"{low} to {high}"


def _listed(names: Sequence[str]) -> str:
    *most, last = names or ["none"]
    return f"{', '.join(map(str, most))} and {last}" if most else str(last)


def _chance(share: object) -> str:
    return f"{100 * float(str(share)):.3g} %"
