"""The cochleagram once more, in float64 NumPy: explicit loops, nothing shared with the package.

Each band is made bin by bin from its closed form, every envelope at the full sample rate, and the
low-pass is `np.correlate` over an envelope padded with zeros. It reads the config's fields only.
"""

import functools
import math

import numpy as np


def erb_number(frequency_hz):
    """Glasberg and Moore (1990): the integral of 1 / (24.7 (1 + f / 228.8455))."""
    return 9.265 * math.log(1 + frequency_hz / 228.8455)


def frequency_hz(erb):
    return 228.8455 * (math.exp(erb / 9.265) - 1)


def band_centers(config):
    """ERB numbers of the band-pass filters, and half the width of each."""
    count = config.sample_factor * (config.num_filters + 1) - 1
    low, high = erb_number(config.low_hz), erb_number(config.high_hz)
    step = (high - low) / (count + 1)
    return [low + (i + 1) * step for i in range(count)], config.sample_factor * step


def response(config):
    """Gains [channel, bin]: low-pass ends, half-cosines, high-pass ends."""
    n, factor = config.num_samples, config.sample_factor
    bins = [k * config.sample_rate_hz / n for k in range(n // 2 + 1)]
    centers, half_width = band_centers(config)
    rows = []
    for center in centers:
        row = []
        for f in bins:
            away = (erb_number(f) - center) / half_width
            row.append(math.cos(away * math.pi / 2) if abs(away) < 1 else 0.0)
        rows.append(row)
    low, high = [], []
    for i in range(factor):
        cut, row = frequency_hz(centers[i]), rows[i]
        low.append([math.sqrt(1 - row[k] ** 2) if f < cut else 0.0 for k, f in enumerate(bins)])
        cut, row = frequency_hz(centers[i - factor]), rows[i - factor]
        high.append([math.sqrt(1 - row[k] ** 2) if f > cut else 0.0 for k, f in enumerate(bins)])
    bank = low * config.lowpass_filter + rows + high * config.highpass_filter
    return np.array(bank) / math.sqrt(factor)


@functools.cache
def kernel(config):
    """A sinc that cuts at half the frame rate, under a Kaiser window of beta 5."""
    taps, stride = config.lowpass_taps, config.sample_rate_hz / config.envelope_rate_hz
    ratio = 2 * np.arange(taps) / (taps - 1) - 1 if taps > 1 else np.zeros(1)
    window = np.i0(5 * np.sqrt(1 - ratio**2)) / np.i0(5.0)
    values = []
    for i in range(taps):
        t = math.pi * (i - taps / 2) / stride
        values.append(window[i] * (math.sin(t) / t if t else 1.0) / stride)
    return np.array(values)


def lowpass(envelope, config):
    """Correlates one envelope [time] with the kernel and keeps a sample per frame."""
    stride = round(config.sample_rate_hz / config.envelope_rate_hz)
    taps, n = config.lowpass_taps, len(envelope)
    before = after = 0
    if config.lowpass_padding == "same":  # As TensorFlow pads: the odd zero comes last.
        frames = math.ceil(n / stride)
        total = max((frames - 1) * stride + taps - n, 0)
        before, after = total // 2, total - total // 2
    padded = np.concatenate([np.zeros(before), envelope, np.zeros(after)])
    return np.correlate(padded, kernel(config), "valid")[::stride]


def compress(value, config):
    value = config.scale * max(value, 0.0) + config.offset
    if config.compression == "power":
        return value**config.power
    if config.compression == "decibel":
        return 20 * math.log10(value)
    return value


def cochleagram(waveform, config, bank=None):
    """[time] to [channel, frame]."""
    n = len(waveform)
    spectrum = np.fft.fft(np.asarray(waveform, np.float64))
    rows = []
    for gains in response(config) if bank is None else bank:
        analytic = np.zeros(n, np.complex128)
        for k, gain in enumerate(gains):
            analytic[k] = gain * spectrum[k]
        envelope = np.abs(np.fft.ifft(analytic))
        rows.append([compress(v, config) for v in lowpass(envelope, config)])
    return np.array(rows)
