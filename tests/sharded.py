"""Run by devices_test in a process of its own with eight virtual devices; prints JSON."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import auditory, metamers, models
from metamer_jax.configs import CochleagramConfig, SynthesisConfig
from metamer_jax.runtime import devices


def main() -> None:
    cochleagram = CochleagramConfig(
        sample_rate_hz=8000,
        duration_s=0.25,
        high_hz=4000.0,
        num_filters=12,
        sample_factor=2,
        method="multirate",
    )
    model = models.build_model("frequency_grouped", num_words=3)
    key = jax.random.key(0)
    variables = auditory.init_variables(key, model, cochleagram)
    sounds = 0.1 * np.random.default_rng(0).standard_normal((11, 2000)).astype(np.float32)
    mesh = devices.device_mesh()
    found = {"devices": mesh.size}
    common = {
        "stage_fn": auditory.stage_fn(model, "conv2", cochleagram, relu_override=True),
        "variables": variables,
        "config": SynthesisConfig(steps=6, chunk_steps=3, seeds=(0, 5)),
    }
    alone = metamers.synthesize(key, sounds, range(11), **common)
    shared = metamers.synthesize(key, sounds, range(11), mesh=mesh, **common)
    found["difference"] = float(np.max(np.abs(alone.waveform - shared.waveform)))
    found["moved"] = float(np.std(alone.waveform - alone.waveform[::-1]))
    found["steps"] = shared.steps.min().item()
    # Of the same shape as above, so that nothing is compiled twice.
    program = metamers.lower(8, 2000, num_seeds=2, mesh=mesh, **common).compile().as_text()
    found["collectives"] = re.findall(
        r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter", program
    )
    # A state goes out and comes back as it was, on the same devices.
    state = metamers.init(key, sounds[:8], range(8), mesh=mesh, **common)
    found["placed on"] = len(state.metamer.waveform.sharding.device_set)
    saved = jax.tree.map(np.asarray, state.metamer)
    back = metamers.place(saved, mesh)
    found["placed back"] = all(
        a.sharding == b.sharding and jnp.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(state.metamer), jax.tree.leaves(back), strict=True)
    )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
