"""Progress for people: a bar with the time left, or a few plain lines where a bar cannot be drawn.

In a terminal or a notebook that is tqdm's bar. Anywhere else (a log file, a batch job, CI) a bar
would leave thousands of carriage returns, so a line is written every so often instead.
"""

import contextlib
import contextvars
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, TextIO

_LINE_INTERVAL_S = 30.0


def bar(
    total: float | None,
    description: str,
    *,
    unit: str = "step",
    initial: float = 0,
    style: str | None = None,
    stream: TextIO | None = None,
    interval_s: float = _LINE_INTERVAL_S,
) -> "Progress":
    """Starts a progress bar.

        with progress.bar(1500, "conv2d conv1", unit="step") as shown:
            for ...:
                shown.update(50, median=0.12, worst=0.31)

    Args:
        total: What `update` counts up to; None where that is not known.
        description: What is being done; it begins the bar.
        unit: Of what is counted, in the singular.
        initial: How much of `total` an earlier run had done; it does not count for the time left.
        style: "bar", "lines" or "none"; None: as suits `stream`.
        stream: Where to; None: standard error.
        interval_s: Shortest time between two lines, the last one apart.

    Returns:
        A context that yields what counts: its `update(n, **values)`.

    Raises:
        ValueError: Another style.
    """
    if style not in (None, "bar", "lines", "none"):
        raise ValueError(f"style must be 'bar', 'lines', 'none' or None, got {style!r}")
    if style is None:
        style = "bar" if _can_draw(stream) else "lines"
    if style == "none":
        return Progress(None, description)
    if style == "bar":
        return _Bar(total, description, unit, initial, stream)
    return _Lines(total, description, unit, initial, stream, interval_s)


def track(
    items: Iterable[Any], description: str, *, unit: str = "item", **options: Any
) -> Iterator[Any]:
    """Passes on `items` with a bar that counts them; `options` as of `bar`."""
    total = len(items) if isinstance(items, Sized) else len(items := list(items))
    with bar(total, description, unit=unit, **options) as shown:
        for item in items:
            yield item
            shown.update()


class _Whole:
    """How long parts take that bars show one after the other."""

    def __init__(self, costs: Mapping[str, float], clock: Callable[[], float] = time.monotonic):
        self._costs, self._clock = dict(costs), clock
        self._cost = self._spent_s = self._paid = 0.0  # The part's, and of the parts before it.
        self._later, self._first, self._since = 0.0, 0.0, clock()
        self._counts = False

    def begin(self, part: str, fraction: float) -> bool:
        """Says whether it is one of the parts; those before it that were not begun are done."""
        if part not in self._costs:
            return False
        names = list(self._costs)
        self._cost = self._costs[part]
        self._later = sum(self._costs[name] for name in names[names.index(part) + 1 :])
        self._first, self._since = fraction, self._clock()
        return True

    def seconds_left(self, fraction: float) -> float | None:
        """From what was spent for what costs so far; None before anything was done."""
        if not self._counts:  # The first update compiles, and would make everything look slow.
            self._counts, self._first, self._since = True, fraction, self._clock()
        spent, paid = self._so_far(fraction)
        left = self._cost * (1 - fraction) + self._later
        return spent / paid * left if paid > 0 and left > 0 else None

    def end(self, fraction: float) -> None:
        self._spent_s, self._paid = self._so_far(fraction)
        self._first, self._since = fraction, self._clock()

    def _so_far(self, fraction):
        spent = self._spent_s + self._clock() - self._since
        return spent, self._paid + self._cost * (fraction - self._first)


_WHOLE: contextvars.ContextVar[_Whole | None] = contextvars.ContextVar("whole", default=None)


@contextlib.contextmanager
def whole(costs: Mapping[str, float]) -> Iterator[None]:
    """Lets the bars within say how long all of them will take together, too.

    Within another `whole` it changes nothing.

    Args:
        costs: What each part costs by the description of its bar, and parts without a bar, in the
            order in which they come. The unit does not matter: what is left costs as much a unit
            as what is done.
    """
    token = None if _WHOLE.get() else _WHOLE.set(_Whole(costs))
    try:
        yield
    finally:
        if token is not None:
            _WHOLE.reset(token)


