"""Counterbalancing: the properties that its rules promise, over many sizes."""

import collections

import numpy as np
import pytest

from metamer_jax.listening.building import design

SIZES = [  # Combinations, words, targets a word, conditions.
    (10, 8, 10, 10),
    (10, 8, 13, 13),
    (10, 8, 10, 3),
    (10, 8, 2, 10),
    (10, 8, 7, 10),
    (10, 8, 1, 10),
    (4, 2, 2, 4),
    (3, 5, 4, 8),
    (1, 2, 1, 1),
]


def columns(plan, *names):
    return list(zip(*(getattr(plan, name).tolist() for name in names), strict=True))


class TestLatin:
    def test_follows_its_formulas(self):
        plan = design.latin(10, 8, 10, 10)
        assert len(plan.word) == 10 * 80
        np.testing.assert_array_equal(plan.target, (plan.combination + plan.condition) % 10)
        np.testing.assert_array_equal(plan.word, (plan.batch + plan.combination) % 8)

    @pytest.mark.parametrize("size", SIZES)
    def test_nobody_hears_a_recording_twice(self, size):
        plan = design.latin(*size)
        heard = columns(plan, "condition", "word", "target")
        assert len(set(heard)) == len(heard)

    @pytest.mark.parametrize("size", SIZES)
    def test_sizes_and_ranges(self, size):
        combinations, words, targets, conditions = size
        plan = design.latin(*size)
        assert len(plan.word) == conditions * words * min(targets, combinations)
        assert set(plan.condition) == set(range(conditions))
        assert set(plan.word) == set(range(words))
        assert plan.target.min() >= 0 and plan.target.max() < targets

    @pytest.mark.parametrize("size", SIZES)
    def test_combinations_are_balanced_within_a_condition(self, size):
        plan = design.latin(*size)
        for condition in range(size[3]):
            counts = np.bincount(plan.combination[plan.condition == condition], minlength=size[0])
            assert counts.max() - counts.min() <= (0 if size[2] >= size[0] else 1)

    @pytest.mark.parametrize("size", SIZES)
    def test_no_batch_has_a_combination_twice(self, size):
        plan = design.latin(*size)
        played = columns(plan, "condition", "batch", "combination")
        assert len(set(played)) == len(played)

    @pytest.mark.parametrize("size", [s for s in SIZES if s[2] >= s[0]])
    def test_every_batch_has_every_combination(self, size):
        plan = design.latin(*size)
        counts = collections.Counter(columns(plan, "condition", "batch"))
        assert set(counts.values()) == {size[0]} and len(counts) == size[3] * size[1]

    @pytest.mark.parametrize("size", [s for s in SIZES if s[2] < s[0]])
    def test_batches_of_few_targets_are_of_similar_size(self, size):
        plan = design.latin(*size)
        for condition in range(size[3]):
            sizes = np.bincount(plan.batch[plan.condition == condition])
            assert sizes.min() >= 1 and sizes.max() - sizes.min() <= 2

    @pytest.mark.parametrize(
        "size", [(10, 8, 10, 10), (10, 8, 13, 13), (10, 8, 2, 10), (3, 5, 2, 3)]
    )
    def test_a_full_set_of_conditions_covers_every_metamer_once(self, size):
        combinations, words, targets, _ = size
        plan = design.latin(*size)
        metamers = columns(plan, "combination", "word", "target")
        assert len(set(metamers)) == len(metamers) == combinations * words * targets

    def test_refuses_nothing_at_all(self):
        with pytest.raises(ValueError, match="conditions must be at least 1, got 0"):
            design.latin(10, 8, 10, 0)


class TestShuffle:
    def test_each_metamer_once_and_each_combination_once_a_batch(self):
        plan = design.shuffle(np.ones((10, 8, 10), bool), 10, seed=3)
        metamers = columns(plan, "combination", "word", "target")
        assert len(set(metamers)) == len(metamers) == 800
        counts = collections.Counter(columns(plan, "condition", "batch", "combination"))
        assert len(counts) == 800

    def test_starts_again_when_metamers_run_out_but_never_within_a_condition(self):
        usable = np.random.default_rng(0).random((3, 4, 4)) < 0.5
        plan = design.shuffle(usable, 12, seed=0)
        heard = columns(plan, "condition", "combination", "word", "target")
        assert len(set(heard)) == len(heard) == 12 * 4 * 3
        assert usable[plan.combination, plan.word, plan.target].all()

    def test_leaves_holes_where_a_combination_has_too_few(self):
        usable = np.zeros((2, 4, 1), bool)
        usable[0] = True
        usable[1, 0] = True
        plan = design.shuffle(usable, 2)
        holes = plan.target < 0
        assert holes.sum() == 2 * 3 and (plan.combination[holes] == 1).all()


