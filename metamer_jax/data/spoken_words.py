"""The embedded corpus: words spoken by synthetic voices, made on the spot.

espeak-ng (extra `[speech]`) speaks; every speaker has a voice, an accent, a vocal-tract length, a
pitch and a pace, every token varies them, and each sound then gets a spectral tilt, a room, an
onset, noise and a level of its own. The same settings make the same sounds.

How like speech it is: one hidden layer on log-mel features, trained on 160 of 200 voices, knows
82 % of the other voices' words (of 2,774 real recordings, other speakers: 64 %) and, trained on all
of them, 56 % of the real ones, chance being 12.5 %.
"""

import dataclasses
import fractions
import importlib.metadata
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.signal

from metamer_jax import configs
from metamer_jax.data import recordings
from metamer_jax.runtime import progress

_VERSION = 1  # Of the sounds; raised whenever they change.

VOICES = (
    "en-us",
    "en",
    "en-029",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-us-nyc",
)
# Of espeak-ng 1.52's variants those that sound like people: no robots, croaks and whispers.
VARIANTS = tuple(
    """Alex Alicia Andrea Andy Annie AnxiousAndy Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee
    Marco Mario Michael Mike Nguyen Reed RicishayMax RicishayMax2 RicishayMax3 Storm Tweaky adam
    anika announcer antonio aunty belinda benjamin boris caleb david ed edward edward2 f1 f2 f3 f4
    f5 fast grandma grandpa gustave ian iven iven2 iven3 iven4 john kaukovalta linda m1 m2 m3 m4 m5
    m6 m7 m8 marcelo max michel miguel mike2 norbert pablo paul pedro quincy rob robert sandro
    shelby steph steph2 steph3 travis victor zac""".split()
)
_ENDINGS = ("", ".", "?", "!")


@dataclasses.dataclass(frozen=True)
class Speaker:
    """One synthetic voice."""

    name: str
    voice: str  # espeak-ng's, "<language>+<variant>".
    pitch: int  # 0 to 100, as the next one.
    pitch_range: int
    rate: int  # Words a minute.
    tract_factor: float  # Formants and pitch are multiplied by it, durations divided.


def source(config: configs.DataConfig) -> recordings.Source:
    """Describes the corpus that `config` asks for.

    Returns:
        The corpus, synthesised when its clips are asked for.

    Raises:
        ImportError: espeak-ng is not installed.
        ValueError: A word cannot be spoken.
    """
    words = config.words or configs.WORDS
    for word in words:
        if word != word.strip() or not word or "/" in word or "\\" in word:
            raise ValueError(f"words must be speakable and free of slashes, got {word!r}")
    num_clips = config.num_speakers * config.tokens_per_word * len(words)
    return recordings.Source(
        identity={
            "corpus": "spoken_words",
            "corpus_version": _VERSION,
            "espeakng_loader": _espeak_version(),
            "speakers": config.num_speakers,
            "tokens_per_word": config.tokens_per_word,
            "seed": config.corpus_seed,
        },
        words=words,
        num_clips=num_clips,
        clips=lambda: synthesize(words, config),
    )


def _espeak_version() -> str:
    if importlib.util.find_spec("espeakng_loader") is None:
        raise ImportError(
            'dataset "spoken_words" is spoken by espeak-ng, which is not installed: '
            'pip install "metamer_jax[speech]"'
        )
    return importlib.metadata.version("espeakng-loader")


def make_speaker(index: int, seed: int) -> Speaker:
    """Draws speaker number `index`; no two of 664 have both the accent and the variant."""
    pairs = np.random.default_rng([seed, 0]).permutation(len(VOICES) * len(VARIANTS))
    voice, variant = divmod(int(pairs[index % len(pairs)]), len(VARIANTS))
    rng = np.random.default_rng([seed, 1, index])
    return Speaker(
        name=f"voice{index:03d}",
        voice=f"{VOICES[voice]}+{VARIANTS[variant]}",
        pitch=int(rng.integers(30, 71)),
        pitch_range=int(rng.integers(20, 81)),
        rate=int(rng.integers(105, 171)),
        tract_factor=float(rng.uniform(0.88, 1.14)),
    )


def synthesize(words: Sequence[str], config: configs.DataConfig) -> Iterator[recordings.Clip]:
    """Makes the corpus, speaker by speaker.

    Args:
        words: What is said.
        config: How many voices say it and how often, and the clips' rate and length.

    Yields:
        Clips of int16 samples [config.num_samples].

    Raises:
        ValueError: A word cannot be spoken, or not within the length.
        RuntimeError: espeak-ng failed.
    """
    seed, sample_rate_hz, num_samples = (
        config.corpus_seed,
        config.sample_rate_hz,
        config.num_samples,
    )
    tokens, calls = [], []
    for index in range(config.num_speakers):
        speaker = make_speaker(index, seed)
        for w, word in enumerate(words):
            for t in range(config.tokens_per_word):
                rng = np.random.default_rng([seed, 2, index, w, t])
                factor = speaker.tract_factor * rng.uniform(0.98, 1.02)
                call = {
                    "voice": speaker.voice,
                    "text": word + _ENDINGS[rng.integers(len(_ENDINGS))],
                    "rate": speaker.rate + int(rng.integers(-25, 26)),
                    "pitch": speaker.pitch + int(rng.integers(-8, 9)),
                    "range": speaker.pitch_range,
                    "seed": int(rng.integers(2**31)),
                    # 5 % are left for the onset.
                    "max_s": 0.95 * num_samples / sample_rate_hz * factor,
                }
                calls.append(call)
                tokens.append((speaker, word, t, factor, rng))
    spoken, spoken_hz = _speak(calls)
    for (speaker, word, t, factor, rng), samples in zip(tokens, spoken, strict=True):
        name = f"{word}/{speaker.name}_nohash_{t}"
        speech = _change_tract(samples, spoken_hz, factor, sample_rate_hz)[:num_samples]
        yield recordings.Clip(
            file=name,
            name=name,
            word=word,
            speaker=speaker.name,
            samples=_record(speech, sample_rate_hz, num_samples, rng),
            sample_rate_hz=sample_rate_hz,
        )


