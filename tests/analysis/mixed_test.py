"""Logistic mixed models of listeners and recordings: lme4's numbers, and a known truth."""

import json
import pathlib
import sys

import numpy as np
import pandas as pd
import pytest

from metamer_jax import analysis
from metamer_jax.analysis import mixed

DATA = pathlib.Path(__file__).parents[1] / "reference" / "mixed_models"
LME4 = json.loads((DATA / "lme4_reference.json").read_text())


@pytest.fixture(scope="module")
def trials():
    return pd.read_csv(DATA / "trials.csv")


@pytest.mark.parametrize("name", ["intercepts", "listener_by_model", "metamers"])
def test_agrees_with_lme4(trials, name):
    reference = LME4[name]
    cells = (trials["layer"] + " " + trials["model"]).map(reference["cells"].index).to_numpy()
    random = {"listener": trials["participant"], "item": trials["target_id"]}
    if name != "intercepts":
        random["listener_by_first"] = trials["participant"] + trials["model"]
    if name == "metamers":
        random["metamer"] = trials["target_id"] + trials["layer"] + trials["model"]
    codes = {key: pd.factorize(column)[0] for key, column in random.items()}
    fit, reason = mixed.fit_crossed(trials["correct"].to_numpy(), cells, codes)
    assert reason == ""
    np.testing.assert_allclose(fit.log_odds, reference["fixed"], atol=2e-4)
    np.testing.assert_allclose(fit.covariance, reference["covariance"], rtol=0.005)
    assert fit.log_likelihood == pytest.approx(reference["log_likelihood"], abs=1e-3)
    theirs = {
        "listener": "participant",
        "item": "target_id",
        "listener_by_first": "participant:model",
        "metamer": "target_id:cell",
    }
    for key, sd in fit.sds.items():
        assert sd == pytest.approx(reference["sd"][theirs[key]], rel=2e-3)
    # Standard errors with the Hessian of all parameters are larger by a percent or two.
    se, full = (
        np.sqrt(np.diag(np.array(reference[which])))
        for which in ("covariance", "covariance_hessian")
    )
    assert (se / full > 0.97).all() and (se / full <= 1).all()


class TestTable:
    def test_effects_are_contrasts_of_cells(self, trials):
        found = analysis.mixed_model(trials)
        cells = dict(
            zip(
                LME4["metamers"]["cells"],
                LME4["metamers"]["fixed"],
                strict=True,
            )
        )
        at_dense = found[found["level"] == "dense"].iloc[0]
        expected = cells["dense b"] - cells["dense a"]
        assert at_dense["estimate"] == pytest.approx(expected, abs=1e-3)
        assert at_dense["odds_ratio"] == pytest.approx(np.exp(expected), abs=1e-3)
        assert list(found["effect"]) == ["model", "layer", "model:layer", *["model"] * 3]
        assert found["df1"].tolist() == [1, 2, 2, 1, 1, 1]
        assert set(found["listeners"]) == {30} and set(found["items"]) == {30}
        # The truth of the simulation: .6, .4, .8 and .7 logit.
        for name, truth in (
            ("listener", 0.6),
            ("listener_by_first", 0.4),
            ("item", 0.8),
            ("metamer", 0.7),
        ):
            assert found.loc[0, f"{name}_sd"] == pytest.approx(truth, abs=0.25)
        without = analysis.mixed_model(trials, slopes=False)
        assert without["listener_by_first_sd"].isna().all()
        assert without.loc[0, "se"] < found.loc[0, "se"]  # Listeners and metamers differ in it.

    def test_layers_without_variance_have_a_reason(self, trials):
        right = trials.assign(correct=trials["correct"].where(trials["layer"] != "conv1", 1))
        found = analysis.mixed_model(right, slopes=False)
        conv1 = found[found["level"] == "conv1"].iloc[0]
        assert np.isnan(conv1["p"]) and conv1["reason"] == "zero variance: a all right, b all right"
        assert found.loc[0, "levels"] == "conv2, dense" and np.isfinite(found.loc[0, "p"])

    @pytest.mark.parametrize(
        ("change", "arguments", "message"),
        [
            ({}, {"factors": ["model", "target_id"]}, "factors: expected one or two columns"),
            ({"target_id": "t"}, {}, "item: 'target_id' needs two levels"),
            ({"participant": "p"}, {}, "listener: 'participant' needs two levels"),
            ({"model": "a"}, {}, "factors: 'model' needs two levels"),
            ({"correct": 0.5}, {}, "column 'correct', row 0: expected 0 or 1, got 0.5"),
        ],
    )
    def test_bad_arguments_are_named(self, trials, change, arguments, message):
        with pytest.raises(ValueError, match=message):
            analysis.mixed_model(trials.assign(**change), **arguments)

    def test_a_missing_package_is_named_with_the_command(self, trials, monkeypatch):
        monkeypatch.setitem(sys.modules, "mixedlm", None)
        with pytest.raises(ImportError, match=r"pip install 'metamer_jax\[statistics\]'"):
            analysis.mixed_model(trials)
