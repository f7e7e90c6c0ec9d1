"""The comparison of architectures: entries, intervals, effects, and a tiny one end to end."""

import dataclasses
import itertools
import pathlib
import shutil
import subprocess
import sys
import threading

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import small_run

import metamer_jax as mj
from metamer_jax import configs, pipeline, runs, storage
from metamer_jax.auditory import exact
from metamer_jax.comparison import (
    bootstrap,
    effects,
    entries,
    runner,
    significance,
    status,
    summary,
    tables,
)
from metamer_jax.comparison.runner import Member

ROOT = pathlib.Path(__file__).parents[2]


class TestEntries:
    def test_names_and_sets(self):
        found = entries.parse(["paper", "frequency_grouped_matched", "conv2d:untrained"])
        assert [e.label for e in found] == [
            *("conv2d", "frequency_grouped", "frequency_grouped_matched", "conv2d:untrained")
        ]
        assert [e.connection for e in found] == [
            *("conv2d", "frequency_grouped", "frequency_grouped", "conv2d")
        ]
        assert found[2].variant == "matched"
        assert found[3].folder == "conv2d-untrained"
        assert [e.listens for e in found] == [True, True, True, False]

    @pytest.mark.parametrize("name", sorted(entries.SETS))
    def test_every_network_of_a_set_is_there(self, name):
        found = entries.parse([name])
        assert found[0].label == "conv2d"
        assert len({e.folder for e in found}) == len({e.title for e in found}) == len(found)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (["ear"], "one of .*'ear'"),
            (["conv2d:loud"], "training of conv2d:loud must be one of .*'loud'"),
            (["conv2d", "conv2d"], "each once, got .*'conv2d', 'conv2d'"),
            ([], "one or more"),
        ],
    )
    def test_refuses_what_there_is_not(self, labels, message):
        with pytest.raises(ValueError, match=message):
            entries.parse(labels)

    def test_planned_contrasts_of_the_whole_set(self):
        found = [
            (c.question, c.of.label, c.against.label)
            for c in entries.planned_contrasts(entries.parse(["all"]))
        ]
        assert ("connection", "frequency_local", "conv2d") in found
        assert ("connection, parameter matched", "frequency_dense_parameter_matched", "conv2d") in (
            found
        )
        assert ("size", "frequency_grouped_matched", "frequency_grouped") in found
        assert ("antialiased", "conv2d_antialiased", "conv2d") in found
        assert ("training", "conv2d:untrained", "conv2d") in found
        # It has the representation of conv2d as it is, so it is its own control.
        assert ("connection, representation matched", "frequency_local", "conv2d") in found
        assert all(a != b for _, a, b in found)

    def test_settings_share_targets_and_keep_their_own_training(self):
        base = small_run.config(pathlib.Path("words"), pathlib.Path("cache"))
        plain, untrained = entries.parse(["conv2d", "conv2d:untrained"])
        first, second = (entries.settings(base, plain, seed) for seed in (0, 1))
        assert (first.seed, second.seed) == (0, 1)
        assert first.resolved_target_seed == second.resolved_target_seed == 0
        assert first.training == base.training
        assert entries.settings(base, untrained, 0).training.epochs == 0


