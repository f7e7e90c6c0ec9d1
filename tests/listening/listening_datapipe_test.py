"""The page with DataPipe, from a stand-in that answers as its API does: once taken, never lost."""

import http.server
import json

import listening_folder
import listening_page_test
import pytest
from listening_page_test import build_experiment, check, go_on, hosted, opened, state_of, stored

from metamer_jax.listening import responses
from metamer_jax.listening.config import ListeningConfig
from metamer_jax.listening.serving import sessions

browser = listening_page_test.browser  # The fixture.
HOST = "https://pipe.jspsych.org"


class StandIn(http.server.ThreadingHTTPServer):
    """Stores files by name; `answers` are given before it does so again (None: it hangs up)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, str] = {}
        self.answers: list[tuple[int, str] | None] = []
        self.posts = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        server.posts += 1
        if self.path != "/api/data/" or set(given) != {"experimentID", "filename", "data"}:
            self.reply(400, {"error": "MISSING_PARAMETER", "message": "One or more ..."})
        elif given["experimentID"] != "AbC123":
            self.reply(400, {"error": "EXPERIMENT_NOT_FOUND", "message": "The experiment ..."})
        elif server.answers:
            status, error = server.answers.pop(0)
            self.reply(status, {"error": error, "message": "..."})
        elif given["filename"] in server.files:
            self.reply(400, {"error": "OSF_FILE_EXISTS", "message": "The OSF file ..."})
        else:
            server.files[given["filename"]] = given["data"]
            self.reply(201, {"message": "Success"})

    def reply(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def datapipe():
    with listening_folder.served(StandIn()) as server:
        yield server


def in_place_of_datapipe(context, server):
    """Sends what the page sends to DataPipe's host to the stand-in."""
    local = f"http://127.0.0.1:{server.server_port}"
    context.route(
        f"{HOST}/**",
        lambda route: route.fulfill(
            response=route.fetch(url=route.request.url.replace(HOST, local))
        ),
    )


def test_answers_are_kept_until_they_are_taken(browser, datapipe, tmp_path):
    folder = build_experiment(tmp_path, server=True, datapipe_experiment="AbC123")
    hurry = "window.setTimeout = ((s) => (f, ms) => s(f, ms / 50))(setTimeout)"
    with hosted(folder / "public") as url, opened(browser) as open_page:
        page = open_page(f"{url}?participant=anna")
        in_place_of_datapipe(page.context, datapipe)
        # Whatever DataPipe refuses with, what was answered stays.
        datapipe.answers = [(400, "OSF_UPLOAD_ERROR"), (503, ""), (400, "SESSION_LIMIT_REACHED")]
        go_on(page, "comments")
        assert datapipe.posts == 0  # Nothing leaves the browser before the end.
        page.evaluate(hurry)
        go_on(page, "message")
        go_on(page, "end")
        page.get_by_text("could not be sent").wait_for()
        session = stored(page)
        assert datapipe.files == {} and datapipe.posts >= 3 and session["complete"]

        # The next person at this browser: the page sends what was left.
        datapipe.answers = []
        page.goto(f"{url}?participant=ben")
        state_of(page, "first")
        name = f"{session['experiment_id']}_{session['session_id']}.json"
        listening_page_test.wait_until(
            page,
            "Object.entries(localStorage)"
            ".some(([key, value]) => key.includes(':sent:') && JSON.parse(value).taken)",
        )
        assert list(datapipe.files) == [name] and json.loads(datapipe.files[name]) == session

        # Taken is taken: it is not sent again, also where the answer to it was lost.
        posts = datapipe.posts
        page.goto(f"{url}?participant=anna")
        page.get_by_text("Your answers were saved.").wait_for()
        assert datapipe.posts == posts
        page.evaluate(
            "Object.keys(localStorage).filter((key) => key.includes(':sent:'))"
            ".forEach((key) => localStorage.removeItem(key))"
        )
        page.reload()
        page.get_by_text("Your answers were saved.").wait_for()
        assert datapipe.posts == posts + 1 and len(datapipe.files) == 1

        # The policy names that host and no other.
        page.problems.clear()
        assert (
            page.evaluate("fetch('https://elsewhere.example/').catch(() => 'refused')") == "refused"
        )
        assert "Content Security Policy" in page.problems[0]
        foreign = {u.split("/")[2] for u in page.requests if u.startswith("https:")}
        assert foreign <= {HOST.split("/")[2]}

        # What DataPipe has, only the lab can delete.
        page.get_by_role("button", name="Stop and withdraw").click()
        page.get_by_role("button", name="Stop and delete my answers").click()
        page.locator("#withdrawn").wait_for()
        assert "could not be told" in page.inner_text("#withdrawn")
        assert session["session_id"] in page.inner_text("#withdrawn")
        assert page.evaluate("Object.keys(localStorage).filter((k) => /anna|sent/.test(k))") == []
    check(session, folder)
    (tmp_path / "osf").mkdir()
    (tmp_path / "osf" / name).write_text(datapipe.files[name])
    read = responses.read(tmp_path / "osf", sessions.load_experiment(folder))
    assert len(read.trials) == 8 and read.sessions["complete"].all()


def test_a_page_names_no_host_unless_asked(tmp_path):
    page = (build_experiment(tmp_path) / "public/index.html").read_text()
    assert "connect-src 'self';" in page and "jspsych.org" not in page


def test_an_address_is_no_id():
    with pytest.raises(ValueError, match="datapipe_experiment must be an id"):
        ListeningConfig(datapipe_experiment="https://pipe.jspsych.org/x")
