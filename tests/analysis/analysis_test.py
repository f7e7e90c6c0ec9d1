import itertools
import json
import math
import pathlib
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from metamer_jax import analysis
from metamer_jax.analysis import intervals

DATA = pathlib.Path(__file__).parents[1] / "reference" / "human_responses"
EXPECTED = json.loads((DATA / "auditory_3_expected.json").read_text())
TESTS = EXPECTED["tests"]

# Right answers out of 56 to the metamers of the 2D and the grouped network: the paper's Table 1.
COUNTS = {
    "cochleagram": (56, 56),
    "conv1": (50, 43),
    "conv2": (47, 46),
    "dense": (18, 30),
    "logits": (8, 8),
}
PRINTED = {"conv1": "0.079", "conv2": "0.803", "dense": "0.022", "logits": "1.000", "all": "0.724"}


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def published():
    return pd.read_csv(DATA / "auditory_3.csv")


@pytest.fixture(scope="module")
def table_1():
    """Trials with the paper's counts: 7 conditions, of which the author took the last three."""
    rng = np.random.default_rng(0)
    rows = []
    for index, (layer, counts) in enumerate(COUNTS.items()):
        for model, count in zip(("conv2d", "frequency_grouped"), counts, strict=True):
            correct = rng.permutation(np.arange(56) < count).astype(int)
            for i, value in enumerate(correct):
                row = {"participant": f"p{min(i // 8, 4)}", "condition": i // 8, "model": model}
                rows.append(row | {"layer": layer, "layer_index": index, "correct": value})
    return pd.DataFrame(rows)


def simulated(seed=0, listeners=6, trials=4, models=("a", "b"), layers=("x", "y", "z")):
    """Trials of listeners who differ; no cell is all right or all wrong."""
    rng = np.random.default_rng(seed)
    rows = []
    for participant in range(listeners):
        skill = rng.normal(0, 0.7)
        for j, layer in enumerate(layers):
            for k, model in enumerate(models):
                p = 1 / (1 + np.exp(-(skill + 0.8 - 0.7 * j + 0.4 * k)))
                for correct in rng.random(trials) < p:
                    row = {"participant": participant, "layer": layer, "model": model}
                    rows.append(row | {"correct": int(correct)})
    return pd.DataFrame(rows)


def scores(seed=0, subjects=8, groups=1, shape=(3, 2)):
    """A proportion table with columns s, g, u, v, y."""
    rng = np.random.default_rng(seed)
    rows = []
    for s in range(subjects):
        for cell in np.ndindex(shape):
            y = rng.random() + 0.3 * cell[0] * (s % groups) + 0.1 * s / subjects
            rows.append({"s": s, "g": "gh"[s % groups], "u": cell[0], "v": cell[1], "y": y})
    return pd.DataFrame(rows)


class TestAnovaPublished:
    @pytest.mark.parametrize("test", TESTS, ids=lambda test: test["id"])
    def test_reproduces_feather_2023(self, published, test):
        result = analysis.anova(
            published,
            dv="proportion_correct",
            subject=test["subject"],
            within=test["within"],
            between=test["between"],
            where=test["filter"],
            scheme="feather2023",
            seed=1,
        ).set_index("effect")
        assert list(result.index) == list(test["effects"])
        for effect, values in test["effects"].items():
            for name, value in values.items():
                got = result.loc[effect, name]
                if name in ("df1", "df2"):
                    assert got == value
                elif name.startswith("p") and value < 1e-12:
                    assert math.log10(got) == pytest.approx(math.log10(value), abs=0.01)
                else:
                    rel = 1e-6 if name.startswith("eps") else 6e-4
                    assert got == pytest.approx(value, rel=rel), (effect, name)
        for effect, p in test["permutation"]["p"].items():
            q = max(p, 1e-4)
            tolerance = 3.5 * math.sqrt(2 * q * (1 - q) / 10_000)
            assert max(result.loc[effect, "p_perm"], 1e-4) == pytest.approx(p, abs=tolerance)
        assert set(result["n"]) == {40 if test["between"] else 20}
        assert (result["unit"] == ", ".join(test["subject"])).all()

    @pytest.mark.parametrize(
        "test", [t for t in TESTS if "derived_paired_t" in t], ids=lambda test: test["id"]
    )
    def test_reproduces_the_paired_t_of_layers(self, published, test):
        humans = published[published["observer"] == "human"]
        result = analysis.compare_models(
            humans.rename(columns={"proportion_correct": "correct"}),
            models=test["filter"]["model"],
            resamples=0,
            permutations=0,
        ).set_index("layer")
        expected = test["derived_paired_t"]
        row = result.iloc[0]
        assert expected["direction"] == f"{row['model_b']} minus {row['model_a']}"
        assert list(result.index) == [layer["layer"] for layer in expected["layers"]] + ["all"]
        assert set(result["n"]) == {20} and set(result["unit"]) == {"participant"}
        for layer in expected["layers"]:
            got = result.loc[layer["layer"]]
            names = {"mean_diff": "difference", "t": "statistic", "p": "p"}
            names |= {"dz": "dz", "p_holm": "p_holm"}
            for theirs, ours in names.items():
                if layer[theirs] is None:
                    assert math.isnan(got[ours]) and got["reason"] == "zero variance"
                else:
                    assert got[ours] == pytest.approx(layer[theirs], rel=1e-6, abs=1e-12)

    def test_layers_by_index_leaving_one_out(self, published):
        humans = {"observer": "human", "model": "cochresnet50"}
        result = analysis.anova(
            published,
            dv="proportion_correct",
            subject="participant",
            within=["layer_index"],
            where=humans,
            exclude={"layer": "final"},
            permutations=99,
            scheme="feather2023",
        )
        assert list(result["effect"]) == ["layer_index"]
        assert result.loc[0, "df1"] == 7 and result.loc[0, "df2"] == 7 * 19
        assert result.loc[0, "p_perm"] == 1 / 99


class TestAnova:
    @pytest.mark.parametrize("within", [["u"], ["u", "v"], ["v", "u"]])
    def test_f_agrees_with_statsmodels(self, within):
        import statsmodels.stats.anova

        table = scores()
        result = analysis.anova(table, dv="y", subject="s", within=within, permutations=0)
        averaged = table.groupby(["s", *within], as_index=False)["y"].mean()
        other = statsmodels.stats.anova.AnovaRM(averaged, "y", "s", within).fit().anova_table
        np.testing.assert_allclose(result["F"], other["F Value"], rtol=1e-9)
        np.testing.assert_allclose(result["p"], other["Pr > F"], rtol=1e-9)
        np.testing.assert_array_equal(result["df2"], other["Den DF"])
        assert list(result["effect"]) == [*within, ":".join(within)][: len(result)]

    def test_groups_of_different_size_agree_with_t_tests(self):
        """Two levels: everything is a t test of sums or differences; type III for the mean."""
        table = scores(subjects=9, groups=2, shape=(2, 1))  # 5 in g, 4 in h
        result = analysis.anova(
            table, dv="y", subject="s", within="u", between="g", permutations=0
        ).set_index("effect")
        wide = table.pivot(index=["g", "s"], columns="u", values="y")
        difference, total = wide[1] - wide[0], wide[0] + wide[1]
        for effect, values in (("g", total), ("g:u", difference)):
            test = scipy.stats.ttest_ind(values.loc["g"], values.loc["h"])
            assert result.loc[effect, "F"] == pytest.approx(test.statistic**2)
            assert result.loc[effect, "p"] == pytest.approx(test.pvalue)
        g, h = difference.loc["g"], difference.loc["h"]
        variance = (4 * g.var() + 3 * h.var()) / 7
        t = (g.mean() + h.mean()) / np.sqrt(variance * (1 / 5 + 1 / 4))
        assert result.loc["u", "F"] == pytest.approx(t**2)
        assert result["design"].iloc[0] == "g (g 5, h 4, between) x u (2, within)"

    def test_sums_of_squares_add_up(self):
        table = scores(subjects=8, groups=2)
        result = analysis.anova(
            table, dv="y", subject="s", within=["u", "v"], between="g", permutations=0
        ).set_index("effect")
        assert list(result.index) == ["g", "u", "g:u", "v", "g:v", "u:v", "g:u:v"]
        errors = result.loc[["g", "u", "v", "u:v"], "ss_error"].sum()
        total = ((table["y"] - table["y"].mean()) ** 2).sum()
        assert result["ss"].sum() + errors == pytest.approx(total)
        between = result.loc["g"]
        assert between["p"] == between["p_gg"] == between["p_hf"] == between["p_lb"]
        assert between["eps_gg"] == between["eps_hf"] == 1

    def test_epsilons_reach_their_bounds(self):
        assert analysis.epsilons(np.eye(4), 20) == pytest.approx((1, 1, 0.25))
        one = np.outer([1.0, 2, 3, 4], [1.0, 2, 3, 4])
        assert analysis.epsilons(one, 20) == pytest.approx((0.25, 0.25, 0.25), abs=0.02)
        # Feather et al. (2023), four self-supervised networks by eight layers, 21 people: both
        # epsilons follow from the published p; 21 contrasts, so the covariance has rank 20.
        some = np.diag(np.r_[np.full(19, 1.0), 0, 8.44324])
        gg, hf, _ = analysis.epsilons(some, 21)
        assert gg == pytest.approx(0.397210, rel=1e-3) and hf == pytest.approx(0.707303, rel=3e-3)
        # As many contrasts as subjects: the covariance has no full rank, epsilon still exists.
        wide = analysis.anova(
            scores(subjects=4, shape=(6, 2)), dv="y", subject="s", within="u", permutations=0
        )
        assert 0.2 <= wide.loc[0, "eps_gg"] <= wide.loc[0, "eps_hf"] <= 1

    def test_does_not_depend_on_order_dtype_or_aggregation(self):
        table = scores(subjects=8, groups=2)
        arguments = {"dv": "y", "subject": ["s"], "within": ["u", "v"], "between": "g"}
        arguments |= {"permutations": 200}
        first = analysis.anova(table, **arguments)
        other = table.sample(frac=1, random_state=1)[["y", "v", "g", "u", "s"]]
        pd.testing.assert_frame_equal(first, analysis.anova(other, **arguments), check_exact=True)
        other = other.astype({"g": "category", "u": pd.CategoricalDtype([7, 2, 0, 1]), "v": float})
        pd.testing.assert_frame_equal(
            first.drop(columns="p_perm"),
            analysis.anova(other, **arguments).drop(columns="p_perm"),
        )
        # Trials that average to the same cells.
        trials = pd.concat([table.assign(y=table["y"] + d) for d in (-0.1, 0.1)])
        pd.testing.assert_frame_equal(first, analysis.anova(trials, **arguments))

    def test_float_levels_and_booleans(self):
        table = scores().assign(u=lambda t: t["u"] * 0.31623, y=lambda t: t["y"] > 0.5)
        result = analysis.anova(table, dv="y", subject="s", within="u", permutations=0)
        assert result.loc[0, "df1"] == 2
        fewer = analysis.anova(
            table, dv="y", subject="s", within="u", permutations=0, exclude={"u": [0.31623]}
        )
        assert fewer.loc[0, "df1"] == 1

    @pytest.mark.parametrize("groups", [1, 2])
    def test_permutation_p_follow_the_f_distribution(self, groups):
        table = scores(seed=3, subjects=12, groups=groups)
        result = analysis.anova(
            table,
            dv="y",
            subject="s",
            within=["u", "v"],
            between="g" if groups == 2 else None,
            permutations=4000,
        )
        np.testing.assert_allclose(result["p_perm"], result["p"], atol=0.06)
        assert (result["p_perm"] >= 1 / 4001).all()

    def test_residual_permutation_of_two_levels_is_the_sign_flip(self):
        """With 2 levels all that can happen within a subject is a change of sign."""
        table = scores(seed=5, subjects=9, shape=(2, 2))
        result = analysis.anova(table, dv="y", subject="s", within=["u", "v"], permutations=20_000)
        cells = table.pivot(index="s", columns=["u", "v"], values="y").to_numpy()
        interaction = cells @ [1, -1, -1, 1]
        exact, patterns = intervals.sign_flip(interaction, 1000, 0)
        assert patterns == 512
        assert result.loc[2, "p_perm"] == pytest.approx(exact, abs=0.015)

    def test_zero_variance_has_a_reason(self):
        table = scores().assign(y=lambda t: t["u"] / 3)
        result = analysis.anova(table, dv="y", subject="s", within=["u", "v"], permutations=10)
        assert (result["reason"] == "zero variance").all()
        assert result[["F", "p", "p_gg", "p_perm", "np2"]].isna().all(axis=None)
        records = analysis.to_records(result)
        assert records[0]["p"] is None and records[0]["effect"] == "u"
        assert json.loads(analysis.to_json(result)) == records

    @pytest.mark.parametrize(
        ("change", "arguments", "message"),
        [
            ({}, {"within": ["u", "w"]}, r"no column named 'w'"),
            ({}, {"within": ["u", "v", "g"]}, r"within: expected one or two"),
            ({}, {"within": ["u", "u"]}, r"within: a column is named twice"),
            ({}, {"between": "u"}, r"between: column 'u' is already given as within"),
            ({}, {"subject": ["s", "v"]}, r"subject: column 'v' is already given as within"),
            ({}, {"between": "v", "within": "u"}, r"\(s=0\) has more than one 'v'.*\['v', 's'\]"),
            ({"g": "g"}, {"between": "g"}, r"between: 'g' needs two levels"),
            ({"v": 1}, {}, r"within: 'v' needs two levels"),
            ({}, {"scheme": "other"}, r"scheme: expected one of"),
            ({}, {"permutations": -1}, r"permutations: expected a whole number from 0, got -1"),
            ({}, {"permutations": 1.5}, r"permutations: expected a whole number from 0, got 1.5"),
            ({}, {"where": {"g": "x"}}, r"where\['g'\]: no row has 'x'; found 'g'"),
            ({}, {"where": {"x": 1}}, r"no column named 'x'"),
            ({}, {"exclude": {"s": list(range(8))}}, r"no row left"),
            ({}, {"where": {"s": 3}}, r"1 subjects in 1 groups leave no error term"),
        ],
    )
    def test_bad_arguments_are_named(self, change, arguments, message):
        table = scores().assign(**change)
        arguments = {"dv": "y", "subject": ["s"], "within": ["u", "v"]} | arguments
        with pytest.raises(ValueError, match=message):
            analysis.anova(table, **arguments)

    def test_bad_rows_are_named(self):
        table = scores()
        table.index = table.index + 100
        arguments = {"dv": "y", "subject": "s", "within": ["u", "v"]}
        with pytest.raises(ValueError, match=r"subject \(s=2\) in cell \(u=1, v=0\); 1 cells"):
            analysis.anova(table.query("not (s == 2 and u == 1 and v == 0)"), **arguments)
        for column, value in (("y", np.nan), ("y", "much"), ("u", np.nan), ("s", None)):
            bad = table.astype({column: object})
            bad.loc[117, column] = value
            with pytest.raises(ValueError, match=rf"column '{column}', row 117: expected"):
                analysis.anova(bad, **arguments)
        with pytest.raises(ValueError, match="expected at least one row"):
            analysis.anova(table.iloc[:0], **arguments)
        with pytest.raises(ValueError, match="expected a pandas DataFrame, got dict"):
            analysis.anova({}, **arguments)


class TestCompareModels:
    def test_reproduces_table_1_of_the_paper(self, table_1):
        result = analysis.compare_models(table_1, method="paper").set_index("layer")
        assert list(result.index) == [*COUNTS, "all"]
        for layer, printed in PRINTED.items():
            assert f"{result.loc[layer, 'p']:.3f}" == printed
            assert result.loc[layer, "reason"] == ""
        assert math.isnan(result.loc["cochleagram", "p"])
        assert result.loc["cochleagram", "reason"] == "zero variance"
        assert result.loc["dense", "p_holm"] == pytest.approx(0.087, abs=5e-4)
        assert math.isnan(result.loc["all", "p_holm"]) and set(result["holm_tests"]) == {4}
        assert set(result["unit"]) == {"trial"}
        assert list(result["n"]) == [112] * 5 + [560]
        assert result.loc["all", ["correct_a", "correct_b"]].tolist() == [179, 183]
        assert result.loc["dense", "statistic"] > 0  # later minus earlier: grouped minus 2D

    def test_listeners_are_the_unit(self, table_1):
        result = analysis.compare_models(table_1).set_index("layer")
        assert set(result["unit"]) == {"participant"} and set(result["n"]) == {5}
        shares = table_1.groupby(["participant", "layer", "model"])["correct"].mean().unstack()
        shares = shares["frequency_grouped"] - shares["conv2d"]
        for layer in ("conv1", "dense"):
            own = shares.xs(layer, level="layer")
            test = scipy.stats.ttest_1samp(own, 0)
            row = result.loc[layer]
            assert row["difference"] == pytest.approx(own.mean())
            assert row["statistic"] == pytest.approx(test.statistic)
            assert row["p"] == pytest.approx(test.pvalue)
            assert row["dz"] == pytest.approx(own.mean() / own.std())
            flips = scipy.stats.permutation_test(
                (own.to_numpy(),), np.mean, permutation_type="samples", n_resamples=np.inf
            )
            assert row["p_permutation"] == pytest.approx(flips.pvalue)
            assert row["permutations"] == 32
            assert row["ci_low"] < row["difference"] < row["ci_high"]
        assert result.loc["cochleagram", "reason"] == "zero variance"
        undefined = ["p", "p_holm", "p_permutation", "statistic", "dz", "ci_low", "ci_high"]
        assert result.loc["cochleagram", undefined].isna().all()
        overall = shares.groupby("participant").mean()
        assert result.loc["all", "p"] == pytest.approx(scipy.stats.ttest_1samp(overall, 0).pvalue)

    def test_conditions_as_units_warn(self, table_1):
        with pytest.warns(UserWarning, match="7 units of participant x condition come from 5"):
            result = analysis.compare_models(table_1, unit="condition")
        assert set(result["n"]) == {7}
        assert set(result["unit"]) == {"participant x condition"}
        own = table_1.assign(participant=table_1["condition"])
        analysis.compare_models(own, unit="condition")  # One each: nothing to warn of.

    def test_pooled_proportions(self, table_1):
        import statsmodels.stats.proportion

        result = analysis.compare_models(table_1, chance=1 / 8)
        row = result.set_index("layer").loc["dense"]
        low, high = statsmodels.stats.proportion.proportion_confint(18, 56, method="wilson")
        assert (row["wilson_low_a"], row["wilson_high_a"]) == pytest.approx((low, high))
        assert row["p_chance_a"] == pytest.approx(scipy.stats.binomtest(18, 56, 1 / 8).pvalue)
        assert row["trials_a"] == 56 and row["proportion_unit"] == "trial"
        assert row["chance"] == 1 / 8
        unknown = analysis.compare_models(table_1)
        assert unknown[["p_chance_a", "p_chance_b", "chance"]].isna().all(axis=None)

    def test_wilson_of_shares(self):
        for correct, trials in ((0, 7), (18, 56), (56, 56)):
            expected = scipy.stats.binomtest(correct, trials).proportion_ci(method="wilson")
            assert intervals.wilson(correct / trials, trials) == pytest.approx(tuple(expected))
        assert np.isnan(intervals.wilson(np.nan, 0)).all()

    def test_one_constant_side_does_not_warn(self, table_1):
        one = table_1["model"] == "conv2d"
        table = table_1.assign(correct=table_1["correct"].where(~one, 1))
        result = analysis.compare_models(table, method="paper").set_index("layer")
        sides = [table.loc[m & (table["layer"] == "dense"), "correct"] for m in (~one, one)]
        assert result.loc["dense", "p"] < 1e-4
        assert result.loc["dense", "difference"] == sides[0].mean() - sides[1].mean()

    def test_does_not_depend_on_order_or_dtype(self, table_1):
        first = analysis.compare_models(table_1)
        other = table_1.sample(frac=1, random_state=1)[table_1.columns[::-1]]
        pd.testing.assert_frame_equal(first, analysis.compare_models(other), check_exact=True)
        other = other.astype({"model": "category", "participant": "category", "correct": bool})
        pd.testing.assert_frame_equal(first, analysis.compare_models(other), check_exact=True)
        floats = table_1.assign(layer=table_1["layer_index"] * 0.5)
        assert list(analysis.compare_models(floats)["layer"]) == [0, 0.5, 1, 1.5, 2, "all"]

    def test_order_of_models_gives_the_sign(self, table_1):
        first = analysis.compare_models(table_1)
        second = analysis.compare_models(table_1, models=["frequency_grouped", "conv2d"])
        np.testing.assert_allclose(second["difference"], -first["difference"])
        np.testing.assert_allclose(second["p"], first["p"])
        np.testing.assert_allclose(second["p_permutation"], first["p_permutation"])

    def test_more_models_are_compared_pairwise(self):
        table = simulated(models=("a", "b", "c"), listeners=15, trials=40)
        result = analysis.compare_models(table, resamples=200)
        assert len(result) == 3 * 4 and set(result["holm_tests"]) == {9}
        assert list(result["model_b"].unique()) == ["b", "c"]
        assert (result["permutations"] == 10_000).all()
        # Draws of signs agree with the t test; the floor is 1 / (draws + 1).
        np.testing.assert_allclose(result["p_permutation"], result["p"], atol=0.1)
        two = analysis.compare_models(table, models=("a", "c"), resamples=200)
        assert set(two["holm_tests"]) == {3}

    def test_only_metamers_count(self, table_1):
        natural = table_1.assign(kind="natural", correct=0, model="none")
        both = pd.concat([table_1.assign(kind="metamer"), natural])
        pd.testing.assert_frame_equal(
            analysis.compare_models(both), analysis.compare_models(table_1)
        )
        with pytest.raises(ValueError, match="no row of kind \\['catch'\\]"):
            analysis.compare_models(both, kinds=("catch",))

    def test_constant_differences_keep_their_permutation_p(self):
        table = simulated(listeners=5).groupby(["participant", "layer", "model"]).first()
        table = table.reset_index().assign(correct=lambda t: (t["model"] == "b").astype(int))
        row = analysis.compare_models(table).iloc[0]
        assert row["difference"] == 1 and row["reason"] == "zero variance"
        assert row["p_permutation"] == 2 / 32 and math.isnan(row["p"])
        assert analysis.compare_models(table, "paper").iloc[0]["reason"] == "zero variance"

    def test_missing_cells(self):
        table = simulated().query("not (participant == 2 and layer == 'y' and model == 'a')")
        with pytest.raises(
            ValueError, match=r"\(participant=2\) has no trial with layer 'y', model 'a'; 1 cells"
        ):
            analysis.compare_models(table)
        result = analysis.compare_models(table, missing="drop").set_index("layer")
        assert result["n"].to_dict() == {"x": 6, "y": 5, "z": 6, "all": 5}
        table = simulated().query("not (layer == 'y' and model == 'a')")
        row = analysis.compare_models(table, missing="drop").set_index("layer").loc["y"]
        assert row["reason"] == "no trials of model_a" and row["n"] == 0
        row = analysis.compare_models(table, "paper").set_index("layer").loc["y"]
        assert row["reason"] == "no trials of model_a"

    def test_one_listener_and_one_trial(self):
        one = simulated(listeners=1, trials=1)
        result = analysis.compare_models(one)
        assert (result["reason"] == "one listener").all() and result["p"].isna().all()
        result = analysis.compare_models(one, "paper").set_index("layer")
        assert (result.loc[["x", "y", "z"], "reason"] == "one trial per model").all()

    @pytest.mark.parametrize("method", ["listener", "paper"])
    def test_a_third_model_with_other_layers_leaves_a_pair_as_it_is(self, method):
        table = simulated()
        third = simulated(seed=1, models=("c",), layers=("v", "w"))
        both = pd.concat([table, third], ignore_index=True)
        alone = analysis.compare_models(table, method)
        beside = analysis.compare_models(both, method)
        pair = beside[beside["model_b"] == "b"].reset_index(drop=True)
        columns = ["layer", "n", "difference", "p", "p_permutation", "ci_low", "reason"]
        pd.testing.assert_frame_equal(pair[columns], alone[columns])
        others = beside[beside["model_b"] == "c"].set_index(["model_a", "layer"])
        assert others.loc[("a", "all"), "reason"] == "the models share no layer (paired by name)"
        assert others.loc[("a", "x"), "reason"] == "no trials of model_b"
        assert others.loc[("a", "v"), "reason"] == "no trials of model_a"

    def test_layers_are_paired_by_index_or_table(self):
        table = simulated()
        renamed = table.assign(
            layer_index=table["layer"].map({"x": 1, "y": 2, "z": 3}),
            layer=table["layer"].where(table["model"] == "a", table["layer"] + "b"),
        )
        same = analysis.compare_models(table).set_index("layer")
        by_index = analysis.compare_models(renamed, pairing="index")
        assert list(by_index["layer"]) == ["x / xb", "y / yb", "z / zb", "all"]
        assert list(by_index["layer_b"]) == ["xb", "yb", "zb", ""]
        assert set(by_index["pairing"]) == {"index"}
        np.testing.assert_allclose(by_index["p"], same["p"])
        given = {"late": {"a": "z", "b": "zb"}, "early": {"a": "x", "b": "xb"}}
        by_table = analysis.compare_models(renamed, pairing=given).set_index("layer")
        assert set(by_table["pairing"]) == {"table"}
        assert list(by_table.index) == ["late", "early", "all"]
        assert by_table.loc["early", "p"] == pytest.approx(same.loc["x", "p"])
        by_name = analysis.compare_models(renamed).set_index("layer")
        assert by_name.loc["all", "reason"] == "the models share no layer (paired by name)"
        assert by_name.loc["xb", "reason"] == "no trials of model_a"

    def test_nobody_heard_everything(self):
        table = simulated().query(
            "not (participant < 3 and layer == 'x' and model == 'a')"
            " and not (participant >= 3 and layer == 'y' and model == 'b')"
        )
        result = analysis.compare_models(table, missing="drop").set_index("layer")
        assert result.loc["x", "n"] == 3 and result.loc["z", "n"] == 6
        reason = "no listener heard both models at every layer that they share"
        assert result.loc["all", "reason"] == reason
        apart = simulated().query("(participant < 3) == (model == 'a')")
        result = analysis.compare_models(apart, missing="drop")
        assert set(result["reason"]) == {"no listener heard both models"}

    @pytest.mark.parametrize(
        ("change", "arguments", "message"),
        [
            ({}, {"pairing": "depth"}, "pairing: expected one of"),
            ({}, {"pairing": "index"}, "no column named 'layer_index'"),
            ({"layer_index": 1}, {"pairing": "index"}, "model='a', index=1.0 has two layers"),
            ({}, {"pairing": {"x": {"a": "q"}}}, "model 'a' has no layer 'q'; found 'x'"),
            ({}, {"pairing": {"x": {"c": "q"}}}, "pairing: no row has any of its layers"),
            ({}, {"method": "t"}, "method: expected one of"),
            ({}, {"unit": "trial"}, "unit: expected one of"),
            ({}, {"unit": "session"}, "no column named 'session'"),
            ({}, {"missing": "skip"}, "missing: expected one of"),
            ({}, {"chance": 8}, "chance: expected a number between 0 and 1, got 8"),
            ({}, {"confidence": 95}, "confidence: expected a number between 0 and 1"),
            ({}, {"permutations": -5}, "permutations: expected a whole number from 0"),
            ({}, {"models": ["a"]}, "models: expected two or more different models"),
            ({}, {"models": "ab"}, "models: expected two or more names"),
            ({}, {"models": ["a", "q"]}, "models: no row has model 'q'; found 'a', 'b'"),
            ({"model": "a"}, {}, "models: expected two or more different models"),
            (
                {"correct": 0.5},
                {"method": "paper"},
                "column 'correct', row 0: expected 0 or 1, as method 'paper'",
            ),
            ({"correct": 2}, {}, "column 'correct', row 0: expected 0 or 1"),
            ({"layer": "all"}, {}, "'all' is the name of the row"),
            ({"participant": None}, {}, "column 'participant', row 0: expected a label"),
        ],
    )
    def test_bad_arguments_are_named(self, change, arguments, message):
        with pytest.raises(ValueError, match=message):
            analysis.compare_models(simulated().assign(**change), **arguments)


class TestIntervals:
    def test_bca_follows_efron(self):
        """Efron and Tibshirani (1993), 14.3: bias and acceleration written out, ties by half."""
        rng = np.random.default_rng(2)
        for values in (rng.exponential(1, 20), rng.integers(0, 4, 12) / 3):
            n = len(values)
            means = np.round(values[rng.integers(0, n, (50_000, n))].mean(axis=1), 12)
            mean = np.round(values.mean(), 12)
            bias = scipy.stats.norm.ppf(np.mean(means < mean) + np.mean(means == mean) / 2)
            left_out = (values.sum() - values) / (n - 1)
            spread = left_out.mean() - left_out
            a = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
            tail = bias + scipy.stats.norm.ppf([0.05, 0.95])
            expected = np.quantile(means, scipy.stats.norm.cdf(bias + tail / (1 - a * tail)))
            ours = intervals.bca(values, 0.9, 50_000, 0)
            assert ours == pytest.approx(tuple(expected), abs=0.02)
        assert all(map(math.isnan, intervals.bca(np.ones(5), 0.9, 100, 0)))

    def test_corrections_by_hand(self):
        p = np.array([0.01, np.nan, 0.04, 0.03, 0.005, 0.9])
        holm = [0.04, np.nan, 0.09, 0.09, 0.025, 0.9]  # 4 x .01; 3 x .03; no less than before.
        np.testing.assert_allclose(intervals.correct(p), holm)
        bonferroni = [0.05, np.nan, 0.2, 0.15, 0.025, 1]
        np.testing.assert_allclose(intervals.correct(p, "bonferroni"), bonferroni)
        fdr = [0.025, np.nan, 0.05, 0.05, 0.025, 0.9]
        np.testing.assert_allclose(intervals.correct(p, "fdr_bh"), fdr)
        assert np.isnan(intervals.correct(np.full(2, np.nan))).all()

    def test_sign_flip_counts_every_pattern(self):
        d = np.array([1, 2, 0, 1, -1, 3]) / 3  # Ties among the sums, but for rounding.
        sums = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=6)]
        expected = np.mean(np.array(sums) >= abs(d.sum()) - 1e-9)
        assert intervals.sign_flip(d, 64, 0) == (expected, 64)
        assert math.isnan(intervals.sign_flip(np.zeros(4), 64, 0)[0])

    def test_sign_flip_counts_or_draws(self):
        d = np.random.default_rng(1).normal(0.4, 1, 12)
        exact, patterns = intervals.sign_flip(d, 10_000, 0)
        drawn, draws = intervals.sign_flip(d, 4000, 0)
        assert (patterns, draws) == (4096, 4000)
        assert drawn == pytest.approx(exact, abs=0.03)


