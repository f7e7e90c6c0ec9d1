"""A small server for a listening experiment: the page out, conditions out, sessions in.

    GET  /                               public/, and nothing else of the experiment's folder
    GET  /api/condition?participant=P    {"condition": 3, "session_id": "..."}
    POST /api/session                    the whole session so far -> {"stored": true}
    POST /api/withdraw                   {"session_id": ...} -> {"deleted": true}

A request may be repeated: sessions are stored by id, the longest state wins. A reply of 4xx means
that the same request will be refused again, 5xx that it is worth repeating.
"""

import asyncio
import contextlib
import logging
import os
import pathlib
import socket
import sqlite3
from collections.abc import Collection
from typing import Any

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ModuleNotFoundError as error:
    raise ImportError(
        f"the listening server needs {error.name}: pip install 'metamer_jax[listening]'"
    ) from error

from metamer_jax.listening.serving import guards, limits, sessions
from metamer_jax.listening.serving.store import ConflictError, FullError, SessionStore

_SHORT_BODY_BYTES = 10_000
BODY_TIMEOUT_S = 60.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Files that tell answers: an experiment whose public/ holds one is not served.
KEY_FILES = ("manifest.csv", "answer_key.csv", "design.json")

_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-cache",  # Asked again each time: the page may have been built anew.
    b"cross-origin-resource-policy": b"same-origin",
    # The page asks nobody else for anything; the browser holds it to that.
    b"content-security-policy": b"default-src 'self' data: blob:; script-src 'self'; "
    b"style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
}
_log = logging.getLogger(__name__)


def make_app(
    experiment: sessions.Experiment,
    store: SessionStore,
    *,
    allowed_hosts: Collection[str] = LOOPBACK,
    max_body_bytes: int = limits.MAX_BODY_BYTES,
) -> Starlette:
    """Returns the server as an ASGI application, for `serve` or a server of one's own.

    Args:
        experiment: What to serve.
        store: Where sessions go.
        allowed_hosts: Names by which browsers may call the server, or "*". A web page elsewhere
            whose name is made to point here (DNS rebinding) is refused by it.
        max_body_bytes: Longest session that is read.

    Raises:
        ValueError: public/ holds no page, or holds a file that tells the answers; or
            private/manifest.csv is not there.
    """
    _check_public(experiment.public)
    presented = sessions.load_presented(experiment)

    async def condition(request: Request) -> Response:
        if request.method == "HEAD":  # Starlette routes it here, and nothing may be handed out.
            raise HTTPException(405, headers={"Allow": "GET"})
        participant = request.query_params.get("participant", "").strip()
        if len(participant) > sessions.PARTICIPANT_LENGTH or "\0" in participant:
            raise HTTPException(
                400, f"participant must have at most {sessions.PARTICIPANT_LENGTH} characters"
            )
        number, session_id = await _stored(store.assign, participant)
        return _not_kept({"condition": number, "session_id": session_id})

    async def session(request: Request) -> Response:
        _require_json(request)
        body = await _body(request, max_body_bytes)
        try:
            found = sessions.check_session(sessions.parse_json(body), experiment)
            sessions.check_answers(found, experiment, presented)
        except sessions.SessionError as error:
            _log.warning("a session was refused: %s", error)
            status = 409 if isinstance(error, sessions.OtherDesignError) else 400
            raise HTTPException(status, str(error)) from error
        await _stored(store.save, found)
        return _not_kept({"stored": True})

    async def withdraw(request: Request) -> Response:
        _require_json(request)
        try:
            found = sessions.parse_json(await _body(request, _SHORT_BODY_BYTES))
            session_id = sessions.check_withdrawal(found)
        except sessions.SessionError as error:
            raise HTTPException(400, str(error)) from error
        await _stored(store.withdraw, session_id)
        _log.warning("a listener withdrew: the session was deleted")
        return _not_kept({"deleted": True})

    return Starlette(
        routes=[
            Route("/api/condition", condition, methods=["GET"]),
            Route("/api/session", session, methods=["POST"]),
            Route("/api/withdraw", withdraw, methods=["POST"]),
            Mount("/", StaticFiles(directory=experiment.public, html=True)),
        ],
        middleware=[
            Middleware(_WithHeaders),
            Middleware(guards.KnownHosts, allowed_hosts=list(allowed_hosts)),
        ],
        # pyrefly: ignore[bad-assignment]: a handler is only given what it is registered for
        exception_handlers={HTTPException: _as_json},
    )


def _not_kept(content: dict[str, Any]) -> Response:
    """A reply that no browser or proxy may give another time."""
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


def _require_json(request: Request) -> None:
    # A form on a foreign page can post without asking, but not with this type.
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"content-type must be application/json, got {kind!r}")


