"""The Psych-DS export, rule by rule as the specification has them, and that nobody is named.

The rules are those of psych-DS/psychds-validator 1.5.0 (src/setup/defaultSchema.json), which finds
no error in this dataset; that needs Deno and is not run here.
"""

import collections
import csv
import dataclasses
import json
import re

import listening_folder
import pandas as pd
import pytest

from metamer_jax.analysis import suite
from metamer_jax.listening import responses
from metamer_jax.listening.results import exclusions, psych_ds, tables

FILE = r"([a-z]+-[a-zA-Z0-9]+)(_[a-z]+-[a-zA-Z0-9]+)*_data\.csv"
KEYWORDS = "study site subject session task condition trial stimulus description".split()
IDS = ("5e9088a8a4b6ed018b45ba7b", "a.person@example.org", "61f0c0ffee61f0c0ffee61f0")
# schema.org's properties of PropertyValue and Dataset that are used.
PROPERTIES = {"@type", "name", "description", "unitText", "minValue", "maxValue", "valueReference"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    experiment = listening_folder.make(folder)
    key = responses.AnswerKey(experiment)
    told = {
        "questionnaire": {"answered": "2026-01-01T10:00:05Z", "age": 31, "headphones": "in_ear"},
        "consent": {"version": "v1", "given": "2026-01-01T10:00:00Z"},
        "comments": "I am Ada Lovelace",
    }
    given = [
        listening_folder.session(key, 1, "a1", IDS[0], **told),
        listening_folder.session(key, 2, "b1", IDS[1], **told),
        listening_folder.session(key, 1, "c1", IDS[2], 3, finished=None),
        listening_folder.session(key, 2, "d1", IDS[2]) | {"condition": 7},  # Cannot be.
    ]
    given[0]["trials"][0]["confidence"] = 4
    for i, doc in enumerate(given):
        listening_folder.write_json(folder / f"{i}.json", doc)
    read = responses.read([folder / f"{i}.json" for i in range(4)], experiment)
    rules = exclusions.ExclusionRules(reference_min=None)
    config = suite.AnalysisConfig(permutations=0, resamples=0)
    found = tables.analyze(
        read, config, rules=rules, presented=key.presented(), words=experiment.words
    )
    return psych_ds.write(found, read, folder / "dataset", experiment), found, read, experiment


@pytest.fixture(scope="module")
def about(dataset):
    return json.loads((dataset[0] / "dataset_description.json").read_text("utf-8"))


def data_files(folder):
    return sorted(path for path in (folder / "data").rglob("*") if path.is_file())


def rows_of(folder, name):
    (path,) = (folder / "data").glob(f"*_description-{name}_data.csv")
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_required_files_are_there(dataset):
    folder = dataset[0]
    assert (folder / "dataset_description.json").is_file() and (folder / "data").is_dir()
    assert (folder / "README.md").is_file() and (folder / "CHANGES.md").is_file()
    assert all(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_names_of_data_files_are_pairs_of_official_keywords(dataset):
    files = data_files(dataset[0])
    assert len(files) == 4
    for path in files:
        assert re.fullmatch(FILE, path.name)
        pairs = [pair.split("-") for pair in path.name.removesuffix("_data.csv").split("_")]
        assert {keyword for keyword, _ in pairs} <= set(KEYWORDS)


def test_the_description_is_a_dataset_of_schema_org(about):
    assert about["@context"] in ("http://schema.org/", "https://schema.org/")
    assert about["@type"] == "Dataset"
    for name in ("name", "description", "variableMeasured"):
        assert about[name]
    for variable in about["variableMeasured"]:
        assert variable["@type"] == "PropertyValue" and set(variable) <= PROPERTIES
        assert variable["name"] and len(variable["description"]) > 5


def test_columns_and_variables_are_the_same(dataset, about):
    columns = set()
    for path in data_files(dataset[0]):
        with open(path, encoding="utf-8", newline="") as file:
            header = next(csv.reader(file))
        assert header and len(set(header)) == len(header) and all(header)
        columns |= set(header)
    names = collections.Counter(variable["name"] for variable in about["variableMeasured"])
    assert set(names) == columns and set(names.values()) == {1}


def test_rows_are_as_long_as_the_header_and_have_an_id_each(dataset):
    for path in data_files(dataset[0]):
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file, strict=True))
        assert rows and {len(row) for row in rows} == {len(header)}
        ids = [row[header.index("row_id")] for row in rows]
        assert len(set(ids)) == len(ids) and all(ids)


