"""Filter banks and the envelope's low-pass, designed once on the host in float64 NumPy."""

import dataclasses
import warnings

import numpy as np

ENVELOPE_KAISER_BETA = 5.0  # tfcochleagram and chcochleagram.


@dataclasses.dataclass(frozen=True, eq=False)
class FilterBank:
    """Zero-phase filters over the DFT bins of a whole clip.

    Attributes:
        response: [channel, bin] float64, non-negative gain at each bin of the real DFT.
        center_hz: [channel] where the gain is largest (half-cosines), or the end of the band.
        low_hz: [channel] lower edge, below which the gain is zero.
        high_hz: [channel] upper edge, above which the gain is zero.
    """

    response: np.ndarray
    center_hz: np.ndarray
    low_hz: np.ndarray
    high_hz: np.ndarray

    def __post_init__(self):
        response = self.response
        if response.ndim != 2 or not np.all(np.isfinite(response)):
            raise ValueError(
                f"response must be a finite [channel, bin] array, got shape {response.shape}"
            )
        for name in ("center_hz", "low_hz", "high_hz"):
            shape = np.shape(getattr(self, name))
            if shape != response.shape[:1]:
                raise ValueError(
                    f"{name} must have one entry per channel {response.shape[:1]}, got {shape}"
                )


def hz_to_erb_number(frequency_hz: np.ndarray | float) -> np.ndarray:
    """Maps frequency to the scale on which cochlear channels are evenly spaced.

    Glasberg and Moore (1990), human auditory filters.

    Args:
        frequency_hz: Any shape, Hz, non-negative.

    Returns:
        Same shape, ERB-number.
    """
    return 9.265 * np.log1p(np.asarray(frequency_hz) / (24.7 * 9.265))


def erb_number_to_hz(erb_number: np.ndarray) -> np.ndarray:
    """Inverts `hz_to_erb_number`; any shape, in ERB-number, out in Hz."""
    return 24.7 * 9.265 * np.expm1(np.asarray(erb_number) / 9.265)