class TestBootstrap:
    def test_weighted_means_are_those_of_the_cells_drawn(self):
        rng = np.random.default_rng(0)
        values = rng.random((2, 3, 4))
        values[0, 1, 2] = np.nan
        weights = [bootstrap.draw_weights(n, 5, rng) for n in values.shape]
        found = bootstrap.weighted_means(values, weights)
        for draw in range(5):
            drawn = [
                values[i, j, k]
                for i, j, k in itertools.product(range(2), range(3), range(4))
                for _ in range(int(weights[0][draw, i] * weights[1][draw, j] * weights[2][draw, k]))
            ]
            np.testing.assert_allclose(found[draw], np.nanmean(drawn), rtol=1e-12)

    def test_weights_are_samples_with_replacement(self):
        weights = bootstrap.draw_weights(4, 20_000, np.random.default_rng(0))
        np.testing.assert_array_equal(weights.sum(axis=1), 4)
        np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.03)
        np.testing.assert_allclose(weights.var(axis=0), 1 - 1 / 4, atol=0.03)

    def test_variance_is_that_of_the_crossed_samples(self):
        # Additive effects: the variance of the mean is the sum of var / n of each factor.
        rng = np.random.default_rng(1)
        a, b = rng.standard_normal(6), rng.standard_normal(9)
        weights = [bootstrap.draw_weights(n, 40_000, rng) for n in (6, 9)]
        draws = bootstrap.weighted_means(a[:, None] + b, weights)
        np.testing.assert_allclose(draws.var(), a.var() / 6 + b.var() / 9, rtol=0.03)

    def test_intervals_of_mean_and_median(self):
        values = np.random.default_rng(2).random((3, 8))
        mean, low, high = bootstrap.mean_interval(values, resamples=500)
        assert mean == pytest.approx(values.mean())
        assert low < mean < high
        median, low, high = bootstrap.median_interval(values, resamples=500)
        assert low <= median == np.median(values) <= high
        assert bootstrap.mean_interval(np.ones((2, 4)))[1:] == (1, 1)
        assert np.isnan(bootstrap.mean_interval(np.full((2, 2), np.nan))).all()

    def test_weights_must_fit(self):
        with pytest.raises(ValueError, match=r"\(2, 3\) levels, got \(2, 4\)"):
            bootstrap.weighted_means(np.ones((2, 3)), [np.ones((1, 2)), np.ones((1, 4))])


@pytest.fixture(scope="module")
def answers():
    """Made up: three connections in two seeds and an untrained network; 5 targets, 3 stages."""
    found = entries.parse(
        ["conv2d", "frequency_grouped", "frequency_local", "frequency_grouped_matched"]
        + ["conv2d:untrained"]
    )
    members = tuple(Member(e, seed) for seed in (0, 1) for e in found)
    rng = np.random.default_rng(3)
    labels = np.array([0, 1, 2, 0, 1])
    right = rng.random((10, 10, 3, 5, 1)) < 0.6
    heard = np.where(right, labels[:, None], (labels[:, None] + 1) % 3)
    return tables.Answers(
        scorers=members,
        makers=members,
        stages=("cochleagram", "conv1", "logits"),
        words=("a", "b", "c"),
        target_ids=np.array([3, 5, 8, 9, 11]),
        labels=labels,
        heard=heard,
        natural=np.tile(labels, (10, 1)),
        passed=np.ones((10, 3, 5, 1)),
    )


