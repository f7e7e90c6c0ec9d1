"""Tests that the number of targets does not show in memory, on a stage too small to take time."""

import dataclasses
import tracemalloc
import types

import jax.numpy as jnp
import numpy as np
import pytest
import small_run

from metamer_jax import auditory, configs, pipeline, runs
from metamer_jax.data import Recordings

COUNT, SAMPLES = 10_000, 400


def every_other_sample(variables, waveform):
    del variables
    return 3 * waveform[::2]


@pytest.mark.slow
def test_ten_thousand_targets_stream_through(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    recordings = Recordings(
        waveforms=0.1 * rng.standard_normal((COUNT, SAMPLES), np.float32),
        labels=np.arange(COUNT, dtype=np.int32) % 2,
        names=np.array([f"w/{i}" for i in range(COUNT)]),
        speakers=np.array([""] * COUNT),
        splits=np.array(["test"] * COUNT),
        words=("fall", "rise"),
        sample_rate_hz=8000,
        summary={},
    )
    config = small_run.config(tmp_path / "none", tmp_path / "none", stages=("cochleagram",))
    synthesis = configs.SynthesisConfig(
        steps=40, batch_size=500, tolerance=1e-3, learning_rate=0.02, schedule="cosine"
    )
    config = dataclasses.replace(config, synthesis=synthesis, targets_per_word=COUNT // 2)
    model = types.SimpleNamespace(stage_names=("cochleagram",))
    monkeypatch.setattr(pipeline.synthesize, "load_network", lambda *_: (model, {}))
    monkeypatch.setattr(auditory, "with_filters", lambda variables, *_: variables)
    monkeypatch.setattr(auditory, "stage_fn", lambda *_, **__: every_other_sample)
    with runs.open_run(tmp_path / "run", config) as run:
        pipeline.common.write_targets(run, recordings, pipeline.choose_targets(recordings, 5000, 0))
        tracemalloc.start()
        pipeline.synthesize_metamers(run, recordings)
        made = pipeline.read_metamers(run, "frequency_grouped", "cochleagram")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    size = COUNT * SAMPLES * 4
    assert made.made.waveform.shape == (COUNT, 1, SAMPLES)
    assert (tmp_path / "run/metamers/frequency_grouped/cochleagram/metamers.npz").stat().st_size > (
        2 * size
    )
    assert peak < size / 2  # Batches of 500 and their digests, not 10,000 of anything long.
    # Rows are the targets', in their order.
    for rows in (slice(0, 3), slice(4998, 5002), slice(9997, 10_000)):
        some = made.rows(rows)
        wanted = recordings.waveforms[some.target_ids][:, ::2]
        error = np.linalg.norm(some.made.waveform[:, 0, ::2] - wanted, axis=1)
        error /= np.linalg.norm(wanted, axis=1)
        np.testing.assert_allclose(error, some.made.relative_error[:, 0], rtol=1e-3, atol=1e-6)
    assert np.median(made.made.relative_error) < 0.1
    # What stays in the file serves JAX as any array does.
    assert jnp.asarray(made.made.waveform[:2]).shape == (2, 1, SAMPLES)