class TestGee:
    def test_agrees_with_a_formula_in_statsmodels(self):
        import statsmodels.api as sm
        import statsmodels.formula.api as smf

        table = simulated(listeners=12, trials=8)
        result = analysis.gee(table, covariance="robust")
        fitted = smf.gee(
            "correct ~ C(model) * C(layer)",
            "participant",
            table,
            family=sm.families.Binomial(),
            cov_struct=sm.cov_struct.Exchangeable(),
        ).fit()
        at_x = result[result["level"] == "x"].iloc[0]
        assert at_x["estimate"] == pytest.approx(fitted.params["C(model)[T.b]"], rel=1e-5)
        assert at_x["se"] == pytest.approx(fitted.bse["C(model)[T.b]"], rel=1e-5)
        assert at_x["odds_ratio"] == pytest.approx(np.exp(at_x["estimate"]))
        joint = result[result["effect"] == "model:layer"].iloc[0]
        wald = fitted.wald_test(np.eye(6)[4:], scalar=True)
        assert joint["statistic"] == pytest.approx(float(wald.statistic) / 2, rel=1e-4)
        assert list(result["effect"]) == ["model", "layer", "model:layer", *["model"] * 3]
        assert set(result["clusters"]) == {12}
        assert result["n"].tolist() == [576] * 3 + [192] * 3
        assert set(result["unit"]) == {"trial, clustered by participant"}

    def test_layers_without_variance_have_a_reason(self, table_1):
        result = analysis.gee(table_1)
        coch = result[result["level"] == "cochleagram"].iloc[0]
        assert math.isnan(coch["p"])
        assert coch["reason"] == "zero variance: conv2d all right, frequency_grouped all right"
        assert result.loc[0, "levels"] == "conv1, conv2, dense, logits"
        logits = result[result["level"] == "logits"].iloc[0]
        assert logits["p"] == pytest.approx(1) and logits["odds_ratio"] == pytest.approx(1)
        alone = analysis.gee(table_1[table_1["layer"] == "cochleagram"])
        assert alone["p"].isna().all() and (alone["reason"] != "").all()

    def test_few_listeners_and_one_factor(self):
        few = analysis.gee(simulated(listeners=2, trials=12))
        joint = few[few["effect"] == "layer"].iloc[0]
        assert joint["reason"] == "2 contrasts need more than 2 listeners"
        one = analysis.gee(simulated(), "model")
        assert len(one) == 1 and one.loc[0, "p"] > 0

    @pytest.mark.parametrize(
        ("change", "arguments", "message"),
        [
            ({}, {"correlation": "ar1"}, "correlation: expected one of"),
            ({}, {"covariance": "naive"}, "covariance: expected one of"),
            ({}, {"factors": ["model", "participant"]}, "factors: expected one or two columns"),
            ({}, {"factors": ["model", "word"]}, "no column named 'word'"),
            ({"model": "a"}, {}, "factors: 'model' needs two levels"),
            ({"participant": 1}, {}, "cluster: 'participant' needs two levels"),
            ({"correct": 0.25}, {}, "column 'correct', row 0: expected 0 or 1, got 0.25"),
        ],
    )
    def test_bad_arguments_are_named(self, change, arguments, message):
        with pytest.raises(ValueError, match=message):
            analysis.gee(simulated().assign(**change), **arguments)