class TestEffects:
    def test_curves_average_over_the_listeners_that_they_name(self, answers):
        found = effects.curves(answers, effects.Resampling(50)).set_index(["entry", "who", "stage"])
        names = [m.entry.label for m in answers.scorers]
        correct = (answers.heard[..., 0] == answers.labels).astype(float)
        maker = [i for i, n in enumerate(names) if n == "frequency_grouped"]
        others = [i for i, n in enumerate(names) if n in ("conv2d", "frequency_local")]
        expected = np.mean([correct[s, m, 1] for s in others for m in maker])
        row = found.loc["frequency_grouped", effects.OTHERS, "conv1"]
        assert row["mean"] == pytest.approx(expected) == pytest.approx(row["verified_only"])
        assert (row["seeds"], row["scorers"], row["targets"]) == (2, 4, 5)
        own = np.mean([correct[m, m, 2] for m in maker])
        assert found.loc["frequency_grouped", effects.ITSELF, "logits"]["mean"] == own
        other = np.mean([correct[maker[0], maker[1], 2], correct[maker[1], maker[0], 2]])
        assert found.loc["frequency_grouped", effects.OTHER_SEED, "logits"]["mean"] == other
        both = np.mean([correct[s, m, [1, 2]] for s in others for m in maker])
        everything = found.loc["frequency_grouped", effects.OTHERS, effects.ALL]
        assert everything["mean"] == pytest.approx(both)
        assert found.loc["frequency_grouped", effects.OTHERS, effects.NATURAL]["mean"] == 1

    def test_the_matrix_keeps_a_network_apart_from_its_other_seeds(self, answers):
        found = effects.matrix(answers, effects.Resampling(50))
        correct = (answers.heard[..., 0] == answers.labels).astype(float)
        rows = found[(found["scorer"] == "conv2d") & (found["maker"] == "conv2d")]
        rows = rows[rows["stage"] == "conv1"].set_index("itself")["mean"]
        assert rows[True] == pytest.approx(np.mean([correct[i, i, 1] for i in (0, 5)]))
        assert rows[False] == pytest.approx(np.mean([correct[0, 5, 1], correct[5, 0, 1]]))

    def test_differences_are_rated_by_neither_connection(self, answers):
        contrast = entries.Contrast("connection", answers.makers[1].entry, answers.makers[0].entry)
        chosen = effects.raters(answers, contrast.connections)
        assert [answers.scorers[i].entry.label for i in chosen] == ["frequency_local"] * 2
        found = effects.differences(answers, [contrast], effects.Resampling(300))
        correct = (answers.heard[..., 0] == answers.labels).astype(float)
        expected = correct[np.ix_(chosen, [1, 6])][:, :, 2].mean()
        expected -= correct[np.ix_(chosen, [0, 5])][:, :, 2].mean()
        row = found.set_index("stage").loc["logits"]
        assert row["difference"] == pytest.approx(expected)
        assert row["low"] < row["difference"] < row["high"]
        assert "cochleagram" not in set(found["stage"])

    def test_draws_of_a_difference_are_paired_over_targets(self, answers):
        # A maker whose every metamer is heard as the other's is: the difference never varies.
        heard = np.array(answers.heard)
        heard[:, [1, 6]] = heard[:, [0, 0]]
        heard[:, 5] = heard[:, 0]
        contrast = entries.Contrast("connection", answers.makers[1].entry, answers.makers[0].entry)
        same = answers._replace(heard=heard)
        *_, draws = effects.difference(same, contrast, "logits", effects.Resampling(100))
        np.testing.assert_allclose(draws, 0, atol=1e-12)

    def test_nobody_to_rate_is_said(self, answers):
        few = answers._replace(
            scorers=answers.scorers[:2], heard=answers.heard[:2], natural=answers.natural[:2]
        )
        contrast = entries.Contrast("connection", answers.makers[1].entry, answers.makers[0].entry)
        found = effects.differences(few, [contrast], effects.Resampling(20))
        assert found["difference"].isna().all()
        assert set(found["reason"]) == {"no trained network of another connection"}

    def test_magnitudes_and_what_connection_has_over_size(self, answers):
        contrasts = entries.planned_contrasts(list(dict.fromkeys(m.entry for m in answers.makers)))
        resampling = effects.Resampling(200)
        found = effects.magnitudes(answers, contrasts, resampling).set_index(["question", "stage"])
        each = effects.differences(answers, contrasts, resampling)
        each = each[(each["question"] == "connection") & (each["stage"] == "conv1")]
        row = found.loc["connection", "conv1"]
        assert row["magnitude"] == pytest.approx(each["difference"].abs().mean())
        less = found.loc["connection minus size", "conv1"]["magnitude"]
        assert less == pytest.approx(row["magnitude"] - found.loc["size", "conv1"]["magnitude"])

    def test_tests_have_the_trials_of_the_raters(self, answers):
        contrasts = entries.planned_contrasts(list(dict.fromkeys(m.entry for m in answers.makers)))
        trials = tables.recognition(answers)
        found = significance.pairwise(answers, trials, contrasts[:1])
        paper = found[(found["method"] == "paper") & (found["layer"] == "logits")].iloc[0]
        assert paper["n"] == 2 * 2 * 2 * 5  # Networks, their seeds, raters, targets.
        listener = found[(found["method"] == "listener") & (found["layer"] == "logits")].iloc[0]
        assert listener["n"] == 2
        both = effects.differences(answers, contrasts[:1], effects.Resampling(20))
        both = both.set_index("stage").loc["logits", "difference"]
        assert listener["difference"] == pytest.approx(both)
        variance = significance.variance(answers, permutations=50)
        assert set(variance["effect"]) == {"connection", "stage", "connection:stage"}
        assert set(variance["n"]) == {5}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    small_run.write_recordings(folder / "words")
    base = small_run.config(folder / "words", folder / "cache", stages=("cochleagram", "dense"))
    return dataclasses.replace(
        base,
        cochleagram=dataclasses.replace(base.cochleagram, method="dense"),  # Compiles sooner.
        training=dataclasses.replace(
            base.training, epochs=1, batch_size=24, augment=configs.AugmentConfig(shift=0.1)
        ),
        synthesis=dataclasses.replace(base.synthesis, steps=5, batch_size=4),
    )


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    labels = ("frequency_grouped", "frequency_grouped:untrained")
    comparison = runner.Comparison(entries=labels, seeds=(0, 1), experiment=settings)
    home, parts = runner.ComparisonFolder(folder, comparison), []
    with runner.open_folder(folder, comparison):
        with home.open(home.members[0]) as run:
            recordings = pipeline.load_recordings(run)
        record = status.recorder(home)

        def on_part(kind, members, seconds):
            parts.append((kind, [m.name for m in members]))
            record(kind, members, seconds)

        runner.run_all(home, recordings, keep_clips=True, on_part=on_part)
    return home, parts, recordings


