"""Reads the responses to a listening experiment, excludes by rule; makes tables, figures, report.

  metamer-jax listen analyze --experiment=runs/mine/listening
  metamer-jax listen analyze --experiment=runs/mine/listening --simulate=20
  metamer-jax listen analyze --responses=proportions.csv --chance=0.125 --out=tables

Takes a server's folder, the page's JSON, JATOS archives, jsPsych's CSV, Google forms' CSV and tidy
tables. `--simulate` lets simulated listeners take the experiment instead, and says so everywhere.
Where `metamer-jax listen machines` has taken the experiment too, the report shows them beside.
"""

import os
import pathlib
from collections.abc import Sequence

import pandas as pd
from absl import flags

from metamer_jax import analysis, configs, storage
from metamer_jax.analysis import suite
from metamer_jax.commands import drivers
from metamer_jax.listening import listeners, responses
from metamer_jax.listening.building import page_texts
from metamer_jax.listening.listeners import simulated
from metamer_jax.listening.responses import answers, jatos_api
from metamer_jax.listening.results import (
    exclusions,
    methods,
    prolific,
    psych_ds,
    summary,
    tables,
    writing,
)
from metamer_jax.listening.serving import sessions

_DRAWN = ("permutations", "resamples")
_EXPERIMENT = flags.DEFINE_string("experiment", None, "Folder that metamer-jax listen build wrote.")
_RESPONSES = flags.DEFINE_multi_string(
    "responses",
    None,
    "Files and folders, separated by commas or by giving the flag again; a name that holds a comma "
    "is taken whole where there is such a file. Unset: responses/ of the experiment.",
)
_JATOS_URL = flags.DEFINE_string(
    "jatos_url",
    None,
    "Address of a JATOS server whose results of this experiment are downloaded first, into jatos/ "
    f"of it. An API token must stand in the environment variable {jatos_api.TOKEN_VARIABLE}.",
)
_JATOS_STUDY = flags.DEFINE_string(
    "jatos_study",
    None,
    "UUID or number of the study there. Unset: that of study.jzip, which the import keeps.",
)
_OUT = flags.DEFINE_string(
    "out", None, "Where tables go. Unset: analysis/ or analysis_simulated/ of the experiment."
)
_PROLIFIC = flags.DEFINE_string(
    "prolific",
    None,
    "Prolific's export of the study (CSV), to be set beside the sessions: who finished, who is "
    "missing, whose code is wrong. Writes prolific.csv.",
)
_BONUS = flags.DEFINE_float(
    "bonus",
    None,
    "With --prolific: a bonus for each who counts, as Prolific's bulk payment takes it. Writes "
    "prolific_bonus.csv.",
)
_PSYCH_DS = flags.DEFINE_string(
    "psych_ds",
    None,
    "Folder for the answers as a Psych-DS dataset, with a codebook and without anybody's id; new, "
    "or of an earlier export.",
)
_DUPLICATES = flags.DEFINE_enum(
    "duplicates",
    "error",
    ("error", "first"),
    "A session that comes twice: stop, or take the first.",
)
_WHERE = flags.DEFINE_multi_string(
    "where", [], "Rows of a table of proportions to take: --where=observer=human"
)
_NETWORK_WHERE = flags.DEFINE_multi_string(
    "network_where",
    [],
    "Rows of a table of proportions that are the generating networks' own, to set beside people: "
    "--network_where=observer=network. With --experiment they come from its manifest.",
)
_CONTRASTS = flags.DEFINE_string(
    "contrasts",
    None,
    'JSON of planned contrasts: {"late": [{"model": "a", "layer": "dense", "weight": 1}, '
    '{"model": "b", "layer": "dense", "weight": -1}], ...}; a term may name a model, a layer or '
    "both.",
)
_PAIRING = flags.DEFINE_string(
    "pairing",
    None,
    "Which layers of different networks are compared: 'name', 'index' (layer_index), or a CSV with "
    "a column 'name' and one for each network, a row per set of layers. Unset: by name where all "
    "networks have the same, else by index.",
)
_config = drivers.setting_flags(
    suite.AnalysisConfig(),
    {name: name for name in configs.fields_of(suite.AnalysisConfig) if name not in _DRAWN}
    | {"draws": _DRAWN},
    more={"draws": "Bootstrap samples, too."},
    others=False,
)
_rules = drivers.setting_flags(
    exclusions.ExclusionRules(),
    {name: name for name in configs.fields_of(exclusions.ExclusionRules) if name != "required"},
    others=False,
)
_MACHINES = flags.DEFINE_string(
    "machines",
    None,
    "Folder or trials.csv of metamer-jax listen machines, to stand beside the answers. Unset: "
    "machine_listeners/ of the experiment if it is there; 'none': nothing.",
)

