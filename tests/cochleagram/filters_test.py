"""Filter banks and the low-pass of envelopes, against closed forms and written-out sums."""

import math
import warnings

import cochleagram_twin as twin
import numpy as np
import pytest

from metamer_jax import configs
from metamer_jax.cochleagram import filters


def bank(num_samples=4001, sample_rate_hz=16000, **changes):
    settings = dict(low_hz=50.0, high_hz=7000.0, num_filters=10, sample_factor=2)
    return filters.half_cosine_bank(num_samples, sample_rate_hz, **{**settings, **changes})


# The ERB-number scale.


def test_erb_number_is_that_of_glasberg_and_moore():
    f = np.array([0.0, 20.0, 100.0, 500.0, 1000.0, 4000.0, 8000.0, 20000.0])
    published = 21.4 * np.log10(1 + 0.00437 * f)  # Their equation 4, constants rounded.
    np.testing.assert_allclose(filters.hz_to_erb_number(f), published, rtol=4e-3)
    # One unit of the scale is one ERB wide: 24.7 (4.37 f / 1000 + 1) Hz, their equation 3.
    width = 24.7 * (4.37 * f / 1000 + 1)
    one = filters.hz_to_erb_number(f + 0.5) - filters.hz_to_erb_number(np.maximum(f - 0.5, 0))
    np.testing.assert_allclose((one / np.where(f > 0, 1, 0.5))[1:], 1 / width[1:], rtol=1e-3)
    assert filters.hz_to_erb_number(1000.0) == pytest.approx(15.6, abs=0.05)


def test_erb_number_and_its_inverse_undo_each_other():
    f = np.geomspace(1e-3, 2e4, 50)
    np.testing.assert_allclose(filters.erb_number_to_hz(filters.hz_to_erb_number(f)), f, rtol=1e-12)
    assert filters.hz_to_erb_number(0) == filters.erb_number_to_hz(0) == 0


@pytest.mark.parametrize("num_samples", [2, 3, 16, 17])
def test_dft_frequencies_are_numpys(num_samples):
    np.testing.assert_allclose(
        filters.dft_frequencies_hz(num_samples, 11025), np.fft.rfftfreq(num_samples, 1 / 11025)
    )


# The bank.


@pytest.mark.parametrize("sample_factor", [1, 2, 4])
@pytest.mark.parametrize("num_filters", [1, 5, 40])
@pytest.mark.parametrize("num_samples", [4000, 4001])
def test_squares_sum_to_one(sample_factor, num_filters, num_samples):
    sizes = dict(num_filters=num_filters, sample_factor=sample_factor)
    complete = bank(num_samples, **sizes)
    np.testing.assert_allclose((complete.response**2).sum(axis=0), 1, rtol=1e-12)
    alone = bank(num_samples, **sizes, lowpass_filter=False, highpass_filter=False)
    f = filters.dft_frequencies_hz(num_samples, 16000)
    # Without the ends the sum is complete between the outermost filters' centres.
    count = len(alone.center_hz)
    first, last = min(sample_factor, count) - 1, max(count - sample_factor, 0)
    inside = (f >= alone.center_hz[first]) & (f <= alone.center_hz[last])
    np.testing.assert_allclose((alone.response**2).sum(axis=0)[inside], 1, rtol=1e-12)
    assert np.all((alone.response**2).sum(axis=0) <= 1 + 1e-12)


def test_ends_reach_down_to_zero_and_up_to_nyquist():
    complete = bank(sample_factor=2)
    assert len(complete.response) == 2 * 11 - 1 + 4
    assert np.all(complete.response[:2, 0] > 0) and np.all(complete.response[-2:, -1] > 0)
    assert np.all(complete.low_hz[:2] == 0) and np.all(complete.center_hz[:2] == 0)
    nyquist_bin = 16000 * 2000 / 4001  # Of an odd clip the last bin lies below half the rate.
    np.testing.assert_allclose(complete.high_hz[-2:], nyquist_bin)
    np.testing.assert_allclose(complete.center_hz[-2:], nyquist_bin)
    f = filters.dft_frequencies_hz(4001, 16000)
    for row, cut in zip(complete.response[:2], complete.high_hz[:2], strict=True):
        assert np.all(row[f >= cut] == 0)
    for row, cut in zip(complete.response[-2:], complete.low_hz[-2:], strict=True):
        assert np.all(row[f <= cut] == 0)
    for ends, kept in (
        (dict(lowpass_filter=False), slice(2, None)),
        (dict(highpass_filter=False), slice(None, -2)),
        (dict(lowpass_filter=False, highpass_filter=False), slice(2, -2)),
    ):
        part = bank(sample_factor=2, **ends)
        for name in ("response", "center_hz", "low_hz", "high_hz"):
            np.testing.assert_array_equal(getattr(part, name), getattr(complete, name)[kept])