class TestPower:
    def test_lands_on_the_planned_figures(self):
        result = analysis.power((7, 20))
        assert result["power"].tolist() == pytest.approx([0.44, 0.93], abs=0.02)
        assert (result["ci_low"] < result["power"]).all()
        assert "7 listeners, 8 trials" in result.loc[0, "assumptions"]
        assert "SD 0.5 logit of listeners and 0.3 logit" in result.loc[0, "assumptions"]
        pd.testing.assert_frame_equal(analysis.power(20), result[1:].reset_index(drop=True))

    def test_without_a_difference_it_is_the_level(self):
        result = analysis.power(15, proportions=(0.4, 0.4), trials=20)
        assert result.loc[0, "power"] == pytest.approx(0.05, abs=0.01)

    def test_items_cost_power_and_shared_ones_make_false_alarms(self):
        plain = analysis.power(15, simulations=2000).loc[0, "power"]
        own = analysis.power(15, item_sd=1.0, simulations=2000)
        assert own.loc[0, "power"] < plain
        assert "SD 1 logit of metamers (each heard by one listener)" in own.loc[0, "assumptions"]
        equal = {"proportions": (0.5, 0.5), "simulations": 2000, "item_sd": 1.0}
        assert analysis.power(15, **equal).loc[0, "power"] == pytest.approx(0.05, abs=0.02)
        shared = analysis.power(15, items=8, **equal).loc[0, "power"]
        # The difference of two means of 8 metamers has SD 1/2 logit, and all listeners hear it.
        assert shared > 0.25
        more = analysis.power(15, items=80, **equal).loc[0, "power"]
        assert 0.05 < more < shared

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"items": 3}, r"items: expected at least as many as trials \(8\), got 3"),
            ({"item_sd": -1}, "item_sd: expected 0 or more"),
            ({"listeners": 1}, "listeners: expected a whole number from 2"),
            ({"listeners": []}, "listeners: expected at least one"),
            ({"proportions": (0.5,)}, "proportions: expected two"),
            ({"proportions": (0.5, 1)}, "proportions: expected a number between"),
            ({"trials": 0}, "trials: expected"),
            ({"model_sd": -1}, "model_sd: expected 0 or more"),
            ({"alpha": 0}, "alpha: expected"),
        ],
    )
    def test_bad_arguments_are_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            analysis.power(**arguments)