_SIMULATE = flags.DEFINE_integer("simulate", 0, "Simulated listeners, in place of responses.", 0)
_CURVES = flags.DEFINE_string(
    "curves", None, 'JSON of recognition for --simulate: {"conv2d": {"conv1": 0.9, ...}, ...}.'
)
_CARELESS = flags.DEFINE_integer("careless", 0, "How many of the simulated only guess.", 0)


def main(argv: Sequence[str]) -> None:
    if _BONUS.value is not None and _PROLIFIC.value is None:
        raise ValueError("--bonus needs --prolific, the list of those who may be paid")
    experiment = sessions.load_experiment(_EXPERIMENT.value) if _EXPERIMENT.value else None
    config = _config(suite.AnalysisConfig())
    rules = _rules(exclusions.ExclusionRules(required=_required()))
    read = _simulated(experiment, config.seed) if _SIMULATE.value else _read(experiment)
    # What the end needs is looked at before the analysis, which takes long.
    submissions = None if _PROLIFIC.value is None else prolific.read_submissions(_PROLIFIC.value)
    if _PSYCH_DS.value is not None:
        psych_ds.earlier(_PSYCH_DS.value)
    key = None if experiment is None else responses.AnswerKey(experiment)
    panel, about = _machines(experiment)
    found = tables.analyze(
        read,
        config,
        rules=rules,
        presented=None if key is None else key.presented(),
        words=None if experiment is None else experiment.words,
        pairing=_pairing(),
        machines=panel,
        manifest=None if experiment is None else answers.read_manifest(experiment),
        networks=_networks(),
        planned=_planned(),
    )
    folder = writing.write(found, read, _out(experiment, found), panel=panel, about=about)
    print(summary.in_words(found, read))
    print(f"\nTables: {folder.resolve()}")
    print(f"Report: {(folder / 'report.html').resolve()}")
    if experiment is not None:
        storage.write_text(folder / "methods.md", methods.text(found, read, experiment))
        print(f"Methods section: {(folder / 'methods.md').resolve()}")
    if submissions is not None:
        print(f"\n{_beside_prolific(submissions, found, read, experiment, folder)}")
    if _PSYCH_DS.value is not None:
        dataset = psych_ds.write(found, read, _PSYCH_DS.value, experiment)
        print(f"Psych-DS dataset: {dataset.resolve()}")


def _beside_prolific(
    submissions: pd.DataFrame,
    found: tables.Results,
    read: responses.Responses,
    experiment: sessions.Experiment | None,
    folder: pathlib.Path,
) -> str:
    """Writes who finished and whom to pay; returns it in words."""
    code = ""
    if experiment is not None:
        code = prolific.code_of(answers.read_design(experiment))
    table = prolific.reconcile(submissions, found.exclusions.sessions, read.sessions, code)
    storage.write_csv(folder / "prolific.csv", responses.neutral(table))
    words = [prolific.in_words(table)]
    if _BONUS.value is not None:
        lines = prolific.bonus_list(table, _BONUS.value)
        storage.write_text(folder / "prolific_bonus.csv", lines)
        words.append(f"Bonus of {_BONUS.value:.2f} for {lines.count(chr(10))}: prolific_bonus.csv")
    return "\n".join(words)


def _networks() -> pd.DataFrame | None:
    if not _NETWORK_WHERE.value:
        return None
    if _RESPONSES.value is None:
        raise ValueError("--network_where needs --responses, a table of proportions")
    where = _chosen("network_where", _NETWORK_WHERE.value)
    return pd.concat(
        [
            responses.read_proportions(path, where=where)
            for given in _RESPONSES.value
            for path in paths_in(given)
        ],
        ignore_index=True,
    )


def _planned() -> dict[str, list[dict[str, object]]] | None:
    if _CONTRASTS.value is None:
        return None
    planned = page_texts.read_json(_CONTRASTS.value, "--contrasts")
    if not isinstance(planned, dict):
        raise ValueError("--contrasts: expected an object of names and terms")
    return planned


def _pairing() -> analysis.Pairing | None:
    value = _PAIRING.value
    if value is None or value in analysis.tables.PAIRINGS:
        return value
    if not pathlib.Path(value).is_file():
        raise ValueError(f"--pairing must be 'name', 'index' or a CSV, got {value!r}")
    table = pd.read_csv(value, dtype=str, keep_default_na=False)
    if "name" not in table or table["name"].duplicated().any():
        raise ValueError(f"--pairing: {value} must have a column 'name' without repetitions")
    return {
        row["name"]: {str(m): layer for m, layer in row.drop("name").items() if layer}
        for _, row in table.iterrows()
    }