@pytest.mark.parametrize("sample_factor", [1, 2, 4])
def test_centres_and_edges_are_evenly_spaced_on_the_erb_scale(sample_factor):
    found = bank(
        num_filters=12, sample_factor=sample_factor, lowpass_filter=False, highpass_filter=False
    )
    low, high = twin.erb_number(50.0), twin.erb_number(7000.0)
    step = (high - low) / 13 / sample_factor
    for i, center in enumerate(found.center_hz):
        erb = low + (i + 1) * step
        assert center == pytest.approx(twin.frequency_hz(erb), rel=1e-9)
        lower = max(twin.frequency_hz(erb - sample_factor * step), 0)
        upper = min(twin.frequency_hz(erb + sample_factor * step), 8000 * (1 - 1 / 4001))
        assert found.low_hz[i] == pytest.approx(lower, rel=1e-9, abs=1e-9)
        assert found.high_hz[i] == pytest.approx(upper, rel=1e-9)
    if sample_factor == 1:  # Then low_hz and high_hz are where the outermost filters end.
        assert found.low_hz[0] == pytest.approx(50) and found.high_hz[-1] == pytest.approx(7000)


def test_responses_lie_within_their_edges_and_peak_at_their_centres():
    found = bank(64000, sample_factor=1)  # Bins lie 1/4 Hz apart.
    f = filters.dft_frequencies_hz(64000, 16000)
    for row, center, low, high in zip(
        found.response, found.center_hz, found.low_hz, found.high_hz, strict=True
    ):
        passed = f[row > 0]
        assert low <= passed[0] < low + 0.5 and high - 0.5 < passed[-1] <= high
        assert row[np.argmin(np.abs(f - center))] == pytest.approx(1, rel=1e-4)
    # Half a period of a cosine on the ERB scale: 1 / sqrt(2) half-way down.
    for i in range(1, 11):
        lower, center = twin.erb_number(found.low_hz[i]), twin.erb_number(found.center_hz[i])
        halfway = twin.frequency_hz((lower + center) / 2)
        gain = np.interp(halfway, f, found.response[i])
        assert gain == pytest.approx(math.sqrt(0.5), rel=1e-3)


@pytest.mark.parametrize("num_samples", [800, 801])
@pytest.mark.parametrize("lowpass_filter,highpass_filter", [(True, True), (True, False)])
def test_bank_equals_the_twins(num_samples, lowpass_filter, highpass_filter):
    config = configs.CochleagramConfig(
        duration_s=num_samples / 16000,
        num_filters=9,
        sample_factor=2,
        low_hz=30,
        high_hz=7500,
        lowpass_filter=lowpass_filter,
        highpass_filter=highpass_filter,
    )
    found = filters.half_cosine_bank(
        num_samples,
        16000,
        low_hz=30,
        high_hz=7500,
        num_filters=9,
        sample_factor=2,
        lowpass_filter=lowpass_filter,
        highpass_filter=highpass_filter,
    )
    # The square root at the ends amplifies rounding where the gain is near zero.
    np.testing.assert_allclose(found.response, twin.response(config), atol=3e-8)


def test_channels_without_a_bin_are_pointed_out():
    with pytest.warns(UserWarning, match=r"channels hold no DFT bin of a clip of 160 samples"):
        bank(160, num_filters=100, sample_factor=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bank(16000)


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(response=np.ones(5)), "response must be a finite"),
        (dict(response=np.full((2, 5), np.nan)), "response must be a finite"),
        (dict(center_hz=np.ones(3)), r"center_hz must have one entry per channel \(2,\)"),
        (dict(low_hz=np.ones((2, 1))), "low_hz must have"),
        (dict(high_hz=np.ones(1)), "high_hz must have"),
    ],
)
def test_a_malformed_bank_is_refused(changes, message):
    fields = dict(
        response=np.ones((2, 5)), center_hz=np.ones(2), low_hz=np.zeros(2), high_hz=np.ones(2)
    )
    with pytest.raises(ValueError, match=message):
        filters.FilterBank(**{**fields, **changes})


# The envelope's low-pass.


@pytest.mark.parametrize("taps,stride", [(1001, 80), (101, 7), (100, 8), (1, 3)])
def test_kernel_is_a_windowed_sinc_of_half_the_frame_rate(taps, stride):
    kernel = filters.envelope_kernel(taps, stride)
    config = configs.CochleagramConfig(
        sample_rate_hz=16000 if 16000 % stride == 0 else 16000 // stride * stride,
        envelope_rate_hz=16000 // stride,
        high_hz=4000,
        lowpass_taps=taps,
    )
    np.testing.assert_allclose(kernel, twin.kernel(config), atol=1e-15)