def test_values_are_what_the_codebook_says(dataset, about):
    variables = {variable["name"]: variable for variable in about["variableMeasured"]}
    for path in data_files(dataset[0]):
        for row in csv.DictReader(path.open(encoding="utf-8", newline="")):
            for name, value in row.items():
                if value in ("", "nan"):
                    continue
                described = variables[name]
                if "minValue" in described:
                    assert described["minValue"] <= float(value)
                if "maxValue" in described:
                    assert float(value) <= described["maxValue"]
                assert value in described.get("valueReference", [value])
    codebook = (dataset[0] / "documentation" / "codebook.md").read_text("utf-8")
    for name in variables:
        assert f"| `{name}` |" in codebook


def test_nobody_is_named(dataset):
    text = "".join(p.read_text("utf-8") for p in dataset[0].rglob("*") if p.is_file())
    for secret in (*IDS, "Lovelace", "2026-01-01", "a1,", ".json:"):
        assert secret not in text, secret
    rows = rows_of(dataset[0], "trials")
    assert {row["participant"] for row in rows} == {"p001", "p002", "p003"}


def test_every_session_and_answer_is_there(dataset):
    folder, found, read, experiment = dataset
    sessions = rows_of(folder, "sessions")
    assert len(sessions) == 4 and [row["kept"] for row in sessions].count("True") == 2
    assert {row["reason"] for row in sessions} == {"", "incomplete", "unfit"}
    trials = pd.DataFrame(rows_of(folder, "trials"))
    assert len(trials) == len(read.trials)
    for name in ("stimulus_id", "response", "word"):
        assert trials[name].tolist() == read.trials[name].tolist()
    assert (trials["kept"] == "True").sum() == len(found.exclusions.trials)
    assert (trials["confidence"] == "4.0").sum() == 1
    assert len(rows_of(folder, "sounds")) == 2 + sum(
        responses.AnswerKey(experiment).presented().values()
    )
    told = rows_of(folder, "questionnaire")
    assert [float(row["asked_age"]) for row in told] == [31, 31]
    assert {row["session"] for row in told} <= {row["session"] for row in sessions}
    assert float(sessions[0]["taken_s"]) == 600


def test_what_the_lab_wrote_outlives_a_new_export(dataset, tmp_path):
    _, found, read, experiment = dataset
    folder = psych_ds.write(found, read, tmp_path / "new", experiment)
    path = folder / "dataset_description.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"license": "CC0", "name": "x"}))
    less = dataclasses.replace(read, questionnaire=None)
    psych_ds.write(found, less, folder, experiment)
    again = json.loads(path.read_text())
    assert again["license"] == "CC0" and again["name"] == "Listening experiment"
    assert len(data_files(folder)) == 3


def test_a_folder_of_something_else_is_left_alone(dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="new folder or an earlier export"):
        psych_ds.write(*dataset[1:3], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_proportions_become_a_dataset_too(tmp_path):
    table = tmp_path / "p.csv"
    rows = [f"p{i},{m},{layer},0.{i}" for i in (1, 2, 3) for m in "ab" for layer in ("x", "y")]
    table.write_text("\n".join(["participant,model,layer,correct", *rows]))
    read = responses.read(table)
    found = tables.analyze(read, suite.AnalysisConfig(chance=0.1, permutations=0, resamples=0))
    folder = psych_ds.write(found, read, tmp_path / "out")
    assert [path.name for path in data_files(folder)] == [
        f"study-listening_description-{name}_data.csv" for name in ("sessions", "trials")
    ]
    assert {row["correct"] for row in rows_of(folder, "trials")} == {"0.1", "0.2", "0.3"}
