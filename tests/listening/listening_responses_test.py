import csv
import json
import pathlib
import shutil
import zipfile

import listening_folder
import numpy as np
import pandas as pd
import pytest

from metamer_jax import storage
from metamer_jax.analysis import suite
from metamer_jax.commands import analyze_responses
from metamer_jax.listening import responses
from metamer_jax.listening.listeners import simulated
from metamer_jax.listening.results import exclusions, tables, writing
from metamer_jax.listening.serving import sessions, store

HUMAN = "tests/reference/human_responses/auditory_3.csv"


@pytest.fixture
def experiment(tmp_path):
    return listening_folder.make(tmp_path / "experiment")


@pytest.fixture
def key(experiment):
    return responses.AnswerKey(experiment)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def write_csv(path, rows, delimiter=",", encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def form_rows(key, people=("p1", "p2"), condition=1, title="{}"):
    words = [entry["word"] for _, entry in key.stimuli(condition)]
    header = ["Timestamp", "Participant", "Condition"]
    header += [title.format(i) for i in range(1, len(words) + 1)]
    return [header, *(["2026/01/01 10:00:00", name, condition, *words] for name in people)]


def jsp_rows(key, condition=1, **about):
    """jsPsych's data of one session, as the page could save them elsewhere."""
    about = {"session_id": "j1", "participant": "p1", "condition": condition} | about
    about |= {"experiment_id": "tiny", "design_sha256": listening_folder.SHA}
    rows = [{"trial_type": "html-button-response", "response": 0, "headphones_passed": True}]
    for stimulus, entry in key.stimuli(condition):
        rows.append(
            {
                "trial_type": "audio-button-response",
                "stimulus_id": stimulus,
                "trial": entry["trial"],
                "response": listening_folder.WORDS.index(entry["word"]),
                "rt": 700,
            }
        )
    return [row | about for row in rows]


def write_jsp(path, rows):
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return write_csv(path, [columns, *([row.get(c, "") for c in columns] for row in rows)])


def error_of(paths, experiment, **options):
    with pytest.raises(responses.ResponseError) as caught:
        responses.read(paths, experiment, **options)
    return str(caught.value)


def is_whole_and_right(read, key, condition=1, people=1):
    presented = key.presented()[condition]
    assert list(read.trials.columns) == list(responses.COLUMNS)
    assert len(read.trials) == people * presented
    assert read.trials["correct"].tolist() == [1.0] * len(read.trials)
    assert (read.trials["response"] == read.trials["word"]).all()
    assert len(read.sessions) == people
    return True


class TestPageJson:
    def test_a_session_becomes_trials_as_the_manifest_tells(self, experiment, key, folder):
        session = listening_folder.session(key)
        session["trials"][1] |= {"response": "left", "reloaded": True}
        session["trials"][2]["response"] = None
        path = listening_folder.write_json(folder / "a.json", session)
        trials = responses.read(path, experiment).trials
        assert tuple(trials.columns) == responses.COLUMNS
        expected = {
            **{"participant": "p1", "session": "a1", "condition": 1, "batch": 1, "trial": 2},
            **{"stimulus_id": "s01002", "kind": "metamer", "model": "conv2d", "layer": "conv1"},
            **{"layer_index": 1, "target_id": 12, "word": "7", "response": "left"},
            **{"correct": 0.0, "rt_ms": 812.5, "headphones": True, "reloaded": True},
            "source": "page",
        }
        assert trials.iloc[1].to_dict() == expected
        assert trials.iloc[0]["correct"] == 1.0
        assert trials.iloc[2]["response"] == "" and np.isnan(trials.iloc[2]["correct"])
        assert trials["kind"].tolist() == ["metamer"] * 12 + ["catch"] * 2

    def test_answers_may_be_places_in_the_order_of_choices(self, experiment, key, folder):
        session = listening_folder.session(key)
        for trial in session["trials"]:
            order = ["left", "7", "down", "go"]
            trial |= {"choice_order": order, "response": order.index(trial["response"])}
        path = listening_folder.write_json(folder / "a.json", session)
        assert is_whole_and_right(responses.read(path, experiment), key)
        for trial in session["trials"]:
            order = [2, 3, 0, 1]  # Places among the words, in their turn.
            trial |= {"choice_order": order}
        listening_folder.write_json(path, session)
        assert is_whole_and_right(responses.read(path, experiment), key)

    def test_practice_is_known_and_kept_apart(self, experiment, key, folder):
        session = listening_folder.session(key)
        practice = {"trial": 0, "stimulus_id": "practice-0", "response": "go"}
        session["trials"].insert(0, practice)
        path = listening_folder.write_json(folder / "a.json", session)
        read = responses.read(path, experiment)
        assert read.trials["kind"].tolist()[:2] == ["practice", "metamer"]
        kept = exclusions.exclude(read.trials, presented=key.presented())
        assert len(kept.trials) == 14 and "practice" not in set(kept.trials["kind"])

    def test_several_sessions_in_a_file_and_several_files(self, experiment, key, folder):
        a, b, c = (
            listening_folder.session(key, session_id=name, participant=name) for name in "abc"
        )
        listening_folder.write_json(folder / "list.json", [a, b])
        listening_folder.write_json(folder / "c.json", c)
        assert is_whole_and_right(responses.read(folder, experiment), key, people=3)
        paths = [folder / "list.json", folder / "c.json"]
        assert is_whole_and_right(responses.read(paths, experiment), key, people=3)

    def test_nobody_in_particular_is_a_listener_of_their_own(self, experiment, key):
        found = [
            listening_folder.session(key, session_id=name, participant=none)
            for name, none in (("a", ""), ("b", None))
        ]
        read = responses.from_sessions(found, experiment)
        assert set(read.trials["participant"]) == {"a", "b"}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"design_sha256": "cd" * 32}, "design_sha256 must be .* another design"),
            ({"experiment_id": "other"}, "experiment_id must be 'tiny'.*got 'other'"),
            ({"condition": 9}, r"condition must be one of \[1, 2\], got 9"),
            ({"schema_version": 3}, "schema_version must be 1, got 3"),
            ({"trials": 5}, "trials must be a list"),
            ({"session_id": "../x"}, "session_id must be"),
        ],
    )
    def test_sessions_that_do_not_fit_are_named(self, experiment, key, folder, change, message):
        session = listening_folder.session(key) | change
        path = listening_folder.write_json(folder / "a.json", session)
        with pytest.raises(responses.ResponseError, match=f"a.json: {message}"):
            responses.read(path, experiment)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"stimulus_id": "nowhere"}, "unknown stimulus 'nowhere'"),
            ({"stimulus_id": "s02003"}, "belongs to condition 2, and this is condition 1"),
            ({"stimulus_id": "s01002"}, "stimulus 's01002' is answered twice"),
            ({"response": "maybe"}, "response 'maybe' was not offered; the words are down, go"),
            ({"response": "Down"}, "response 'Down' was not offered"),
            ({"response": 4}, "response 4 was not offered"),
            ({"response": -1}, "response -1 was not offered"),
            ({"response": "go", "choice_order": ["left", "7"]}, "response 'go' was not offered"),
            ({"response": ["go"]}, "response must be a word"),
            ({"rt_ms": "fast"}, "rt_ms must be a number"),
            ({"stimulus_id": None}, "stimulus_id must be the name of a stimulus"),
        ],
    )
    def test_trials_that_do_not_fit_are_named(self, experiment, key, folder, change, message):
        session = listening_folder.session(key)
        session["trials"][3] |= change
        path = listening_folder.write_json(folder / "a.json", session)
        error = error_of(path, experiment)
        assert error.startswith(f"{path}") and "trials[3]" in error and message in error

    def test_a_session_that_comes_twice_is_named_or_counted(self, experiment, key, folder):
        session = listening_folder.session(key)
        first = listening_folder.write_json(folder / "a.json", session)
        second = listening_folder.write_json(folder / "b.json", session)
        assert error_of(folder, experiment) == f"{second}: duplicate session 'a1': first in {first}"
        read = responses.read(folder, experiment, duplicates="first")
        assert is_whole_and_right(read, key) and read.duplicates == 1
        counts = exclusions.exclude(read.trials, duplicates=read.duplicates).counts
        assert counts.set_index("rule").loc["duplicates in the files", "dropped"] == 1

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "empty"),
            (b"  \n", "empty"),
            (b'{"schema_version": 1', "line 1: not JSON"),
            (b'{"schema_version": 1}\n\n{"schema', "line 3: not JSON"),
            (b"[1, 2]", "item 0: expected a session object, got int"),
            (b'"text"', "expected a session object, got str"),
            (b"\xff\xfe", "not UTF-8"),
            (b"[" * 100_000, "not JSON"),
            (b"[]", "no responses found"),
        ],
    )
    def test_files_that_are_not_sessions_are_named(self, experiment, folder, content, message):
        path = folder / "a.json"
        path.write_bytes(content)
        error = error_of(path, experiment)
        assert str(path) in error and message in error

    def test_what_is_not_there_is_named(self, experiment, folder):
        assert "no such file" in error_of(folder / "x.json", experiment)
        assert "no responses found" in error_of(folder, experiment)
        with pytest.raises(ValueError, match="at least one file"):
            responses.read([], experiment)
        with pytest.raises(ValueError, match="duplicates must be"):
            responses.read(folder, experiment, duplicates="drop")

    def test_an_experiment_must_say_what_is_right(self, key, folder):
        path = listening_folder.write_json(folder / "a.json", listening_folder.session(key))
        with pytest.raises(ValueError, match="experiment must be given"):
            responses.read(path)