def _required() -> tuple[str, ...]:
    """Names of the rules that must judge somebody: the paper's, and those that were set."""
    given = {"catch": "catch_min", "headphones": "headphones"}
    return ("reference", *(rule for rule, flag in given.items() if flags.FLAGS[flag].present))


def _machines(
    experiment: sessions.Experiment | None,
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Returns machine listeners' trials and what is known of them, or None and None."""
    if _MACHINES.value == "none":
        return None, None
    if _MACHINES.value:
        folder = pathlib.Path(_MACHINES.value)
    elif experiment is not None:
        folder = experiment.folder / listeners.FOLDER
    else:
        return None, None
    path = folder if folder.suffix == ".csv" else folder / "trials.csv"
    if _MACHINES.value is None and not path.is_file():
        return None, None
    trials = responses.read_trials(path)
    if set(trials["source"]) != {listeners.SOURCE}:
        raise ValueError(f"--machines: {path} is not of metamer-jax listen machines")
    about = path.parent / "listeners.csv"
    return trials, storage.read_csv(about, text=("listener",)) if about.is_file() else None


def _read(experiment: sessions.Experiment | None) -> responses.Responses:
    paths: list[str | os.PathLike] = []
    if _RESPONSES.value is not None:
        paths += [path for given in _RESPONSES.value for path in paths_in(given)]
    elif experiment is None:
        raise ValueError("--experiment or --responses must be given")
    elif _JATOS_URL.value is None or experiment.responses.is_dir():
        paths.append(experiment.responses)
    where = _chosen("where", _WHERE.value)
    if _JATOS_URL.value is not None:
        paths.append(_from_jatos(_JATOS_URL.value, experiment))
    return responses.read(paths, experiment, duplicates=_DUPLICATES.value, where=where)


def _from_jatos(url: str, experiment: sessions.Experiment | None) -> pathlib.Path:
    if experiment is None:
        raise ValueError("--jatos_url needs --experiment, whose results are downloaded")
    token = os.environ.get(jatos_api.TOKEN_VARIABLE, "").strip()
    if not token:
        raise ValueError(
            f"--jatos_url needs an API token in the environment variable {jatos_api.TOKEN_VARIABLE}"
        )
    study = _JATOS_STUDY.value or sessions.jatos_uuid(experiment.design_sha256, "study")
    found = jatos_api.download(url, experiment.jatos, study=study, token=token)
    print("\n".join([f"{found.results} results with data in {found.folder}", *found.notes, ""]))
    return found.folder


def paths_in(given: str) -> list[str]:
    """Splits a list at its commas, but for those in the name of a file or folder that exists.

    Args:
        given: One path, or several separated by commas.

    Returns:
        The paths; of pieces that do not exist, as they stand between commas.
    """
    pieces = given.split(",")
    paths = []
    while pieces:
        ends = range(len(pieces), 0, -1)
        end = next((n for n in ends if pathlib.Path(",".join(pieces[:n])).exists()), 1)
        paths.append(",".join(pieces[:end]))
        pieces = pieces[end:]
    return [path for path in paths if path.strip()]


def _chosen(flag: str, given: Sequence[str]) -> dict[str, list[str]]:
    where: dict[str, list[str]] = {}
    for rule in given:
        column, equals, value = rule.partition("=")
        if not equals:
            raise ValueError(f"--{flag} must be COLUMN=VALUE, got {rule!r}")
        where.setdefault(column, []).append(value)
    return where


def _simulated(experiment: sessions.Experiment | None, seed: int) -> responses.Responses:
    if experiment is None:
        raise ValueError("--simulate needs --experiment, which the listeners take")
    if _RESPONSES.value is not None or _JATOS_URL.value is not None:
        raise ValueError("--simulate excludes --responses and --jatos_url")
    curves = None if _CURVES.value is None else page_texts.read_json(_CURVES.value, "--curves")
    model = simulated.ListenerModel(careless=_CARELESS.value)
    found = simulated.simulate(experiment, _SIMULATE.value, curves, model, seed=seed)
    return responses.from_sessions(found, experiment, source=simulated.SOURCE)


def _out(experiment: sessions.Experiment | None, found: tables.Results) -> pathlib.Path:
    if _OUT.value is not None:
        return pathlib.Path(_OUT.value)
    if experiment is None:
        raise ValueError("--out must be given where there is no --experiment")
    return experiment.folder / ("analysis_simulated" if found.simulated else "analysis")
