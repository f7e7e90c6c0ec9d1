"""Prolific's list beside the sessions: nobody is lost between the two."""

import listening_folder
import pandas as pd
import pytest

from metamer_jax.listening import responses
from metamer_jax.listening.results import exclusions, prolific

CODE = "C0DE"
# As Prolific exports it (its real header, without most questions).
HEADER = (
    "Submission id,Participant id,Status,Custom study tncs accepted at,Started at,Completed at,"
    "Reviewed at,Archived at,Time taken,Completion code,Total approvals,Age"
)
TIMES = "Not Applicable,2026-01-01T10:00:00Z,2026-01-01T10:10:00Z,,,600"
CASES = {
    "whole": ("APPROVED", CODE, "finished"),
    "nocode": ("AWAITING REVIEW", "NOCODE", "finished, another code"),
    "half": ("AWAITING REVIEW", "NOCODE", "not finished"),
    "lost": ("AWAITING REVIEW", CODE, "no answers"),
    "odd": ("AWAITING REVIEW", CODE, "answers refused"),
    "returned": ("RETURNED", "", "answers, not handed in"),
    "gone": ("TIMED-OUT", "", "left"),
    "now": ("ACTIVE", "", "under way"),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    experiment = listening_folder.make(folder)
    key = responses.AnswerKey(experiment)

    def session(name, **changes):
        return listening_folder.session(key, 1, name, name, **changes)

    given = [session(name) for name in ("whole", "nocode", "returned", "walk-in")]
    given += [session("half", num_trials=3), session("odd", num_trials=2) | {"condition": 9}]
    given.append(listening_folder.session(key, 2, "again", "whole"))
    for doc in given:
        listening_folder.write_json(folder / f"{doc['session_id']}.json", doc)
    read = responses.read(sorted(folder.glob("*.json")), experiment)
    rules = exclusions.ExclusionRules(reference_min=None)
    counted = exclusions.exclude(
        read.trials, rules, presented=key.presented(), rejected=read.rejected
    )
    path = write(folder / "export.csv", CASES)
    table = prolific.reconcile(
        prolific.read_submissions(path), counted.sessions, read.sessions, CODE
    )
    return table.set_index("participant", drop=False)


def write(path, cases, header=HEADER):
    rows = [f"sub-{n},{n},{status},{TIMES},{code},12,30" for n, (status, code, _) in cases.items()]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("name", CASES)
def test_each_submission_is_found_out(found, name):
    assert found.loc[name, "finding"] == CASES[name][2]


def test_everybody_is_in_the_table(found):
    assert set(found.index) == {*CASES, "walk-in"}
    assert found.loc["walk-in", "finding"] == "not at Prolific"
    assert found.loc["whole", "sessions"] == 2 and found.loc["lost", "sessions"] == 0
    assert set(found["finding"]) <= set(prolific.FINDINGS)


def test_words_name_those_who_need_somebody_to_look(found):
    words = prolific.in_words(found).splitlines()
    assert any(
        line.startswith("  1 handed in, and no answers") and line.endswith("(lost)")
        for line in words
    )
    assert any(line.endswith("no submission in Prolific's list (walk-in)") for line in words)
    assert words[-1] == "  1 with several sessions or submissions (whole)"


def test_the_bonus_goes_to_each_who_counts_and_handed_in_once(found):
    assert prolific.bonus_list(found, 1.5) == "whole,1.50\nnocode,1.50\n"
    for amount in (0, -1, 0.333, float("nan")):
        with pytest.raises(ValueError, match="the bonus must be"):
            prolific.bonus_list(found, amount)


def test_without_a_code_of_the_experiment_any_is_right(found):
    handed_in = {"submission": "s", "status": "APPROVED", "completion_code": "XYZ"}
    submissions = pd.DataFrame([{"participant": "a"} | handed_in])
    whole = {"kept": True, "reason": "", "answered": 8, "presented": 8}
    identity = {"participant": "a", "session": "s1", "condition": 1, "source": "page"}
    account = pd.DataFrame([identity | whole])
    sessions = account[[*identity]].assign(complete=None)
    table = prolific.reconcile(submissions, account, sessions)
    assert table["finding"].tolist() == ["finished"]


def test_the_code_is_that_of_the_completion_address():
    url = "https://app.prolific.com/submissions/complete?cc=C0DE"
    assert prolific.code_of({"config": {"completion_url": url}}) == "C0DE"
    assert prolific.code_of({}) == prolific.code_of({"config": {"completion_url": ""}}) == ""


def test_older_exports_and_spreadsheets_are_read(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text(
        "\ufeffsession_id;participant_id;status;entered_code\ns1;p1;AWAITING_REVIEW;C\n"
    )
    (row,) = prolific.read_submissions(path).to_dict("records")
    assert row == {
        "participant": "p1",
        "submission": "s1",
        "status": "AWAITING REVIEW",
        "completion_code": "C",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Name,Score\na,1\n", r"row 1: no column participant_id.*Name, Score"),
        (f"{HEADER}\n", "no submissions"),
        (f"{HEADER}\ns,,APPROVED,{TIMES},C,1,2\n", "row 2: the participant is empty"),
        (f"{HEADER}\n" + 2 * f"s,p,APPROVED,{TIMES},C,1,2\n", "row 3: the submission comes twice"),
    ],
)
def test_what_is_no_export_is_told(tmp_path, text, message):
    path = tmp_path / "export.csv"
    path.write_text(text)
    with pytest.raises(responses.ResponseError, match=message):
        prolific.read_submissions(path)