class TestExperimentFolder:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"words": []}, "words must be a list of words"),
            ({"conditions": [1, 1]}, "conditions must be distinct"),
            ({"conditions": None}, "conditions must be distinct"),
            ({"experiment_id": 3}, "experiment_id must be a text"),
        ],
    )
    def test_a_design_that_lacks_something_is_refused(self, experiment, change, message):
        path = experiment.private / "design.json"
        listening_folder.write_json(path, json.loads(path.read_text()) | change)
        with pytest.raises(ValueError, match=f"design.json: {message}"):
            sessions.load_experiment(experiment.folder)

    def test_conditions_may_be_counted(self, experiment):
        path = experiment.private / "design.json"
        listening_folder.write_json(path, json.loads(path.read_text()) | {"conditions": 2})
        assert sessions.load_experiment(experiment.folder).conditions == (1, 2)

    def test_a_manifest_that_lacks_something_is_refused(self, experiment):
        path = experiment.private / "manifest.csv"
        table = storage.read_csv(path)
        storage.write_csv(path, table.drop(columns="word"))
        with pytest.raises(responses.ResponseError, match=r"manifest.csv, row 1: no column word"):
            responses.AnswerKey(experiment)
        storage.write_csv(path, table.assign(condition="first"))
        with pytest.raises(responses.ResponseError, match=r"row 2: condition must be a whole"):
            responses.AnswerKey(experiment)


