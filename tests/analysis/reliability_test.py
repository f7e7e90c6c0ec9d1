"""Reliability and error consistency on listeners of known truth."""

import numpy as np
import pandas as pd
import pytest

from metamer_jax import analysis
from metamer_jax.analysis import reliability


def trials(listeners=20, items=60, item_sd=1.0, listener_sd=0.0, seed=0, base=0.0, repeats=1):
    """Everybody hears the same metamers; items and listeners differ by these SDs (logit)."""
    rng = np.random.default_rng(seed)
    item = np.random.default_rng(99).normal(base, item_sd, items)  # The same for every seed.
    rows = []
    for who, skill in enumerate(rng.normal(0, listener_sd, listeners)):
        for i in np.repeat(np.arange(items), repeats):
            rows.append(
                {
                    "participant": f"p{seed}-{who:02d}",
                    "model": "ab"[i % 2],
                    "layer": "xyz"[i % 3],
                    "stimulus_id": f"s{i:02d}",
                    "response": "",
                    "correct": float(rng.random() < 1 / (1 + np.exp(-item[i] - skill))),
                }
            )
    return pd.DataFrame(rows)


class TestSplitHalf:
    def test_metamers_are_as_reliable_as_the_truth_says(self):
        """Reliability of a mean over L: item variance / (item variance + p (1 - p) / L)."""
        table = trials(listeners=24, items=300)
        p = 1 / (1 + np.exp(-np.random.default_rng(99).normal(0, 1.0, 300)))
        noise = np.mean(p * (1 - p)) / 24
        expected = np.var(p) / (np.var(p) + noise)
        found = analysis.split_half(table, splits=200).set_index("what")
        assert found.loc["metamers", "spearman_brown"] == pytest.approx(expected, abs=0.04)
        assert found.loc["metamers", "n"] == 300 and found.loc["metamers", "listeners"] == 24
        r = found.loc["metamers", "r"]
        assert found.loc["metamers", "spearman_brown"] == pytest.approx(2 * r / (1 + r))

    def test_listeners_differ_as_the_truth_says(self):
        table = trials(listeners=60, items=80, item_sd=0.0, listener_sd=0.8, seed=3)
        p = 1 / (1 + np.exp(-np.random.default_rng(3).normal(0, 0.8, 60)))
        noise = np.mean(p * (1 - p)) / 80
        expected = np.var(p) / (np.var(p) + noise)
        found = analysis.split_half(table, splits=100).set_index("what")
        assert found.loc["listeners", "spearman_brown"] == pytest.approx(expected, abs=0.07)
        same = trials(listeners=60, items=80, item_sd=0.0, seed=4)
        found = analysis.split_half(same, splits=100).set_index("what")
        assert abs(found.loc["listeners", "r"]) < 0.3

    def test_proportions_have_cells_alone(self):
        table = (
            trials().groupby(["participant", "model", "layer"], as_index=False)["correct"].mean()
        )
        found = analysis.split_half(table, splits=50).set_index("what")
        assert np.isfinite(found.loc["cells", "r"])
        assert "no column named 'stimulus_id'" in found.loc["metamers", "reason"]
        assert "proportions" in found.loc["listeners", "reason"]
        one = analysis.split_half(table[table["participant"] == "p0-00"]).set_index("what")
        assert one.loc["cells", "reason"] == "fewer than two listeners"

    def test_two_listeners_who_are_opposites(self):
        cells = [("a", "x", 1), ("a", "y", 0), ("b", "x", 0), ("b", "y", 1)]
        table = pd.DataFrame(
            [
                {"participant": who, "model": m, "layer": layer, "correct": c if who else 1 - c}
                for who in (0, 1)
                for m, layer, c in cells
            ]
        )
        row = analysis.split_half(table, splits=10).iloc[0]
        assert row["r"] == pytest.approx(-1) and np.isnan(row["spearman_brown"])
        assert row["reason"] == "the halves are opposite: no reliability"

    def test_correlations_are_numpys_where_both_have_a_value(self):
        rng = np.random.default_rng(0)
        a, b = rng.random((2, 5, 12))
        a[rng.random(a.shape) < 0.3] = np.nan
        found = reliability.row_correlations(a, b)
        for i in range(5):
            both = np.isfinite(a[i])
            assert found[i] == pytest.approx(np.corrcoef(a[i, both], b[i, both])[0, 1])


