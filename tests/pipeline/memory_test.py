"""Tests that resident memory does not grow with the number of targets, each in its own process."""

import pytest

from experiments import memory_study


@pytest.mark.slow  # Ten processes, a minute.
def test_memory_does_not_grow_with_the_number_of_targets():
    few, many = (memory_study.measure(count, 1.0) for count in (200, 2000))
    sounds = (2000 - 200) * 16000 * 4
    for part in ("targets", "pipeline", "report"):
        assert many[part] - few[part] < sounds / 2, part
    # Its outputs are two sounds a target.
    grown = many["outputs"] - few["outputs"]
    assert 2 * sounds < grown < many["synthesize"] - few["synthesize"] + sounds
    assert many["synthesize"] - few["synthesize"] < grown + sounds / 2
