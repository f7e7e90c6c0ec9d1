import functools
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from metamer_jax import configs, verification


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Arithmetic is checked on a handful of pairs, of which no verdict would be made.
small_null = functools.partial(verification.null_distribution, min_pairs=1)


def rectified(rng, *shape):
    """Activations as behind a ReLU: most are exactly zero."""
    return np.maximum(rng.standard_normal(shape) - 0.8, 0).astype(np.float32)


class TestMatchQuality:
    @pytest.mark.parametrize("make", ["normal", "rectified", "integers"])
    def test_agrees_with_scipy(self, make):
        rng = np.random.default_rng(0)
        shape = (6, 7, 11)
        if make == "normal":
            target = rng.standard_normal(shape).astype(np.float32)
        elif make == "rectified":
            target = rectified(rng, *shape)
        else:
            target = rng.integers(-3, 4, shape)
        metamer = target + (rng.standard_normal(shape) > 1) * rng.integers(1, 3, shape)
        quality = verification.match_quality(target, metamer)
        for i in range(shape[0]):
            s, m = target[i].ravel().astype(float), metamer[i].ravel().astype(float)
            assert quality.spearman[i] == pytest.approx(scipy.stats.spearmanr(s, m)[0], abs=1e-12)
            r = scipy.stats.pearsonr(s, m)[0]
            assert quality.pearson_r2[i] == pytest.approx(r**2, abs=1e-12)
            ratio = np.sum(s**2) / np.sum((s - m) ** 2)
            assert quality.snr_db[i] == pytest.approx(10 * np.log10(ratio), abs=1e-9)
            assert quality.relative_error[i] == pytest.approx(ratio**-0.5, rel=1e-12)

    def test_snr_is_a_ratio_of_powers(self):
        # The reference code takes 10 log10 of a ratio of norms, half of this.
        assert verification.match_quality([1.0, -1.0], [1.1, -1.1]).snr_db == pytest.approx(20.0)

    def test_a_perfect_match(self):
        values = np.random.default_rng(1).standard_normal((2, 50))
        quality = verification.match_quality(values, values)
        np.testing.assert_allclose(quality.spearman, 1)
        np.testing.assert_allclose(quality.pearson_r2, 1)
        assert np.all(quality.snr_db == np.inf) and np.all(quality.relative_error == 0)

    def test_ranks_ignore_monotonic_change_and_pearson_scale(self):
        s = np.random.default_rng(2).standard_normal(100)
        assert verification.match_quality(s, np.exp(s)).spearman == pytest.approx(1)
        assert verification.match_quality(s, -3 * s + 1).pearson_r2 == pytest.approx(1)

    def test_undefined_is_nan_without_a_warning(self):
        ramp = np.arange(4.0)
        target = np.stack([np.full(4, 0.1), np.zeros(4), ramp, ramp, ramp])
        metamer = np.stack([ramp, ramp, np.full(4, 0.1), [0, 1, np.nan, 3], [0, 1, np.inf, 3]])
        quality = verification.match_quality(target, metamer)
        assert np.isnan(quality.spearman).all() and np.isnan(quality.pearson_r2).all()
        np.testing.assert_array_equal(
            np.isfinite(quality.snr_db), [True, False, True] + [False] * 2
        )
        np.testing.assert_array_equal(
            np.isnan(quality.relative_error), ~np.isfinite(quality.snr_db)
        )

    def test_extreme_values_do_not_overflow(self):
        target = np.array([[1e200, 2e200, 4e200], [1e-200, 2e-200, 4e-200]])
        quality = verification.match_quality(target, target * [1.0, 1.0, 1.1])
        np.testing.assert_allclose(quality.relative_error, 0.4 / np.sqrt(21))

    def test_other_shapes_are_refused(self):
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
            verification.match_quality(np.zeros((2, 3)), np.zeros((2, 4)))
        with pytest.raises(ValueError, match="features"):
            verification.match_quality(np.zeros((2, 0)), np.zeros((2, 0)))


