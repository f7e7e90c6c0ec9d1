"""Information, bias and likeness of confusions, on answers of known truth."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from metamer_jax import analysis

WORDS = ("up", "no", "go", "left")


def answered(shares, listeners=12, trials=20, seed=0, model="a"):
    """Trials of listeners who answer by these shares [word, response]."""
    rng = np.random.default_rng(seed)
    rows = [
        {"participant": f"p{who}", "model": model, "layer": "x", "word": word}
        | {"response": rng.choice(WORDS, p=shares[i])}
        for who in range(listeners)
        for i, word in enumerate(WORDS)
        for _ in range(trials)
    ]
    return pd.DataFrame(rows)


RIGHT = np.eye(4)
SOME = 0.6 * np.eye(4) + 0.4 * np.roll(np.eye(4), 1, axis=1)


class TestInformation:
    def test_agrees_with_mutual_information(self):
        table = answered(SOME)
        row = analysis.transmitted_information(table).iloc[0]
        bits = sklearn.metrics.mutual_info_score(table["word"], table["response"]) / np.log(2)
        assert row["bits"] == pytest.approx(bits) and row["stimulus_bits"] == pytest.approx(2)
        truth = 2 + 0.6 * np.log2(0.6) + 0.4 * np.log2(0.4)
        assert row["bits_corrected"] == pytest.approx(truth, abs=0.05)
        assert row["ci_low"] < truth < row["ci_high"]
        assert row["relative"] == pytest.approx(bits / 2) and row["n"] == 960

    def test_all_and_nothing(self):
        right = analysis.transmitted_information(answered(RIGHT)).iloc[0]
        assert right["bits"] == pytest.approx(2) and right["relative"] == pytest.approx(1)
        turned = analysis.transmitted_information(answered(np.roll(RIGHT, 1, axis=1))).iloc[0]
        assert turned["relative"] == pytest.approx(1)  # All wrong, and all told.
        same = analysis.transmitted_information(answered(RIGHT[[0, 0, 0, 0]])).iloc[0]
        assert same["bits"] == 0
        guessing = [
            analysis.transmitted_information(answered(np.full((4, 4), 0.25), 4, 5, seed)).iloc[0]
            for seed in range(25)
        ]
        assert np.mean([row["bits"] for row in guessing]) > 0.05
        assert np.mean([row["bits_corrected"] for row in guessing]) == pytest.approx(0, abs=0.03)

    def test_reasons(self):
        table = answered(SOME, listeners=2)
        assert "fewer than three listeners" in analysis.transmitted_information(table)["reason"][0]
        one = table[table["word"] == "up"]
        assert analysis.transmitted_information(one)["reason"][0] == "one word was spoken"


def test_bias_finds_the_favourite_word():
    shares = 0.5 * np.eye(4) + 0.5 * np.array([0.55, 0.15, 0.15, 0.15])
    table = answered(shares)
    found = analysis.response_bias(table, words=WORDS, resamples=500).set_index("word")
    truth = shares.mean(axis=0) - 0.25
    np.testing.assert_allclose(found.loc[list(WORDS), "bias"], truth, atol=0.03)
    assert found.loc["up", "p_holm"] < 0.001 and found["bias"].sum() == pytest.approx(0)
    errors = table[table["word"] != table["response"]]["response"].value_counts(normalize=True)
    assert found.loc["no", "share_of_errors"] == pytest.approx(errors["no"])
    assert found["share_of_errors"].sum() == pytest.approx(1)
    blank = table.assign(response=table["response"].where(table["response"] != "go", ""))
    assert analysis.response_bias(blank, words=WORDS, resamples=0).set_index("word").loc[
        "go", "answered_share"
    ] == pytest.approx(0)


class TestSimilarity:
    def test_the_same_confusions_and_others(self):
        people, machines = answered(SOME, seed=1), answered(SOME, 3, seed=2)
        row = analysis.confusion_similarity(people, machines, words=WORDS).iloc[0]
        assert row["pearson_r"] > 0.95 and row["n"] == 12
        assert row["ci_low"] < row["pearson_r"] < row["ci_high"] and row["machines"] == 3
        others = answered(0.6 * np.eye(4) + 0.4 * np.roll(np.eye(4), 2, axis=1), 3, seed=2)
        row = analysis.confusion_similarity(people, others, words=WORDS).iloc[0]
        assert row["pearson_r"] < 0

    def test_models_apart_and_reasons(self):
        sides = [
            pd.concat([answered(SOME, seed=s), answered(RIGHT, seed=s, model="b")]) for s in (1, 2)
        ]
        found = analysis.confusion_similarity(*sides).set_index("model")
        assert list(found.index) == ["all", "a", "b"]
        assert found.loc["a", "pearson_r"] > 0.95
        assert found.loc["b", "errors_listeners"] == 0 and "no errors" in found.loc["b", "reason"]
