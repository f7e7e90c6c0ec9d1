"""Figures of a listening experiment: what is drawn, where, and under which label."""

import numpy as np
import pandas as pd
import pytest

from metamer_jax import analysis
from metamer_jax.figures import listening as plots
from metamer_jax.listening.results import report

LAYERS = ("cochleagram", "dense")


def table(participants=4, models=("a", "b"), layers=lambda model: LAYERS):
    random = np.random.default_rng(0)
    rows = [
        {
            "participant": f"p{who}",
            "kind": "metamer",
            "model": model,
            "layer": layer,
            "layer_index": depth,
            "word": word,
            "response": word if depth == 0 or random.random() < 0.5 else "",
            "correct": 0.0,
        }
        for who in range(participants)
        for model in models
        for depth, layer in enumerate(layers(model))
        for word in ("go", "no")
        for _ in range(3)
    ]
    found = pd.DataFrame(rows)
    return found.assign(correct=(found["response"] == found["word"]).astype(float))


def recognition(trials, **options):
    return analysis.recognition(trials, resamples=200, chance=0.5, **options)


class TestRecognition:
    def test_means_and_chance_are_drawn_where_they_are(self):
        found = recognition(table())
        figure = plots.recognition_by_layer(found)
        (axis,) = figure.axes
        drawn = {line.get_label(): line for line in axis.lines}
        lines = [c.lines[0] for c in axis.containers]
        for model, line in zip(("a", "b"), lines, strict=True):
            wanted = 100 * found[found["model"] == model]["mean"]
            np.testing.assert_allclose(line.get_ydata(), wanted)
            assert np.allclose(line.get_xdata(), [0, 1], atol=0.1)
        assert any(np.allclose(line.get_ydata(), 50) for line in drawn.values())
        assert [t.get_text() for t in axis.get_xticklabels()] == list(LAYERS)

    def test_the_panel_is_dashed_beside_it(self):
        found = recognition(table())
        panel = recognition(table(participants=2))
        (axis,) = plots.recognition_by_layer(found, panel=panel).axes
        dashed = [line for line in axis.lines if line.get_linestyle() == "--"]
        assert [line.get_label() for line in dashed] == [
            f"{model}, machines (n = 2)" for model in ("a", "b")
        ]

    def test_one_listener_has_wilsons_interval_and_agreement_has_none(self):
        single = recognition(table(participants=1))
        low, high = plots.intervals(single)
        np.testing.assert_allclose(low, single["wilson_low"])
        np.testing.assert_allclose(high, single["wilson_high"])
        low, _ = plots.intervals(recognition(table()))
        assert np.isnan(low[0])  # Everybody recognises everything there.

    def test_layers_of_other_names_are_paired_by_their_place(self):
        found = recognition(table(layers=lambda model: (f"{model}1", f"{model}2")))
        places, labels = plots.layer_places(found)
        assert labels == ["1", "2"]
        assert places == {("a", "a1"): 0, ("a", "a2"): 1, ("b", "b1"): 0, ("b", "b2"): 1}

    def test_a_model_may_lack_a_layer(self):
        found = recognition(table(layers=lambda m: LAYERS if m == "a" else LAYERS[1:]))
        places, labels = plots.layer_places(found)
        assert labels == list(LAYERS) and places["b", "dense"] == 1


@pytest.mark.parametrize("source", ["page", "simulated", "machine"])
def test_what_no_person_answered_is_labelled_in_the_figure(source):
    trials = table()
    words = ("go", "no")
    by_layer = analysis.confusion(trials, ("model", "layer"), words=words)
    for figure in (
        plots.recognition_by_layer(recognition(trials), source=source),
        plots.recognition_by_word(recognition(trials, by=("model", "word")), source=source),
        plots.confusions(analysis.confusion(trials, words=words), source=source),
        plots.confusions(by_layer, columns="layer", source=source),
        plots.agreement(recognition(trials), recognition(trials), source=source),
    ):
        title = figure.get_suptitle()
        assert title == plots.LABELS.get(source, "")
        assert bool(title) == (source != "page")


def test_matrices_hold_the_shares_and_what_was_not_answered():
    trials = table()
    words = ("go", "no")
    found = analysis.confusion(trials, ("model", "layer"), words=words)
    figure = plots.confusions(found, columns="layer")
    assert len(figure.axes) == 4
    image = figure.axes[1].images[0].get_array()
    dense = found[(found["model"] == "a") & (found["layer"] == "dense")]
    wanted = 100 * analysis.matrix(dense, "share").to_numpy()
    assert image.shape == (2, 3)  # The third column: no answer.
    np.testing.assert_allclose(image, wanted)


def test_files_are_the_same_every_time(tmp_path):
    found = recognition(table())
    for name in ("one", "two"):
        report.save(plots.recognition_by_layer(found), tmp_path / name)
    for suffix in (".pdf", ".png"):
        one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two