class TestLayerOrder:
    def layers(self, **orders):
        return pd.DataFrame(
            [
                {"participant": 0, "model": m, "layer": name, "layer_index": i, "correct": i % 2}
                for m, names in orders.items()
                for i, name in enumerate(names)
            ]
        )

    def test_each_model_keeps_its_own_order(self):
        """Networks of the field: of an index averaged over both, final comes before relufc."""
        from metamer_jax import models

        names = ("cochresnet50", "cochcnn9")
        field = {name: models.build_model(name, 8).stage_names for name in names}
        field["short"] = ("cochleagram", "final")
        table = self.layers(**field)
        index = table.groupby("layer")["layer_index"].mean()
        assert index["final"] < index["relufc"]
        _, merged = analysis.tables.layer_levels(table)
        shown = analysis.recognition(table, resamples=0)
        for model, names in field.items():
            assert [name for name in merged if name in names] == list(names)
            assert tuple(shown[shown["model"] == model]["layer"]) == names
        assert set(field["cochcnn9"]) | set(field["cochresnet50"]) <= {
            *analysis.tables.KNOWN_LAYERS
        }

    def test_models_that_contradict_each_other(self):
        table = self.layers(a=("x", "y", "z"), b=("x", "z", "y"))
        shown = analysis.recognition(table, resamples=0)
        assert list(shown["layer"]) == ["x", "y", "z", "x", "z", "y"]

    def test_known_layers_need_no_index(self):
        table = self.layers(a=("final", "relufc", "relu3", "cochleagram"))
        table = table.drop(columns="layer_index")
        shown = analysis.recognition(table, resamples=0)
        assert list(shown["layer"]) == ["cochleagram", "relu3", "relufc", "final"]
        strange = table.assign(layer=table["layer"] + "'")
        assert list(analysis.recognition(strange, resamples=0)["layer"]) == list(strange["layer"])