class TestServerStore:
    @pytest.fixture
    def stored(self, experiment, key):
        with store.SessionStore(experiment.responses, experiment) as opened:
            opened.assign("who never answered")
            for name in ("a", "b"):
                session = listening_folder.session(key, session_id=name, participant=name)
                opened.save(session)
        return experiment.responses

    def test_folder_database_and_files_hold_the_same(self, experiment, key, stored, folder):
        for paths in (stored, stored / store.DATABASE, [stored / "a.json", stored / "b.json"]):
            assert is_whole_and_right(responses.read(paths, experiment), key, people=2)
        assert set(responses.read(stored, experiment).trials["source"]) == {"server"}

    def test_files_that_were_sent_by_mail_may_lie_beside_it(self, experiment, key, stored):
        mailed = listening_folder.session(key, session_id="mailed", participant="m")
        listening_folder.write_json(stored / "from_anna.json", mailed)
        (stored / "notes.md").write_text("remember")
        read = responses.read(stored, experiment)
        assert is_whole_and_right(read, key, people=3)
        assert any("notes.md passed over" in note for note in read.notes)

    def test_a_file_that_tells_more_than_the_database_is_not_passed_over(
        self, experiment, key, stored
    ):
        with store.SessionStore(stored, experiment) as opened:
            opened.save(listening_folder.session(key, session_id="c", num_trials=3))
        listening_folder.write_json(
            stored / "c.json", listening_folder.session(key, session_id="c")
        )
        read = responses.read(stored, experiment)
        assert (read.sessions.set_index("session")["trials"] == 14).all()
        assert any("1 earlier states of sessions passed over" in note for note in read.notes)

    def test_what_a_killed_server_left_is_read(self, experiment, key, stored, folder):
        # A copy taken in the middle of a write: the journal says what to undo.
        database = stored / store.DATABASE
        held = store.sqlite3.connect(database, isolation_level=None)
        held.execute("PRAGMA cache_size = 1")
        held.execute("BEGIN IMMEDIATE")
        held.execute("UPDATE sessions SET body = ?", ("x" * 500_000,))
        for path in stored.glob(store.DATABASE + "*"):
            shutil.copy(path, folder / path.name)
        held.execute("ROLLBACK")
        held.close()
        assert (folder / f"{store.DATABASE}-journal").exists()
        assert is_whole_and_right(responses.read(folder, experiment), key, people=2)

    def test_a_damaged_database_is_named(self, experiment, stored, folder):
        content = (stored / store.DATABASE).read_bytes()
        path = folder / "cut.sqlite"
        path.write_bytes(content[: len(content) // 2])
        assert f"{path}: " in error_of(path, experiment)
        path.write_bytes(content[:16] + b"\0" * 4000)
        assert "not a readable store" in error_of(path, experiment)


class TestJatos:
    def archive(self, folder, entries, name="results.jrzip"):
        path = folder / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("metadata.json", '{"data": []}')
            for i, content in enumerate(entries):
                text = content if isinstance(content, (str, bytes)) else json.dumps(content)
                archive.writestr(f"study_result_{i}/comp-result_{i}/data.txt", text)
            archive.writestr("study_result_0/comp-result_0/files/upload.txt", "anything")
        return path

    @pytest.mark.parametrize("name", ["results.jrzip", "results.zip", "results.jzip"])
    def test_each_result_is_a_session(self, experiment, key, folder, name):
        found = [listening_folder.session(key, session_id=n, participant=n) for n in "ab"]
        path = self.archive(folder, [*found, ""], name)
        read = responses.read(path, experiment)
        assert is_whole_and_right(read, key, people=2)
        assert set(read.trials["source"]) == {"jatos"}
        assert any("1 results without data" in note for note in read.notes)

    def test_data_that_were_appended_leave_the_longest(self, experiment, key, folder):
        states = [listening_folder.session(key, num_trials=n) for n in (3, 6, None)]
        for joint in ("", "\n"):
            path = self.archive(folder, [joint.join(map(json.dumps, states))])
            assert is_whole_and_right(responses.read(path, experiment), key)

    def test_plain_text_of_all_results(self, experiment, key, folder):
        path = folder / "jatos_results.txt"
        found = [listening_folder.session(key, session_id=n, participant=n) for n in "ab"]
        path.write_text("\n".join(map(json.dumps, found)))
        assert is_whole_and_right(responses.read(path, experiment), key, people=2)

    def test_jspsych_data_in_an_archive(self, experiment, key, folder):
        rows = jsp_rows(key)
        table = write_jsp(folder / "t.csv", rows).read_text()
        for content in (rows, table):
            path = self.archive(folder, [content])
            read = responses.read(path, experiment)
            assert is_whole_and_right(read, key)
            assert set(read.trials["source"]) == {"jatos"}

    def test_what_does_not_fit_is_named(self, experiment, key, folder):
        session = listening_folder.session(key)
        entry = "study_result_1/comp-result_1/data.txt"
        wrong = listening_folder.session(key, session_id="b", design_sha256="x")
        cases = [
            ("{", "not JSON"),
            ("\x00", "not JSON"),
            (b"\xff", "not UTF-8"),
            ({"trials": []}, "schema_version"),
            (wrong, "design_sha256 must be"),
        ]
        for content, message in cases:
            path = self.archive(folder, [session, content])
            read = responses.read(path, experiment)
            assert is_whole_and_right(read, key)  # One bad result is no reason to lose the others.
            (reason,) = read.rejected["reason"]
            assert reason.startswith(f"{path}, {entry}") and message in reason
            assert f"session left out: {reason}" in read.notes
            path = self.archive(folder, ["", content])  # All bad: what was given is wrong.
            assert f"{path}, {entry}" in error_of(path, experiment)
        other = session | {"design_sha256": "x"}
        error = error_of(self.archive(folder, [session, other]), experiment)
        assert f"{entry}: duplicate session" in error

    def test_damaged_and_wrong_archives_are_named(self, experiment, key, folder):
        path = self.archive(folder, [listening_folder.session(key)])
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert f"{path}: not a readable archive" in error_of(path, experiment)
        middle = content.index(b"data.txt") + 40
        path.write_bytes(content[:middle] + b"\0" * 20 + content[middle + 20 :])
        assert str(path) in error_of(path, experiment)
        for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            with zipfile.ZipFile(path, "w", method) as archive:
                archive.writestr("study_result_0/comp-result_0/data.txt", "0" * 100)
            content = bytearray(path.read_bytes())
            content[72:77] = b"\xff" * 5  # Of the packed data.
            path.write_bytes(content)
            assert f"{path}: not a readable archive" in error_of(path, experiment)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("study/index.html", "page")
        assert "no results in this archive" in error_of(path, experiment)

    def test_an_archive_that_unpacks_without_end_is_refused(self, experiment, folder, monkeypatch):
        path = folder / "bomb.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("study_result_0/comp-result_0/data.txt", "0" * 100_000)
        monkeypatch.setattr(responses.reading, "_MOST_BYTES", 50_000)
        assert "longer than 50000 bytes" in error_of(path, experiment)


class TestJspsych:
    def test_answers_are_the_rows_with_a_stimulus(self, experiment, key, folder):
        path = write_jsp(folder / "anna.csv", jsp_rows(key))
        read = responses.read(path, experiment)
        assert is_whole_and_right(read, key)
        assert set(read.trials["source"]) == {"jspsych"}
        assert read.trials["headphones"].all()
        assert (read.trials["rt_ms"] == 700).all()

    def test_words_and_shuffled_choices(self, experiment, key, folder):
        rows = jsp_rows(key)
        for row in rows[1:]:
            order = ["left", "7", "down", "go"]
            word = listening_folder.WORDS[row["response"]]
            row |= {"choice_order": json.dumps(order), "response": order.index(word)}
        assert is_whole_and_right(
            responses.read(write_jsp(folder / "a.csv", rows), experiment), key
        )
        for row in rows[1:]:
            order = ["left", "7", "down", "go"]
            row |= {"choice_order": "|".join(order), "response_word": order[row["response"]]}
        assert is_whole_and_right(
            responses.read(write_jsp(folder / "a.csv", rows), experiment), key
        )

    def test_no_button_pressed_is_no_answer(self, experiment, key, folder):
        rows = jsp_rows(key)
        rows[2] |= {"response": "null", "rt": "null"}
        rows[3] |= {"response": "", "response_word": "null", "choice_order": "null"}
        read = responses.read(write_jsp(folder / "a.csv", rows), experiment)
        assert read.trials["correct"].isna().sum() == 2

    def test_several_sessions_in_one_table(self, experiment, key, folder):
        rows = jsp_rows(key) + jsp_rows(key, 2, session_id="j2", participant="p2")
        read = responses.read(write_jsp(folder / "all.csv", rows), experiment)
        assert read.sessions["condition"].tolist() == [1, 2]
        assert is_whole_and_right(read, key, people=2)

    def test_a_file_without_ids_is_one_session_of_its_name(self, experiment, key, folder):
        rows = [
            {k: v for k, v in row.items() if k not in ("session_id", "participant")}
            for row in jsp_rows(key)
        ]
        read = responses.read(write_jsp(folder / "anna.csv", rows), experiment)
        assert set(read.trials["session"]) == set(read.trials["participant"]) == {"anna"}

    def test_what_does_not_fit_is_named(self, experiment, key, folder):
        path = folder / "a.csv"
        cases = [
            ({"stimulus_id": "nowhere"}, "row 5: unknown stimulus 'nowhere'"),
            ({"response": 7}, "row 5: response 7 was not offered"),
            ({"response": "maybe"}, "row 5: response 'maybe' was not offered"),
            ({"rt": "fast"}, "row 5: rt must be a number, got 'fast'"),
            ({"trial": "third"}, "row 5: trial must be a whole number, got 'third'"),
            ({"choice_order": "{}"}, "row 5: choice_order must be a list"),
        ]
        for change, message in cases:
            rows = jsp_rows(key)
            # "7" is a word here, but not one that this trial offers.
            rows[3] |= {"choice_order": '["down", "go", "left"]'} | change
            assert f"{path}, {message}" in error_of(write_jsp(path, rows), experiment)
        rows = [row | {"design_sha256": "x"} for row in jsp_rows(key)]
        assert "design_sha256 must be" in error_of(write_jsp(path, rows), experiment)
        rows = [{k: v for k, v in row.items() if k != "condition"} for row in jsp_rows(key)]
        assert "has no condition" in error_of(write_jsp(path, rows), experiment)
        write_jsp(path, jsp_rows(key))
        write_jsp(folder / "b.csv", jsp_rows(key))
        assert "duplicate session 'j1'" in error_of(folder, experiment)


class TestGoogleForm:
    @pytest.mark.parametrize(
        "title", ["{}", "Question {}", "{}. Which word?", "Part 1 of 2, sound {} of 14", "[{}]"]
    )
    def test_questions_are_sounds_of_the_recording(self, experiment, key, folder, title):
        path = write_csv(folder / "form.csv", form_rows(key, title=title))
        read = responses.read(path, experiment)
        assert is_whole_and_right(read, key, people=2)
        assert set(read.trials["source"]) == {"google_form"}
        assert read.trials["trial"].tolist() == [*range(1, 15), *range(1, 15)]

    def test_as_spreadsheets_save_it(self, experiment, key, folder):
        rows = form_rows(key)
        rows[0] = ["Zeitstempel", " participant code ", "Condition ", *rows[0][3:], "Comments"]
        rows[1:] = [[*row, "quiet\nroom"] for row in rows[1:]]
        rows[1][2] = "Condition 1"
        rows[1][3:17] = [f" {word.upper()} " for word in rows[1][3:17]]
        # Columns in another order, semicolons, a byte-order mark, an empty last row.
        order = [0, 1, 2, 17, *range(16, 2, -1)]
        rows = [[row[i] for i in order] for row in rows] + [[""] * 18]
        path = write_csv(folder / "form.csv", rows, ";", "utf-8-sig")
        read = responses.read(path, experiment)
        assert is_whole_and_right(read, key, people=2)
        assert any("'Comments'" in note for note in read.notes)

    def test_blanks_are_neither_right_nor_wrong(self, experiment, key, folder):
        rows = form_rows(key, ["p1"])
        rows[1][4] = ""
        read = responses.read(write_csv(folder / "form.csv", rows), experiment)
        assert read.trials["correct"].isna().sum() == 1
        assert read.trials.loc[read.trials["correct"].isna(), "trial"].tolist() == [2]
        kept = exclusions.exclude(read.trials, presented=key.presented())
        assert len(kept.trials) == 13
        assert kept.counts.set_index("rule").loc["blank answers", "dropped_trials"] == 1

    def test_one_listener_may_take_several_conditions(self, experiment, key, folder):
        write_csv(folder / "one.csv", form_rows(key, ["author"], 1))
        write_csv(folder / "two.csv", form_rows(key, ["author"], 2))
        read = responses.read(folder, experiment)
        assert read.sessions["condition"].tolist() == [1, 2]
        assert read.trials["correct"].eq(1).all()

    def test_a_form_per_condition_is_known_by_its_files_name(self, experiment, key, folder):
        rows = [[row[0], row[1], *row[3:]] for row in form_rows(key, condition=2)]
        path = write_csv(folder / "condition_02.csv", rows)
        assert set(responses.read(path, experiment).trials["condition"]) == {2}
        path = path.rename(folder / "form.csv")
        assert "no column Condition" in error_of(path, experiment)

    def test_what_does_not_fit_is_named(self, experiment, key, folder):
        path = folder / "form.csv"

        def broken(row, column, value, rows=None):
            rows = rows or form_rows(key)
            rows[row][column] = value
            return error_of(write_csv(path, rows), experiment)

        assert broken(2, 5, "maybe") == (
            f"{path}, row 3, column '3': response 'maybe' was not offered; the words are "
            f"down, go, left, 7"
        )
        assert f"{path}, row 2: the participant is blank" in broken(1, 1, " ")
        assert f"{path}, row 2: the condition must be a number" in broken(1, 2, "first")
        assert f"{path}, row 2: condition must be one of [1, 2], got 5" in broken(1, 2, 5)
        assert f"{path}, row 3: duplicate session" in broken(2, 1, "p1")
        assert "row 2" in broken(2, 1, "p1")  # Where the first one is.
        assert f"{path}: the titles of the questions" in broken(0, 5, "No. 4")
        assert f"{path}, row 1: columns repeat: '3'" in broken(0, 6, "3")
        rows = form_rows(key)
        rows[2].append("more")
        assert f"{path}, row 3: 18 values, and the header has 17" in broken(1, 0, "", rows)
        rows = [[*row, "go"] for row in form_rows(key)]
        error = broken(0, -1, "15", rows)
        assert f"{path}, row 2, column '15': a question without a sound" in error
        assert "14 sounds" in error
        rows = form_rows(key, [])
        assert f"{path}: no row of answers" in error_of(write_csv(path, rows), experiment)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "empty"),
            (b"\xff\xfe\x00", "not UTF-8"),
            (b"a\0b,c\n", "not a text file"),
            (b"one,two\n1,2\n", "not a table of responses"),
            (b'Timestamp,Participant,1\n"x', "row 2: not CSV"),
            (b"\n\n\n", "empty"),
            (b"PK\x03\x04 and no more", "not a readable archive"),
        ],
    )
    def test_files_that_are_no_tables_are_named(self, experiment, folder, content, message):
        path = folder / "form.csv"
        path.write_bytes(content)
        error = error_of(path, experiment)
        assert error.startswith(str(path)) and message in error


