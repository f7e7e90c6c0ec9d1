"""Makes torchaudio_spectrograms.npz: what torchaudio computes of two sounds.

    python tests/reference/make_torchaudio_spectrograms.py    # torch==2.13.0, torchaudio==2.11.0

Only torchaudio's Python code is used: where its compiled extension does not fit, delete `lib/*.so`.
"""

import pathlib

import numpy as np
import torch
import torchaudio

# Arguments of MelSpectrogram, and those of AmplitudeToDB or the offset of the logarithm.
CASES = {
    "default": ({}, {}),
    "slaney": (
        {"n_fft": 512, "win_length": 320, "hop_length": 130, "n_mels": 40, "f_min": 50.0,
         "f_max": 7000.0, "norm": "slaney", "mel_scale": "slaney", "normalized": True},
        {"top_db": 40.0},
    ),
    "magnitude": (
        {"power": 1.0, "center": False, "n_mels": 20, "window_fn": torch.hamming_window},
        {"stype": "magnitude"},
    ),
    "odd_rate": (
        {"sample_rate": 11025, "n_mels": 30, "pad_mode": "constant", "n_fft": 401},
        {"top_db": 80.0},
    ),
    "mfcc": ({"n_mels": 40, "pad_mode": "replicate"}, 1e-6),
}  # fmt: skip


def sounds():
    """A chord that swells, and noise: [sound, time] float32, rms about 0.1."""
    rng = np.random.default_rng(0)
    time = np.arange(4000) / 16000
    chord = sum(np.sin(2 * np.pi * f * time) for f in (220, 554.37, 1318.5, 3951.1))
    noise = rng.standard_normal((2, len(time)))
    return np.float32([0.05 * chord * (0.2 + 4 * time) + 0.003 * noise[0], 0.1 * noise[1]])


if __name__ == "__main__":
    arrays = {"sounds": sounds()}
    waveforms = torch.from_numpy(arrays["sounds"])
    for name, (settings, log) in CASES.items():
        made = torchaudio.transforms.MelSpectrogram(**settings)
        mel = made(waveforms)
        # One by one, since a range of dB is of all channels together.
        to_log = (
            torchaudio.transforms.AmplitudeToDB(**log)
            if isinstance(log, dict)
            else lambda x, offset=log: torch.log(x + offset)
        )
        arrays[f"{name}/mel"] = mel.numpy()
        arrays[f"{name}/log"] = torch.stack([to_log(one) for one in mel]).numpy()
        arrays[f"{name}/spectrogram"] = made.spectrogram(waveforms).numpy()[:, ::5, ::3]
    path = pathlib.Path(__file__).with_name("torchaudio_spectrograms.npz")
    np.savez_compressed(path, **arrays)
