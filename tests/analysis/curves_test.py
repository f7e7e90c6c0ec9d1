"""Summaries of curves, response times and the course of a session, on known truth."""

import numpy as np
import pandas as pd
import pytest

from metamer_jax import analysis
from metamer_jax.analysis import curves

LAYERS = ("a", "b", "c", "d", "e", "f")


def listeners(half=2.4, k=1.5, chance=0.125, count=30, noise=0.05, seed=0, model="m"):
    rng = np.random.default_rng(seed)
    rows = []
    for who in range(count):
        own = half + rng.normal(0, 0.4)
        p = chance + (1 - chance) / (1 + np.exp((np.arange(6) - own) * k))
        for i, layer in enumerate(LAYERS):
            correct = float(np.clip(p[i] + rng.normal(0, noise), 0, 1))
            row = {"participant": who, "model": model, "layer": layer, "layer_index": i}
            rows.append(row | {"correct": correct})
    return pd.DataFrame(rows)


class TestCurve:
    def test_the_truth_is_found(self):
        row = analysis.curve_summary(listeners(), chance=0.125, resamples=200).iloc[0]
        assert row["half_stage"] == pytest.approx(2.4, abs=0.15)
        assert row["half_low"] < 2.4 < row["half_high"] and row["half_layers"] == "c to d"
        assert row["crossing"] == pytest.approx(row["half_stage"], abs=0.15)
        assert row["slope"] == pytest.approx(-0.875 * 1.5 / 4, rel=0.15)
        assert row["slope_low"] < row["slope"] < row["slope_high"] and row["rms_error"] < 0.03

    def test_the_interval_covers(self):
        inside = 0
        for seed in range(20):
            table = listeners(count=12, seed=seed)
            row = analysis.curve_summary(table, chance=0.125, resamples=100, seed=seed).iloc[0]
            inside += row["half_low"] < 2.4 < row["half_high"]
        assert inside >= 15

    def test_a_ceiling_below_one_is_fitted(self):
        table = listeners(noise=0.0)
        table["correct"] = 0.125 + (table["correct"] - 0.125) * 0.8
        found = analysis.curve_summary(table, chance=0.125, resamples=0).iloc[0]
        assert found["ceiling"] == pytest.approx(0.825, abs=0.02)
        assert found["half_stage"] == pytest.approx(2.4, abs=0.1)
        fixed = analysis.curve_summary(table, chance=0.125, ceiling=0.825, resamples=0).iloc[0]
        assert fixed["half_stage"] == pytest.approx(found["half_stage"], abs=0.05)

    def test_crossing_is_linear(self):
        assert curves.crossing(np.array([1.0, 0.8, 0.4, 0.1]), 0.6) == pytest.approx(1.5)
        assert np.isnan(curves.crossing(np.array([0.4, 0.2]), 0.6))
        assert np.isnan(curves.crossing(np.array([0.9, 0.8]), 0.6))

    def test_reasons_and_arguments(self):
        table = listeners()
        high = table.assign(correct=0.9)
        found = analysis.curve_summary(high, chance=0.125, ceiling=1)
        assert "never falls below half (0.562)" in found["reason"][0]
        low = analysis.curve_summary(table.assign(correct=0.2), chance=0.125, ceiling=1)
        assert "starts below half" in low["reason"][0]
        two = analysis.curve_summary(table[table["layer_index"] < 2], chance=0.125)
        assert two["reason"][0] == "fewer than 4 layers"
        # A step between two layers is steep, and still has its place.
        step = table.assign(correct=np.where(table["layer_index"] < 3, 1.0, 0.125))
        row = analysis.curve_summary(step, chance=0.125, resamples=20).iloc[0]
        assert 2 < row["half_stage"] < 3
        with pytest.raises(ValueError, match="ceiling: expected a share above chance"):
            analysis.curve_summary(table, chance=0.5, ceiling=0.4)

    def test_a_published_curve(self):
        published = pd.read_csv("tests/reference/human_responses/auditory_3.csv")
        humans = published[published["observer"] == "human"]
        humans = humans.rename(columns={"proportion_correct": "correct"})
        found = analysis.curve_summary(humans, chance=0.01, resamples=50).set_index("model")
        standard, robust = found.loc["cochresnet50"], found.loc["cochresnet50_l2_1_robust_waveform"]
        assert standard["half_high"] < robust["half_low"]  # What the study is about.
        assert set(found["n"]) == {20} and (found["rms_error"] < 0.12).all()
        assert found["ceiling"].between(0.75, 0.9).all()


def session(listeners=10, trials=60, gain=0.0, slower=0.0, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for who in range(listeners):
        order = rng.permutation(trials)
        for place, trial in enumerate(order):
            layer = "xy"[trial % 2]
            p = {"x": 0.7, "y": 0.4}[layer] + gain * (place / (trials - 1) - 0.5)
            time = 1000 * np.exp(0.1 * (who - 5) + slower * place / (trials - 1))
            row = {"participant": f"p{who}", "session": f"s{who}", "trial": place + 1}
            row |= {"model": "a", "layer": layer, "correct": float(rng.random() < p)}
            rows.append(row | {"rt_ms": time * np.exp(rng.normal(0, 0.2))})
    return pd.DataFrame(rows)


class TestResponseTimes:
    def test_geometric_mean_over_listeners(self):
        table = session()
        row = analysis.response_times(table, "model").iloc[0]
        own = np.log(table["rt_ms"]).groupby(table["participant"]).mean()
        assert row["geometric_mean_ms"] == pytest.approx(np.exp(own.mean()))
        assert row["ci_low_ms"] < row["geometric_mean_ms"] < row["ci_high_ms"] and row["n"] == 10
        assert row["median_ms"] == pytest.approx(table["rt_ms"].median())
        table.loc[:4, "rt_ms"] = np.nan
        assert analysis.response_times(table, "model", longest_ms=5000).loc[0, "left_out"] == 5
        with pytest.raises(ValueError, match="no response time was recorded"):
            analysis.response_times(table.assign(rt_ms=np.nan))


class TestOrder:
    def test_what_was_put_in_is_found(self):
        table = session(listeners=30, gain=0.3, slower=-0.3)
        found = analysis.order_effects(table).set_index(["what", "part"])
        slope = found.loc[("recognition", "slope")]
        assert slope["ci_low"] < 0.3 < slope["ci_high"] and slope["p"] < 0.001
        slope = found.loc[("response time", "slope")]
        assert slope["ci_low"] < -0.3 < slope["ci_high"] and slope["p"] < 0.001
        first, last = (found.loc[("recognition", part), "mean"] for part in "14")
        assert last - first == pytest.approx(0.3 * 0.75, abs=0.08)

    def test_without_an_effect_and_without_an_order(self):
        rejected = [
            analysis.order_effects(session(seed=s))
            .set_index(["what", "part"])
            .loc[("recognition", "slope"), "p"]
            < 0.05
            for s in range(25)
        ]
        assert sum(rejected) <= 4
        with pytest.raises(ValueError, match="do not tell in which order"):
            analysis.order_effects(session().assign(trial=np.nan))
        with pytest.raises(ValueError, match="proportions"):
            analysis.order_effects(session().assign(correct=0.3))