class TestTidyTables:
    def test_a_trial_table_comes_back_as_it_was(self, experiment, key, folder):
        found = [listening_folder.session(key, session_id=n, participant=f"00{n}") for n in "12"]
        found[0]["trials"][0]["response"] = None
        found[1]["headphone"] = None
        read = responses.from_sessions(found, experiment)
        responses.write_trials(folder / "trials.csv", read.trials)
        again = responses.read(folder / "trials.csv")
        pd.testing.assert_frame_equal(again.trials, read.trials)
        assert again.sessions["session"].tolist() == ["1", "2"]
        assert set(again.trials["participant"]) == {"001", "002"}

    def test_broken_trial_tables_are_named(self, experiment, key, folder):
        path = folder / "trials.csv"
        trials = responses.from_sessions([listening_folder.session(key)], experiment).trials
        for column, value, message in (
            ("correct", 2, "row 4: correct must lie between 0 and 1, got '2"),
            ("condition", "one", "row 4: condition must be a whole number"),
            ("rt_ms", "inf", "row 4: rt_ms must be a number"),
            ("stimulus_id", "s01002", "row 4: stimulus 's01002' comes twice"),
        ):
            broken = trials.astype(object)
            broken.loc[2, column] = value
            if column == "stimulus_id":
                broken.loc[2, "trial"] = 2
            storage.write_csv(path, broken)
            assert f"{path}, {message}" in error_of(path, experiment)
        responses.write_trials(path, trials)
        responses.write_trials(folder / "again.csv", trials)
        assert "session 'a1' comes in more than one" in error_of(folder, experiment)

    def test_the_published_proportions(self):
        read = responses.read(HUMAN, where={"observer": "human"})
        assert len(read.trials) == 20 * 9 * 6
        assert tuple(read.trials.columns) == responses.COLUMNS
        source = pd.read_csv(HUMAN)
        expected = source.loc[source["observer"] == "human", "proportion_correct"]
        np.testing.assert_array_equal(read.trials["correct"], expected)
        assert read.trials["layer_index"].tolist()[:3] == [0, 1, 2]
        assert set(read.trials["source"]) == {"proportions"}
        kept = exclusions.exclude(read.trials)
        assert len(kept.trials) == len(read.trials)

    def test_broken_proportions_are_named(self, folder):
        error = error_of(HUMAN, None)
        assert "come twice" in error and "choose by column observer" in error
        path = folder / "table.csv"
        header = ["participant", "model", "layer", "proportion_correct"]
        for row, message in (
            (["1", "a", "b", "1.5"], "row 3: proportion_correct must lie between 0 and 1"),
            (["1", "a", "b", "half"], "row 3: proportion_correct must be a number"),
            (["1", "a", "", "0.5"], "row 3: layer is empty"),
            (["1", "a", "conv1", "0.5"], "row 3: participant '1', model 'a', layer 'conv1'"),
            (["1", "a", "b"], "row 3: 3 values, and the header has 4"),
        ):
            write_csv(path, [header, ["1", "a", "conv1", "0.25"], row])
            assert f"{path}, {message}" in error_of(path, None)
        write_csv(path, [header[:3], ["1", "a", "b"]])
        assert "no column of proportions" in error_of(path, None)
        write_csv(path, [header])
        assert "no rows" in error_of(path, None)


