"""The manifest: a row for each presentation, and what it says of the sounds."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from metamer_jax.listening.building import files, sounds
from metamer_jax.listening.config import ListeningConfig

SCHEMA_VERSION = 1
MANIFEST_COLUMNS = (
    "experiment_id condition batch position_in_batch trial stimulus_id file kind model layer "
    "layer_index target_id speaker_id word metamer_seed sample_rate_hz duration_s rms peak "
    "onset_in_condition_wav_s model_prediction class_match spearman null_percentile sha256 "
    "relative_error verdict answer"
).split()
KEY_COLUMNS = "experiment_id condition batch trial stimulus_id kind word answer".split()
_INTEGER_COLUMNS = ("layer_index", "target_id", "metamer_seed")
_TEXT_COLUMNS = ("model", "layer", "speaker_id", "model_prediction", "verdict")


def describe_sounds(
    manifest: pd.DataFrame,
    samples: Mapping[str, np.ndarray],
    audio: Mapping[str, bytes],
    sample_rate_hz: int,
    level_db: float,
    config: ListeningConfig,
) -> pd.DataFrame:
    """Adds file, sample_rate_hz, duration_s, rms, peak, onset_in_condition_wav_s and sha256."""
    facts = {}
    for stimulus_id, sound in samples.items():
        scaled = sound.astype(np.float64) / 32768
        facts[stimulus_id] = {
            "file": f"audio/{stimulus_id}.wav",
            "sample_rate_hz": sample_rate_hz,
            "duration_s": len(sound) / sample_rate_hz,
            "rms": float(np.sqrt(np.mean(scaled**2))),
            "peak": float(np.abs(scaled).max()),
            "sha256": hashlib.sha256(audio[stimulus_id]).hexdigest(),
        }
    manifest = manifest.join(pd.DataFrame.from_dict(facts, orient="index"), on="stimulus_id")
    onsets = np.full(len(manifest), np.nan)
    # Only its length matters here.
    marker = files.batch_marker(level_db, sample_rate_hz)
    for condition in range(1, config.conditions + 1):
        rows = np.flatnonzero(manifest["condition"] == condition)
        if len(rows):
            _, starts = sounds.condition_recording(
                [samples[i] for i in manifest["stimulus_id"].iloc[rows]],
                manifest["batch"].iloc[rows].tolist(),
                marker=marker,
                silence_s=config.silence_s,
                sample_rate_hz=sample_rate_hz,
            )
            onsets[rows] = starts / sample_rate_hz
    return manifest.assign(onset_in_condition_wav_s=onsets)


def typed(manifest: pd.DataFrame) -> pd.DataFrame:
    """Gives the manifest its columns and types: whole numbers stay whole, missing text is ""."""
    manifest = manifest.reindex(columns=MANIFEST_COLUMNS)
    for name in _INTEGER_COLUMNS:
        manifest[name] = manifest[name].astype("Int64")
    for name in _TEXT_COLUMNS:
        manifest[name] = manifest[name].fillna("")
    return manifest


def digest(
    manifest: pd.DataFrame,
    words: Sequence[str],
    headphone: Sequence[Mapping[str, Any]],
    calibration: str,
    audio: Mapping[str, bytes],
) -> str:
    """Hashes what makes it this design: which sounds, in which order, with which choices."""
    columns = "condition batch position_in_batch trial stimulus_id kind word sha256".split()
    if not (manifest["answer"] == manifest["word"]).all():
        columns.append("answer")
    identity = {
        "schema_version": SCHEMA_VERSION,
        "words": list(words),
        "presentations": manifest[columns].astype(str).to_numpy().tolist(),
        "metamers": manifest.reindex(columns=["model", "layer", "target_id", "metamer_seed"])
        .astype(str)
        .to_numpy()
        .tolist(),
        "headphone": list(headphone),
        "checks": [
            hashlib.sha256(audio[i]).hexdigest()
            for i in [*(trial["stimulus_id"] for trial in headphone), calibration]
        ],
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
