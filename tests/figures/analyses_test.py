"""Figures of the further analyses: what is drawn where, and under which label."""

import numpy as np
import pandas as pd
import pytest

from metamer_jax import analysis
from metamer_jax.figures import analyses, listening


def compared(n=12):
    rng = np.random.default_rng(0)
    rows = [
        {"participant": who, "model": model, "layer": layer, "correct": rng.random()}
        for who in range(n)
        for model in "abcd"
        for layer in "xy"
    ]
    return analysis.compare_models(pd.DataFrame(rows), resamples=0, permutations=0)


def test_estimates_and_intervals_stand_where_they_are():
    figure = analyses.forest(
        ["one", "two", "none"],
        np.array([0.1, 0.3, np.nan]),
        np.array([0.0, np.nan, np.nan]),
        np.array([0.2, np.nan, np.nan]),
        xlabel="difference",
        bounds=(-0.1, 0.1),
    )
    (axis,) = figure.axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["one", "two"]  # Nothing for none.
    drawn = [line.get_xdata() for line in axis.lines]
    assert any(np.array_equal(x, [0.0, 0.2]) for x in drawn)
    assert [x[0] for x in drawn if len(np.atleast_1d(x)) == 1] == [0.1, 0.3]


@pytest.mark.parametrize("source", ["page", "simulated"])
def test_many_pairs_are_drawn_over_all_layers_alone_and_labelled(source):
    found = compared()
    for figure in (
        analyses.bayes_factors(analysis.bayes_factors(found), source=source),
        analyses.equivalence(analysis.equivalence_tests(found), source=source),
    ):
        labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
        assert len(labels) == 6 and all(label.startswith("all: ") for label in labels)
        assert figure.get_suptitle() == listening.LABELS.get(source, "")


def test_observers_stand_side_by_side():
    rows = [
        {"participant": who, "model": "a", "layer": layer, "layer_index": i, "correct": 1 - i / 4}
        for who in range(3)
        for i, layer in enumerate(("x", "y", "z"))
    ]
    people = pd.DataFrame(rows)
    both = analysis.observers.both_observers(people, people.assign(correct=1.0))
    table = analysis.recognition(both, ("observer", "model", "layer"), chance=0.125, resamples=0)
    (axis,) = analyses.observers(table).axes
    human, network = (container.lines[0].get_ydata() for container in axis.containers)
    np.testing.assert_allclose(human, [100, 75, 50])
    np.testing.assert_allclose(network, [100, 100, 100])


def test_a_curve_keeps_its_models_own_order_of_layers():
    table = pd.DataFrame(
        [
            {"model": model, "layer": layer}
            for model, layers in (("a", "xyz"), ("b", "xzy"))
            for layer in layers
        ]
    )
    places, labels = listening.layer_places(table)
    assert labels == ["1", "2", "3"] and places["b", "z"] == 1
