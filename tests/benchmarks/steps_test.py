"""The benchmark's yardstick computes what it is compared with, and a case is timed to its end."""

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import cochleagram, configs
from metamer_jax.benchmarks import steps

CONFIG = configs.CochleagramConfig(duration_s=0.2, num_filters=8, sample_factor=1)


def test_the_yardstick_is_the_dense_cochleagram():
    sound = 0.1 * jax.random.normal(jax.random.key(0), (2, CONFIG.num_samples))
    bank = jnp.asarray(cochleagram.default_bank(CONFIG).response, jnp.float32)
    filters = cochleagram.design_cochleagram(CONFIG)
    expected = cochleagram.cochleagram(sound, filters, config=CONFIG)
    plain = jnp.stack([steps.plain_cochleagram(bank, each, config=CONFIG) for each in sound])
    error = jnp.linalg.norm(plain - expected) / jnp.linalg.norm(expected)
    assert error < 1e-5


def test_a_case_is_timed_and_counted():
    settings = {"config": CONFIG, "synthesis": configs.SynthesisConfig(), "steps": 2}
    for method in ("yardstick", "multirate"):
        timed = steps.prepare(steps.Case("cochleagram", method, 2), **settings)
        steps.measure([timed], rounds=3)
        assert len(timed.seconds) == 3 and timed.ms_per_target_step > 0
        assert timed.flops > 0 and np.isfinite(timed.bytes_accessed)
