import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import listening_folder
import pytest
import uvicorn

from metamer_jax import storage
from metamer_jax.listening import responses
from metamer_jax.listening.serving import guards, server, sessions, store

ROOT = pathlib.Path(__file__).parents[2]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(folder, port, *flags):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "experiments.serve_listening_test"),
            *(f"--experiment={folder}", f"--port={port}", *flags),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    first = process.stdout.readline()
    assert f":{port}/" in first, first + process.stdout.read()
    return process


def call(port, method, path, body=None, headers=None):
    """Returns status, headers and body; the path goes out as it is given."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest(
            method, path, skip_accept_encoding=True, skip_host="Host" in (headers or {})
        )
        headers = dict(headers or {})
        if body is not None:
            headers = {"Content-Type": "application/json", "Content-Length": len(body)} | headers
        for name, value in headers.items():
            connection.putheader(name, str(value))
        connection.endheaders(body)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()


def post(port, session, **headers):
    status, _, body = call(port, "POST", "/api/session", json.dumps(session).encode(), headers)
    return status, json.loads(body)


def stop(process):
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=20)[0]
    return process.returncode, output


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    experiment = listening_folder.make(folder)
    port = free_port()
    process = start(folder, port, "--max_body_bytes=20000")
    yield port, folder, responses.AnswerKey(experiment)
    process.kill()
    process.communicate()


class TestCrowd:
    @pytest.mark.parametrize(
        "killed",
        [
            pytest.param(False, id="undisturbed"),
            pytest.param(True, id="killed", marks=pytest.mark.slow),
        ],
    )
    def test_a_hundred_at_once_lose_nothing(self, tmp_path, killed):
        experiment = listening_folder.make(tmp_path, num_conditions=10)
        key = responses.AnswerKey(experiment)
        port = free_port()
        servers = [start(tmp_path, port)]
        acknowledged, progress = {}, threading.Semaphore(0)
        deadline = time.monotonic() + 150

        def retry(action):
            while time.monotonic() < deadline:
                try:
                    status, reply = action()
                    if status < 500:
                        assert status == 200, reply
                        return reply
                except (OSError, http.client.HTTPException, ValueError):
                    pass  # What a browser sees while there is no server.
                time.sleep(0.1)
            raise TimeoutError("the server did not come back")

        def participate(number):
            def ask():
                status, _, body = call(port, "GET", f"/api/condition?participant=p{number}")
                return status, json.loads(body)

            given = retry(ask)
            progress.release()
            for num_trials in (5, 10, None):
                session = listening_folder.session(
                    key, given["condition"], given["session_id"], f"p{number}", num_trials
                )
                assert retry(lambda s=session: post(port, s)) == {"stored": True}
                progress.release()
            acknowledged[given["session_id"]] = session

        threads = [threading.Thread(target=participate, args=(i,), daemon=True) for i in range(100)]
        for thread in threads:
            thread.start()
        for count in (50, 150) if killed else ():
            for _ in range(count):
                assert progress.acquire(timeout=100), "participants got stuck"
            servers[-1].kill()
            servers[-1].communicate()
            servers.append(start(tmp_path, port))
        for thread in threads:
            thread.join()
        servers[-1].kill()
        servers[-1].communicate()
        assert len(acknowledged) == 100
        stored = {name: json.loads(body) for name, body in _bodies(tmp_path)}
        assert stored == acknowledged
        # A restart writes whatever JSON file a killed server did not come to write.
        store.SessionStore(experiment.responses, experiment).close()
        for session_id, session in acknowledged.items():
            path = experiment.responses / f"{session_id}.json"
            assert json.loads(path.read_text("utf-8")) == session
        used = [session["condition"] for session in acknowledged.values()]
        assert sorted(used) == sorted(list(range(1, 11)) * 10)  # All equally often.
        read = responses.read(experiment.responses, experiment)
        assert len(read.sessions) == 100
        assert (read.trials["correct"] == 1).all()


def _bodies(folder):
    return store.read_bodies(folder / "responses" / store.DATABASE)


class TestRequests:
    def test_what_is_stored_can_be_sent_again_and_in_any_order(self, served):
        port, folder, key = served
        path = folder / "responses" / "again-1.json"
        full = listening_folder.session(key, session_id="again-1")
        part = listening_folder.session(key, session_id="again-1", num_trials=4)
        for session, expected in ((part, part), (full, full), (full, full), (part, full)):
            assert post(port, session) == (200, {"stored": True})
            assert json.loads(path.read_text("utf-8")) == expected
        unfinished = full | {"complete": False}
        assert post(port, unfinished) == (200, {"stored": True})
        assert json.loads(path.read_text("utf-8")) == full
        assert [name for name, _ in _bodies(folder)].count("again-1") == 1

    def test_another_session_under_the_same_id_does_not_overwrite_it(self, served):
        port, folder, key = served
        mine = listening_folder.session(key, session_id="mine")
        assert post(port, mine)[0] == 200
        for theirs in (mine | {"participant": "p2"}, listening_folder.session(key, 2, "mine")):
            status, reply = post(port, theirs)
            assert status == 409 and "another participant or condition" in reply["error"]
        assert json.loads((folder / "responses" / "mine.json").read_text("utf-8")) == mine

    @pytest.mark.parametrize(
        ("change", "status", "message"),
        [
            ({"session_id": "../../private/x"}, 400, "session_id must be"),
            ({"session_id": "a/b"}, 400, "session_id must be"),
            ({"session_id": ""}, 400, "session_id must be"),
            ({"session_id": "x" * 65}, 400, "session_id must be"),
            ({"session_id": ".hidden"}, 400, "session_id must be"),
            ({"session_id": 7}, 400, "session_id must be"),
            ({"design_sha256": "cd" * 32}, 409, "another design"),
            ({"experiment_id": "other"}, 409, "another design"),
            ({"schema_version": 2}, 400, "schema_version"),
            ({"schema_version": True}, 400, "schema_version"),
            ({"condition": 3}, 400, "condition must be one of"),
            ({"condition": "1"}, 400, "condition must be a whole number"),
            ({"condition": True}, 400, "condition must be a whole number"),
            ({"participant": "x" * 201}, 400, "participant must be"),
            ({"trials": {}}, 400, "trials must be a list"),
            ({"complete": "no"}, 400, "complete must be true or false"),
            ({"trials": [1]}, 400, "trials[0] must be an object"),
            ({"trials": [{"stimulus_id": ""}]}, 400, "trials[0]: stimulus_id"),
            ({"trials": [{"stimulus_id": "s", "rt_ms": "fast"}]}, 400, "trials[0]: rt_ms"),
            ({"participant": "\ud800"}, 400, "not JSON"),
            ({"headphone": json.loads("[" * 60 + "]" * 60)}, 400, "nested too deeply"),
        ],
    )
    def test_what_is_no_session_is_refused_with_the_reason(self, served, change, status, message):
        port, folder, key = served
        before = _bodies(folder)
        found, reply = post(port, listening_folder.session(key, session_id="bad") | change)
        assert found == status and message in reply["error"]
        assert _bodies(folder) == before

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"null", b'{"a": NaN}', b"\xff", b"[" * 15000, b"1" * 15000]
    )
    def test_what_is_not_json_is_refused(self, served, body):
        status, _, reply = call(served[0], "POST", "/api/session", body)
        assert status == 400 and "error" in json.loads(reply)

    def test_long_bodies_are_refused_without_being_read(self, served):
        port, _, key = served
        session = listening_folder.session(key, session_id="long") | {"comment": "x" * 20000}
        assert post(port, session)[0] == 413
        # Announced, never sent: the answer comes at once.
        status, _, _ = call(
            port,
            "POST",
            "/api/session",
            headers={"Content-Type": "application/json", "Content-Length": 10**12},
        )
        assert status == 413
        # Length not announced.
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(
                b"POST /api/session HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            with contextlib.suppress(OSError):  # It may hang up while we are still sending.
                for _ in range(100):
                    connection.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
            assert b" 413 " in connection.recv(1000).split(b"\r\n")[0]

    def test_forms_of_foreign_pages_are_refused(self, served):
        port, _, key = served
        session = listening_folder.session(key, session_id="form")
        assert post(port, session, **{"Content-Type": "text/plain"})[0] == 415
        status, headers, _ = call(
            port, "OPTIONS", "/api/session", headers={"Origin": "http://evil.example"}
        )
        assert status == 405
        assert not any(name.lower().startswith("access-control") for name in headers)

    def test_foreign_names_for_this_machine_are_refused(self, served):
        headers = {"Host": "evil.example"}
        for path in ("/", "/api/condition"):
            with socket.create_connection(("127.0.0.1", served[0]), timeout=20) as connection:
                connection.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: {headers['Host']}\r\n\r\n".encode()
                )
                assert b" 400 " in connection.recv(1000).split(b"\r\n")[0]


class TestConditions:
    def test_asking_again_before_answering_gives_the_same_condition(self, served):
        port = served[0]

        def ask(name):
            status, headers, body = call(port, "GET", f"/api/condition?participant={name}")
            assert status == 200 and headers["cache-control"] == "no-store"
            return json.loads(body)

        first, second = ask("anna"), ask("anna")
        assert first["condition"] == second["condition"]
        assert first["session_id"] != second["session_id"]
        assert sessions.SESSION_ID.fullmatch(first["session_id"])

    def test_a_head_request_hands_out_nothing(self, served):
        port, folder, _ = served
        status, _, body = call(port, "HEAD", "/api/condition?participant=head")
        assert (status, body) == (405, b"")
        with store.SessionStore(folder / "responses", served[2].experiment) as opened:
            rows = opened._database.execute("SELECT participant FROM sessions").fetchall()
        assert ("head",) not in rows

    def test_names_that_cannot_be_are_refused(self, served):
        for name in ("x" * 201, "a%00b"):
            assert call(served[0], "GET", f"/api/condition?participant={name}")[0] == 400

    def test_the_least_used_comes_first(self):
        every = (1, 2, 3)
        assert store.least_used(every, []) == 1
        assert store.least_used(every, [(1, True), (2, True)]) == 3
        assert store.least_used(every, [(1, True), (2, False), (3, False)]) == 2  # Left.
        assert store.least_used(every, [(1, False)]) == 2
        assert store.least_used(every, [(2, True), (3, True)], taken={1}) == 2
        assert store.least_used(every, [(1, True)], taken={1, 2, 3}) == 2

    def test_a_participant_gets_conditions_that_are_new_to_them(self, tmp_path):
        experiment = listening_folder.make(tmp_path, num_conditions=3)
        key = responses.AnswerKey(experiment)
        with store.SessionStore(experiment.responses, experiment) as opened:
            for expected in (1, 2, 3):
                condition, session_id = opened.assign("author")
                assert condition == expected
                opened.save(listening_folder.session(key, condition, session_id, "author"))
            assert opened.counts() == {1: (1, 1), 2: (1, 1), 3: (1, 1)}

    def test_who_left_does_not_use_up_a_condition(self, tmp_path):
        experiment = listening_folder.make(tmp_path)
        with store.SessionStore(experiment.responses, experiment) as opened:
            long_ago = time.time() - 3 * 3600
            assert opened.assign("", now=long_ago)[0] == 1
            assert [opened.assign("")[0] for _ in range(4)] == [2, 1, 2, 1]

    def test_the_store_takes_only_so_many(self, tmp_path):
        experiment = listening_folder.make(tmp_path)
        key = responses.AnswerKey(experiment)
        with store.SessionStore(experiment.responses, experiment, max_sessions=2) as opened:
            for name in ("a", "b"):
                opened.save(listening_folder.session(key, session_id=name, num_trials=2))
            with pytest.raises(store.FullError):
                opened.save(listening_folder.session(key, session_id="c"))
            assert opened.save(listening_folder.session(key, session_id="a"))  # Goes on.

    def test_a_store_of_another_design_is_refused(self, tmp_path):
        experiment = listening_folder.make(tmp_path)
        store.SessionStore(experiment.responses, experiment).close()
        design = json.loads((tmp_path / "private" / "design.json").read_text())
        listening_folder.write_json(
            tmp_path / "private" / "design.json", design | {"design_sha256": "cd" * 32}
        )
        with pytest.raises(ValueError, match="another experiment or design.*move"):
            store.SessionStore(experiment.responses, sessions.load_experiment(tmp_path))


class TestFiles:
    def test_the_page_and_its_sounds_are_served(self, served):
        port = served[0]
        for path in ("/", "/index.html", "/?participant=p"):
            status, headers, body = call(port, "GET", path)
            assert (status, body.decode()) == (200, listening_folder.PAGE)
            assert headers["content-type"].startswith("text/html")
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'self'" in headers["content-security-policy"]
        status, headers, body = call(port, "GET", "/audio/a1.wav")
        assert (status, body) == (200, b"RIFF")
        assert headers["content-type"] in ("audio/wav", "audio/x-wav")
        status, headers, body = call(port, "HEAD", "/audio/a1.wav")
        assert (status, body, headers["content-length"]) == (200, b"", "4")

    @pytest.mark.parametrize(
        "path",
        [
            "/../private/answer_key.csv",
            "/%2e%2e/private/answer_key.csv",
            "/..%2fprivate%2fanswer_key.csv",
            "/audio/../../private/answer_key.csv",
            "/audio/%2e%2e/%2e%2e/private/answer_key.csv",
            "/..%5cprivate%5canswer_key.csv",
            "/private/answer_key.csv",
            "/private/manifest.csv",
            "/private/design.json",
            "//private/answer_key.csv",
            "/%2fetc/passwd",
            "//etc/passwd",
            "/responses/sessions.sqlite",
            "/../responses/sessions.sqlite",
            "/link/answer_key.csv",
            "/key.csv",
            "/audio",
            "/audio/",
            "/audio/.",
            "/..",
            "/%00",
            "/" + "a" * 5000,
            "/api",
            "/api/",
            "/api/sessions",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_nothing_else_is(self, served, path, method):
        port, folder, _ = served
        with contextlib.suppress(FileExistsError):
            os.symlink(folder / "private", folder / "public" / "link")
            os.symlink(folder / "private" / "answer_key.csv", folder / "public" / "key.csv")
        status, _, body = call(port, method, path)
        assert status in (400, 404)
        assert b"secret" not in body and b"a1.wav" not in body

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH"])
    def test_nothing_can_be_changed(self, served, method):
        for path in ("/index.html", "/api/condition", "/new.html"):
            assert call(served[0], method, path, b"{}")[0] in (404, 405)
        assert call(served[0], "GET", "/api/session")[0] in (404, 405)

    @pytest.mark.parametrize("name", ["manifest.csv", "answer_key.csv", "private/x.txt"])
    def test_an_experiment_that_would_give_its_key_away_is_not_served(self, tmp_path, name):
        listening_folder.make(tmp_path)
        path = tmp_path / "public" / "audio" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("secret")
        output = self._refused(f"--experiment={tmp_path}")
        assert "must not see" in output

    def test_what_is_not_an_experiment_is_refused(self, tmp_path):
        assert "design.json is not there" in self._refused(f"--experiment={tmp_path}")

    def test_a_port_in_use_is_named(self, served):
        port, folder, _ = served
        output = self._refused(f"--experiment={folder}", f"--port={port}")
        assert f"cannot listen on 127.0.0.1, port {port}" in output

    def _refused(self, *flags):
        process = subprocess.run(
            [sys.executable, "-m", "experiments.serve_listening_test", *flags],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert process.returncode != 0 and "Traceback" not in process.stderr
        return process.stdout + process.stderr

    def test_it_ends_when_told_and_says_what_it_has(self, tmp_path):
        key = responses.AnswerKey(listening_folder.make(tmp_path))
        port = free_port()
        process = start(tmp_path, port)
        assert post(port, listening_folder.session(key, 2))[0] == 200
        code, output = stop(process)
        assert code == 0
        assert "Condition 2: 1 complete of 1 begun" in output


@contextlib.contextmanager
def serving(app, **guarded):
    """Serves an application in this process; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=guards.make_protocol(**guarded), log_level="error")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(20)
    listener.close()