class TestCeilingAndMachines:
    def test_the_ceiling_by_its_definition(self):
        table = trials(listeners=6)
        wide = table.pivot(index="participant", columns="stimulus_id", values="correct")
        lower = [np.corrcoef(wide.loc[i], wide.drop(i).mean())[0, 1] for i in wide.index]
        upper = [np.corrcoef(wide.loc[i], wide.mean())[0, 1] for i in wide.index]
        found = analysis.noise_ceiling(table, level="metamer", resamples=500).iloc[0]
        assert found["r"] == found["lower"] == pytest.approx(np.mean(lower))
        assert found["upper"] == pytest.approx(np.mean(upper)) and found["upper"] > found["lower"]
        assert found["ci_low"] < found["r"] < found["ci_high"]

    def test_a_perfect_model_reaches_the_ceiling(self):
        people = trials(listeners=20, items=120)
        truth = 1 / (1 + np.exp(-np.random.default_rng(99).normal(0, 1.0, 120)))
        model = people[people["participant"] == "p0-00"].assign(participant="m", correct=truth)
        blind = model.assign(participant="n", correct=np.random.default_rng(1).random(120))
        found = analysis.noise_ceiling(people, pd.concat([model, blind]), level="metamer")
        found = found.set_index("who")
        row = found.loc["m"]
        assert row["lower"] < row["r"] < row["upper"]
        assert row["share_of_ceiling"] == pytest.approx(row["r"] / row["lower"])
        assert abs(found.loc["n", "r"]) < 0.1
        assert "mean of machines" in found.index

    def test_the_same_profile_correlates_at_one_once_noise_is_taken_away(self):
        people, machines = trials(12, 800, seed=1), trials(4, 800, seed=2)
        found = analysis.machine_correlation(people, machines, splits=100)
        row = found.set_index("level").loc["metamer"]
        assert row["r"] < 0.8 and row["r_corrected"] == pytest.approx(1, abs=0.1)
        product = row["reliability_listeners"] * row["reliability_machines"]
        assert row["r_corrected"] == pytest.approx(row["r"] / np.sqrt(product))
        assert row["corrected_low"] < row["r_corrected"] < row["corrected_high"]
        alone = machines[machines["participant"] == "p2-00"]
        row = (
            analysis.machine_correlation(people, alone, splits=50).set_index("level").loc["metamer"]
        )
        assert row["reliability_machines"] == 1


class TestErrorConsistency:
    def test_independent_and_identical_observers(self):
        people = trials(8, 400, item_sd=0.0)
        summary, pairs = analysis.error_consistency(people)
        row = summary.iloc[0]
        assert row["kind"] == "listeners" and row["pairs"] == 28 == len(pairs) and row["n"] == 8
        assert row["ci_low"] - 0.02 < 0 < row["ci_high"] + 0.02 and abs(row["kappa"]) < 0.03
        inside = (pairs["ci_low"] < 0) & (pairs["ci_high"] > 0)
        assert inside.mean() > 0.8
        twin = people[people["participant"] == "p0-00"].assign(participant="machine")
        summary, pairs = analysis.error_consistency(people, twin)
        pair = pairs[(pairs["observer_a"] == "p0-00") & (pairs["observer_b"] == "machine")].iloc[0]
        assert pair["kappa"] == 1 and pair["kind"] == "listeners and machines"
        assert set(summary["kind"]) == {"listeners", "listeners and machines"}

    def test_by_hand(self):
        """Geirhos et al. (2020), equation 4: of 10 metamers, 6 and 5 right, 7 agree."""
        x = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
        y = [1, 1, 1, 1, 0, 0, 1, 0, 0, 0]
        rows = [
            {"participant": who, "stimulus_id": f"s{i}", "model": "m", "layer": "x", "correct": c}
            for who, answers in (("a", x), ("b", y))
            for i, c in enumerate(answers)
        ]
        _, pairs = analysis.error_consistency(pd.DataFrame(rows))
        expected = 0.6 * 0.5 + 0.4 * 0.5
        assert pairs.loc[0, "agreement"] == 0.7 and pairs.loc[0, "expected"] == expected
        assert pairs.loc[0, "kappa"] == pytest.approx((0.7 - expected) / (1 - expected))
        assert pairs.loc[0, "kappa_within"] == pytest.approx(pairs.loc[0, "kappa"])

    def test_layers_of_different_difficulty_alone_make_no_consistency_within(self):
        rng = np.random.default_rng(5)
        table = trials(10, 300, item_sd=0.0)
        p = table["layer"].map({"x": 0.95, "y": 0.5, "z": 0.1})
        table = table.assign(correct=(rng.random(len(table)) < p).astype(float))
        row = analysis.error_consistency(table)[0].iloc[0]
        assert row["kappa"] > 0.4 and abs(row["kappa_within"]) < 0.03

    def test_what_cannot_be_judged(self):
        table = trials(3, 6).assign(correct=1.0)
        summary, pairs = analysis.error_consistency(table)
        assert set(pairs["reason"]) == {"zero variance"} and np.isnan(summary.loc[0, "kappa"])
        with pytest.raises(ValueError, match="the table holds proportions"):
            analysis.error_consistency(table.assign(correct=0.5))
        with pytest.raises(ValueError, match="do not tell which metamer"):
            analysis.error_consistency(table.assign(stimulus_id=""))


def test_every_metamer_by_itself():
    table = trials(30, 20, listener_sd=1.5, repeats=1)
    table.loc[table["stimulus_id"] == "s00", "response"] = "go"
    found = analysis.stimuli(table).set_index("stimulus_id")
    assert len(found) == 20 and set(found["n"]) == {30}
    wide = table.pivot(index="participant", columns="stimulus_id", values="correct")
    rest = wide.drop(columns="s03").mean(axis=1)
    assert found.loc["s03", "item_rest_r"] == pytest.approx(np.corrcoef(wide["s03"], rest)[0, 1])
    assert found["item_rest_r"].mean() > 0.2
    assert found.loc["s00", ["modal_response", "modal_share"]].tolist() == ["go", 1.0]
    few = analysis.stimuli(table[table["participant"] < "p0-02"])
    assert set(few["reason"]) == {"fewer than three listeners"}
