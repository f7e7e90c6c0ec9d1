import io
import re
import time

import numpy as np
import pytest

from metamer_jax.runtime import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Time that passes when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def lines(total, stream, clock, **kwargs):
    settings = {"name": "conv1", "unit": "step", "initial": 0, "interval_s": 30.0} | kwargs
    return progress._Lines(
        total,
        settings["name"],
        settings["unit"],
        settings["initial"],
        stream,
        settings["interval_s"],
        clock=clock,
    )


def test_a_log_gets_few_lines_with_the_time_left():
    stream, clock = io.StringIO(), Clock()
    with lines(1000, stream, clock) as shown:
        clock.now = 20  # Compilation.
        for _ in range(1000):
            shown.update(median=np.float32(0.12345))
            clock.now += 0.1
    printed = stream.getvalue().splitlines()
    assert 3 <= len(printed) <= 5
    # 0.1 s a step, whatever the first one took.
    assert printed[0] == "conv1: 101/1000 steps, 30 s elapsed, 1 min 30 s left, median 0.123"
    assert printed[-1] == "conv1: 1000/1000 steps, 2 min 00 s elapsed, median 0.123"


def test_what_an_earlier_run_did_is_not_counted_as_speed():
    stream, clock = io.StringIO(), Clock()
    shown = lines(100, stream, clock, initial=50, interval_s=0)
    for _ in range(3):
        clock.now += 1
        shown.update()
    assert stream.getvalue().splitlines()[-1] == "conv1: 53/100 steps, 3 s elapsed, 47 s left"


def test_an_interrupted_task_says_how_far_it_came():
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        with progress.bar(10, "training", unit="epoch", stream=stream) as shown:
            shown.update(3)
            raise KeyboardInterrupt
    assert stream.getvalue().startswith("training: 3/10 epochs, 0 s elapsed")


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    with progress.bar(10, "training", unit="epoch", stream=stream) as shown:
        shown.update(10, loss=0.51234, recipe="paper")
        shown.write("a line of its own")
    assert "training: 100%" in stream.getvalue()
    assert "loss=0.512, recipe=paper" in stream.getvalue()
    assert "a line of its own\n" in stream.getvalue()


def test_a_terminals_bar_does_not_tell_what_is_left_by_the_update_that_compiles():
    stream = Terminal()
    with progress.bar(5, "conv1", stream=stream) as shown:
        time.sleep(0.15)
        shown.update()
        assert re.search(r"1/5 \[\d\d:\d\d<\?", stream.getvalue())
        time.sleep(0.15)
        shown.update()
        assert re.search(r"2/5 \[\d\d:\d\d<\d\d:", stream.getvalue())


def test_track_passes_items_on():
    stream = io.StringIO()
    assert list(progress.track(iter("abc"), "letters", unit="letter", stream=stream)) == list("abc")
    assert stream.getvalue().startswith("letters: 3/3 letters")
    assert list(progress.track([1], "quiet", style="none")) == [1]


def test_unknown_style():
    with pytest.raises(ValueError, match="style.*'fancy'"):
        progress.bar(1, "x", style="fancy")


def test_durations():
    found = [progress.duration(s) for s in (0.4, 59.4, 200, 7500)]
    assert found == ["0 s", "59 s", "3 min 20 s", "2 h 05 min"]


def test_a_total_that_is_not_known_is_left_out():
    stream = io.StringIO()
    with progress.bar(None, "reading", unit="clip", style="lines", stream=stream) as shown:
        shown.update(3)
    assert stream.getvalue().startswith("reading: 3 clips, 0 s elapsed")


def test_bars_of_a_whole_say_what_is_left_of_all():
    stream, clock = io.StringIO(), Clock()
    # One unit of cost takes 2 s; training was done by an earlier run. The first step compiles.
    costs = {"training": 50, "conv1": 10, "conv2": 30, "report": 5}
    token = progress._WHOLE.set(progress._Whole(costs, clock))
    for name, seconds in {"conv1": 20, "other": 99, "conv2": 60}.items():
        with lines(10, stream, clock, name=name, interval_s=0) as shown:
            for step in range(10):
                clock.now += seconds / 10 + (30 if name == "conv1" and step == 0 else 0)
                shown.update()
    progress._WHOLE.reset(token)
    printed = stream.getvalue().splitlines()
    assert printed[0] == "conv1: 1/10 steps, 32 s elapsed"
    assert printed[1] == "conv1: 2/10 steps, 34 s elapsed, 16 s left, 1 min 26 s in all"
    assert printed[9] == "conv1: 10/10 steps, 50 s elapsed, 1 min 10 s left in all"
    assert [line for line in printed if "in all" not in line] == [printed[0], *printed[10:20]]
    assert printed[24] == "conv2: 5/10 steps, 30 s elapsed, 30 s left, 40 s in all"
    assert printed[-1] == "conv2: 10/10 steps, 1 min 00 s elapsed, 10 s left in all"


def test_a_terminals_bar_of_a_whole_says_what_is_left_of_all():
    stream = Terminal()
    with progress.whole({"conv1": 10, "report": 5}):
        with progress.bar(10, "conv1", stream=stream) as shown:
            shown.update(5, loss=0.5)
            assert "left in all" not in stream.getvalue()
            shown.update(5, loss=0.5)
    assert "left in all=0 s" in stream.getvalue()
    stream = io.StringIO()
    with progress.bar(1, "conv1", stream=stream) as shown:  # The whole has ended.
        shown.update()
    assert "in all" not in stream.getvalue()
