"""Run by cochleagram_networks_test in a process with eight virtual devices; prints JSON."""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import tiny_network

from metamer_jax import configs, training
from metamer_jax.runtime import devices
from metamer_jax.training import clips as training_clips

MODEL = tiny_network.Tiny(2)
CONFIG = configs.TrainingConfig(
    epochs=2, batch_size=16, ema_decay=0.5, augment=configs.AugmentConfig(shift=0.2)
)


def features(scale, waveforms):
    """Waveforms [batch, 400] to [batch, 20, 20]."""
    return scale * jnp.abs(jnp.fft.rfft(waveforms.reshape(-1, 20, 20), n=40)[..., 1:])


def main() -> None:
    rng = np.random.default_rng(0)
    clips = training.Examples(rng.standard_normal((72, 400)).astype("f"), rng.integers(0, 2, 72))
    mesh = devices.device_mesh()
    feature_fn = jax.tree_util.Partial(features, jnp.float32(0.5))
    train = functools.partial(
        training.train, jax.random.key(0), MODEL, clips, clips, CONFIG, feature_fn=feature_fn
    )
    alone, shared = train(), train(mesh=mesh)
    found = {"devices": mesh.size}
    # Fewer clips than a batch, which the devices do not divide.
    few = [
        training_clips.augmented_features(
            jax.random.key(1), clips.inputs[:6], feature_fn, CONFIG.augment, mesh=m
        )
        for m in (None, mesh)
    ]
    found["difference of few"] = float(jnp.abs(np.subtract(*few)).max())
    leaves = [jax.tree.leaves((r.state.average, r.state.average_stats)) for r in (alone, shared)]
    pairs = list(zip(*leaves, strict=True))
    found["difference"] = max(float(jnp.abs(np.subtract(a, b)).max()) for a, b in pairs)
    start = jax.tree.leaves(
        training.init_state(
            jax.random.fold_in(jax.random.key(0), 0), MODEL, np.zeros((1, 20, 20), "f"), CONFIG
        ).params
    )
    found["moved"] = max(
        float(jnp.abs(np.subtract(a, b)).max())
        for a, b in zip(start, jax.tree.leaves(alone.state.params), strict=True)
    )
    found["placed on"] = [len(leaf.sharding.device_set) for leaf in leaves[1]]
    found["records"] = [
        [r["train_loss"] for r in each.records] + [each.records[-1]["validation_loss"]]
        for each in (alone, shared)
    ]
    # The work of one device of those that share it, and of one that is alone.
    inputs = training_clips.Clips(
        jnp.zeros((40, 20, 20)), jnp.zeros(40, int), alone.state.normalization,
        jax.random.key(0), None,
    )  # fmt: skip
    state = training.weights_of(alone.state)
    settings = {"model": MODEL, "config": CONFIG, "grid": None}
    costs = [
        training.train_epoch.lower(jax.random.key(0), state, inputs, 1, mesh=m, **settings)
        .compile()
        .cost_analysis()["flops"]
        for m in (None, mesh)
    ]
    found["part of the work"] = costs[1] / costs[0]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
