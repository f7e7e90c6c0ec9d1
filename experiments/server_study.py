"""What the listening server survives: crowds, kills, slow and hostile clients, a full disk.

  python -m experiments.server_study

Starts `metamer-jax listen serve` as a process of its own on a made-up experiment, and lets a crowd
of listeners take it, who send and send again as the page does, while it is attacked. Prints a table
and writes it as JSON. "lost" counts answers that the server acknowledged and that afterwards are
not in its database and in the session's file; "locked out" listeners whose session did not get
through, or was refused; "wrong" replies to hostile requests that are none of 4xx.
"""

import concurrent.futures
import contextlib
import dataclasses
import http.client
import itertools
import json
import math
import pathlib
import random
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags

from experiments import disks
from metamer_jax import storage
from metamer_jax.commands import drivers
from metamer_jax.listening.serving import guards, sessions, store

_LISTENERS = flags.DEFINE_integer("listeners", 40, "Listeners of a crowd.", 1)
_TRIALS = flags.DEFINE_integer("trials", 40, "Answers of each.", 2)
_KILLS = flags.DEFINE_integer("kills", 20, "SIGKILLs of the server.", 1)
_SLOW = flags.DEFINE_integer("slow", 2000, "Slow connections, from four addresses.", 4)
_ATTACKS = flags.DEFINE_list("attacks", None, "Which attacks; unset: all.")
_OUT = flags.DEFINE_string("out", "server_study.json", "The table as JSON.")

_WORDS = ("down", "go", "left", "7")
_POST_TRIES_S = (0.0, 1.0, 4.0)  # The page's.
_LONGEST_S = 240.0
_CONDITIONS = 10
_DESIGN: dict[str, Any] = {"experiment_id": "study", "design_sha256": "ab" * 32}


def _write_experiment(folder: pathlib.Path) -> sessions.Experiment:
    storage.write_csv(
        folder / "private" / "manifest.csv",
        [
            {"condition": condition, "stimulus_id": f"s{condition:02d}{trial:03d}"}
            for condition in range(1, _CONDITIONS + 1)
            for trial in range(_TRIALS.value)
        ],
    )
    design = {**_DESIGN, "conditions": _CONDITIONS, "words": _WORDS}
    storage.write_json(folder / "private" / "design.json", design)
    storage.write_text(folder / "public" / "index.html", "<!doctype html><title>page</title>")
    return sessions.load_experiment(folder)


class Server:
    """The server as a process; started again on the same port after a kill."""

    def __init__(self, folder: pathlib.Path, log: pathlib.Path):
        self._folder, self._log = folder, log
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "metamer_jax.commands", "listen", "serve"]
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, f"--experiment={self._folder}", f"--port={self.port}"],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            if self.process.poll() is not None:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait()


def _call(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


class Crowd:
    """Listeners who take the experiment at once, and what they were told is stored."""

    def __init__(self, servers: Sequence[Server]):
        self._servers = servers
        self.acknowledged: dict[tuple[str, str], Any] = {}  # By session and stimulus.
        self.news = threading.Semaphore(0)  # A post was acknowledged.
        self.failed = threading.Semaphore(0)  # The server said 5xx.
        self.sent: set[tuple[str, str]] = set()
        self.states: dict[str, dict[str, Any]] = {}  # The last that was acknowledged.
        self.locked_out: set[int] = set()
        self._until = math.inf  # A moment is set once the attack is over.
        self._threads = [
            threading.Thread(target=self._listen, args=(i,), daemon=True)
            for i in range(_LISTENERS.value)
        ]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._until = time.monotonic() + _LONGEST_S
        for thread in self._threads:
            thread.join()

    def is_there(self) -> bool:
        """Says whether anybody still listens."""
        return any(thread.is_alive() for thread in self._threads)

    def _listen(self, number: int) -> None:
        rng = random.Random(number)
        given = {"condition": rng.randint(1, _CONDITIONS), "session_id": secrets.token_hex(16)}
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            path = f"/api/condition?participant=p{number}"
            status, reply = _call(rng.choice(self._servers).port, "GET", path)
            given = reply if status == 200 else given  # Else the page goes on alone.
        session: dict[str, Any] = {
            "schema_version": 1,
            **_DESIGN,
            "participant": f"p{number}",
            **given,
        }
        stimuli = [f"s{given['condition']:02d}{trial:03d}" for trial in range(_TRIALS.value)]
        rng.shuffle(stimuli)
        trials: list[dict[str, Any]] = []
        with concurrent.futures.ThreadPoolExecutor(2) as background:
            for place, stimulus in enumerate(stimuli, start=1):
                answer = {"response": rng.choice(_WORDS), "rt_ms": rng.randint(200, 2000)}
                trials.append({"trial": place, "stimulus_id": stimulus, **answer})
                self.sent.add((session["session_id"], stimulus))
                state = {**session, "trials": list(trials), "complete": False}
                background.submit(self._post, state, number, rng)
                time.sleep(rng.uniform(0.02, 0.2))
        whole = {**session, "trials": trials, "complete": True}
        while not self._post(whole, number, rng):  # The page offers to send again.
            if time.monotonic() > self._until:
                self.locked_out.add(number)
                return

    def _post(self, session: dict[str, Any], number: int, rng: random.Random) -> bool:
        body = json.dumps(session).encode()
        for wait_s in _POST_TRIES_S:
            time.sleep(wait_s)
            try:
                port = rng.choice(self._servers).port
                status, reply = _call(port, "POST", "/api/session", body)
            except (OSError, http.client.HTTPException, ValueError):
                continue
            if status == 200:
                for trial in session["trials"]:
                    key = session["session_id"], trial["stimulus_id"]
                    self.acknowledged[key] = trial["response"], trial["rt_ms"]
                self.states[session["session_id"]] = session
                self.news.release()
                return True
            if status < 500:
                print(f"a listener was refused: {status} {reply}")
                self.locked_out.add(number)
                return False
            self.failed.release()
        return False


@dataclasses.dataclass
class Row:
    """What came of an attack."""

    attack: str
    tries: int = 0
    sent: int = 0
    acknowledged: int = 0
    lost: int = 0
    locked_out: int = 0
    wrong: int = 0
    tracebacks: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)


