"""A run that is told to end saves its state first."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

# Exit status of a run that SIGTERM stopped after it had saved its state: 128 + 15, what a shell
# and a scheduler report for a process that SIGTERM ended. The same command continues the run.
EXIT_STOPPED = 143


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Lets a loop finish its step and save when the process is told to end (SIGTERM).

    A second SIGTERM ends the process as it would without this. Off the main thread, where Python
    handles no signals, nothing changes.

        with runs.stop_on_sigterm() as stop_requested:
            for chunk in chunks:
                ...
                if stop_requested():
                    save()
                    sys.exit(runs.EXIT_STOPPED)

    Yields:
        A function that says whether SIGTERM has come.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set
        return
    before = signal.getsignal(signal.SIGTERM)
    before = signal.SIG_DFL if before is None else before

    def handle(_signum: int, _frame: object) -> None:
        stopped.set()
        signal.signal(signal.SIGTERM, before)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield stopped.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
