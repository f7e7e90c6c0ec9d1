"""Same-different and ABX: what is heard, who is told what, and d' against simulated observers."""

import json

import listening_material
import numpy as np
import pandas as pd
import pytest

from metamer_jax.analysis import discrimination, suite
from metamer_jax.listening import responses
from metamer_jax.listening.building import build, comparisons
from metamer_jax.listening.config import ListeningConfig
from metamer_jax.listening.listeners import simulated
from metamer_jax.listening.results import tables
from metamer_jax.listening.serving import sessions

LAYERS = ("cochleagram", "conv1")


def built(folder, task):
    material = listening_material.with_originals(
        listening_material.fabricate(layers=LAYERS, targets=4)
    )
    config = ListeningConfig(
        task=task,
        conditions=4,
        practice_trials=2,
        catch_trials=2,
        calibration_s=0.5,
        silence_s=0.01,
        headphone_check="none",
    )
    return material, build.make(material, config)


@pytest.mark.parametrize("task", ["same_different", "abx"])
class TestTrials:
    def test_the_sounds_are_those_that_the_answer_says(self, tmp_path, task):
        material, made = built(tmp_path, task)
        pause = round(comparisons.PAUSE_S * material.sample_rate_hz)
        length = material.metamer_sounds.shape[1]
        rows = made.manifest[made.manifest["kind"] == "metamer"]
        key = ["model", "layer", "target_id", "metamer_seed"]
        of_metamer = material.metamers.reset_index().set_index(key)["index"]
        for row in rows.itertuples():
            sound = made.samples[row.stimulus_id]
            parts = [sound[i : i + length] for i in range(0, len(sound), length + pause)]
            assert len(parts) == {"same_different": 2, "abx": 3}[task]
            metamer = material.metamer_sounds[
                of_metamer[row.model, row.layer, row.target_id, row.metamer_seed]
            ]
            kinds = [(part == metamer).all() for part in parts]
            originals = [(part == material.originals[row.target_id]).all() for part in parts]
            assert [a != b for a, b in zip(kinds, originals, strict=True)] == [True] * len(parts)
            if task == "abx":
                assert kinds[0] != kinds[1]
                assert row.answer == ("first" if kinds[2] == kinds[0] else "second")
            else:
                assert row.answer == ("same" if kinds[0] == kinds[1] else "different")

    def test_arrangements_are_balanced_and_nothing_public_tells_them(self, tmp_path, task):
        _, made = built(tmp_path, task)
        rows = made.manifest[made.manifest["kind"] == "metamer"]
        counts = rows.groupby(["condition", "model", "layer"])["answer"].value_counts().unstack()
        assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
        public = json.dumps(made.public["conditions"])
        assert "same" not in public and "first" not in public
        assert made.manifest["stimulus_id"].is_unique
        again = built(tmp_path, task)[1]
        pd.testing.assert_frame_equal(again.manifest, made.manifest)

    def test_simulated_listeners_are_analysed_with_d_prime(self, tmp_path, task):
        _, made = built(tmp_path, task)
        build.write(made, tmp_path)
        experiment = sessions.load_experiment(tmp_path)
        assert experiment.words == comparisons.TASKS[task].answers
        curves = {"conv2d": {"cochleagram": 0.55, "conv1": 0.95}}
        found = simulated.simulate(experiment, 16, curves, seed=3)
        read = responses.from_sessions(found, experiment)
        results = tables.analyze(
            read,
            suite.AnalysisConfig(permutations=50, resamples=200),
            words=experiment.words,
            presented=responses.AnswerKey(experiment).presented(),
            rules=tables.exclusions.ExclusionRules(reference_min=None),
        )
        table = results.tables["discrimination"].set_index(["model", "layer"])
        assert set(table["task"]) == {task} and (table["n"] == 16).all()
        low, high = (table.loc[("conv2d", layer), "d_prime"] for layer in LAYERS)
        assert low < high
        assert results.settings["chance"] == 0.5


class TestSensitivity:
    """Against observers that hear two numbers and decide as the models say."""

    @pytest.mark.parametrize("d", [0.5, 1.0, 2.0, 3.0])
    def test_same_different(self, d):
        random = np.random.default_rng(0)
        n, k = 400_000, 1.3
        noise = random.standard_normal((2, n))
        false_alarms = np.mean(np.abs(noise[0] - noise[1]) > k)
        hits = np.mean(np.abs(noise[0] - noise[1] + d) > k)
        assert discrimination.dprime_same_different(hits, false_alarms) == pytest.approx(
            d, abs=0.03
        )

    @pytest.mark.parametrize("d", [0.5, 1.0, 2.0, 3.0])
    def test_abx(self, d):
        """An observer who orders A and B, then says whether X is nearer to the greater."""
        random = np.random.default_rng(0)
        n = 400_000
        swapped = random.random(n) < 0.5
        a = random.standard_normal(n) + np.where(swapped, d, 0)
        b = random.standard_normal(n) + np.where(swapped, 0, d)
        x_is_a = random.random(n) < 0.5
        x = random.standard_normal(n) + np.where(x_is_a == swapped, d, 0)
        says_greater = x > d / 2
        says_a = np.where(a > b, says_greater, ~says_greater)
        share = np.mean(says_a == x_is_a)
        assert discrimination.dprime_abx(share) == pytest.approx(d, abs=0.03)

    def test_what_cannot_be_told_is_zero(self):
        assert discrimination.dprime_same_different(0.3, 0.3) == 0
        assert discrimination.dprime_abx(0.5) == discrimination.dprime_abx(0.4) == 0

    @pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
    def test_shares_that_cannot_be_are_refused(self, share):
        with pytest.raises(ValueError, match="expected a number between 0 and 1"):
            discrimination.dprime_abx(share)

    def test_other_tasks_and_answers_are_refused(self):
        trials = pd.DataFrame({"response": ["go"], "correct": [1.0]})
        with pytest.raises(ValueError, match="task must be one of"):
            discrimination.sensitivity(trials, "words")
        with pytest.raises(ValueError, match="response must be among"):
            discrimination.sensitivity(trials, "abx")