def test_average_ranks_agree_with_scipy():
    rng = np.random.default_rng(3)
    values = np.concatenate(
        [rectified(rng, 5, 300), rng.integers(0, 4, (5, 300)), np.ones((1, 300))]
    )
    expected = scipy.stats.rankdata(values, axis=1)
    np.testing.assert_array_equal(verification.average_ranks(values), expected)
    np.testing.assert_array_equal(verification.average_ranks(values, np.float32), expected)


class TestNullDistribution:
    @pytest.mark.parametrize("features", [(8,), (3, 3001)])  # The latter: several blocks.
    def test_agrees_with_every_pair_in_float64(self, features):
        rng = np.random.default_rng(4)
        common = rng.standard_normal(features)
        activations = np.maximum(common + 0.7 * rng.standard_normal((12, *features)) + 0.2, 0)
        activations = activations.astype(np.float32)
        null = small_null(activations)
        assert (null.recordings, null.pairs, null.duplicates_excluded) == (12, 66, 0)
        i, j = np.triu_indices(12, 1)
        exact = verification.match_quality(activations[i], activations[j])
        np.testing.assert_allclose(null.spearman.values, np.sort(exact.spearman), atol=1e-5)
        np.testing.assert_allclose(null.pearson_r2.values, np.sort(exact.pearson_r2), atol=1e-5)
        # SNR: either order of each pair may have been drawn.
        other = verification.match_quality(activations[j], activations[i])
        both = np.concatenate([exact.snr_db, other.snr_db])
        distance = np.abs(null.snr_db.values[:, None] - both).min(1)
        assert distance.max() < 1e-3

    def test_snr_takes_both_orders(self):
        activations = np.array([[1.0, 2.0], [10.0, 21.0]])
        found = {round(small_null(activations, seed=s).snr_db.max, 3) for s in range(20)}
        forth = verification.match_quality(activations[0], activations[1]).snr_db
        back = verification.match_quality(activations[1], activations[0]).snr_db
        assert found == {round(float(forth), 3), round(float(back), 3)}

    def test_duplicates_are_left_out_and_same_speakers_counted(self):
        rng = np.random.default_rng(5)
        waveforms = rng.standard_normal((6, 20)).astype(np.float32)
        waveforms[4] = waveforms[1]
        waveforms[5] = waveforms[1]
        prints = verification.fingerprints(waveforms)
        speakers = ["a", "a", "", "", "b", "b"]
        null = small_null(waveforms, speakers=speakers, fingerprints=prints)
        assert (null.pairs, null.duplicates_excluded) == (15 - 3, 3)
        assert null.same_speaker_pairs == 1  # (0, 1); the pair of "b" is one of duplicates.
        assert null.spearman.max < 0.99
        assert small_null(waveforms).spearman.max == pytest.approx(1)

    def test_a_draw_has_the_size_asked_for_and_no_pair_twice(self):
        prints = np.repeat(np.arange(20), 2)  # 40 recordings, 780 pairs, 20 of duplicates.
        for num_pairs in (1, 100, 759, 760, 761, 10**6):
            first, second, excluded = verification.null._draw_pairs(40, prints, num_pairs, seed=7)
            assert excluded == 20
            assert len(first) == min(num_pairs, 760)
            pairs = set(zip(np.minimum(first, second), np.maximum(first, second), strict=True))
            assert len(pairs) == len(first)
            assert np.all(prints[first] != prints[second])

    def test_every_pair_is_as_likely(self):
        counts = np.zeros((6, 6))
        for seed in range(3000):
            first, second, _ = verification.null._draw_pairs(6, [0, 0, 1, 2, 3, 4], 3, seed)
            counts[np.minimum(first, second), np.maximum(first, second)] += 1
        drawn = counts[np.triu_indices(6, 1)]
        assert drawn[0] == 0  # (0, 1) are duplicates.
        assert scipy.stats.chisquare(drawn[1:]).pvalue > 1e-3

    def test_constant_activations_are_counted_apart(self):
        activations = rectified(np.random.default_rng(6), 5, 400)
        activations[2] = 0
        null = small_null(activations)
        assert null.pairs == 10
        assert null.spearman.undefined == null.pearson_r2.undefined == 4
        assert null.spearman.values.size == 6
        assert np.all(np.isfinite(null.snr_db.values))
        activations[2] = 0.1  # Its mean rounds, its norm must not.
        assert small_null(activations).pearson_r2.undefined == 4

    def test_summary_and_histograms_hold_every_pair(self):
        null = small_null(rectified(np.random.default_rng(7), 30, 64))
        summary = null.summary()
        assert summary["pairs"] == 435 and summary["recordings"] == 30
        for name in verification.MEASURES:
            quantiles = list(summary[name]["quantiles"].values())
            assert quantiles == sorted(quantiles) and quantiles[-1] <= summary[name]["max"]
            assert null.histograms(50)[f"{name}_counts"].sum() == 435
            assert null.histograms(50)[f"{name}_edges"].shape == (51,)

    def test_percentile(self):
        null = small_null(rectified(np.random.default_rng(8), 12, 64))
        low, top = null.spearman.values[0], null.spearman.max
        found = verification.percentile(null, np.array([low, top, top + 1e-6, np.nan]))
        assert found[0] == 0 and 98 < found[1] < 100 and found[2] == 100 and np.isnan(found[3])
        with pytest.raises(ValueError, match="measure"):
            verification.percentile(null, 0.5, "kendall")

    def test_a_null_of_few_pairs_is_refused_with_the_number_that_would_do(self):
        activations = rectified(np.random.default_rng(9), 46, 10)
        assert verification.null_distribution(activations).pairs == 46 * 45 // 2
        message = "at least 46 different recordings, whose 1000 pairs .* got 45 recordings, 990"
        with pytest.raises(ValueError, match=message):
            verification.null_distribution(activations[1:])
        prints = [0, *range(45)]  # Two are the same sound: of 1,035 pairs one is none.
        assert verification.null_distribution(activations, fingerprints=prints).pairs == 1034

    def test_wrong_inputs_are_named(self):
        good = rectified(np.random.default_rng(9), 4, 10)
        with pytest.raises(ValueError, match="at least two"):
            small_null(good[:1])
        with pytest.raises(ValueError, match="speakers.*4.*got 3"):
            small_null(good, speakers=["a"] * 3)
        with pytest.raises(ValueError, match="duplicates"):
            small_null(good, fingerprints=[1, 1, 1, 1])
        good[2, 3] = np.nan
        with pytest.raises(ValueError, match=r"finite.*\[2\]"):
            small_null(good)