class TestExclusions:
    def people(self, key, experiment):
        """Sessions that fail one rule each, and one that fails none."""
        found = {
            name: listening_folder.session(key, session_id=name, participant=name)
            for name in ("good", "left", "speakers", "asleep", "deaf")
        }
        found["left"]["trials"] = found["left"]["trials"][:8]
        found["speakers"]["headphone"]["passed"] = False
        wrong = {"down": "go", "go": "left", "left": "7", "7": "down"}
        for name, index in (("asleep", 12), ("deaf", 0)):
            trial = found[name]["trials"][index]
            trial["response"] = wrong[trial["response"]]
        found["again"] = listening_folder.session(key, session_id="again", participant="good")
        return responses.from_sessions(found.values(), experiment)

    def test_each_rule_drops_and_counts(self, experiment, key):
        read = self.people(key, experiment)
        result = exclusions.exclude(read.trials, presented=key.presented())
        reasons = dict(zip(result.sessions["session"], result.sessions["reason"], strict=True))
        assert reasons == {
            **{"good": "", "left": "incomplete", "speakers": "headphones"},
            **{"asleep": "catch", "deaf": "reference", "again": "repeat"},
        }
        assert set(result.trials["session"]) == {"good"} and len(result.trials) == 14
        counts = result.counts.set_index("rule")
        for rule in ("repeat", "incomplete", "headphones", "catch", "reference"):
            assert counts.loc[rule, "dropped"] == 1
        assert counts.loc["incomplete", "dropped_trials"] == 8
        assert counts.loc["kept", "kept"] == 1 and counts.loc["kept", "judged"] == 6
        assert counts.loc["kept", "kept_trials"] == 14

    def test_rules_can_be_set(self, experiment, key):
        read = self.people(key, experiment)
        rules = exclusions.ExclusionRules(
            reference_min=None, catch_min=0.5, headphones=False, answered_min=0.5, repeats=False
        )
        result = exclusions.exclude(read.trials, rules, presented=key.presented())
        assert result.sessions["kept"].all()
        with pytest.raises(ValueError, match="catch_min must be a number at least 0 and at most 1"):
            exclusions.ExclusionRules(catch_min=90)

    def test_the_papers_rule_is_for_a_condition_as_one_listener_took_it(self, experiment, key):
        found = [
            listening_folder.session(key, condition, f"c{condition}", "author")
            for condition in (1, 2)
        ]
        trial = next(t for t in found[1]["trials"] if t["stimulus_id"] == "s02001")
        trial["response"] = next(w for w in listening_folder.WORDS if w != trial["response"])
        read = responses.from_sessions(found, experiment)
        result = exclusions.exclude(read.trials, presented=key.presented())
        assert result.sessions["kept"].tolist() == [True, False]
        assert result.sessions["reference_correct"].tolist() == [1.0, 0.75]
        assert set(result.trials["condition"]) == {1}

    def test_a_rule_that_cannot_be_judged_drops_nobody(self, tmp_path):
        experiment = listening_folder.make(tmp_path, catch=0)
        key = responses.AnswerKey(experiment)
        session = listening_folder.session(key) | {"headphone": None}
        read = responses.from_sessions([session], experiment)
        result = exclusions.exclude(read.trials, presented=key.presented())
        counts = result.counts.set_index("rule")
        assert result.sessions["kept"].all()
        assert counts.loc[["headphones", "catch"], "judged"].tolist() == [0, 0]

    def test_a_rule_that_was_asked_for_and_judges_nobody_is_an_error(self, tmp_path):
        experiment = listening_folder.make(tmp_path, catch=0)
        key = responses.AnswerKey(experiment)
        session = listening_folder.session(key) | {"headphone": None}
        read = responses.from_sessions([session], experiment)
        for changes, message in (
            ({"reference_layer": "conv9"}, "'conv9'; the layers are cochleagram, conv1, dense"),
            ({"required": ("catch",)}, "no session has catch trials .--catch_min=0"),
            ({"required": ("headphones",)}, "headphone check went .--noheadphones"),
        ):
            with pytest.raises(ValueError, match=f"judges nobody: .*{message}"):
                exclusions.exclude(read.trials, exclusions.ExclusionRules(**changes))
        off = exclusions.ExclusionRules(reference_layer="conv9", reference_min=None)
        assert exclusions.exclude(read.trials, off).sessions["kept"].all()

    def test_of_two_tries_the_finished_one_counts(self, experiment, key):
        found = [
            listening_folder.session(key, session_id="broke", num_trials=5),
            listening_folder.session(key, session_id="done"),
        ]
        read = responses.from_sessions(found, experiment)
        result = exclusions.exclude(read.trials, presented=key.presented())
        assert result.sessions["reason"].tolist() == ["repeat", ""]

    def test_when_nobody_remains_the_accounts_say_why(self, experiment, key):
        session = listening_folder.session(key, num_trials=3)
        read = responses.from_sessions([session], experiment)
        result = exclusions.exclude(read.trials, presented=key.presented())
        assert result.trials.empty and list(result.trials.columns) == list(responses.COLUMNS)
        assert result.counts.set_index("rule").loc["incomplete", "dropped"] == 1


