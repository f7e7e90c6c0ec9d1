"""A run that is told to end, by SIGTERM or Ctrl-C, saves its state first."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

# Exit status of a run that was stopped after it had saved its state: 128 + 15, what a shell
# and a scheduler report for a process that SIGTERM ended. The same command continues the run.
EXIT_STOPPED = 143

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Lets a loop finish its step and save when the process is told to end (SIGTERM, Ctrl-C).

    A second time ends the process as it would without this. Off the main thread, where Python
    handles no signals, nothing changes.

        with runs.stop_on_sigterm() as stop_requested:
            for chunk in chunks:
                ...
                if stop_requested():
                    save()
                    sys.exit(runs.EXIT_STOPPED)

    Yields:
        A function that says whether it was told.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(_signum: int, _frame: object) -> None:
        stopped.set()
        restore()
        os.write(2, b"\nEnding: the state is saved first. Once more to end at once.\n")

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield stopped.is_set
    finally:
        restore()