class TestVerdicts:
    def test_the_criterion_of_2023_is_three_measures_at_every_stage(self):
        config = configs.VerificationConfig(criterion="feather2023")
        activations = rectified(np.random.default_rng(3), 60, 12)  # Few: no rank stage of ours.
        null = verification.null_distribution(activations)
        rng = np.random.default_rng(4)
        target = rectified(rng, 3, 12)
        # As the target; as its negative, whose r is -1 and r^2 1; louder: correlations are perfect.
        metamer = target * np.array([1 + 1e-6, -1, 3])[:, None]
        quality = verification.match_quality(target, metamer)
        np.testing.assert_allclose(quality.pearson_r, [1, -1, 1])
        np.testing.assert_allclose(quality.snr_of_norms_db, quality.snr_db / 2)
        found = verification.verdicts(
            ["yes"] * 3, ["yes"] * 3, quality, null=null, num_features=12, config=config
        )
        assert list(found.verdict) == ["pass", "fail", "fail"]
        assert set(found.decided_by) == {"three_measures"}
        assert "pearson_r -1 within null" in found.reason[1]
        assert found.reason[2].startswith("snr_db -6.021 within null")

    def setup_method(self):
        self.null = small_null(rectified(np.random.default_rng(10), 20, 2000))

    def quality(self, spearman, relative_error):
        empty = np.zeros(len(spearman))
        return verification.MatchQuality(
            np.array(spearman, float), empty, empty, np.array(relative_error, float)
        )

    def test_ranks_decide_where_there_are_many_features(self):
        top = self.null.spearman.max
        found = verification.verdicts(
            ["yes", "no", "yes", "yes", "yes"],
            ["yes", "yes", "yes", "yes", "yes"],
            self.quality([top + 0.01, top - 0.01, top, np.nan, 0.99], [9.0] * 5),
            null=self.null,
            num_features=2000,
            outcomes=["converged", "budget", "budget", "budget", "non_finite"],
        )
        assert list(found.verdict) == ["pass", "fail", "fail", "fail", "fail"]
        assert found.reason[0] == ""
        assert found.reason[1] == (
            f"class: no, target yes; spearman {top - 0.01:.4g} within null (max {top:.4g})"
        )
        assert "undefined" in found.reason[3] and found.reason[4] == "synthesis: not finite"
        assert found.null_percentile[0] == 100 and found.null_percentile[2] < 100
        assert set(found.decided_by) == {"spearman"}
        assert list(found.class_match) == [True, False, True, True, True]

    def test_relative_error_decides_elsewhere(self):
        found = verification.verdicts(
            [1, 1, 1],
            [1, 1, 1],
            self.quality([0.0] * 3, [0.05, 0.0712, np.nan]),
            null=self.null,
            num_features=128,
            config=configs.VerificationConfig(max_relative_error=0.05),
        )
        assert list(found.verdict) == ["pass", "fail", "fail"]
        assert found.reason[1] == "relative error 0.0712 above 0.05"
        assert "undefined" in found.reason[2]
        assert set(found.decided_by) == {"relative_error"}

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match="target_predictions"):
            verification.verdicts(
                [1, 2], [1], self.quality([1], [1]), null=self.null, num_features=8
            )