def _check_public(public: pathlib.Path) -> None:
    if not (public / "index.html").is_file():
        raise ValueError(f"{public} must hold the page, index.html: build the experiment first")
    for _, folders, names in os.walk(public):
        for name in {"private", "responses"}.intersection(folders) | set(KEY_FILES) & set(names):
            raise ValueError(
                f"{public} holds {name}, which participants must not see: take it out of there"
            )


async def _as_json(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _stored(call, *arguments):
    """Calls the store on a thread; what it cannot do becomes a status."""
    try:
        return await run_in_threadpool(call, *arguments)
    except ConflictError as error:
        raise HTTPException(409, str(error)) from error
    except FullError as error:
        _log.error("%s", error)
        raise HTTPException(503, "no more sessions are taken") from error
    except (sqlite3.Error, OSError) as error:
        _log.error("a session could not be stored: %s", error)
        raise HTTPException(503, "not stored: try again") from error


async def _body(request: Request, most: int) -> bytes:
    """Reads a request's body, giving up once it is too long or takes too long."""

    async def read() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise HTTPException(413, f"a session may have at most {most} bytes")
        return bytes(body)

    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise HTTPException(413, f"a session may have at most {most} bytes, got {length}")
    try:
        return await asyncio.wait_for(read(), BODY_TIMEOUT_S)
    except TimeoutError as error:
        raise HTTPException(408, "the session did not arrive in time") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the session did not arrive") from error


class _WithHeaders:
    """Adds headers that a reply does not have."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message.get("headers", [])}
                added = [(k, v) for k, v in _HEADERS.items() if k not in present]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


def serve(
    folder: str | os.PathLike,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allowed_hosts: Collection[str] | None = None,
    max_body_bytes: int = limits.MAX_BODY_BYTES,
    max_sessions: int = limits.MAX_SESSIONS,
    connections_per_host: int = limits.CONNECTIONS_PER_HOST,
) -> None:
    """Serves an experiment until the process is told to end (Ctrl-C or SIGTERM).

    Args:
        folder: The experiment's: public/ is served, responses/ takes the sessions.
        host: Address to listen on; the default is reachable from this machine only.
        port: 0 takes a free one.
        allowed_hosts: Names that browsers call the server by. None: this machine's own on the
            loopback address, any name otherwise.
        max_body_bytes: Longest session that is read.
        max_sessions: Sessions stored at most, so that nobody fills the disk; those that have
            begun go on.
        connections_per_host: Connections of one address at a time; behind a proxy all come from
            the proxy's.

    Raises:
        ValueError: The folder does not hold an experiment that can be served.
        OSError: The address cannot be listened on.
    """
    experiment = sessions.load_experiment(folder)
    local = host in LOOPBACK
    if allowed_hosts is None:
        allowed_hosts = LOOPBACK if local else ("*",)
    with SessionStore(experiment.responses, experiment, max_sessions=max_sessions) as store:
        app = make_app(
            experiment, store, allowed_hosts=allowed_hosts, max_body_bytes=max_body_bytes
        )
        with _listen(host, port) as listener:
            shown = f"[{host}]" if ":" in host else host
            print(
                f"Experiment {experiment.experiment_id}: "
                f"http://{shown}:{listener.getsockname()[1]}/\n"
                f"Sessions: {experiment.responses.resolve()}   (Ctrl-C ends)",
                flush=True,
            )
            if not local:
                print(
                    f"Listening on {host}: whoever reaches this machine can take part and send "
                    f"sessions; outside a laboratory's network put an HTTPS proxy before it.",
                    flush=True,
                )
            guards.raise_descriptor_limit()
            server = uvicorn.Server(
                uvicorn.Config(
                    app,
                    http=guards.make_protocol(connections_per_host=connections_per_host),
                    log_level="warning",
                    access_log=False,  # Its lines would hold participants' names.
                    server_header=False,
                    ws="none",
                    timeout_graceful_shutdown=10,
                )
            )
            with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C, once everything has ended.
                server.run(sockets=[listener])
        for number, (complete, begun) in store.counts().items():
            print(f"Condition {number}: {complete} complete of {begun} begun")


def withdraw(folder: str | os.PathLike, session_id: str) -> None:
    """Deletes a session as its listener's page would.

    Args:
        folder: The experiment's.
        session_id: Number that the page told the listener.

    Raises:
        ValueError: The folder holds no experiment, or no such session.
    """
    experiment = sessions.load_experiment(folder)
    session_id = sessions.check_withdrawal({"session_id": session_id})
    with SessionStore(experiment.responses, experiment) as store:
        if not store.withdraw(session_id):
            raise ValueError(f"session_id: {experiment.responses} has no session {session_id!r}")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot listen on {host}, port {port}: {error.strerror or error}"
        ) from error
