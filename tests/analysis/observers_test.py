"""Humans beside networks, natural sounds as a layer, and planned contrasts."""

import json
import math
import pathlib

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.stats.multitest

from metamer_jax import analysis

DATA = pathlib.Path(__file__).parents[1] / "reference" / "human_responses"
EXPECTED = json.loads((DATA / "auditory_3_expected.json").read_text())
ROBUST = "cochresnet50_l2_1_robust_waveform"
MIXED = [test for test in EXPECTED["tests"] if test["between"]]


@pytest.fixture(scope="module")
def published():
    table = pd.read_csv(DATA / "auditory_3.csv")
    return table.rename(columns={"proportion_correct": "correct"})


class TestObserverAnova:
    def test_reproduces_the_six_published_ones(self, published):
        sides = [published[published["observer"] == who] for who in ("human", "network")]
        found = analysis.observer_anova(*sides, permutations=200, scheme="feather2023")
        assert len(found) == 18 and set(found["left_out"]) == {0}
        found = found.set_index(["model", "effect"])
        for test in MIXED:
            (model,) = test["filter"]["model"]
            for effect, values in test["effects"].items():
                row = found.loc[(model, effect)]
                for name in ("ss", "F", "np2", "eps_gg"):
                    assert row[name] == pytest.approx(values[name], rel=6e-4)
                assert (row["df1"], row["df2"]) == (values["df1"], values["df2"])
                assert row["n"] == 40

    def test_listeners_without_a_layer_are_left_out_and_counted(self, published):
        sides = [published[published["observer"] == who] for who in ("human", "network")]
        one = sides[0]["model"].iloc[0]
        gone = (sides[0]["model"] == one) & (sides[0]["participant"] == 3)
        people = sides[0][~(gone & (sides[0]["layer"] == "final"))]
        found = analysis.observer_anova(people, sides[1], permutations=0).set_index("model")
        assert found.loc[one, "left_out"].tolist() == [1, 1, 1]
        assert set(found.loc[one, "n"]) == {38}
        nobody = analysis.observer_anova(people, sides[1][sides[1]["model"] != one], permutations=0)
        assert nobody[nobody["model"] == one]["reason"].iloc[0] != ""


def trials():
    rows = []
    for who in ("p0", "p1"):
        for model in ("a", "b"):
            for i, layer in enumerate(("conv1", "dense")):
                row = {"participant": who, "kind": "metamer", "model": model, "layer": layer}
                row |= {"layer_index": i, "stimulus_id": f"{model}{layer}", "word": "go"}
                rows.append(row | {"response": "no", "correct": 0.0})
        row = {"participant": who, "kind": "natural", "model": "", "layer": "", "word": "go"}
        row |= {"layer_index": pd.NA, "stimulus_id": "n1", "response": "go", "correct": 1.0}
        rows.append(row)
    return pd.DataFrame(rows)


class TestNetworks:
    def test_natural_sounds_are_level_0_of_every_model(self):
        found = analysis.with_natural_layer(trials())
        natural = found[found["layer"] == "natural"]
        assert len(found) == 8 + 4 and set(natural["model"]) == {"a", "b"}
        assert set(natural["layer_index"]) == {0} and set(natural["correct"]) == {1.0}
        order = analysis.recognition(found, resamples=0)["layer"]
        assert list(order) == ["natural", "conv1", "dense"] * 2
        with pytest.raises(ValueError, match="no trial is of kind"):
            analysis.with_natural_layer(trials().query("kind == 'metamer'"))

    def test_networks_judge_each_listeners_own_sounds(self):
        manifest = pd.DataFrame(
            {
                "stimulus_id": ["aconv1", "adense", "bconv1", "bdense"],
                "model": ["a", "a", "b", "b"],
                "model_prediction": ["go", "go", "no", ""],
                "played_model_prediction": ["go", "no", "", ""],
            }
        )
        heard = analysis.with_natural_layer(trials())
        found = analysis.network_trials(heard, manifest)
        shares = found.groupby(["model", "layer"])["correct"].mean().to_dict()
        assert shares == {("a", "conv1"): 1, ("a", "dense"): 0, ("b", "conv1"): 0}
        own = pd.DataFrame({"participant": ["a", "b"], "stimulus_id": "n1", "response": "go"})
        more = analysis.network_trials(heard, manifest, own)
        assert more[more["layer"] == "natural"]["correct"].tolist() == [1.0] * 4
        with pytest.raises(ValueError, match="does not tell what networks say"):
            analysis.network_trials(heard, manifest.assign(stimulus_id="x"))