def test_yields_count_per_word_and_for_all():
    rows = [
        ("conv2d", "logits", 4, "yes", True, "pass", 0.01, 0.9),
        ("conv2d", "logits", 4, "no", False, "fail", 0.03, np.nan),
        ("conv2d", "conv1", 1, "no", True, "fail", 0.5, 0.7),
        ("grouped", "conv1", 1, "no", True, "pass", 0.1, 0.8),
    ]
    names = "network stage stage_index word class_match verdict relative_error spearman".split()
    found = verification.yields(pd.DataFrame(rows, columns=names))
    keys = list(zip(found["network"], found["stage"], found["word"], strict=True))
    assert keys == [
        ("conv2d", "conv1", "no"),
        ("conv2d", "conv1", "all"),
        ("conv2d", "logits", "no"),
        ("conv2d", "logits", "yes"),
        ("conv2d", "logits", "all"),
        ("grouped", "conv1", "no"),
        ("grouped", "conv1", "all"),
    ]
    row = found.iloc[4]
    assert (row.metamers, row.class_match, row.passed) == (2, 1, 1)
    assert row.median_relative_error == pytest.approx(0.02)
    assert row.median_spearman == pytest.approx(0.9)
    with pytest.raises(ValueError, match="verdict"):
        verification.yields(pd.DataFrame(rows, columns=names).drop(columns="verdict"))


def test_tables_with_two_verdicts_get_todays_columns():
    old = pd.DataFrame(
        {
            **{"stage": ["dense"], "null_max": [0.5], "verdict": ["pass"], "spearman": [0.9]},
            **{"played_verdict": ["fail"], "played_spearman": [0.4]},
        }
    )
    found = verification.current_columns(old)
    assert found.to_dict("records") == [
        {
            **{"stage": "dense", "null_max": 0.5, "optimised_verdict": "pass"},
            **{"optimised_spearman": 0.9, "verdict": "fail", "spearman": 0.4},
        }
    ]
    assert verification.current_columns(found) is found