# The attacks, each beside a crowd: they return how often they struck.

Attack = Callable[[Crowd, list[Server], Row, pathlib.Path], int]


def _none(crowd: Crowd, servers: list[Server], row: Row, folder: pathlib.Path) -> int:
    """A crowd alone"""
    return 1


def _kill(crowd: Crowd, servers: list[Server], row: Row, folder: pathlib.Path) -> int:
    """SIGKILL of the server, within requests"""
    rng, kills = random.Random(1), 0
    while row.tries + kills < _KILLS.value and crowd.is_there():
        for _ in range(rng.randint(5, 25)):
            crowd.news.acquire(timeout=5.0)
        time.sleep(rng.uniform(0.0, 0.03))
        servers[-1].stop(signal.SIGKILL)
        kills += 1
        servers[-1].start()
    return kills


def _slow(begin: bytes) -> Attack:
    """Connections that send a byte a second, and come again where they are closed"""

    def attack(crowd: Crowd, servers: list[Server], row: Row, folder: pathlib.Path) -> int:
        hosts, opened, tries = itertools.cycle(range(2, 6)), [], 0
        while crowd.is_there():
            while len(opened) < _SLOW.value and crowd.is_there():
                source = (f"127.0.0.{next(hosts)}", 0)
                address = ("127.0.0.1", servers[0].port)
                try:
                    connection = socket.create_connection(address, 5.0, source_address=source)
                    connection.sendall(begin)
                except OSError:
                    continue
                opened.append(connection)
                tries += 1
            time.sleep(1.0)
            opened = [connection for connection in opened if _drips(connection)]
        for connection in opened:
            connection.close()
        return tries

    return attack


def _drips(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"1")
        return True
    except OSError:
        connection.close()
        return False


_HEAD = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


_GOOD: dict[str, Any] = {
    "schema_version": 1,
    **_DESIGN,
    "session_id": "hostile",
    "participant": "x",
    "condition": 1,
    "trials": [{"stimulus_id": "s01000", "response": "go", "rt_ms": 5}],
    "complete": False,
}


def _hostile(crowd: Crowd, servers: list[Server], row: Row, folder: pathlib.Path) -> int:
    """Requests that no page sends, each of which must be refused"""
    requests, tries = list(_hostile_requests(crowd)), 0
    if _raw(servers[0].port, _post_of(json.dumps(_GOOD | {"session_id": "good"}).encode())) != 200:
        raise RuntimeError("what each request changes must be taken as it is")
    for request in itertools.cycle(requests):
        if tries >= len(requests) and not crowd.is_there():
            return tries
        status = _raw(servers[0].port, request)
        tries += 1
        if status is None and tries <= len(requests):
            row.notes.append(f"hung up on {request[:150]!r}")
        elif status is not None and not 400 <= status < 500:
            row.wrong += 1
            row.notes.append(f"{status} to {request[:300]!r}")
    return tries


