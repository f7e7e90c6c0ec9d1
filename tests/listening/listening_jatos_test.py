"""Downloading results from JATOS, from a stand-in that answers as its API's description says."""

import http.server
import io
import json
import zipfile

import listening_folder
import pytest

from metamer_jax.listening import responses
from metamer_jax.listening.responses import jatos_api
from metamer_jax.listening.serving import sessions

TOKEN = "jap_secret0123456789"
UUID = "11111111-1111-1111-1111-111111111111"


class StandIn(http.server.ThreadingHTTPServer):
    """A JATOS with results by number: [state, text of the data]; knows what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.results: dict[int, list[str]] = {}
        self.lost: set[int] = set()  # Announced, and left out of the data without an error.
        self.asked: list[tuple[str, dict]] = []
        self.answer = None  # Status, headers and body in place of everything.

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = self.path.removeprefix("/jatos/api/v1/results/")
        self.server.asked.append((what, body))
        if self.server.answer is not None:
            self.reply(*self.server.answer)
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            error = {"code": "AUTH_ERROR", "message": "Invalid token"}
            self.reply(401, {}, json.dumps({"apiVersion": "1.1.0", "error": error}).encode())
        elif what == "metadata?download=false":
            self.reply(200, {}, json.dumps(self.metadata(body)).encode())
        elif what == "data":
            self.reply(200, {"Content-Type": "application/zip"}, self.data(body["studyResultIds"]))
        else:
            self.reply(404, {}, b"")

    def reply(self, status, headers, body):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def metadata(self, body):
        known = body == {"studyUuids": UUID} or body == {"studyIds": 7}
        found = self.server.results if known else {}
        results = [
            {
                "id": number,
                "uuid": f"u{number}",
                "studyState": state,
                "componentResults": [
                    {
                        "id": 100 + number,
                        "componentState": state,
                        "path": f"/study_result_{number}/comp-result_{100 + number}",
                        "data": {"size": len(text), "sizeHumanReadable": f"{len(text)} B"},
                    }
                ],
            }
            for number, (state, text) in found.items()
        ]
        study = {"studyId": 7, "studyUuid": UUID, "studyTitle": "t", "studyResults": results}
        return {"apiVersion": "1.1.0", "data": [study] if found else []}

    def data(self, wanted):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for number in set(wanted) - self.server.lost:
                name = f"study_result_{number}/comp-result_{100 + number}/data.txt"
                archive.writestr(name, self.server.results[number][1])
        return file.getvalue()


@pytest.fixture
def jatos():
    with listening_folder.served(StandIn()) as server:
        yield server


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return listening_folder.make(tmp_path_factory.mktemp("experiment"))


def answers(experiment, name, **changes):
    key = responses.AnswerKey(experiment)
    return json.dumps(listening_folder.session(key, 1, name, f"jatos-{name}", **changes))


def get(jatos, folder, **changes):
    given = {"study": UUID, "token": TOKEN} | changes
    return jatos_api.download(jatos.url, folder, **given)


def test_all_results_come_some_at_a_time(jatos, experiment, tmp_path):
    for number in range(1, 6):
        jatos.results[number] = ["FINISHED", answers(experiment, f"s{number}")]
    jatos.results[9] = ["DATA_RETRIEVED", ""]
    found = get(jatos, tmp_path / "jatos", at_a_time=2)
    assert found.results == 5
    assert any("1 study results are not finished" in note for note in found.notes)
    assert any("1 study results have no data" in note for note in found.notes)
    asked = [body["studyResultIds"] for what, body in jatos.asked if what == "data"]
    assert asked == [[1, 2], [3, 4], [5]]
    read = responses.read(found.folder, experiment)
    assert set(read.trials["participant"]) == {f"jatos-s{n}" for n in range(1, 6)}
    assert set(read.trials["source"]) == {"jatos"} and read.trials["correct"].all()


def test_a_study_by_its_number(jatos, experiment, tmp_path):
    jatos.results[1] = ["FINISHED", answers(experiment, "a")]
    assert get(jatos, tmp_path, study="7").results == 1


def test_what_was_announced_and_does_not_come_is_an_error(jatos, experiment, tmp_path):
    for number in (1, 2):
        jatos.results[number] = ["FINISHED", answers(experiment, f"s{number}")]
    jatos.lost = {2}
    with pytest.raises(jatos_api.JatosError, match="study result 2, component result 102"):
        get(jatos, tmp_path)
    assert (tmp_path / "study_result_1/comp-result_101/data.txt").is_file()  # It is kept.


def test_later_answers_replace_earlier_ones_and_withdrawn_ones_go(jatos, experiment, tmp_path):
    jatos.results[1] = ["DATA_RETRIEVED", answers(experiment, "a", num_trials=3)]
    jatos.results[2] = ["FINISHED", answers(experiment, "b")]
    jatos.results[3] = ["FINISHED", answers(experiment, "c")]
    get(jatos, tmp_path)
    jatos.results[1] = ["FINISHED", answers(experiment, "a")]
    jatos.results[2] = ["ABORTED", ""]
    del jatos.results[3]  # Somebody made room on the server.
    found = get(jatos, tmp_path)
    assert any("1 participants have withdrawn" in note for note in found.notes)
    assert any("1 of these were here and are deleted" in note for note in found.notes)
    assert any("are not at JATOS any more and stay here: 3" in note for note in found.notes)
    read = responses.read(tmp_path, experiment)
    assert set(read.trials["participant"]) == {"jatos-a", "jatos-c"}
    whole = responses.AnswerKey(experiment).presented()[1]
    assert (read.trials.groupby("participant").size() == whole).all()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, {}, b"<html>"), "answers 500: Internal Server Error"),
        ((200, {}, b"<html>Log in</html>"), "no JSON"),
        ((200, {}, b'{"data": [{"studyResults": [{"id": 1}]}]}'), "form that is not known"),
        ((200, {}, b'{"data": []}'), "has no results of study 1111"),
        ((302, {"Location": "https://elsewhere.example/"}, b""), "it is at https://elsewhere"),
        ((200, {"Content-Length": "90"}, b"{"), "stopped answering"),
    ],
)
def test_errors_are_one_line(jatos, tmp_path, answer, message):
    jatos.answer = answer
    with pytest.raises(jatos_api.JatosError, match=message) as error:
        get(jatos, tmp_path)
    assert "\n" not in str(error.value) and TOKEN not in str(error.value)
    assert not list(tmp_path.iterdir()) and len(jatos.asked) == 1


def test_data_that_are_no_archive_are_an_error(jatos, experiment, tmp_path, monkeypatch):
    jatos.results[1] = ["FINISHED", answers(experiment, "a")]
    monkeypatch.setattr(Handler, "data", lambda *_: b"PK\3\4 cut")
    with pytest.raises(jatos_api.JatosError, match="no archive that can be read"):
        get(jatos, tmp_path)


def test_a_name_that_leads_out_is_not_written(jatos, experiment, tmp_path, monkeypatch):
    jatos.results[1] = ["FINISHED", answers(experiment, "a")]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("study_result_1/comp-result_101/data.txt", "{}")
        archive.writestr("../../study_result_1/comp-result_101/../../../evil.txt", "x")
        archive.writestr("study_result_5/comp-result_105/data.txt", "not asked for")
    monkeypatch.setattr(Handler, "data", lambda *_: file.getvalue())
    get(jatos, tmp_path / "in")
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"data.txt", "metadata.json"}


def test_a_token_that_is_refused_is_told_and_not_shown(jatos, tmp_path):
    with pytest.raises(jatos_api.JatosError, match="401: AUTH_ERROR Invalid token .the token in"):
        get(jatos, tmp_path, token="jap_wrong")


@pytest.mark.parametrize(
    "url", ["jatos.example.org", "http://jatos.example.org", "ftp://x.org", "https://a:b@c.org"]
)
def test_the_token_is_sent_to_no_other_address(url, tmp_path):
    with pytest.raises(ValueError, match="--jatos_url must"):
        jatos_api.download(url, tmp_path, study=UUID, token=TOKEN)


def test_nobody_listening_is_one_line(jatos, tmp_path):
    url = jatos.url
    jatos.shutdown()  # Or a connection may yet be taken, and broken.
    jatos.server_close()
    with pytest.raises(jatos_api.JatosError, match="cannot be reached"):
        jatos_api.download(url, tmp_path, study=UUID, token=TOKEN)


@pytest.mark.slow
def test_from_the_command(jatos, tmp_path, monkeypatch):
    experiment = listening_folder.make(tmp_path)
    study = sessions.jatos_uuid(experiment.design_sha256, "study")
    monkeypatch.setitem(globals(), "UUID", study)
    jatos.results[1] = ["FINISHED", answers(experiment, "a")]
    flags = (f"--experiment={tmp_path}", f"--jatos_url={jatos.url}/", "--draws=0")
    done = listening_folder.analyze(*flags)
    assert done.returncode == 2 and "environment variable JATOS_TOKEN" in done.stderr
    assert done.stderr.count("\n") == 1
    done = listening_folder.analyze(*flags, JATOS_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert "1 results with data in" in done.stdout and "1 sessions read (jatos)" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert not any(TOKEN in p.read_text("latin-1") for p in tmp_path.rglob("*") if p.is_file())