def closed(connection, within_s):
    connection.settimeout(within_s)
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


class TestHostileClients:
    @pytest.fixture
    def opened(self, tmp_path):
        experiment = listening_folder.make(tmp_path)
        with store.SessionStore(experiment.responses, experiment, max_sessions=3) as opened:
            yield opened, responses.AnswerKey(experiment)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"stimulus_id": "nowhere"}, "condition 1 has no stimulus 'nowhere'"),
            ({"stimulus_id": "s02003"}, "condition 1 has no stimulus 's02003'"),
            ({"stimulus_id": "s01002"}, "stimulus 's01002' is answered twice"),
            ({"response": "maybe"}, "response 'maybe' was not offered"),
            ({"response": 4}, "response 4 was not offered"),
            ({"response": -1}, "response -1 was not offered"),
            ({"response": "go", "choice_order": ["left", "7"]}, "response 'go' was not offered"),
            ({"response": "x", "choice_order": ["x", "go"]}, "response 'x' was not offered"),
            ({"response": int("9" * 400)}, "response must be a word"),
            ({"rt_ms": int("9" * 400)}, "rt_ms must be a number"),
            ({"rt_ms": -5}, "rt_ms must be a number of ms, at least 0"),
            ({"trial": int("9" * 400)}, "trial must be a whole number"),
        ],
    )
    def test_answers_that_cannot_be_are_refused_when_they_come(self, served, change, message):
        port, _, key = served
        session = listening_folder.session(key, session_id="hostile")
        session["trials"][3] |= change
        status, reply = post(port, session)
        assert status == 400 and reply["error"].startswith("trials[3]: ")
        assert message in reply["error"]

    def test_replies_show_no_path(self, served):
        port, folder, key = served
        session = listening_folder.session(key, session_id="other", design_sha256="x")
        status, reply = post(port, session)
        assert status == 409 and "another design" in reply["error"]
        assert str(folder) not in reply["error"] and "/" not in reply["error"]

    def test_a_finished_session_is_only_added_to(self, opened):
        opened, key = opened
        whole = listening_folder.session(key)
        assert opened.save(whole) and opened.save(whole)
        other = listening_folder.session(key)
        word = other["trials"][2]["response"]
        other["trials"][2]["response"] = "go" if word != "go" else "left"
        undone = listening_folder.session(key) | {"complete": False}
        fewer = listening_folder.session(key, num_trials=3)
        for change in (other, undone | {"trials": [*whole["trials"], other["trials"][2]]}):
            with pytest.raises(store.ConflictError, match="other answers already"):
                opened.save(change)
        assert not opened.save(fewer) and not opened.save(undone)
        assert json.loads(_bodies(opened.folder.parent)[0][1]) == whole
        assert opened.save(whole | {"comments": "thanks"})
        assert opened.counts()[1] == (1, 1)

    def test_a_flood_of_nameless_requests_stops_nobody_who_had_begun(self, opened):
        opened, key = opened
        condition, session_id = opened.assign("")
        named = opened.assign("anna")
        for _ in range(60):
            opened.assign("")
        (rows,) = opened._database.execute("SELECT COUNT(*) FROM sessions").fetchone()
        assert rows <= 3 + 2
        for i in range(3):  # Invented sessions fill the store.
            opened.save(listening_folder.session(key, session_id=f"x{i}", num_trials=1))
        with pytest.raises(store.FullError):
            opened.save(listening_folder.session(key, session_id="x3", num_trials=1))
        assert opened.save(listening_folder.session(key, named[0], named[1], "anna"))

    def test_a_second_server_leaves_the_first_ones_files(self, opened):
        opened, _ = opened
        young, old = opened.folder / ".a.json.x.tmp", opened.folder / ".b.json.x.tmp"
        for path in (young, old):
            path.write_text("half")
        os.utime(old, (0, 0))
        store.SessionStore(opened.folder, opened.experiment, max_sessions=3).close()
        assert young.exists() and not old.exists()

    def test_what_cannot_be_stored_is_told_in_one_line_that_says_why(
        self, opened, monkeypatch, caplog
    ):
        opened, key = opened

        def full(session):
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(opened, "save", full)
        with serving(server.make_app(key.experiment, opened)) as port:
            status, reply = post(port, listening_folder.session(key))
        assert (status, reply) == (503, {"error": "not stored: try again"})
        (record,) = caplog.records
        assert record.getMessage().endswith("could not be stored: database or disk is full")
        assert record.exc_info is None

    def test_slow_headers_meet_a_deadline_and_others_are_served(self, opened):
        opened, key = opened
        app = server.make_app(key.experiment, opened)
        with serving(app, headers_timeout_s=0.5) as port:
            silent = socket.create_connection(("127.0.0.1", port))
            slow = socket.create_connection(("127.0.0.1", port))
            slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            assert call(port, "GET", "/")[0] == 200
            slow.sendall(b"X-A: b\r\n")
            assert closed(slow, 3) and closed(silent, 3)
            again = socket.create_connection(("127.0.0.1", port))
            again.sendall(b"GET /audio/a1.wav HTTP/1.1\r\nHost: localhost\r\n\r\n")
            again.settimeout(3)
            assert again.recv(5000).startswith(b"HTTP/1.1 200")
            again.sendall(b"GET / HTTP/1.1\r\n")  # A second request, never ended.
            time.sleep(0.1)
            while not closed(again, 3):
                pass

    def test_one_host_has_so_many_connections(self, opened):
        opened, key = opened
        app = server.make_app(key.experiment, opened)
        with serving(app, connections_per_host=3) as port:
            held = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
            time.sleep(0.2)
            more = socket.create_connection(("127.0.0.1", port))
            assert closed(more, 3)
            held.pop().close()
            time.sleep(0.2)
            assert call(port, "GET", "/")[0] == 200

    @pytest.mark.parametrize(
        ("allowed", "host", "status"),
        [
            (("localhost",), "evil.example", 400),
            (("localhost",), "LOCALHOST:8000", 200),
            (("*.lab.example",), "a.lab.example", 200),
            (("*.lab.example",), "lab.example.evil", 400),
            (("::1",), "[::1]:8000", 200),
            (("localhost",), "", 400),
            (("*",), "anything", 200),
        ],
    )
    def test_a_foreign_host_name_is_told_what_allows_it(self, opened, allowed, host, status):
        opened, key = opened
        app = server.make_app(key.experiment, opened, allowed_hosts=allowed)
        with serving(app) as port:
            found, _, body = call(port, "GET", "/", headers={"Host": host})
        assert found == status
        if status == 400:
            assert "--allowed_hosts" in json.loads(body)["error"]