def _speak(calls: Sequence[dict[str, Any]]) -> tuple[list[np.ndarray], int]:
    """Has espeak-ng speak in a fresh process.

    Returns:
        Trimmed sounds, [sample] int16 each, and their sample rate in Hz.

    Raises:
        ValueError: A voice or word is none of espeak-ng's.
        RuntimeError: The process ended otherwise than it should.
    """
    script = pathlib.Path(__file__).with_name("_espeak_process.py")
    with tempfile.TemporaryDirectory(prefix="metamer_jax_") as folder:
        calls_path, out_path = pathlib.Path(folder, "calls.json"), pathlib.Path(folder, "out.npz")
        calls_path.write_text(json.dumps({"calls": list(calls)}), encoding="utf-8")
        errors_path = pathlib.Path(folder, "errors.txt")  # A pipe nobody reads could fill up.
        with open(errors_path, "wb") as errors:
            process = subprocess.Popen(
                # -P: the script's folder is no place to import from.
                [sys.executable, "-P", str(script), str(calls_path), str(out_path)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            assert process.stdout is not None  # It is a pipe.
            try:
                spoken = 0
                with progress.bar(len(calls), "espeak-ng speaks", unit="clip") as shown:
                    for line in process.stdout:
                        if line.strip().isdecimal():
                            shown.update(int(line) - spoken)
                            spoken = int(line)
                status = process.wait()
            finally:
                process.kill()  # No effect on one that has ended.
                process.wait()
                process.stdout.close()
        if status != 0:
            reason = errors_path.read_text(encoding="utf-8", errors="replace").strip()
            if status == 3:
                raise ValueError(reason.splitlines()[-1])
            raise RuntimeError(f"espeak-ng's process ended with status {status}: {reason}")
        with np.load(out_path, allow_pickle=False) as out:
            sounds = np.split(out["samples"], np.cumsum(out["lengths"])[:-1])
            return sounds, int(out["sample_rate_hz"])


def _change_tract(samples: np.ndarray, from_hz: int, factor: float, to_hz: int) -> np.ndarray:
    """Resamples [sample] int16 so that, played at `to_hz`, every frequency is `factor` higher."""
    ratio = fractions.Fraction(to_hz / (from_hz * factor)).limit_denominator(200)
    return scipy.signal.resample_poly(samples / 32768.0, ratio.numerator, ratio.denominator)


def _record(
    speech: np.ndarray, sample_rate_hz: int, num_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Puts speech [sample] into a room, a noise and a 16-bit recording [num_samples]."""
    pole = rng.uniform(-0.3, 0.5)  # One-pole tilt: brighter to darker microphones.
    speech = np.asarray(scipy.signal.lfilter([1.0], [1.0, -pole], speech))
    onset = int(rng.integers(0, num_samples - len(speech) + 1))
    clip = np.zeros(num_samples)
    clip[onset : onset + len(speech)] = speech
    if rng.random() < 0.5:
        clip = _reverberate(clip, sample_rate_hz, rng)
    noise = _coloured_noise(num_samples, rng)
    # Speech power where there is speech, else a short word would get less noise than a long one.
    speech_rms = np.sqrt(np.sum(clip**2) / len(speech))
    # 8 to 40 dB, as in real recordings more often clean than noisy (median 32 dB).
    snr_db = 40.0 - 32.0 * rng.uniform() ** 2
    clip = clip + noise * speech_rms * 10 ** (-snr_db / 20)
    # The middle 90 % of the levels of real recordings (Speech Commands) span 20 dB.
    level = 10 ** (rng.normal(-24.0, 6.0) / 20) / np.sqrt(np.mean(clip**2))
    peak = np.abs(clip).max()
    return np.rint(clip * min(level, 0.99 / peak) * 32768).astype(np.int16)


def _reverberate(clip: np.ndarray, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Adds a diffuse tail 8 to 20 dB below the direct sound; what outlasts the clip is cut."""
    decay_s = rng.uniform(0.1, 0.4)  # Time to fall by 60 dB.
    times = np.arange(1, round(decay_s * sample_rate_hz)) / sample_rate_hz
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay_s)
    tail *= 10 ** (-rng.uniform(8.0, 20.0) / 20) / np.sqrt(np.sum(tail**2))
    response = np.concatenate([[1.0], tail])
    return scipy.signal.oaconvolve(clip, response)[: len(clip)]


def _coloured_noise(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns noise [num_samples] of rms 1, from white to brown."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency = np.maximum(np.arange(len(spectrum)), 1)
    noise = np.fft.irfft(spectrum * frequency ** -rng.uniform(0.0, 1.0), num_samples)
    noise -= noise.mean()
    return noise / np.sqrt(np.mean(noise**2))