class TestScores:
    def test_recognition_by_model_and_layer(self, table_1):
        result = analysis.recognition(table_1).set_index(["model", "layer"])
        row = result.loc[("conv2d", "dense")]
        assert (row["correct"], row["trials"], row["n"]) == (18, 56, 5)
        assert row["wilson_low"] < row["proportion"] < row["wilson_high"]
        assert row["ci_low"] < row["mean"] < row["ci_high"]
        assert set(result["unit"]) == {"participant"}
        assert list(result.loc["conv2d"].index) == list(COUNTS)
        assert result.loc[("conv2d", "cochleagram"), "reason"] == "zero variance"

    def test_recognition_of_proportions(self, published):
        table = published.rename(columns={"proportion_correct": "correct"})
        table = table[table["observer"] == "human"]
        result = analysis.recognition(table, "layer")
        assert list(result["layer"])[0] == "natural_audio" and set(result["n"]) == {20}
        assert result["wilson_low"].isna().all() and result["ci_low"].notna().all()
        assert result.loc[0, "mean"] == pytest.approx(
            table[table["layer"] == "natural_audio"]["correct"].mean()
        )

    def test_conditions_as_units_warn(self, table_1):
        with pytest.warns(UserWarning, match="7 units") as caught:
            assert set(analysis.recognition(table_1, "model", unit="condition")["n"]) == {7}
        assert caught[0].filename == __file__

    def test_confusion(self):
        table = pd.DataFrame(
            {
                "model": ["a", "a", "a", "b", "b"],
                "word": ["up", "up", "no", "no", "up"],
                "response": ["up", "no", "no", "", None],
            }
        )
        result = analysis.confusion(table)
        assert len(result) == 2 * 2 * 3 and result["count"].sum() == 5
        square = analysis.matrix(result[result["model"] == "a"], "share")
        assert square.loc["up", "no"] == 0.5 and square.loc["no", "no"] == 1
        assert analysis.matrix(result[result["model"] == "b"]).loc["up", "(none)"] == 1
        with pytest.raises(ValueError, match="more than one row per word"):
            analysis.matrix(result)
        pooled = analysis.confusion(table, None, words=["up", "no", "go"])
        assert list(analysis.matrix(pooled).columns) == ["up", "no", "go", "(none)"]
        assert pooled[pooled["word"] == "go"]["share"].isna().all()
        with pytest.raises(ValueError, match="column 'word', row 2: expected one of"):
            analysis.confusion(table, words=["up", "go"])
        with pytest.raises(ValueError, match="column 'response', row 1: expected one of"):
            analysis.confusion(table[table["word"] == "up"], words=["up", "go"])

    def test_bad_arguments_are_named(self, table_1):
        with pytest.raises(ValueError, match="no column named 'word'"):
            analysis.recognition(table_1, ["model", "word"])
        with pytest.raises(ValueError, match="unit: expected one of"):
            analysis.recognition(table_1, unit="trial")
        with pytest.raises(ValueError, match="by: expected one or more"):
            analysis.recognition(table_1, [])