class TestWithdrawal:
    def test_a_session_is_deleted_and_does_not_come_back(self, served):
        port, folder, key = served
        session = listening_folder.session(key, session_id="leaves", participant="Zaphod")
        assert post(port, session)[0] == 200
        path = folder / "responses" / "leaves.json"
        assert path.exists() and b"Zaphod" in (folder / "responses" / store.DATABASE).read_bytes()
        body = json.dumps({"session_id": "leaves"}).encode()
        for _ in range(2):
            status, _, reply = call(port, "POST", "/api/withdraw", body)
            assert (status, json.loads(reply)) == (200, {"deleted": True})
        assert not path.exists()
        assert b"Zaphod" not in (folder / "responses" / store.DATABASE).read_bytes()
        status, reply = post(port, session)  # A request that was overtaken by the withdrawal.
        assert status == 409 and "withdrawn" in reply["error"]

    def test_whoever_runs_the_experiment_can_delete_too(self, served):
        port, folder, key = served
        session = listening_folder.session(key, session_id="asked", participant="Trillian")
        assert post(port, session)[0] == 200
        server.withdraw(folder, "asked")
        assert not (folder / "responses" / "asked.json").exists()
        for name in ("asked", "../x"):
            with pytest.raises(ValueError, match="session_id"):
                server.withdraw(folder, name)

    def test_a_file_that_another_process_is_writing_does_not_come_back(self, tmp_path, monkeypatch):
        experiment = listening_folder.make(tmp_path)
        session = listening_folder.session(responses.AnswerKey(experiment), session_id="leaves")
        write = storage.atomic_write
        with (
            store.SessionStore(experiment.responses, experiment) as server_store,
            store.SessionStore(experiment.responses, experiment) as other,
        ):
            withdrawal = threading.Thread(target=other.withdraw, args=("leaves",))

            def overtaken(path):
                withdrawal.start()
                withdrawal.join(0.3)
                return write(path)

            monkeypatch.setattr(storage, "atomic_write", overtaken)
            server_store.save(session)
            withdrawal.join()
        assert _bodies(tmp_path) == []
        assert not (experiment.responses / "leaves.json").exists()

    @pytest.mark.parametrize("body", [b"{}", b'{"session_id": "../x"}', b"[]", b"x"])
    def test_what_names_no_session_is_refused(self, served, body):
        assert call(served[0], "POST", "/api/withdraw", body)[0] == 400

    def test_foreign_forms_cannot_withdraw(self, served):
        headers = {"Content-Type": "text/plain"}
        body = b'{"session_id": "a"}'
        assert call(served[0], "POST", "/api/withdraw", body, headers)[0] == 415