def _hostile_requests(crowd: Crowd) -> Iterator[bytes]:
    while not crowd.states:
        time.sleep(0.01)
    theirs = next(iter(crowd.states.values()))
    first = theirs["trials"][0]
    other = _WORDS[_WORDS.index(first["response"]) - 1]
    for change in (  # Replays with another answer, under another name, in another condition.
        {"trials": [{**first, "response": other}]},
        {"participant": "x"},
        {"condition": theirs["condition"] % _CONDITIONS + 1, "trials": []},
    ):
        yield _post_of(json.dumps(theirs | change).encode())
    for stimulus in ("nowhere", "s02000"):
        yield _post_of(json.dumps(_GOOD | {"trials": [{"stimulus_id": stimulus}]}).encode())
    for name, value in itertools.product(_GOOD, ODD_VALUES):
        if (name, value) not in _MAY_BE:
            yield _post_of(_with(_GOOD, name, value))
    for name, value in itertools.product(("stimulus_id", "response", "rt_ms"), ODD_VALUES):
        if (name, value) not in _MAY_BE:
            trial = _with(_GOOD["trials"][0], name, value).decode()
            yield _post_of(_with(_GOOD, "trials", f"[{trial}]"))
    for value in ("[" * 900 + "]" * 900, '"\\ud800"'):  # In a field that is not looked at.
        yield _post_of(_with(_GOOD, "headphone", value))
    for body in (b"", b"{", b"null", b"\xff", b"[" * 500_000, b'{"a":' * 150_000, b"1" * 900_000):
        yield _post_of(body)
    yield _post_of(b" " * (2 << 20))
    yield _HEAD + b"Content-Length: 999999999999\r\n\r\n"
    yield _HEAD + b"Content-Length: -5\r\n\r\n"
    yield _HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345"
    yield _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    yield _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b" " * 65536 + b"\r\n"
    for path in (
        *("/../private/manifest.csv", "/%2e%2e/private/design.json", "//etc/passwd", "/%00"),
        *("/..%5cprivate%5cdesign.json", "/responses/sessions.sqlite", "/" + "a" * 5000, "/%ff"),
        *("/api/condition?participant=" + "x" * 300, "/api/condition?participant=%00"),
    ):
        yield f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    yield b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    yield b"GET / HTTP/1.1\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"
    yield b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n"
    yield b"\xff\xfe GET\r\n\r\n"
    yield b"POST /api/withdraw HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


# As JSON: where a number, a text or a list is meant, none of these is.
ODD_VALUES = (
    *("9" * 400, "-" + "9" * 400, "1" * 5000, "1e999", "-1e999", "NaN", "Infinity", "-5", "2.5"),
    *("true", "null", '"\u0663"', '"9"', "{}", "[[]]", "[" * 900 + "]" * 900, '"\\ud800"', "1"),
)
_MAY_BE = {
    *(("participant", value) for value in ("null", '"\u0663"', '"9"')),
    *(("complete", value) for value in ("null", "true")),
    *(("response", value) for value in ("null", "1")),
    *(("rt_ms", value) for value in ("null", "1", "2.5")),
    *(("session_id", '"9"'), ("condition", "1"), ("schema_version", "1")),
}


def _with(good: dict[str, Any], name: str, value: str) -> bytes:
    """JSON of an object in which one value is another, as it is written."""
    parts = {key: json.dumps(each) for key, each in good.items()} | {name: value}
    return ("{" + ", ".join(f'"{key}": {each}' for key, each in parts.items()) + "}").encode()


def _post_of(body: bytes) -> bytes:
    return _HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _raw(port: int, request: bytes) -> int | None:
    """Sends bytes and returns the reply's status; None where it only hangs up."""
    try:
        with socket.create_connection(("127.0.0.1", port), 30.0) as connection:
            with contextlib.suppress(OSError):  # It may reply and hang up before all is there.
                connection.sendall(request)
            line = connection.recv(4096).split(b"\r\n")[0].split()
    except OSError:
        return None
    return int(line[1]) if len(line) > 1 else None


