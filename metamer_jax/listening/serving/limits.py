"""What a server takes at most; without the server, so that commands can tell it in their help."""

MAX_BODY_BYTES = 1 << 20  # A session of 400 trials has about 100 kB.
MAX_SESSIONS = 10_000
CONNECTIONS_PER_HOST = 512
