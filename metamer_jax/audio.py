"""Sound files to arrays and back; levels and sample rates."""

import contextlib
import io
import math
import os
import wave
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.signal

from metamer_jax import configs, sound_files, storage

RMS = 0.1  # Level at which sounds enter the cochleagram (Feather et al. 2019).
# A recording whose samples vary by less holds nothing but rounding (16 bits: 3e-5 a step).
SILENCE_RMS = 1e-6
# Full scale is 1.0 in floating point and 32768 in 16 bits, whose highest sample is 32767.
INT16_SCALE = 32768.0


class AudioFileError(ValueError):
    """A sound file that cannot be used: `file` names it, `reason` says why."""

    def __init__(self, file: str, reason: str):
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason

    def __reduce__(self):  # The default would call it with the joined message alone.
        return type(self), (self.file, self.reason)


def read(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Reads a mono sound file: wav, flac, ogg, mp3, whatever libsndfile knows.

    Args:
        path: The file.

    Returns:
        Samples [time] float32, full scale 1.0, and the sample rate in Hz.

    Raises:
        AudioFileError: The file is unreadable, cut short, empty, not finite, not mono, or so large
            that it can be no recording of a word.
    """
    return decode(read_bytes(path), str(path))


def read_bytes(path: str | os.PathLike) -> bytes:
    """Reads a sound file as it is.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        AudioFileError: It cannot be read, is no regular file, or is too large.
    """
    try:
        return storage.read_regular(path, sound_files.MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioFileError(str(path), f"unreadable ({reason})") from error


def decode(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """Decodes the bytes of a mono sound file, as `read` does.

    Args:
        data: The whole file.
        name: What to call it in errors.

    Returns:
        Samples [time] float32, full scale 1.0, and the sample rate in Hz.

    Raises:
        AudioFileError: As by `read`.
    """
    import soundfile  # A library of its own: the core runs where it is absent.

    if not data:
        raise AudioFileError(name, "empty (0 bytes)")
    try:
        with soundfile.SoundFile(_Seekable(sound_files.with_true_length(data))) as file:
            samples, sample_rate_hz = _samples(file, data), int(file.samplerate)
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError) as error:
        # Without the address of our BytesIO; of some damages libsndfile says nothing.
        reason = str(error).split(">: ")[-1].rstrip(". ") or "cut short or damaged"
        raise AudioFileError(name, f"unreadable ({reason})") from error
    if samples.shape[1] != 1:
        raise AudioFileError(name, f"has {samples.shape[1]} channels, expected 1 (mono)")
    samples = samples[:, 0]
    if samples.size == 0:
        raise AudioFileError(name, "empty (holds no samples)")
    num_bad = int(np.count_nonzero(~np.isfinite(samples)))
    if num_bad:
        raise AudioFileError(name, f"{num_bad} of its {samples.size} samples are not finite")
    return samples, sample_rate_hz


class _Seekable(io.BytesIO):
    """Bytes in which libsndfile looks where a damaged header sends it, before their begin, too."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with contextlib.suppress(ValueError, OverflowError):  # Else soundfile prints a traceback.
            return super().seek(offset, whence)
        return self.tell()


def _samples(file: Any, data: bytes) -> np.ndarray:
    """Returns the samples [time, channel] of an open sound file, unless some are missing."""
    most = sound_files.MAX_FRAMES // file.channels  # A megabyte may hold hours of silence.
    samples = file.read(most, dtype="float32", always_2d=True)
    if len(samples) == most:
        raise ValueError(f"lasts {most / file.samplerate:.0f} s or longer")
    promised = sound_files.num_frames(data)
    if file.format == "MP3" and sound_files.says_its_length(data):
        promised = file.frames
    if promised is not None and len(samples) < promised:
        raise sound_files.CutShortError(
            f"cut short: {promised - len(samples)} of {promised} frames are missing"
        )
    return samples


def normalize(waveform: np.ndarray, rms: float = RMS) -> np.ndarray:
    """Shifts and scales sounds to mean 0 and one level.

    Args:
        waveform: [..., time], any real dtype.
        rms: The level of the result.

    Returns:
        [..., time] float32.

    Raises:
        ValueError: A sound is not finite, or silent (its samples do not vary).
    """
    waveform = np.asarray(waveform, np.float64)
    centred = waveform - waveform.mean(axis=-1, keepdims=True)
    level = np.sqrt(np.mean(centred**2, axis=-1, keepdims=True))
    _refuse("not finite", ~np.isfinite(level))
    _refuse("silent", level < SILENCE_RMS)
    return (centred * (rms / level)).astype(np.float32)


def _refuse(reason: str, bad: np.ndarray) -> None:
    """Raises for the first True in `bad` [..., 1]."""
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad[..., 0])[0])
        where = f" (sound {', '.join(map(str, index))})" if index else ""
        raise ValueError(f"waveform must vary and be finite, got one that is {reason}{where}")