def test_kernel_passes_slow_and_stops_fast_envelopes():
    kernel = filters.envelope_kernel(1001, 80)
    gain = np.abs(np.fft.rfft(kernel, 16000))  # 1 Hz bins.
    np.testing.assert_allclose(gain[:70], 1, atol=4e-3)
    assert gain[100] == pytest.approx(0.5, abs=0.01)  # Half the frame rate.
    assert np.all(gain[130:] < 4e-3)


@pytest.mark.parametrize(
    "num_samples,taps,stride,padding,offset",
    [
        (16000, 1001, 80, "same", -460),  # 199 * 80 + 1001 - 16000 = 921: 460 before, 461 after.
        (16000, 1001, 80, "valid", 0),
        (10, 3, 1, "same", -1),
        (10, 4, 1, "same", -1),  # The odd zero comes after.
        (10, 3, 2, "same", 0),
        (11, 3, 2, "same", -1),
        (10, 2, 5, "same", 0),  # More stride than taps: nothing to pad.
    ],
)
def test_padding_is_tensorflows(num_samples, taps, stride, padding, offset):
    assert filters.envelope_offset(num_samples, taps, stride, padding) == offset


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("num_samples,taps,stride", [(300, 61, 8), (301, 60, 7), (97, 5, 9)])
def test_envelope_matrix_is_a_strided_correlation(padding, num_samples, taps, stride):
    envelope = np.random.default_rng(0).standard_normal(num_samples)
    kernel = filters.envelope_kernel(taps, stride)
    before = -filters.envelope_offset(num_samples, taps, stride, padding)
    after = before + taps if padding == "same" else 0
    padded = np.pad(envelope, (before, after))
    if padding == "same":
        num_frames = -(-num_samples // stride)
    else:
        num_frames = (num_samples - taps) // stride + 1
    expected = np.correlate(padded, kernel, "valid")[::stride][:num_frames]
    matrix = filters.envelope_matrix(num_samples, taps, stride, padding, np.arange(num_frames))
    np.testing.assert_allclose(matrix @ envelope, expected, atol=1e-13)
    some = np.array([num_frames - 1, 0, 3])
    np.testing.assert_array_equal(
        filters.envelope_matrix(num_samples, taps, stride, padding, some), matrix[some]
    )


def interpolated(coarse, num_samples):
    """The trigonometric polynomial through `coarse`, at num_samples instants of the period."""
    num_points = len(coarse)
    spectrum = np.fft.fft(coarse) / num_points
    t = np.arange(num_samples) / num_samples
    values = np.zeros(num_samples)
    for k in range(num_points):
        frequency = k if k <= num_points // 2 else k - num_points
        if 2 * k == num_points:  # The half the rate: as much of either sign.
            values += spectrum[k].real * np.cos(2 * np.pi * frequency * t)
        else:
            values += (spectrum[k] * np.exp(2j * np.pi * frequency * t)).real
    return values


@pytest.mark.parametrize("num_samples,num_points", [(100, 30), (101, 30), (100, 31), (101, 100)])
def test_a_coarse_grid_reads_a_band_limited_signal_exactly(num_samples, num_points):
    rng = np.random.default_rng(1)
    matrix, coarse = rng.standard_normal((4, num_samples)), rng.standard_normal(num_points)
    composed = filters.on_coarse_grid(matrix, num_points)
    assert composed.shape == (4, num_points)
    np.testing.assert_allclose(
        composed @ coarse, matrix @ interpolated(coarse, num_samples), atol=1e-11
    )


@pytest.mark.parametrize("num_samples,num_points", [(100, 128), (101, 128), (20, 63)])
def test_a_fine_grid_reads_a_band_limited_signal_exactly(num_samples, num_points):
    rng = np.random.default_rng(1)
    matrix, fine = rng.standard_normal((4, num_samples)), rng.standard_normal(num_points)
    composed = filters.on_fine_grid(matrix, num_points)
    np.testing.assert_allclose(
        composed @ fine, matrix @ interpolated(fine, num_samples), atol=1e-11
    )


@pytest.mark.parametrize("num_points", [20, 21])
def test_a_grid_that_is_not_coarser_is_refused(num_points):
    with pytest.raises(ValueError, match=f"num_points must be below 20, got {num_points}"):
        filters.on_coarse_grid(np.ones((2, 20)), num_points)