def dft_frequencies_hz(num_samples: int, sample_rate_hz: float) -> np.ndarray:
    """Returns the frequency of each real-DFT bin, [num_samples // 2 + 1] in Hz."""
    return np.arange(num_samples // 2 + 1) * (sample_rate_hz / num_samples)


def half_cosine_bank(
    num_samples: int,
    sample_rate_hz: float,
    *,
    low_hz: float,
    high_hz: float,
    num_filters: int,
    sample_factor: int,
    lowpass_filter: bool = True,
    highpass_filter: bool = True,
) -> FilterBank:
    """Half-cosine filters evenly spaced on the ERB-number scale, whose squares sum to one.

    The bank of McDermott and Simoncelli (2011) as pycochleagram makes it: each band-pass filter
    is half a period of a cosine over `2 * sample_factor` steps of the scale; `sample_factor`
    low-pass and as many high-pass filters complete the outermost ones.

    With E the ERB-number, c_k the centre of filter k and w = sample_factor steps its half-width,

        H_k(f) = cos(pi (E(f) - c_k) / 2 w),    |E(f) - c_k| < w.

    Filters whose centres lie w apart are a cosine and a sine where they overlap, so the squares of
    every sample_factor-th filter sum to one between the first centre and the last; below the
    first, sqrt(1 - H^2) brings what is missing, and likewise above the last. Of such banks there
    are sample_factor, one between the other's filters, hence the division by its root.

    Args:
        num_samples: Length of the clip, samples.
        sample_rate_hz: Samples per second.
        low_hz: Lower edge of the lowest band-pass filter of a bank with `sample_factor=1`, Hz.
        high_hz: Upper edge of the highest one, Hz.
        num_filters: Band-pass filters at `sample_factor=1`.
        sample_factor: Factor by which the same filters are placed more densely.
        lowpass_filter: Whether to keep the low-pass ends.
        highpass_filter: Whether to keep the high-pass ends.

    Returns:
        A bank of `sample_factor * (num_filters + 1) - 1` band-pass channels plus the ends.
    """
    frequencies = dft_frequencies_hz(num_samples, sample_rate_hz)
    num_bandpass = sample_factor * (num_filters + 1) - 1
    centers, step = np.linspace(
        hz_to_erb_number(low_hz), hz_to_erb_number(high_hz), num_bandpass + 2, retstep=True
    )
    centers = centers[1:-1]
    half_width = sample_factor * step
    distance = (hz_to_erb_number(frequencies) - centers[:, None]) / (2 * half_width)
    bandpass = np.where(np.abs(distance) < 0.5, np.cos(np.pi * distance), 0.0)

    center_hz = erb_number_to_hz(centers)
    outer = slice(0, sample_factor)
    lowpass = np.where(frequencies < center_hz[outer, None], np.sqrt(1 - bandpass[outer] ** 2), 0.0)
    highpass = np.where(
        frequencies > center_hz[::-1][outer, None], np.sqrt(1 - bandpass[::-1][outer] ** 2), 0.0
    )
    nyquist = frequencies[-1]
    low_edge = np.maximum(erb_number_to_hz(centers - half_width), 0.0)
    high_edge = np.minimum(erb_number_to_hz(centers + half_width), nyquist)
    ends = np.zeros(sample_factor), np.full(sample_factor, nyquist)
    parts = [(bandpass, center_hz, low_edge, high_edge)]
    if lowpass_filter:
        parts.insert(0, (lowpass, ends[0], ends[0], center_hz[outer]))
    if highpass_filter:
        cuts = center_hz[-sample_factor:]
        parts.append((highpass[::-1], ends[1], cuts, ends[1]))
    response, center, low, high = (np.concatenate(column) for column in zip(*parts, strict=True))
    empty = np.flatnonzero(~response.any(axis=1))
    if empty.size:
        warnings.warn(
            f"{empty.size} of {len(response)} channels hold no DFT bin of a clip of {num_samples} "
            f"samples at {sample_rate_hz} Hz and stay silent (the first is centred at "
            f"{center[empty[0]]:.1f} Hz); use a longer clip or fewer filters to avoid it",
            stacklevel=2,
        )
    return FilterBank(response / np.sqrt(sample_factor), center, low, high)


def envelope_kernel(taps: int, stride: int) -> np.ndarray:
    """The sinc times Kaiser window that low-passes envelopes at half the frame rate.

    Tap i is kaiser(i) sinc((i - taps / 2) / stride) / stride, where the window's middle is at
    (taps - 1) / 2: the sinc stands half a sample after it, whether `taps` is odd or even. So it
    does in tfcochleagram and chcochleagram (`arange(-taps / 2, taps / 2)`), whose numbers this
    reproduces; centred on the window, outputs would be off by 1.4e-3.

    Args:
        taps: Length, samples.
        stride: Samples per frame.

    Returns:
        [taps] float64.
    """
    time = np.arange(taps) - taps / 2
    return np.kaiser(taps, ENVELOPE_KAISER_BETA) * np.sinc(time / stride) / stride


def envelope_offset(num_samples: int, taps: int, stride: int, padding: str) -> int:
    """Computes where the first frame's kernel begins.

    "same" puts half the padding, rounded down, before the clip, as TensorFlow does.

    Args:
        num_samples: Length of the clip, samples.
        taps: Length of the kernel, samples.
        stride: Samples per frame.
        padding: "same" or "valid".

    Returns:
        Samples from the clip's beginning; negative: within the zero padding.
    """
    if padding == "valid":
        return 0
    num_frames = -(-num_samples // stride)
    return -(max((num_frames - 1) * stride + taps - num_samples, 0) // 2)


def envelope_matrix(
    num_samples: int, taps: int, stride: int, padding: str, frames: np.ndarray
) -> np.ndarray:
    """Low-pass and sampling as a matrix, with zeros beyond the clip's edges.

    Args:
        num_samples: Length of the envelope, samples.
        taps: Length of the kernel, samples.
        stride: Samples per frame.
        padding: "same" or "valid".
        frames: [frame] int, frames to compute.

    Returns:
        [len(frames), num_samples] float64.
    """
    kernel = envelope_kernel(taps, stride)
    offset = envelope_offset(num_samples, taps, stride, padding)
    matrix = np.zeros((len(frames), num_samples))
    for row, frame in zip(matrix, frames, strict=True):
        start = offset + frame * stride
        inside = slice(max(start, 0), min(start + taps, num_samples))
        row[inside] = kernel[inside.start - start : inside.stop - start]
    return matrix


def on_coarse_grid(
    matrix: np.ndarray, num_points: int, *, spectrum: np.ndarray | None = None
) -> np.ndarray:
    """Composes a linear read-out D of a periodic signal with its band-limited interpolation I_M.

    A signal sampled at M = `num_points` instants, interpolated to the N columns of D and multiplied
    by it, equals D I_M times the coarse samples. Interpolation from m to t is

        I_M[t, m] = 1/M sum_k exp(2 pi i k (t / N - m / M)),   -M/2 <= k <= M/2,

    of which the two terms k = +-M/2, where there are such, count half each. Summed over t first,
    that makes of a row d of D its DFT d^ :

        (D I_M)[m] = 1/M sum_k conj(d^[k]) exp(-2 pi i k m / M),

    an inverse real FFT of length M of the first M/2 + 1 bins of d^: no matrix [N, M] is made.

    Args:
        matrix: [row, num_samples] float64.
        num_points: Points of the coarse grid, fewer than num_samples.
        spectrum: `np.fft.rfft(matrix, axis=1)` where it is at hand, as for several grids.

    Returns:
        [row, num_points] float64.

    Raises:
        ValueError: The grid is not coarser than the matrix's.
    """
    num_samples = matrix.shape[1]
    if num_points >= num_samples:
        raise ValueError(f"num_points must be below {num_samples}, got {num_points}")
    if spectrum is None:
        spectrum = np.fft.rfft(matrix, axis=1)
    spectrum = spectrum[:, : num_points // 2 + 1].copy()
    if num_points % 2 == 0:
        spectrum[:, -1] = spectrum[:, -1].real  # The coarse grid cannot tell the two halves apart.
    return np.fft.irfft(spectrum, num_points, axis=1)


def on_fine_grid(matrix: np.ndarray, num_points: int) -> np.ndarray:
    """Composes a linear read-out with the reduction of a periodic signal from a finer grid.

    As `on_coarse_grid`, for M > N. A signal of frequencies up to M / 2 is read at the N columns
    exactly, where e(k t / N) is the same for all k that differ by N: the sum over k takes the bin
    d^[k mod N] of the row's DFT.

    Args:
        matrix: [row, num_samples] float64.
        num_points: Points of the fine grid, more than num_samples.

    Returns:
        [row, num_points] float64.
    """
    num_samples = matrix.shape[1]
    k = np.arange(num_points // 2 + 1) % num_samples
    spectrum = np.fft.rfft(matrix, axis=1)[:, np.minimum(k, num_samples - k)]
    spectrum = np.where(2 * k > num_samples, spectrum.conj(), spectrum)
    return np.fft.irfft(spectrum, num_points, axis=1)