class TestSimulate:
    def test_given_curves_come_back(self, tmp_path):
        experiment = listening_folder.make(tmp_path, num_conditions=10, catch=4)
        curves = {
            "conv2d": {"cochleagram": 1.0, "conv1": 0.9, "dense": 0.3},
            "frequency_grouped": {"cochleagram": 1.0, "conv1": 0.75, "dense": 0.55},
        }
        found = simulated.simulate(experiment, 300, curves, seed=3)
        read = responses.from_sessions(found, experiment)
        assert set(read.trials["source"]) == {"simulated"}
        assert set(read.sessions["condition"].value_counts()) == {30}
        result = exclusions.exclude(
            read.trials, presented=responses.AnswerKey(experiment).presented()
        )
        assert result.sessions["kept"].all()
        metamers = result.trials[result.trials["kind"] == "metamer"]
        for (model, layer), cell in metamers.groupby(["model", "layer"]):
            truth = curves[model][layer]
            # Listeners share the 20 sounds of a cell, whose difficulty varies by 0.5 logit.
            error = np.sqrt(
                truth * (1 - truth) / len(cell) + 0.5**2 * (truth * (1 - truth)) ** 2 / 20
            )
            assert abs(cell["correct"].mean() - truth) <= 3 * error + 1e-12

    def test_the_intercept_makes_the_average_what_was_asked_for(self):
        draws = np.random.default_rng(0).standard_normal(200_000)
        for mean in (0.02, 0.125, 0.5, 0.9):
            a = simulated.intercept(mean, 1.2)
            assert np.mean(1 / (1 + np.exp(-(a + 1.2 * draws)))) == pytest.approx(mean, abs=3e-3)
        assert simulated.intercept(1.0, 1.0) == np.inf
        assert simulated.intercept(0.5, 0.0) == 0.0

    def test_a_listener_does_not_depend_on_how_many_follow(self, experiment):
        few = simulated.simulate(experiment, 2, seed=1)
        many = simulated.simulate(experiment, 5, seed=1)
        assert many[:2] == few
        assert simulated.simulate(experiment, 2, seed=2) != few

    def test_the_careless_are_excluded(self, experiment, key):
        model = simulated.ListenerModel(careless=3, without_headphones=2)
        found = simulated.simulate(experiment, 10, model=model, seed=0)
        read = responses.from_sessions(found, experiment)
        result = exclusions.exclude(read.trials, presented=key.presented())
        assert result.sessions["kept"].tolist() == [False] * 5 + [True] * 5
        assert result.sessions["reason"].tolist()[3:5] == ["headphones"] * 2

    def test_simulated_sessions_stay_labelled_whatever_way_they_take(self, experiment, key, folder):
        session = simulated.simulate(experiment, 1)[0]
        assert sessions.check_session(session, experiment)
        with store.SessionStore(experiment.responses, experiment) as opened:
            opened.save(session)
        read = responses.read(experiment.responses, experiment)
        assert set(read.trials["source"]) == {"simulated"}
        assert read.trials["participant"].str.startswith("simulated").all()
        rows = jsp_rows(key, simulated=True)
        read = responses.read(write_jsp(folder / "s.csv", rows), experiment)
        assert set(read.trials["source"]) == {"simulated"}

    def test_curves_are_completed_from_the_paper_and_checked(self, key):
        curves = simulated.complete_curves(key, {"conv2d": {"conv1": 0.5}})
        assert curves["conv2d"] == {"cochleagram": 1.0, "conv1": 0.5, "dense": 18 / 56}
        for given, message in (
            ({"resnet": {}}, "curves name 'resnet'"),
            ({"conv2d": {"conv9": 0.5}}, "conv9"),
            ({"conv2d": {"conv1": 50}}, "must be a probability, got 50"),
        ):
            with pytest.raises(ValueError, match=message):
                simulated.complete_curves(key, given)