class TestWork:
    def test_seed_after_seed_and_networks_of_an_entry_together(self, finished):
        names = ["frequency_grouped", "frequency_grouped-untrained"]
        trained = [(runner.TRAIN, [f"{name}-seed0", f"{name}-seed1"]) for name in names]
        made = [
            [(kind, [f"{name}-seed{seed}"]) for kind in (runner.SYNTHESIZE, runner.VERIFY)]
            for seed in (0, 1)
            for name in names
        ]
        heard = [
            (runner.CROSS_TEST, [f"{n}-seed{s}" for s in range(k) for n in names]) for k in (1,)
        ]
        expected = [trained[0], *made[0], trained[1], *made[1], *heard, *made[2], *made[3]]
        assert finished[1][:-1] == expected
        assert finished[1][-1] == (runner.CROSS_TEST, [f"{n}-seed1" for n in names])

    def test_targets_are_shared_and_networks_and_noise_are_not(self, finished):
        home = finished[0]
        places = [home.read(m) for m in home.members]
        first, *rest = [storage.read_npz(p.path("targets", "targets.npz")) for p in places]
        for other in rest:
            np.testing.assert_array_equal(first["target_id"], other["target_id"])
        weights = [
            storage.read_npz(p.path("networks", "frequency_grouped", "weights.npz")) for p in places
        ]
        assert not np.array_equal(
            weights[0]["params/dense/kernel"], weights[2]["params/dense/kernel"]
        )
        made = [
            pipeline.read_metamers(p, "frequency_grouped", "cochleagram").made.waveform
            for p in places
        ]
        np.testing.assert_array_equal(made[0], made[1])  # Of one seed: no network is behind it.
        assert not np.array_equal(made[0], made[2])

    def test_shared_metamers_of_the_cochleagram_are_what_a_network_would_make(
        self, finished, tmp_path
    ):
        home, _, recordings = finished
        member = home.members[1]
        settings = dataclasses.replace(home.settings(member), stages=("cochleagram",))
        with runs.open_run(tmp_path / "alone", settings) as run:
            weights = home.read(member).path("networks", member.entry.network, "weights.npz")
            copy = run.path("networks", member.entry.network, "weights.npz")
            storage.write_bytes(copy, weights.read_bytes())
            run.record(f"networks/{member.entry.network}/weights.npz")
            pipeline.synthesize_metamers(run, recordings)
            alone = pipeline.read_metamers(run, member.entry.network, "cochleagram")
        shared = pipeline.read_metamers(home.read(member), member.entry.network, "cochleagram")
        np.testing.assert_allclose(alone.made.waveform, shared.made.waveform, atol=1e-6)

    def test_a_network_hears_its_own_metamers_as_verification_does(self, finished):
        answers, home = tables.read_answers(finished[0]), finished[0]
        for i, maker in enumerate(answers.makers):
            table = storage.read_csv(home.read(maker).path("verification", "metamers.csv"))
            table = table.set_index(["stage", "target_id"])["prediction"]
            scorer = answers.scorers.index(maker)
            for j, stage in enumerate(answers.stages):
                heard = np.array(answers.words)[answers.heard[scorer, i, j, :, 0]]
                expected = [table[stage, target] for target in answers.target_ids]
                np.testing.assert_array_equal(heard, expected)

    def test_nothing_is_done_twice_and_more_seeds_can_be_added(self, finished):
        home, _, recordings = finished
        again, parts = runner.ComparisonFolder(home.folder, home.comparison), []
        runner.run_all(again, recordings, keep_clips=True, on_part=lambda *part: parts.append(part))
        assert parts == []
        assert "Everything is done." in status.table(again)
        more = dataclasses.replace(home.comparison, seeds=(0, 1, 2))
        with runner.open_folder(home.folder, more):
            table = status.table(runner.ComparisonFolder(home.folder, more))
        assert "left: train        2, about" in table

    def test_changed_clips_are_kept_for_all_networks_until_they_are_trained(self, finished):
        home, _, recordings = finished
        (kept,) = home.clips_folder.glob("*/epoch_*.npy")  # The untrained network needs none.
        assert np.load(kept).shape == (sum(recordings.splits == "train"), 32, 32)
        runner.run_all(home, recordings, keep_clips=True)
        assert kept.exists()
        runner.run_all(home, recordings)
        assert not home.clips_folder.exists()

    def test_a_comparison_with_other_settings_is_refused(self, finished):
        home = finished[0]
        experiment = dataclasses.replace(home.comparison.experiment, targets_per_word=1)
        other = dataclasses.replace(home.comparison, experiment=experiment)
        with pytest.raises(ValueError, match="experiment.targets_per_word: 2 before, 1 now"):
            runner.open_folder(home.folder, other)

    def test_a_member_trained_together_is_as_trained_alone(self, finished, tmp_path):
        home, _, recordings = finished
        member = home.members[2]
        with runs.open_run(tmp_path / "alone", home.settings(member)) as run:
            pipeline.train_networks(run, recordings)
            alone = storage.read_npz(run.path("networks", member.entry.network, "weights.npz"))
        path = home.read(member).path("networks", member.entry.network, "weights.npz")
        for name, value in storage.read_npz(path).items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(value, alone[name], atol=1e-6, err_msg=name)

    @pytest.mark.slow
    def test_two_shares_make_the_files_of_one_process(self, finished, tmp_path):
        home, _, recordings = finished
        ours = runner.ComparisonFolder(tmp_path / "compare", home.comparison)

        def work(shard):
            with runner.open_folder(ours.folder, ours.comparison, shard=shard):
                mine = runner.ComparisonFolder(ours.folder, ours.comparison)
                runner.run_all(mine, recordings, keep_clips=True, shard=shard)

        other = threading.Thread(target=work, args=(runs.Shard(1, 2),))
        other.start()
        work(runs.Shard(0, 2))
        other.join()
        patterns = ("cross_test/*.npz", "runs/*/*/*/weights.npz", "runs/*/metamers/*/*/*.npz")
        patterns += ("runs/*/verification/*.csv", "runs/*/metamers/*/*/wav/*.wav")
        names = [p.relative_to(home.folder) for each in patterns for p in home.folder.glob(each)]
        assert len(names) == 5 + 4 + 8 + 4 * 5 + 4 * 8
        for name in names:
            assert (ours.folder / name).read_bytes() == (home.folder / name).read_bytes(), name
        assert not list(runner.left(ours))


