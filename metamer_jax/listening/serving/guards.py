"""What keeps a server up against slow, many and foreign clients."""

import asyncio
import collections
import logging
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from metamer_jax.listening.serving import limits

HEADERS_TIMEOUT_S = 15.0  # From the first byte that may belong to a request to its last header.

_DESCRIPTORS = 65_536
_log = logging.getLogger(__name__)


def make_protocol(
    *,
    headers_timeout_s: float = HEADERS_TIMEOUT_S,
    connections_per_host: int = limits.CONNECTIONS_PER_HOST,
) -> type[H11Protocol]:
    """Returns uvicorn's HTTP protocol with a deadline for headers and a cap for each host.

    uvicorn has neither: a client that sends a header a minute keeps its connection for ever, and
    a thousand of them take every descriptor that a process has.

    Args:
        headers_timeout_s: How long a request's headers may take.
        connections_per_host: Open connections of one address; more are closed at once.

    Returns:
        A class for `uvicorn.Config(http=...)`; its instances count connections together.
    """
    open_connections: collections.Counter[str] = collections.Counter()

    class Guarded(H11Protocol):
        _host = ""
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._host = self.client[0] if self.client else ""
            open_connections[self._host] += 1
            if open_connections[self._host] > connections_per_host:
                _log.warning("more than %d connections of one host", connections_per_host)
                transport.abort()
            else:
                self._wait_for_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            open_connections[self._host] -= 1
            if not open_connections[self._host]:
                del open_connections[self._host]
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()  # A request has come whole; its body has its own deadline.
            elif self._deadline is None:
                self._wait_for_headers()

        def _wait_for_headers(self) -> None:
            self._deadline = self.loop.call_later(headers_timeout_s, self._too_slow)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_slow(self) -> None:
            self._deadline = None
            # An answered request's connection is idle: uvicorn's own timer closes it.
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()

    return Guarded


def raise_descriptor_limit() -> None:
    """Lets the process have as many files and connections open as its user may."""
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class KnownHosts:
    """Refuses requests under a name that the server was not told to answer to.

    A page elsewhere whose name is made to point here (DNS rebinding) is refused by it.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str]):
        """Wraps an application.

        Args:
            app: What is to be called.
            allowed_hosts: Names without port, "*.example.org" for all below one, "*" for any.
        """
        self._app = app
        self._allowed = tuple(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http" or self._knows(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
            return
        host = Headers(scope=scope).get("host", "")[:100]
        _log.warning(
            "refused a request to the host name %r: start the server with --allowed_hosts=%s if it "
            "is a name of yours, such as a tunnel's or a proxy's",
            host,
            self._name(host) or "NAME",
        )
        reply = {
            "error": f"This server does not answer to the name {host!r}. Whoever runs it can allow "
            f"it with --allowed_hosts."
        }
        await JSONResponse(reply, 400)(scope, receive, send)

    def _knows(self, header: str) -> bool:
        name = self._name(header)
        return any(
            allowed == "*"
            or name == allowed
            or (allowed.startswith("*.") and name.endswith(allowed[1:]))
            for allowed in self._allowed
        )

    @staticmethod
    def _name(header: str) -> str:
        """Returns a Host header's name without its port; an IPv6 address loses its brackets."""
        header = header.strip().lower()
        if header.startswith("["):
            return header[1:].partition("]")[0]
        return header.partition(":")[0]