class TestContrasts:
    TERMS = {
        "robust less standard": [
            {
                "model": "cochresnet50_l2_1_robust_waveform",
                "layer": "layer4_fake_relu",
                "weight": 1,
            },
            {"model": "cochresnet50", "layer": "layer4_fake_relu", "weight": -1},
        ],
        "first less last": [
            {"layer": "conv1_relu1_fake_relu", "weight": 1},
            {"layer": "final", "weight": -1},
        ],
        "linf less l2": [
            {"model": "cochresnet50_linf_p002_robust_waveform", "weight": 1},
            {"model": ROBUST, "weight": -1},
        ],
    }

    def test_are_t_tests_of_weighted_means(self, published):
        humans = published[published["observer"] == "human"]
        found = analysis.planned_contrasts(humans, self.TERMS, resamples=500)
        wide = humans.pivot(index="participant", columns=["model", "layer"], values="correct")
        first = wide.xs("conv1_relu1_fake_relu", axis=1, level=1).mean(axis=1)
        own = first - wide.xs("final", axis=1, level=1).mean(axis=1)
        row = found.set_index("contrast").loc["first less last"]
        test = scipy.stats.ttest_1samp(own, 0)
        assert row["estimate"] == pytest.approx(own.mean())
        assert row["statistic"] == pytest.approx(test.statistic) and row["n"] == 20
        assert row["p"] == pytest.approx(test.pvalue)
        assert row["bf10"] == pytest.approx(analysis.jzs(test.statistic, 20))
        assert row["ci_low"] < row["estimate"] < row["ci_high"]
        # One of the published tests of layers.
        published_t = next(
            layer["t"]
            for test in EXPECTED["tests"]
            if test["id"].endswith("l2_1_adversarial_vs_standard_cochresnet50_waveform")
            for layer in test["derived_paired_t"]["layers"]
            if layer["layer"] == "layer4_fake_relu"
        )
        assert abs(found.loc[0, "statistic"]) == pytest.approx(abs(published_t))
        for method in ("holm", "fdr_bh"):
            found = analysis.planned_contrasts(
                humans, self.TERMS, correction=method, resamples=0, permutations=0
            )
            expected = statsmodels.stats.multitest.multipletests(found["p"], method=method)[1]
            np.testing.assert_allclose(found["p_corrected"], expected)

    @pytest.mark.parametrize(
        ("planned", "message"),
        [
            ({}, "expected at least one contrast"),
            ({"x": [{"model": "q", "weight": 1}]}, "no row has {'model': 'q', 'weight': 1}"),
            ({"x": [{"weight": 1}]}, "expected terms with weight and model"),
            ({"x": [{"layer": "final", "weight": 1}]}, "weights that sum to 0, got 1"),
            ({"x": "final"}, "expected a list of terms"),
            ({"x": [{"layer": "final", "weight": "1"}]}, "expected a number as weight"),
            (
                {"x": [{"layer": "final", "weight": 1}, {"layer": "final", "weight": -1}]},
                "cancel each other",
            ),
        ],
    )
    def test_bad_plans_are_named(self, published, planned, message):
        humans = published[published["observer"] == "human"]
        with pytest.raises(ValueError, match=message):
            analysis.planned_contrasts(humans, planned)

    def test_reasons(self, published):
        humans = published[published["observer"] == "human"]
        one = humans[humans["participant"] == 0]
        found = analysis.planned_contrasts(one, self.TERMS)
        assert set(found["reason"]) == {"one listener"} and found["p"].isna().all()
        flat = analysis.planned_contrasts(humans.assign(correct=0.5), self.TERMS)
        assert set(flat["reason"]) == {"zero variance"}
        assert math.isnan(flat.loc[0, "p_permutation"])
