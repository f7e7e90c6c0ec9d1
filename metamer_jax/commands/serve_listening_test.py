"""Serves a listening experiment and keeps the sessions: responses/ in the experiment's folder.

metamer-jax listen serve --experiment=runs/mine/listening
"""

from collections.abc import Sequence

from absl import flags

from metamer_jax.listening.serving import limits

_EXPERIMENT = flags.DEFINE_string(
    "experiment", None, "Folder that metamer-jax listen build wrote.", required=True
)
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Address to listen on; 0.0.0.0: all, so that other machines reach it."
)
_PORT = flags.DEFINE_integer("port", 8000, "Port; 0: a free one.", 0, 65535)
_ALLOWED_HOSTS = flags.DEFINE_list(
    "allowed_hosts", None, "Names that browsers call the server by, e.g. behind a proxy."
)
_MAX_BODY = flags.DEFINE_integer(
    "max_body_bytes", limits.MAX_BODY_BYTES, "Longest session that is taken.", 1000
)
_CONNECTIONS = flags.DEFINE_integer(
    "connections_per_host",
    limits.CONNECTIONS_PER_HOST,
    "Connections taken of one address at a time; behind a proxy all come from the proxy's.",
    1,
)
_WITHDRAW = flags.DEFINE_string(
    "withdraw",
    None,
    "Deletes the session of this number, which a listener asked for, and ends; a server may be "
    "running.",
)
_MAX_SESSIONS = flags.DEFINE_integer(
    "max_sessions", limits.MAX_SESSIONS, "Sessions taken at most.", 1
)


def main(argv: Sequence[str]) -> None:
    from metamer_jax.listening.serving import server  # Needs the extra `listening`.

    if _WITHDRAW.value is not None:
        server.withdraw(_EXPERIMENT.value, _WITHDRAW.value)
        print(f"Session {_WITHDRAW.value} was deleted.")
        return
    server.serve(
        _EXPERIMENT.value,
        host=_HOST.value,
        port=_PORT.value,
        allowed_hosts=_ALLOWED_HOSTS.value,
        max_body_bytes=_MAX_BODY.value,
        max_sessions=_MAX_SESSIONS.value,
        connections_per_host=_CONNECTIONS.value,
    )
