"""Evidence for no difference: Bayes factors of BayesFactor, equivalence tests of statsmodels."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.stats.weightstats

from metamer_jax import analysis
from metamer_jax.analysis import bayes

DATA = pathlib.Path(__file__).parents[1] / "reference"
REFERENCE = json.loads((DATA / "bayes_factors" / "bayesfactor_reference.json").read_text())


def listeners(differences, layer="x"):
    """Shares of right answers with these differences of model b from model a."""
    rows = [
        {"participant": who, "layer": layer, "model": model, "correct": 0.4 + d * (model == "b")}
        for who, d in enumerate(differences)
        for model in "ab"
    ]
    return pd.DataFrame(rows)


class TestBayesFactors:
    def test_agrees_with_bayesfactor(self):
        for test in REFERENCE["tests"]:
            one = analysis.jzs(test["t"], test["n"], scale=test["scale"])
            assert one == pytest.approx(test["one_sample"], rel=1e-5), test
            two = analysis.jzs(test["t"], test["n"], test["n"] + 4, scale=test["scale"])
            assert two == pytest.approx(test["two_sample"], rel=1e-5), test
        compared = analysis.compare_models(listeners(REFERENCE["differences"]))
        found = analysis.bayes_factors(compared).set_index("layer")
        assert found.loc["x", "bf10"] == pytest.approx(REFERENCE["paired"], rel=1e-5)
        assert found.loc["x", "evidence"] == "moderate for a difference"
        assert found.loc["x", "bf01"] == pytest.approx(1 / REFERENCE["paired"])

    def test_no_difference_gathers_evidence_with_listeners(self):
        factors = [1 / analysis.jzs(0, n) for n in (5, 20, 100)]
        assert factors == sorted(factors) and factors[-1] > 9
        assert bayes.evidence(0.2) == "moderate for no difference"
        assert bayes.evidence(150) == "extreme for a difference"

    def test_zero_variance_has_a_reason(self):
        found = analysis.bayes_factors(analysis.compare_models(listeners([0.1] * 5)))
        assert found["bf10"].isna().all() and set(found["reason"]) == {"zero variance"}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((np.nan, 5), "t: expected a finite number"),
            ((1, 1), "n: expected at least 2, got 1"),
            ((1, 5, 1), "n2: expected at least 2, got 1"),
        ],
    )
    def test_bad_arguments_are_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            analysis.jzs(*arguments)
        with pytest.raises(ValueError, match="scale: expected a positive number"):
            analysis.jzs(1, 5, scale=0)


class TestEquivalence:
    def test_agrees_with_statsmodels(self):
        differences = np.random.default_rng(0).normal(0.02, 0.1, 24)
        found = analysis.equivalence_tests(
            analysis.compare_models(listeners(differences)), bound=0.1
        ).set_index("layer")
        d = statsmodels.stats.weightstats.DescrStatsW(differences)
        p, (t_lower, *_), (t_upper, *_) = d.ttost_mean(-0.1, 0.1)
        row = found.loc["x"]
        assert row["p"] == pytest.approx(p)
        assert (row["t_lower"], row["t_upper"]) == pytest.approx((t_lower, t_upper))
        low, high = d.tconfint_mean(alpha=0.1)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
        assert row["equivalent"] == ((low > -0.1) and (high < 0.1))

    def test_holm_over_layers_decides(self):
        rng = np.random.default_rng(1)
        table = pd.concat(
            [listeners(rng.normal(m, 0.1, 12), layer) for layer, m in (("x", 0.02), ("y", 0.3))]
        )
        found = analysis.equivalence_tests(analysis.compare_models(table)).set_index("layer")
        assert found.loc["x", "p_holm"] == pytest.approx(min(1, 2 * found.loc["x", "p"]))
        assert not found.loc["y", "equivalent"] and np.isnan(found.loc["all", "p_holm"])

    def test_the_level_holds_at_the_bound(self):
        """Of experiments whose true difference is the bound, 5 % call it equivalent."""
        rng = np.random.default_rng(2)
        draws = rng.normal(0.1, 0.1, (4000, 15))
        mean, se = draws.mean(axis=1), draws.std(axis=1, ddof=1) / np.sqrt(15)
        called = np.mean(
            np.maximum(
                scipy.stats.t.sf((mean + 0.1) / se, 14), scipy.stats.t.cdf((mean - 0.1) / se, 14)
            )
            < 0.05
        )
        table = pd.DataFrame(
            {"layer": "x", "model_a": "a", "model_b": "b", "method": "listener", "unit": "u"}
            | {"n": 15, "df": 14, "statistic": 0.0, "reason": ""}
            | {"difference": mean, "sd": se * np.sqrt(15)}
        ).assign(layer="all")
        found = analysis.equivalence_tests(table, 0.1)
        assert found["equivalent"].mean() == called == pytest.approx(0.05, abs=0.012)

    def test_zero_variance_and_bad_arguments(self):
        compared = analysis.compare_models(listeners([0.1] * 5))
        found = analysis.equivalence_tests(compared)
        assert found["p"].isna().all() and found["equivalent"].isna().all()
        assert json.loads(analysis.to_json(found))[0]["equivalent"] is None
        with pytest.raises(ValueError, match="bound: expected a number between 0 and 1"):
            analysis.equivalence_tests(compared, 10)
        trials = pd.concat([listeners([0.6, -0.4, 0.6])] * 2).assign(correct=[0, 1, 1, 0, 1, 1] * 2)
        with pytest.raises(ValueError, match="method 'listener'"):
            analysis.equivalence_tests(analysis.compare_models(trials, "paper"))
