"""A run small enough for a test: two made-up words, a quarter of a second, a small cochleagram."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import soundfile

from metamer_jax import configs

SAMPLE_RATE_HZ, DURATION_S = 8000, 0.25
ROOT = pathlib.Path(__file__).parents[1]


def write_recordings(folder: pathlib.Path, per_word: int = 30) -> None:
    """Writes <folder>/{rise,fall}/*.wav: glides up and down, with noise."""
    rng = np.random.default_rng(0)
    time = np.arange(int(SAMPLE_RATE_HZ * DURATION_S)) / SAMPLE_RATE_HZ
    for word, direction in (("rise", 1), ("fall", -1)):
        (folder / word).mkdir(parents=True)
        for i in range(per_word):
            start_hz = rng.uniform(900, 1600)
            phase = 2 * np.pi * (start_hz * time + direction * rng.uniform(800, 1600) * time**2)
            sound = 0.2 * np.sin(phase) * np.hanning(len(time))
            sound += 0.01 * rng.standard_normal(len(time))
            soundfile.write(
                folder / word / f"{i % 10:08x}_nohash_{i // 10}.wav", sound, SAMPLE_RATE_HZ
            )


def config(recordings: pathlib.Path, cache: pathlib.Path, **changes) -> configs.ExperimentConfig:
    """Settings of a run over those recordings that takes seconds."""
    settings = {
        "preset": "smoke",
        "networks": ("frequency_grouped",),
        "stages": ("cochleagram", "dense"),
        "targets_per_word": 2,
        "data": configs.DataConfig(
            dataset="wav_folder",
            data_dir=str(recordings),
            cache_dir=str(cache),
            sample_rate_hz=SAMPLE_RATE_HZ,
            duration_s=DURATION_S,
        ),
        "cochleagram": configs.CochleagramConfig(
            sample_rate_hz=SAMPLE_RATE_HZ,
            duration_s=DURATION_S,
            high_hz=4000.0,
            num_filters=12,
            sample_factor=2,
            method="multirate",
        ),
        "training": configs.TrainingConfig(epochs=3, batch_size=8, patience=0),
        "synthesis": configs.SynthesisConfig(
            steps=30, chunk_steps=5, batch_size=3, learning_rate=3e-3, tolerance=1e-4
        ),
        "verification": configs.VerificationConfig(null_recordings=50, min_rank_features=600),
    }
    return configs.ExperimentConfig(**{**settings, **changes})


def start_synthesis(
    folder: pathlib.Path, *flags: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Starts `python -m experiments.synthesize` on a run folder that has its networks."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.synthesize", f"--workdir={folder}", *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