def banded(weights, waveform):
    """Energy in bands as it goes on, and two classes."""
    power = jnp.abs(jnp.fft.rfft(waveform.reshape(-1, 100))) ** 2
    energy = jnp.maximum(power @ weights["bands"], 0)
    return {"energy": energy, "classes": energy.reshape(-1) @ weights["classes"]}


@pytest.fixture(scope="module")
def own_run(finished, tmp_path_factory):
    """A run of somebody's own model, of the comparison's targets in another order."""
    recordings, data = finished[2], finished[0].comparison.experiment.data
    ids = finished[0].targets()[0][::-1]
    rng = np.random.default_rng(0)
    weights = {"bands": rng.random((51, 4)), "classes": rng.standard_normal((80, 2))}
    weights = {name: values.astype(np.float32) for name, values in weights.items()}
    found = mj.make_metamers(
        mj.wrap_model(banded, weights, num_samples=2000),
        recordings.waveforms[ids],
        ["energy"],
        logits="classes",
        class_names=("fall", "rise"),  # Not as the recordings have them.
        recordings=recordings.waveforms,
        config=mj.SynthesisConfig(recipe="fast", steps=10, chunk_steps=5),
        target_ids=ids,
        words=[recordings.words[recordings.labels[i]] for i in ids],
        sample_rate_hz=data.sample_rate_hz,
        show_progress=False,
    )
    folder = tmp_path_factory.mktemp("own") / "mine"
    mj.save_run(folder, {"ear": found}, data=data)
    return folder