class TestFill:
    def test_changes_nothing_where_everything_may_be_played(self):
        plan = design.latin(10, 8, 10, 10)
        filled, planned = design.fill(plan, np.ones((10, 8, 13), bool), 10)
        np.testing.assert_array_equal(filled.target, plan.target)
        np.testing.assert_array_equal(planned, plan.target)

    def test_replaces_failures_by_spare_targets_and_nothing_else(self):
        usable = np.ones((10, 8, 13), bool)
        usable[:, :, :3] = np.random.default_rng(1).random((10, 8, 3)) < 0.5
        plan = design.latin(10, 8, 10, 10)
        filled, planned = design.fill(plan, usable, 10)
        failed = ~usable[plan.combination, plan.word, planned]
        changed = filled.target != planned
        np.testing.assert_array_equal(changed, failed)
        assert (filled.target[changed] >= 10).all()
        assert usable[filled.combination, filled.word, filled.target].all()
        heard = columns(filled, "condition", "word", "target")
        assert len(set(heard)) == len(heard)

    @pytest.mark.parametrize("size", [(10, 8, 10, 10), (10, 8, 4, 10), (3, 5, 4, 8)])
    def test_never_plays_a_failure_or_a_recording_twice(self, size):
        combinations, words, targets, _ = size
        usable = np.random.default_rng(2).random((combinations, words, targets + 1)) < 0.6
        filled, _ = design.fill(design.latin(*size), usable, targets)
        there = filled.rows(filled.target >= 0)
        assert usable[there.combination, there.word, there.target].all()
        heard = columns(there, "condition", "word", "target")
        assert len(set(heard)) == len(heard)

    def test_a_hole_only_where_nothing_is_left(self):
        usable = np.ones((4, 2, 4), bool)
        usable[1, 0] = False
        plan = design.latin(4, 2, 4, 4)
        filled, _ = design.fill(plan, usable, 4)
        holes = filled.target < 0
        np.testing.assert_array_equal(holes, (plan.combination == 1) & (plan.word == 0))

    def test_a_word_with_fewer_targets_than_the_design_leaves_holes(self):
        usable = np.ones((4, 2, 4), bool)
        usable[:, 1, 3:] = False
        filled, _ = design.fill(design.latin(4, 2, 4, 4), usable, 4)
        holes = filled.target < 0
        assert holes.sum() == 4 and set(filled.word[holes]) == {1}


class TestChooseTargets:
    def test_those_that_serve_most_combinations_come_first(self):
        usable = np.zeros((3, 1, 4), bool)
        usable[0, 0, [0, 1]] = usable[1, 0, 1] = usable[:, 0, 3] = True
        np.testing.assert_array_equal(design.choose_targets(usable, None, 0), [[3, 1, 0, -1]])

    def test_number_of_targets(self):
        usable = np.ones((10, 3, 13), bool)
        assert design.num_targets(usable, None) == 10
        assert design.num_targets(usable, 12) == 12
        usable[:, 1, 4:] = False
        assert design.num_targets(usable, None) == 4
        usable[:, 2] = False  # A word without any does not end the experiment.
        assert design.num_targets(usable, None) == 4
        with pytest.raises(ValueError, match="at least one metamer"):
            design.num_targets(np.zeros((2, 2, 2), bool), None)


class TestOrder:
    def test_plays_every_presentation_once_batch_by_batch(self):
        plan = design.latin(10, 8, 10, 3)
        ordered = design.order(plan, extras=6, seed=1)
        for condition in range(3):
            rows = ordered.condition == condition
            np.testing.assert_array_equal(ordered.trial[rows], np.arange(86))
            assert (np.diff(ordered.batch[rows]) >= 0).all()
            sources = ordered.source[rows]
            expected = np.flatnonzero(plan.condition == condition)
            np.testing.assert_array_equal(np.sort(sources[sources >= 0]), expected)
            np.testing.assert_array_equal(np.sort(-1 - sources[sources < 0]), np.arange(6))
            extras = np.bincount(ordered.batch[rows][sources < 0], minlength=8)
            assert extras.max() - extras.min() <= 1
        own = np.where(ordered.source >= 0, plan.batch[ordered.source], -1)
        for condition in range(3):
            for batch in range(8):
                rows = (ordered.condition == condition) & (ordered.batch == batch)
                assert len(set(own[rows]) - {-1}) == 1  # Batches stay together.
                np.testing.assert_array_equal(ordered.position[rows], np.arange(rows.sum()))

    def test_leaves_out_holes_and_empty_batches(self):
        plan = design.latin(4, 2, 4, 1)
        holes = plan._replace(target=np.where(plan.batch == 0, -1, plan.target))
        ordered = design.order(holes)
        assert len(ordered.trial) == 4 and set(ordered.batch) == {0}

    def test_the_seed_decides(self):
        plan = design.latin(10, 8, 10, 2)
        first, again, other = (design.order(plan, seed=s).source for s in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        half = len(first) // 2  # Nor do two conditions share an order.
        assert (first[:half] != first[half:] - 80).any()


def test_words_are_drawn_evenly():
    labels = np.repeat(np.arange(4), [9, 9, 2, 9])
    drawn = design.draw_words(labels, 4, 10, [0])
    assert len(set(drawn)) == 10
    np.testing.assert_array_equal(np.sort(np.bincount(labels[drawn])), [2, 2, 3, 3])
    assert len(design.draw_words(labels, 4, 100, [0])) == len(labels)