def _full(grow: Callable[[int, Server, pathlib.Path], None]) -> Attack:
    """No more room, five times; a little more each time that listeners were told"""

    def attack(crowd: Crowd, servers: list[Server], row: Row, folder: pathlib.Path) -> int:
        tries = 0
        for tries in range(5):
            grow(tries, servers[0], folder)
            if not all(crowd.failed.acquire(timeout=20.0) for _ in range(_LISTENERS.value // 2)):
                row.notes.append(f"room {tries} was enough")
                break
        grow(5, servers[0], folder)
        return tries + 1

    return attack


def _grow_disk(times: int, server: Server, folder: pathlib.Path) -> None:
    disks.remount(folder.parent, f"size={200 + 30 * times if times < 5 else 65536}k")


def _grow_limit(times: int, server: Server, folder: pathlib.Path) -> None:
    size = 60_000 + 30_000 * times if times < 5 else resource.RLIM_INFINITY
    limits = (size, resource.RLIM_INFINITY)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)


def _second_server(crowd: Crowd, servers: list[Server], row: Row, folder: pathlib.Path) -> int:
    """A second server on the store, for half of the requests, killed and started again"""
    kills = 0
    while kills < _KILLS.value // 2 and crowd.is_there():
        time.sleep(0.5)
        servers[1].stop(signal.SIGKILL)
        servers[1].start()
        kills += 1
    return kills


_BEGUN = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "
ATTACKS: dict[str, Attack] = {
    "crowd": _none,
    "SIGKILL": _kill,
    "slow headers": _slow(_BEGUN),
    "slow bodies": _slow(_HEAD + b"Content-Length: 100000\r\n\r\n"),
    "hostile requests": _hostile,
    "full disk": _full(_grow_disk),
    "limit on file size": _full(_grow_limit),
    "two servers": _second_server,
}


def _study(name: str, scratch: pathlib.Path) -> Row:
    """Lets a crowd take a new experiment under an attack, and compares what is stored."""
    row, log = Row(name), scratch / "log"
    with disks.mounted("size=64m") as disk, contextlib.ExitStack() as stack:
        if disk is None and name == "full disk":
            row.notes.append("not tried: nothing can be mounted here")
            return row
        folder = (disk if disk is not None and name == "full disk" else scratch) / "experiment"
        experiment = _write_experiment(folder)
        servers = [Server(folder, log) for _ in range(1 + (name == "two servers"))]
        for server in servers:
            stack.callback(server.stop)
        crowds: list[Crowd] = []
        while not row.tries or (name == "SIGKILL" and row.tries < _KILLS.value):
            with Crowd(servers) as crowd:
                crowds.append(crowd)
                row.tries += ATTACKS[name](crowd, servers, row, folder)
        for server in servers:
            server.stop()
        stored = dict(store.read_bodies(folder / "responses" / store.DATABASE))
        for crowd in crowds:
            _add(row, crowd, experiment, stored)
    row.tracebacks = log.read_text().count("Traceback")
    for line in sorted({line for line in log.read_text().splitlines() if "not be stored" in line}):
        row.notes.append(line)
    return row


def _add(row: Row, crowd: Crowd, experiment: sessions.Experiment, stored: dict[str, str]) -> None:
    """Adds what a crowd sent, and what of it is neither in the database nor in its file."""
    row.sent += len(crowd.sent)
    row.acknowledged += len(crowd.acknowledged)
    row.locked_out += len(crowd.locked_out)
    for session_id, own in itertools.groupby(sorted(crowd.acknowledged), lambda key: key[0]):
        path = experiment.responses / f"{session_id}.json"
        kept = [stored.get(session_id), path.read_text("utf-8") if path.exists() else None]
        answers = [
            {t["stimulus_id"]: (t["response"], t["rt_ms"]) for t in json.loads(body)["trials"]}
            if body
            else {}
            for body in kept
        ]
        for key in own:
            row.lost += any(a.get(key[1]) != crowd.acknowledged[key] for a in answers)


def main(argv: Sequence[str]) -> None:
    chosen = _ATTACKS.value or list(ATTACKS)
    if unknown := sorted(set(chosen) - set(ATTACKS)):
        raise ValueError(f"--attacks must be of {list(ATTACKS)}, got {unknown}")
    guards.raise_descriptor_limit()
    rows = []
    for name in chosen:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(_study(name, pathlib.Path(scratch)))
        print(rows[-1], flush=True)
    storage.write_json(_OUT.value, [dataclasses.asdict(row) for row in rows])
    fields = [field.name for field in dataclasses.fields(Row) if field.name != "notes"]
    head = [name.replace("_", " ") for name in fields]
    print("\n" + drivers.markdown(head, [[getattr(row, n) for n in fields] for row in rows]))
    if any(row.lost or row.locked_out or row.wrong or row.tracebacks for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    drivers.run(main)