def resample(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Changes the sample rate with a zero-phase polyphase filter.

    Args:
        waveform: [..., time].
        from_hz: The waveform's sample rate.
        to_hz: The sample rate wanted.

    Returns:
        [..., ceil(time * to_hz / from_hz)] float32.

    Raises:
        ValueError: A rate is no positive whole number.
    """
    for name, value in (("from_hz", from_hz), ("to_hz", to_hz)):
        if not (value > 0 and int(value) == value):
            raise ValueError(f"{name} must be a positive whole number of Hz, got {value!r}")
    waveform = np.asarray(waveform)
    if from_hz == to_hz:
        return waveform.astype(np.float32)
    common = math.gcd(int(from_hz), int(to_hz))
    resampled = scipy.signal.resample_poly(
        waveform.astype(np.float64), int(to_hz) // common, int(from_hz) // common, axis=-1
    )
    return resampled.astype(np.float32)


def ramp_window(num_samples: int, ramp_s: float, sample_rate_hz: int) -> np.ndarray:
    """Makes a window that fades a sound in and out with raised-cosine ramps.

    Args:
        num_samples: Length of the sound, samples.
        ramp_s: Length of each ramp, s.
        sample_rate_hz: Sample rate, Hz.

    Returns:
        [time] float64, zero at the first and last sample where there are ramps, one between them.

    Raises:
        ValueError: The ramps are longer than the sound.
    """
    count = round(ramp_s * sample_rate_hz)
    if 2 * count > num_samples:
        raise ValueError(
            f"ramp_s must be at most half the sound ({num_samples / sample_rate_hz / 2} s), "
            f"got {ramp_s}"
        )
    window = np.ones(num_samples)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / max(count, 1))
    window[:count] = ramp
    window[num_samples - count :] = ramp[::-1]
    return window


def fade(waveforms: np.ndarray, ramp_s: float, sample_rate_hz: int) -> np.ndarray:
    """Takes the mean out of sounds and fades their ends.

    The mean that is taken out makes the faded sound's mean zero: its ends then stay at zero.

    Args:
        waveforms: Sounds [..., time], any scale.
        ramp_s: Length of each ramp, s.
        sample_rate_hz: Sample rate, Hz.

    Returns:
        [..., time] float64.

    Raises:
        ValueError: The ramps are longer than the sounds.
    """
    waveforms = np.asarray(waveforms, np.float64)
    window = ramp_window(waveforms.shape[-1], ramp_s, sample_rate_hz)
    return (waveforms - (waveforms @ window / window.sum())[..., None]) * window


def to_int16(sounds: np.ndarray, playback: configs.PlaybackConfig) -> tuple[np.ndarray, np.ndarray]:
    """Brings faded sounds to the level at which they are played, in 16 bits.

    Args:
        sounds: Faded sounds [..., time], any scale.
        playback: Level and largest peak.

    Returns:
        [..., time] int16, and the level [...] of each in dB re full scale: the one asked for, or
        the highest at which that sound's peak keeps within `playback.peak`.

    Raises:
        ValueError: A sound is silent or not finite.
    """
    unit = normalize(sounds, rms=1.0).astype(np.float64)
    highest = min(playback.peak, (INT16_SCALE - 1) / INT16_SCALE)
    gain = np.minimum(10 ** (playback.level_db / 20), highest / np.abs(unit).max(axis=-1))
    samples = np.rint(unit * (gain[..., None] * INT16_SCALE)).astype(np.int16)
    return samples, 20 * np.log10(gain)


def to_playback(
    waveforms: np.ndarray, sample_rate_hz: int, playback: configs.PlaybackConfig | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Makes sounds as they are played: mean taken out, ramps at both ends, one level, 16 bits.

    Args:
        waveforms: Sounds [..., time], any scale.
        sample_rate_hz: Sample rate, Hz.
        playback: Ramps, level and largest peak; by default 10 ms, -23 dB and full scale.

    Returns:
        As `to_int16`.

    Raises:
        ValueError: A sound is silent or not finite, or shorter than its ramps.
    """
    playback = configs.PlaybackConfig() if playback is None else playback
    return to_int16(fade(waveforms, playback.ramp_s, sample_rate_hz), playback)


def heard(samples: np.ndarray, level_db: np.ndarray, rms: float | None = RMS) -> np.ndarray:
    """Returns 16-bit sounds as a model is given them: with the gain that takes their level there.

    Args:
        samples: Sounds [..., time] int16.
        level_db: Level [...] of each, dB re full scale, from `to_int16`.
        rms: Level at which the model takes sounds; None: whatever level the file has.

    Returns:
        [..., time] float32.
    """
    if rms is None:
        return from_int16(samples)
    gain = np.asarray(rms / 10 ** (np.asarray(level_db) / 20), np.float32)
    return from_int16(samples) * gain[..., None]


def from_int16(samples: np.ndarray) -> np.ndarray:
    """Converts 16-bit samples [...] to float32 of full scale 1.0, as `read` would."""
    samples = np.asarray(samples)
    if samples.dtype != np.int16:
        raise ValueError(f"samples must be int16, got {samples.dtype}")
    return samples.astype(np.float32) / np.float32(INT16_SCALE)


class SoundFiles:
    """16-bit sound files of one length, read as they are asked for: `files[2:4]` is an array."""

    def __init__(self, paths: Sequence[str | os.PathLike], sample_rate_hz: int):
        """Takes what `read_int16` takes; nothing is read yet."""
        self._paths, self._sample_rate_hz = paths, sample_rate_hz

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return read_int16(self._paths[rows], self._sample_rate_hz)


def read_int16(paths: Sequence[str | os.PathLike], sample_rate_hz: int) -> np.ndarray:
    """Reads 16-bit sound files of one length, sample for sample.

    Args:
        paths: The files.
        sample_rate_hz: Sample rate that they must have, Hz.

    Returns:
        [sound, time] int16.

    Raises:
        AudioFileError: A file cannot be used, or has another sample rate.
    """
    sounds = []
    for path in paths:
        samples, rate_hz = read(path)
        if rate_hz != sample_rate_hz:
            raise AudioFileError(str(path), f"has {rate_hz} Hz, expected {sample_rate_hz}")
        sounds.append(np.rint(samples.astype(np.float64) * INT16_SCALE).astype(np.int16))
    return np.stack(sounds)


def rounded(waveform: np.ndarray) -> np.ndarray:
    """Rounds a sound of full scale 1.0 to 16 bits.

    Args:
        waveform: Floating point within [-1, 1], any shape.

    Returns:
        Same shape, int16.

    Raises:
        ValueError: It is not finite or would clip.
    """
    peak = np.abs(waveform).max(initial=0.0)
    if not peak <= 1:
        raise ValueError(f"waveform must be finite and within [-1, 1], its peak is {peak}")
    scaled = np.rint(np.asarray(waveform, np.float64) * INT16_SCALE)
    return np.minimum(scaled, INT16_SCALE - 1).astype(np.int16)


def encode_wav(waveform: np.ndarray, sample_rate_hz: int) -> bytes:
    """Returns a 16-bit wav file's bytes, mono or stereo.

    Args:
        waveform: [time] or [time, ear], int16, or floating point within [-1, 1].
        sample_rate_hz: Its sample rate.

    Raises:
        ValueError: The waveform has another shape, is empty, or is not finite or would clip.
    """
    waveform = np.asarray(waveform)
    if waveform.shape[1:] not in ((), (2,)) or waveform.size == 0:
        raise ValueError(
            f"waveform must have shape [time] or [time, 2], time > 0, got {waveform.shape}"
        )
    if waveform.dtype != np.int16:
        waveform = rounded(waveform)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(waveform[0].size)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(waveform.astype("<i2").tobytes())
    return buffer.getvalue()


def write_wav(path: str | os.PathLike, waveform: np.ndarray, sample_rate_hz: int) -> None:
    """Writes a 16-bit mono wav file, whole or not at all (see `encode_wav`)."""
    storage.write_bytes(path, encode_wav(waveform, sample_rate_hz))
