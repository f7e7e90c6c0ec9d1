"""Figures that no page's test draws: axes say what is where."""

import numpy as np
import pandas as pd
import pytest

from metamer_jax import figures


def test_a_grid_of_metamers_has_its_frequencies_where_the_channels_are():
    center_hz = np.geomspace(50, 6000, 30)
    image = np.random.default_rng(0).uniform(size=(30, 20))
    row = [("target", image), ("conv1", image)]
    figure = figures.metamer_grid(
        {"a": row, "b": row}, center_hz=center_hz, duration_s=1.0, word="yes"
    )
    axis, *_, bar = figure.axes
    assert len(figure.axes) == 5 and bar.get_ylabel() == "Compressed envelope (arbitrary units)"
    labels = [t.get_text() for t in axis.get_yticklabels()]
    assert labels == ["100", "500", "1k", "2k", "4k"]
    for label, place in zip((100, 500, 1000, 2000, 4000), axis.get_yticks(), strict=True):
        assert center_hz[int(place)] <= label <= center_hz[int(place) + 1]


def test_benchmark_bars_are_as_long_as_the_times():
    rows = [
        {"stage": "cochleagram", "method": m, "batch_size": 2, "ms_per_target_step": t, "ratio": r}
        for m, t, r in (("yardstick", 120.0, 1.0), ("multirate", 3.0, 40.0))
    ]
    figure = figures.benchmark_bars(rows)
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [120.0, 3.0]
    assert "x 40" in axis.texts[1].get_text()


def test_a_history_has_the_fastest_row_of_each_release():
    def row(stage, ratio, method="multirate"):
        return {"stage": stage, "method": method, "ratio": ratio}

    releases = {
        "0.1.0": [row("cochleagram", 40.0), row("cochleagram", 50.0), row("dense", 9.0)],
        "0.10.0": [row("cochleagram", 60.0), row("cochleagram", 900.0, "yardstick")],
    }
    (axis,) = figures.benchmark_history(releases).axes
    drawn = {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines
    }
    assert drawn == {"cochleagram": ([0, 1], [50.0, 60.0]), "dense": ([0], [9.0])}
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.1.0", "0.10.0"]


def test_a_pair_of_different_shapes_is_refused():
    with pytest.raises(ValueError, match="alike"):
        figures.cochleagram_pair(
            np.ones((3, 4)), np.ones((3, 5)), center_hz=np.arange(3.0), frame_rate_hz=200.0
        )


def test_nulls_by_stage_stand_where_the_metamers_are():
    nulls = {
        "conv1": (np.linspace(-1, 1, 5), [0, 1, 4, 0]),
        "logits": (np.linspace(-1, 1, 3), [2, 1]),
    }
    table = pd.DataFrame(
        {
            "stage": ["conv1", "logits"],
            "spearman": [0.95, 0.2],
            "null_max": [0.5, 1.0],
            "verdict": ["pass", "fail"],
            "decided_by": ["spearman", "relative_error"],
        }
    )
    (axis,) = figures.nulls_by_stage(nulls, table).axes
    labels = [t.get_text() for t in axis.get_yticklabels()]
    assert labels == ["conv1", "logits\n(error decides)"]
    dots = [dots.get_offsets().tolist() for dots in axis.collections]
    assert dots == [[[0.95, -0.2]], [[0.2, 0.8]]]
    assert [line.get_xdata().tolist() for line in axis.lines] == [[0.5], [1.0]]