@pytest.fixture(scope="module")
def with_own(finished, own_run, tmp_path_factory):
    """The finished comparison, once the model's run has come to it."""
    home = finished[0]
    folder = shutil.copytree(home.folder, tmp_path_factory.mktemp("with_own") / "compare")
    comparison = dataclasses.replace(home.comparison, runs=(str(own_run),))
    ours, parts = runner.ComparisonFolder(folder, comparison), []
    runner.check_saved(ours, finished[2])
    with runner.open_folder(folder, comparison):
        runner.run_all(ours, finished[2], on_part=lambda *part: parts.append(part[:2]))
    assert [kind for kind, _ in parts] == [runner.CROSS_TEST]  # Nothing else was left.
    assert "mine" in status.table(ours) and "finished run, cross x" in status.table(ours)
    return ours


def test_a_mean_over_stages_is_compared_where_both_have_the_same(answers):
    heard = np.array(answers.heard)
    heard[:, [2, 7], 2] = -1  # frequency_local has no logits.
    fewer, made = answers._replace(heard=heard), answers.makers

    def stages(of):
        contrast = entries.Contrast("connection", made[of].entry, made[0].entry)
        return effects.compared_stages(fewer, contrast)

    assert stages(1) == ["conv1", "logits", effects.ALL] and stages(2) == ["conv1"]
    contrast = entries.Contrast("connection", made[2].entry, made[0].entry)
    found = effects.differences(fewer, [contrast], effects.Resampling(20))
    assert list(found["stage"]) == ["conv1"] and found["difference"].notna().all()