def _can_draw(stream: TextIO | None) -> bool:
    return (stream or sys.stderr).isatty() or (stream is None and _in_notebook())


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def _shown(values: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in values.items():
        try:
            found[name] = f"{value:.3g}" if not isinstance(value, (str, int)) else str(value)
        except (TypeError, ValueError):
            found[name] = str(value)
    return found


class Progress:
    """What `bar` returns, to be used in a `with` block; by itself it shows nothing."""

    def __init__(self, total: float | None, description: str, initial: float = 0):
        """Takes its part of the `whole` that it is in, if it is in one; arguments as of `bar`."""
        self._total, self._done = total, initial
        whole = _WHOLE.get()
        is_part = whole and total and whole.begin(description, initial / total)
        self._whole = whole if is_part else None

    def update(self, count: float = 1, **values: Any) -> None:
        """Counts `count` more as done; `values`, such as losses, are shown beside."""
        self._done += count

    def write(self, message: str) -> None:
        """Prints a line without disturbing the bar."""

    def close(self) -> None:
        """Ends the bar, finished or not."""
        if self._whole and self._total:
            self._whole.end(self._done / self._total)
            self._whole = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _whole_left(self) -> str | None:
        fraction = self._done / self._total if self._total else 0
        seconds = self._whole.seconds_left(fraction) if self._whole else None
        return None if seconds is None else duration(seconds)


class _Bar(Progress):
    """tqdm's, for a terminal or a notebook."""

    def __init__(
        self,
        total: float | None,
        description: str,
        unit: str,
        initial: float,
        stream: TextIO | None,
    ):
        import warnings

        super().__init__(total, description, initial)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A notebook without ipywidgets gets the text bar.
            from tqdm import auto

        self._is_timed = False
        self._tqdm = auto.tqdm(
            total=total,
            desc=description,
            unit=unit,
            initial=initial,
            file=stream,
            smoothing=0.5,
            dynamic_ncols=True,
        )

    def update(self, count: float = 1, **values: Any) -> None:
        super().update(count)
        if left := self._whole_left():
            values["left in all"] = left
        if values:
            self._tqdm.set_postfix(_shown(values), refresh=False)
        if self._is_timed:
            self._tqdm.update(count)
        else:  # The first update compiles: what is left is told from the second on.
            self._is_timed = True
            bar = self._tqdm
            bar.n = bar.initial = bar.last_print_n = bar.n + count
            bar.last_print_t = time.time()  # By this clock tqdm goes.
            bar.refresh()

    def write(self, message: str) -> None:
        self._tqdm.write(message, file=self._tqdm.fp)

    def close(self) -> None:
        super().close()
        self._tqdm.close()


class _Lines(Progress):
    """A line at most every `interval_s`, and one at the end."""

    def __init__(
        self,
        total: float | None,
        description: str,
        unit: str,
        initial: float,
        stream: TextIO | None,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(total, description, initial)
        self._description, self._unit, self._stream = description, unit, stream
        self._interval_s, self._clock = interval_s, clock
        self._start = self._printed = clock()
        # After the first update: that one compiles, and would make everything look slow.
        self._timed_from: tuple[float, float] | None = None
        self._values: dict[str, Any] = {}
        self._changed = True

    def update(self, count: float = 1, **values: Any) -> None:
        super().update(count)
        self._values.update(values)
        self._changed = True
        now = self._clock()
        if self._timed_from is None:
            self._timed_from = now, self._done
        if now - self._printed >= self._interval_s and self._done != self._total:
            self._print(now)

    def write(self, message: str) -> None:
        print(message, file=self._stream or sys.stderr, flush=True)

    def close(self) -> None:
        if self._changed:
            self._print(self._clock())
        super().close()

    def _print(self, now: float) -> None:
        self._printed, self._changed = now, False
        of = "" if self._total is None else f"/{_number(self._total)}"
        parts = [f"{_number(self._done)}{of} {self._unit}s"]
        parts.append(f"{duration(now - self._start)} elapsed")
        left = self._seconds_left(now)
        if left is not None:
            parts.append(f"{duration(left)} left")
        if in_all := self._whole_left():
            parts.append(f"{in_all} in all" if left is not None else f"{in_all} left in all")
        parts += [f"{name} {value}" for name, value in _shown(self._values).items()]
        self.write(f"{self._description}: {', '.join(parts)}")

    def _seconds_left(self, now: float) -> float | None:
        if self._timed_from is None or self._total is None or self._done >= self._total:
            return None
        then, before = self._timed_from
        if self._done <= before:
            return None
        return (now - then) / (self._done - before) * (self._total - self._done)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.1f}"


def duration(seconds: float) -> str:
    """Writes a time in words, such as "8 s", "3 min 20 s" or "2 h 05 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
