"""Material of a listening experiment without a run: bursts of noise with made-up verdicts."""

import dataclasses

import numpy as np
import pandas as pd

from metamer_jax import audio
from metamer_jax.configs import PlaybackConfig
from metamer_jax.listening.building.material import METAMER_COLUMNS, Material

WORDS = ("down", "go", "left", "no", "right", "stop", "up", "yes")
STAGES = ("cochleagram", "conv1", "conv2", "dense", "logits")


def fabricate(
    *,
    models=("conv2d", "frequency_grouped"),
    layers=STAGES,
    words=WORDS,
    targets=10,
    fails=lambda model, layer, word, target: False,
    wrong=lambda word, target: False,
    naturals=8,
    sample_rate_hz=8000,
    duration_s=0.05,
) -> Material:
    """Makes material; `fails` says which metamers did, `wrong` which targets a network misses."""
    random = np.random.default_rng(0)
    rows = []
    for model in models:
        for depth, layer in enumerate(layers):
            for w, word in enumerate(words):
                for target in range(targets):
                    failed = fails(model, layer, word, target)
                    seen = {
                        "model_prediction": words[w - 1] if failed else word,
                        "class_match": not failed,
                        "spearman": 0.5 if failed else 0.95,
                        "null_percentile": 99.0 if failed else 100.0,
                        "relative_error": 0.02,
                        "verdict": "fail" if failed else "pass",
                        "reason": f"class: {words[w - 1]}, target {word}" if failed else "",
                    }
                    rows.append(
                        {
                            "model": model,
                            "layer": layer,
                            "layer_index": depth,
                            "target_id": 100 * w + target,
                            "speaker_id": f"voice{target}",
                            "word": word,
                            "metamer_seed": 0,
                            "target_correct": not wrong(word, target) or model != models[0],
                            **seen,
                        }
                    )
    table = pd.DataFrame(rows)[list(METAMER_COLUMNS)]
    natural = pd.DataFrame(
        {
            "target_id": np.arange(naturals) + 5000,
            "speaker_id": "voice",
            "word": [words[i % len(words)] for i in range(naturals)],
        }
    )
    count = round(sample_rate_hz * duration_s)
    waveforms = random.standard_normal((len(table) + 2 * naturals, count))
    playback = PlaybackConfig()
    played, _ = audio.to_playback(waveforms, sample_rate_hz, playback)
    metamer_sounds, natural_sounds, practice_sounds = np.split(
        played, [len(table), len(table) + naturals]
    )
    return Material(
        words=tuple(words),
        sample_rate_hz=sample_rate_hz,
        playback=playback,
        metamers=table,
        metamer_sounds=metamer_sounds,
        naturals=natural,
        natural_sounds=natural_sounds,
        practice=natural.assign(target_id=natural["target_id"] + 1000),
        practice_sounds=practice_sounds,
    )


def with_originals(material: Material) -> Material:
    """Adds a recording for each target, unlike every metamer."""
    random = np.random.default_rng(1)
    targets = sorted(set(material.metamers["target_id"]))
    count = material.metamer_sounds.shape[1]
    waveforms = random.standard_normal((len(targets), count))
    played, _ = audio.to_playback(waveforms, material.sample_rate_hz, material.playback)
    return dataclasses.replace(material, originals=dict(zip(targets, played, strict=True)))