class TestFinishedRuns:
    def test_a_model_hears_through_its_own_program_and_targets_find_their_places(
        self, with_own, own_run
    ):
        answers = tables.read_answers(with_own)
        assert answers.stages == ("cochleagram", "dense", "energy")
        assert answers.words == ("fall", "rise") or answers.words == ("rise", "fall")
        table = storage.read_csv(own_run / "verification/metamers.csv", text=("word",))
        ids = answers.target_ids.tolist()
        table = table.set_index("target_id").loc[ids]
        scorer = maker = len(answers.makers) - 1
        assert answers.makers[maker].entry.label == "mine"
        heard = np.array(answers.words)[answers.heard[scorer, maker, 2, :, 0]]
        np.testing.assert_array_equal(heard, table["prediction"])
        natural = np.array(answers.words)[answers.natural[scorer]]
        np.testing.assert_array_equal(natural, table["target_prediction"])
        np.testing.assert_array_equal(answers.passed[maker, 2, :, 0], table["verdict"] == "pass")
        assert (answers.heard[:, maker, :2] == -1).all() and (answers.heard[:, :-1, 2] == -1).all()
        # And others hear its metamers as its files have them.
        run = runs.read_run(own_run)
        played = pipeline.read_metamers(run, "ear", "energy").made.waveform[::-1, 0]
        sounds = mj.audio.heard(*pipeline.play_metamers(run, played))
        first = with_own.members[0]
        model, variables = pipeline.load_network(with_own.read(first), first.entry.network, 2)
        (expected,) = exact.recognize(
            [(model, variables)], sounds, with_own.settings(first).cochleagram
        )
        np.testing.assert_array_equal(answers.heard[0, maker, 2, :, 0], expected)

    def test_the_report_has_its_curve_its_size_and_its_difference(self, with_own):
        text = summary.write(with_own, resamples=50).read_text("utf-8")
        curves = pd.read_csv(with_own.path("report", "curves.csv"))
        mine = curves[(curves["entry"] == "mine") & (curves["who"] == effects.OTHERS)]
        assert list(mine["stage"]) == ["energy", "all", "natural"]
        answers = tables.read_answers(with_own)
        trained = [i for i, m in enumerate(answers.scorers) if m.entry.label == "frequency_grouped"]
        expected = np.mean(answers.heard[trained, -1, 2, :, 0] == answers.labels)
        np.testing.assert_allclose(mine["mean"].iloc[:2], expected)
        rows = pd.read_csv(with_own.path("report", "accuracy.csv")).set_index("entry")
        assert rows.loc["mine", "energy_size"] == 20 * 4 and np.isnan(
            rows.loc["mine", "dense_size"]
        )
        assert "| mine |" in text and "Saved models are those of finished runs" in text
        differences = pd.read_csv(with_own.path("report", "differences.csv"))
        row = differences[differences["question"] == entries.SAVED].iloc[0]
        assert (row["of"], row["against"]) == ("mine", "frequency_grouped")
        assert np.isnan(row["difference"]) and row["reason"] == "no stage in common"
        assert "Left out, no stage in common: mine − frequency_grouped" in text

    def test_runs_alone_are_compared_without_training(self, finished, own_run, tmp_path):
        trained = finished[0].read(finished[0].members[0])
        comparison = runner.Comparison(
            runs=(str(trained.folder), str(own_run)), experiment=trained.config
        )
        home = runner.ComparisonFolder(tmp_path, comparison)
        runner.check_saved(home, None)
        runner.run_all(home, None)
        text = summary.write(home, resamples=50).read_text("utf-8")
        assert f"(those of {trained.folder.name})" in text and "Everything is done." in text
        table = pd.read_csv(home.path("report", "recognition.csv"))
        assert set(table["maker"]) == {trained.folder.name, "mine"} == set(table["scorer"])
        answers, before = tables.read_answers(home), tables.read_answers(finished[0])
        np.testing.assert_array_equal(answers.heard[0, 0, :2], before.heard[0, 0])

    def test_what_cannot_stand_beside_the_others_is_refused(self, finished, own_run, tmp_path):
        home, _, recordings = finished

        def check(recordings, **changes):
            comparison = dataclasses.replace(home.comparison, **changes)
            runner.check_saved(runner.ComparisonFolder(tmp_path, comparison), recordings)

        other = dataclasses.replace(recordings, waveforms=recordings.waveforms[::-1])
        with pytest.raises(ValueError, match=r"mine must hold .*: 4 of 4 are not .*differ: none"):
            check(other, runs=(str(own_run),))
        short = dataclasses.replace(recordings, waveforms=recordings.waveforms[:, :1000])
        with pytest.raises(ValueError, match="those have 1000 samples, its own 2000"):
            check(short, runs=(str(own_run),))
        with pytest.raises(ValueError, match="different names, got mine, mine"):
            check(recordings, runs=(str(own_run), str(own_run)))
        with pytest.raises(ValueError, match=r"config.json is not there"):
            check(recordings, runs=(str(tmp_path / "nothing"),))
        experiment = dataclasses.replace(
            home.comparison.experiment,
            synthesis=dataclasses.replace(home.comparison.experiment.synthesis, seeds=(0, 1)),
        )
        with pytest.raises(ValueError, match=r"synthesis.seeds of .*mine must be 2, got 1"):
            check(recordings, runs=(str(own_run),), experiment=experiment)

    def test_the_driver_reports_what_is_there(self, with_own, own_run):
        home = with_own
        command = [sys.executable, "-m", "experiments.compare_architectures", "--report_only"]
        command += [f"--workdir={home.folder}", "--seeds=0,1", "--draws=100"]
        command += [f"--networks={','.join(home.comparison.entries)}", f"--runs={own_run}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        report = home.path("report", "report.md").read_text("utf-8")
        assert "frequency grouped, untrained" in report
        table = pd.read_csv(home.path("report", "recognition.csv"))
        assert len(table) == 5 * (4 * 2 + 1) * 4  # Scorers, makers' stages, targets.
        for line in report.splitlines():
            if line.startswith("!["):
                name = line.partition("(")[2].rstrip(")")
                assert home.path("report", name).stat().st_size > 1000