class TestFilesOfStrangers:
    """One case of each kind of file that people were seen to bring."""

    archive = TestJatos.archive

    def test_a_reload_in_jatos_leaves_the_longest_state(self, experiment, key, folder):
        states = [listening_folder.session(key, num_trials=n) for n in (6, None)]
        playing = listening_folder.session(key, num_trials=7)
        playing["trials"][6] |= {"response": None, "rt_ms": None}
        for found in (states, states[::-1], [states[0], playing, states[1]], [states[1]] * 2):
            archive = self.archive(folder, found, "results.zip")
            read = responses.read(archive, experiment)
            assert is_whole_and_right(read, key) and read.duplicates == 0
            assert any("earlier states" in note for note in read.notes)
            with zipfile.ZipFile(archive) as content:
                content.extractall(folder / "unzipped")
            assert is_whole_and_right(responses.read(folder / "unzipped", experiment), key)
            archive.unlink()
            shutil.rmtree(folder / "unzipped")
        lines = folder / "lines.txt"
        lines.write_text("\n".join(map(json.dumps, states)))
        assert is_whole_and_right(responses.read(lines, experiment), key)
        lines.unlink()
        for i, state in enumerate(states):
            listening_folder.write_json(folder / f"{i}.json", state)
        assert is_whole_and_right(responses.read(folder, experiment), key)

    def test_states_that_contradict_each_other_are_no_reload(self, experiment, key, folder):
        first, second = (listening_folder.session(key, num_trials=n) for n in (6, None))
        right = second["trials"][0]["response"]
        first["trials"][0]["response"] = "go" if right != "go" else "left"
        path = self.archive(folder, [first, second])
        assert "duplicate session 'a1'" in error_of(path, experiment)
        people = [listening_folder.session(key, participant=name) for name in "ab"]
        assert "duplicate" in error_of(self.archive(folder, people), experiment)

    @pytest.mark.parametrize("name", ["results", "results/jatos_results_1"])
    def test_a_zip_of_a_finder(self, experiment, key, folder, name):
        path = folder / "results.zip"
        with zipfile.ZipFile(path, "w") as archive:
            inner = f"{name}/study_result_1/comp-result_1"
            archive.writestr(f"{inner}/data.txt", json.dumps(listening_folder.session(key)))
            archive.writestr(f"__MACOSX/{inner}/._data.txt", b"\0\5\x16\7\xff")
            archive.writestr(f"{inner}/.DS_Store", b"\0\0\0\1Bud1")
            archive.writestr("Thumbs.db", b"\xd0\xcf")
        assert is_whole_and_right(responses.read(path, experiment), key)
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder / "open")
        path.unlink()
        if name == "results":
            assert is_whole_and_right(responses.read(folder / "open/results", experiment), key)

    def test_collected_files_of_a_finder(self, experiment, key, folder):
        listening_folder.write_json(folder / "a.json", listening_folder.session(key))
        (folder / "._a.json").write_bytes(b"\0\5\x16\7")
        (folder / "more").mkdir()
        read = responses.read(folder, experiment)
        assert is_whole_and_right(read, key)
        assert any("more passed over" in note for note in read.notes)

    @pytest.mark.parametrize("text", ["FALSCH", "FAUX", "false", "0", "FALSO", "No"])
    def test_flags_that_a_spreadsheet_translated(self, experiment, key, folder, text):
        rows = [row | {"headphone_passed": text} for row in jsp_rows(key)]
        rows = [{k: v for k, v in row.items() if k != "headphones_passed"} for row in rows]
        read = responses.read(write_jsp(folder / "a.csv", rows), experiment)
        assert read.trials["headphones"].tolist() == [False] * 14
        kept = exclusions.exclude(read.trials, presented=key.presented())
        assert kept.sessions["reason"].tolist() == ["headphones"]

    def test_flags_that_are_none_are_named(self, experiment, key, folder):
        rows = jsp_rows(key)
        rows[0]["headphones_passed"] = "perhaps"
        path = write_jsp(folder / "a.csv", rows)
        assert error_of(path, experiment) == (
            f"{path}, row 2: headphones must be true or false, got 'perhaps'"
        )

    def test_decimal_commas(self, experiment, key, folder):
        rows = [row | ({"rt": "700,5"} if "rt" in row else {}) for row in jsp_rows(key)]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table = [columns, *([row.get(c, "") for c in columns] for row in rows)]
        path = write_csv(folder / "a.csv", table, ";")
        assert set(responses.read(path, experiment).trials["rt_ms"]) == {700.5}
        table[2][columns.index("rt")] = "1,234"  # A thousand, or little more than one?
        error = error_of(write_csv(path, table, ";"), experiment)
        assert error == f"{path}, row 3: rt must be a number, got '1,234'"

    @pytest.mark.parametrize("name", ["data.csv", "jatos_results.txt", "data.tsv", "data"])
    def test_a_table_is_told_by_its_content(self, experiment, key, folder, name):
        path = write_jsp(folder / name, jsp_rows(key))
        assert is_whole_and_right(responses.read(path, experiment), key)
        path = listening_folder.write_json(folder / "b.csv", listening_folder.session(key))
        assert is_whole_and_right(responses.read(path, experiment), key)

    @pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "SEP=;\r\n", ""])
    def test_the_separator_of_a_spreadsheet(self, experiment, key, folder, first):
        path = write_csv(
            folder / "form.csv", form_rows(key, title="Sound {}, of 14, the word"), delimiter=";"
        )
        path.write_text(first + path.read_text())
        assert is_whole_and_right(responses.read(path, experiment), key, people=2)

    def test_a_form_in_a_zip(self, experiment, key, folder):
        inner = "Words and noises - condition 1.csv"
        table = form_rows(key)
        del table[0][2], table[1][2], table[2][2]
        path = write_csv(folder / inner, table)
        with zipfile.ZipFile(folder / f"{inner}.zip", "w") as archive:
            archive.write(path, inner)
        read = responses.read(folder / f"{inner}.zip", experiment)
        assert is_whole_and_right(read, key, people=2)
        assert set(read.trials["source"]) == {"google_form"}

    def test_our_forms_titles_have_no_comma(self, tmp_path):
        forms = (pathlib.Path(responses.__file__).parents[1] / "building/forms.gs").read_text()
        assert 'replace(/,/g, "") + " - condition "' in forms

    def test_a_path_may_hold_commas(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        for name in ("Words, noises, condition 1.csv", "b.csv"):
            (folder / name).write_text("x")
        assert analyze_responses.paths_in("Words, noises, condition 1.csv,b.csv,c.csv") == [
            *("Words, noises, condition 1.csv", "b.csv", "c.csv")
        ]

    def test_a_response_of_jspsych_is_a_place_also_where_words_are_digits(self, tmp_path):
        words = ("1", "2", "3", "0")
        experiment = listening_folder.make(tmp_path / "digits", words=words)
        key = responses.AnswerKey(experiment)
        rows = []
        for stimulus, entry in key.stimuli(1):
            about = {"session_id": "j1", "participant": "p", "condition": 1, "trial_type": "a"}
            about |= {"stimulus_id": stimulus, "trial": entry["trial"]}
            rows.append(about | {"response": words.index(entry["word"])})
        for order in ("", json.dumps(words), "|".join(words)):
            path = write_jsp(tmp_path / "a.csv", [row | {"choice_order": order} for row in rows])
            assert is_whole_and_right(responses.read(path, experiment), key)
        path.unlink()
        path = listening_folder.write_json(tmp_path / "a.json", rows)
        assert is_whole_and_right(responses.read(path, experiment), key)

    def test_what_listeners_told_is_kept_beside_their_answers(self, experiment, key, folder):
        session = listening_folder.session(key)
        session |= {"questionnaire": {"answered": "2026", "age": 34, "native_language": "=Inglés"}}
        session |= {"consent": {"version": "v2", "given": "2026"}, "comments": "Fine"}
        session["trials"][2]["confidence"] = 4
        read = responses.read(listening_folder.write_json(folder / "a.json", session), experiment)
        (told,) = read.questionnaire.to_dict("records")
        assert told == {
            **{"participant": "p1", "session": "a1", "condition": 1, "age": 34},
            **{"native_language": "=Inglés", "consent_version": "v2", "language": None},
            "comments": "Fine",
        }
        (sure,) = read.confidence.to_dict("records")
        assert sure["stimulus_id"] == "s01003" and sure["confidence"] == 4
        found = tables.analyze(
            read, suite.AnalysisConfig(permutations=10, resamples=10), words=experiment.words
        )
        writing.write(found, read, folder / "out")
        table = storage.read_csv(folder / "out/questionnaire.csv")
        assert table["native_language"].tolist() == ["'=Inglés"]
        for change in ({"questionnaire": {"a": [1]}}, {"questionnaire": [1]}, {"comments": 3}):
            path = listening_folder.write_json(folder / "a.json", session | change)
            assert f"{next(iter(change))} must be" in error_of(path, experiment)

    def test_names_that_differ_by_case_are_told(self, experiment, key):
        found = [
            listening_folder.session(key, session_id=str(i), participant=name)
            for i, name in enumerate(("p1", "P1 ", "p2"))
        ]
        listening = responses.from_sessions(found, experiment).trials
        path = experiment.folder / "trials.csv"
        responses.write_trials(path, listening)
        (note,) = responses.read(path).notes
        assert "'p1', 'P1 '" in note and "2 people" in note

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rt_ms": int("9" * 400)}, "rt_ms must be a number"),
            ({"rt_ms": -1}, "rt_ms must be a number of ms, at least 0, got -1"),
            ({"rt_ms": 1e300}, "rt_ms must be a number"),
            ({"rt_ms": True}, "rt_ms must be a number"),
            ({"confidence": 9}, "confidence must be a whole number from 1 to 5"),
            ({"trial": int("9" * 400)}, "trial must be a whole number"),
            ({"response": int("9" * 400)}, "response must be a word"),
        ],
    )
    def test_numbers_that_cannot_be_are_named(self, experiment, key, folder, change, message):
        session = listening_folder.session(key)
        session["trials"][3] |= change
        path = listening_folder.write_json(folder / "a.json", session)
        assert f"trials[3]: {message}" in error_of(path, experiment)
        rows = jsp_rows(key)
        rows[3] |= {"rt" if name == "rt_ms" else name: value for name, value in change.items()}
        assert "row 5" in error_of(write_jsp(folder / "a.csv", rows), experiment)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("1_000", "row 5: rt must be a number, got '1_000'"),
            ("1e999", "row 5: rt must be a number, got '1e999'"),
            ("[" * 5000, "row 5: rt must be a number, got '[["),
        ],
    )
    def test_a_long_cell_and_pythons_own_numbers_are_refused_in_a_short_line(
        self, experiment, key, folder, text, message
    ):
        rows = jsp_rows(key)
        rows[3] |= {"rt": text}
        said = error_of(write_jsp(folder / "a.csv", rows), experiment)
        assert message in said and len(said) < 300 + len(str(folder))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("\ud800", "surrogates not allowed"),
            (json.loads("[" * 60 + "]" * 60), "nested too deeply"),
        ],
    )
    def test_what_cannot_be_written_again_is_refused(self, experiment, key, folder, value, message):
        session = listening_folder.session(key) | {"started": value}
        path = listening_folder.write_json(folder / "a.json", session)
        assert f"{path}, line 1: not JSON" in error_of(path, experiment)
        assert message in error_of(path, experiment)

    def test_one_bad_session_is_listed_and_the_others_count(self, experiment, key):
        bad = {
            "unknown": {"stimulus_id": "nowhere"},
            "twice": {"stimulus_id": "s01002"},
            "word": {"response": "maybe"},
            "button": {"response": 4},
            "negative": {"response": -1},
        }
        experiment.responses.mkdir()
        for name, change in bad.items():
            session = listening_folder.session(key, session_id=name, participant=name)
            session["trials"][3] |= change
            listening_folder.write_json(experiment.responses / f"{name}.json", session)
        good = listening_folder.session(key, session_id="good")
        listening_folder.write_json(experiment.responses / "good.json", good)
        read = responses.read(experiment.responses, experiment)
        assert is_whole_and_right(read, key)
        assert set(read.rejected["session"]) == set(bad)
        assert read.rejected["reason"].str.contains(r"trials\[3\]").all()
        found = exclusions.exclude(read.trials, rejected=read.rejected, presented=key.presented())
        listed = found.sessions.set_index("session")["reason"]
        assert listed["good"] == "" and listed["word"].startswith("unfit: ")
        counts = found.counts.set_index("rule")
        assert counts.loc["unfit", "dropped"] == 5 and counts.loc["kept", "kept"] == 1

    def test_texts_that_spreadsheets_would_run_are_neutralised(self, experiment, key, folder):
        names = ("=1+1", "+49", "@SUM(A1)", "-x", "'=1", "plain")
        found = [
            listening_folder.session(key, session_id=str(i), participant=name)
            for i, name in enumerate(names)
        ]
        trials = responses.from_sessions(found, experiment).trials
        responses.write_trials(folder / "trials.csv", trials)
        with open(folder / "trials.csv", encoding="utf-8") as file:
            cells = {row["participant"] for row in csv.DictReader(file)}
        assert cells == {"'=1+1", "'+49", "'@SUM(A1)", "'-x", "''=1", "plain"}
        pd.testing.assert_frame_equal(responses.read_trials(folder / "trials.csv"), trials)
