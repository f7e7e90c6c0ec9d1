"""SpecTemp: fixed spectrotemporal modulation filters and a linear readout (Feather et al. 2023).

A filter is the outer product of one over frames and one over channels, of which a direction keeps
two opposite quadrants of the plane of modulation frequencies: ripples that move up or down. Both
are applied as matrices, since every filter is a sum of three such products (`modulation_filters`).
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax.models import blocks, layers

_FLOOR = 1e-8  # Of the power.


# Hz and cycles per ERB: a filter is admitted where either is not exceeded.
_COARSE_LIMITS = ((0, 0), (0.5, 0.0625), (1, 0.125), (2, 0.25), (4, 0.5), (8, 1), (16, 2))


class SpecTemp(blocks.CochleagramNetwork):
    """Power of modulation filters after Chi, Ru and Shamma (2005), averaged over time, the words.

    Only the readout is trained: with the defaults, the cochleagram `feather2023` and 794 words 111
    filters and 18,597,068 parameters.

    Stages: `filtered_signal` and `spectempfilter_power` [filter, channel, frame], `avgpool`
    [filter, channel], `final` [word]. Filters are in the order of `modulations`.

    Attributes:
        temporal_rates_hz: Centres of the filters over frames, ascending, no more than half the
            frame rate. 0: the mean over time.
        spectral_rates: Centres of the filters over channels, cycles per ERB, ascending, no more
            than half of `channels_per_erb`. 0: the mean over channels.
        frame_rate_hz: Frames per second of the cochleagram (`CochleagramConfig.envelope_rate_hz`).
        channels_per_erb: Channels of the cochleagram in one unit of the ERB-number scale.
        rescale: The cochleagram is multiplied by this first; the original's is about 7.4 times
            smaller than that of `CochleagramConfig`'s defaults.
    """

    temporal_rates_hz: tuple[float, ...] = (0, 0.5, 1, 2, 4, 8, 16, 32, 64)
    spectral_rates: tuple[float, ...] = (0, 0.0625, 0.125, 0.25, 0.5, 1, 2)
    frame_rate_hz: float = 200.0
    channels_per_erb: float = 6.0
    rescale: float = 100.0

    def __post_init__(self):
        super().__post_init__()
        for name, density in (
            ("temporal_rates_hz", self.frame_rate_hz),
            ("spectral_rates", self.channels_per_erb),
        ):
            rates = getattr(self, name)
            if not rates or list(rates) != sorted(set(rates)) or rates[0] < 0:
                raise ValueError(f"{name} must be ascending and not negative, got {rates}")
            if rates[-1] > density / 2:
                raise ValueError(f"{name} must not exceed {density / 2}, got {rates[-1]}")

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, in processing order."""
        return ("cochleagram", "filtered_signal", "spectempfilter_power", "avgpool", "final")

    @property
    def modulations(self) -> tuple[tuple[float, float], ...]:
        """(Hz, cycles per ERB) of each filter: first those of rising ripples, negative Hz."""
        rising = [(-t, s) for s in self.spectral_rates for t in self.temporal_rates_hz]
        return (*rising, *((-t, s) for t, s in rising if t and s))

    @nn.nowrap
    def coarse_levels(self, stage: str) -> np.ndarray | None:
        """Says in which order a coarse-to-fine synthesis admits the filters.

        Feather et al. (2023): first the slowest and widest, those of which the temporal rate *or*
        the spectral one is within the first of `_COARSE_LIMITS`, then within the next.

        Args:
            stage: Name of a stage.

        Returns:
            [filter, 1, 1] int, the first level at which a filter counts; None: the stage has no
            filters apart, all of it counts always.
        """
        if stage not in ("filtered_signal", "spectempfilter_power"):
            return None
        rates = np.abs(np.array(self.modulations))[:, None, :]
        within = np.any(rates <= np.array(_COARSE_LIMITS), axis=-1)
        # A filter beyond all of them (with other rates than the published ones) comes after.
        levels = np.where(np.any(within, axis=1), np.argmax(within, axis=1), len(_COARSE_LIMITS))
        return levels[:, None, None]

    @nn.nowrap
    def respond(
        self, x: jax.Array, stages: layers.Activations, *, relu: layers.Relu, train: bool
    ) -> jax.Array:
        """Computes the classes of cochleagrams and fills in `stages`; see the base class."""
        x = stages["filtered_signal"] = self._filtered(self.rescale * x)
        x = stages["spectempfilter_power"] = jnp.maximum(x**2, _FLOOR)
        x = stages["avgpool"] = jnp.mean(x, axis=-1)
        return blocks.dense(self.num_words, "classification")(x.reshape(x.shape[0], -1))

    @nn.nowrap
    def _filtered(self, x: jax.Array) -> jax.Array:
        """Maps [batch, channel, frame] to [batch, filter, channel, frame]."""
        over_frames, over_channels = modulation_filters(
            self.temporal_rates_hz,
            self.spectral_rates,
            frame_rate_hz=self.frame_rate_hz,
            channels_per_erb=self.channels_per_erb,
            num_channels=x.shape[1],
            num_frames=x.shape[2],
        )
        in_time = jnp.einsum("bft,rkut->bkfru", x, over_frames)
        # What both directions have in common, and what tells them apart.
        common = jnp.einsum("skgf,bkfru->bsrgu", over_channels[:, :2], in_time[:, :2])
        apart = jnp.einsum("sgf,bfru->bsrgu", over_channels[:, 2], in_time[:, 2])
        rising, falling = common + apart, common - apart
        # A mean over time or over channels moves neither way.
        moves = [bool(s and t) for s in self.spectral_rates for t in self.temporal_rates_hz]
        shape = (x.shape[0], -1, *x.shape[1:])
        return jnp.concatenate(
            [rising.reshape(shape), falling.reshape(shape)[:, np.flatnonzero(moves)]], axis=1
        )


class ModulationFilters(NamedTuple):
    """Matrices of the filters over frames and over channels; each has three terms.

    A filter over both is the sum over terms of their outer products; the opposite direction has
    the last term subtracted.
    """

    over_frames: np.ndarray  # [temporal rate, term, frame, frame] float32.
    over_channels: np.ndarray  # [spectral rate, term, channel, channel] float32.


@functools.lru_cache(maxsize=8)
def modulation_filters(
    temporal_rates_hz: tuple[float, ...],
    spectral_rates: tuple[float, ...],
    *,
    frame_rate_hz: float,
    channels_per_erb: float,
    num_channels: int,
    num_frames: int,
) -> ModulationFilters:
    """Designs the filters for cochleagrams of a size, padded with zeros as in the original.

    With h = z + p, where p is the part of h at frequencies with a sign and p' its Hilbert
    transform, and g = y + q likewise, the quadrants of the outer product h g in which the two
    signs agree, with all that has no sign, are h g - p q / 2 - p' q' / 2; those in which they
    differ are h g - p q / 2 + p' q' / 2.

    Args:
        temporal_rates_hz: Centres of the filters over frames, ascending, Hz.
        spectral_rates: Centres of the filters over channels, ascending, cycles per ERB.
        frame_rate_hz: Frames per second.
        channels_per_erb: Channels in one unit of the ERB-number scale.
        num_channels: Channels of the cochleagram.
        num_frames: Frames of the cochleagram.

    Returns:
        The filters as convolution matrices.
    """
    of_frames = _responses(temporal_rates_hz, temporal_response, num_frames, frame_rate_hz)
    of_channels = _responses(spectral_rates, spectral_response, num_channels, channels_per_erb)
    factors = np.array([1.0, -0.5, 0.5])[:, None, None]
    over_frames = [_matrices(each, num_frames, 3) for each in of_frames.values()]
    over_channels = [factors * _matrices(each, num_channels, 2) for each in of_channels.values()]
    return ModulationFilters(
        np.stack(over_frames).astype(np.float32), np.stack(over_channels).astype(np.float32)
    )


def _responses(rates, respond, *of):
    """{rate: response}; the lowest is a low-pass, the highest a high-pass: they cover all."""
    lowest, highest = rates[0], rates[-1]
    return {r: respond(r, *of, lowest=r == lowest, highest=r == highest) for r in rates}


def temporal_response(
    rate_hz: float,
    num_frames: int,
    frame_rate_hz: float,
    *,
    lowest: bool = False,
    highest: bool = False,
) -> np.ndarray:
    """The response of a filter over frames: a gammatone's, whose peak is scaled to 1.

    t^2 exp(-3.5 t) sin(2 pi t), with t in periods, its mean subtracted (Chi, Ru and Shamma 2005).

    Args:
        rate_hz: Centre; 0: only the mean passes.
        num_frames: Frames of the cochleagram, which is padded to three times as many.
        frame_rate_hz: Frames per second.
        lowest: Let everything below the peak pass, too.
        highest: Let everything above the peak pass, too.

    Returns:
        [frequency] complex128, those of `numpy.fft.rfft` of 3 x num_frames points.
    """
    num_points = 3 * num_frames
    if rate_hz == 0:
        return np.eye(1, num_points // 2 + 1, dtype=complex)[0]
    t = np.arange(num_frames) / frame_rate_hz * rate_hz
    impulse = np.sin(2 * np.pi * t) * t**2 * np.exp(-3.5 * t)
    response = np.fft.rfft(impulse - impulse.mean(), num_points)
    magnitude = np.abs(response)
    magnitude = _with_flat_ends(magnitude / magnitude.max(), lowest, highest)
    return magnitude * np.exp(1j * np.angle(response))


def spectral_response(
    rate: float,
    num_channels: int,
    channels_per_erb: float,
    *,
    lowest: bool = False,
    highest: bool = False,
) -> np.ndarray:
    """The response of a filter over channels, without a phase, whose peak is scaled to 1.

    r^2 exp(-r^2), with r the frequency over the rate; a Gaussian where it is the lowest.

    Args:
        rate: Centre, cycles per ERB; 0: only the mean passes.
        num_channels: Channels of the cochleagram, which is padded to twice as many.
        channels_per_erb: Channels in one unit of the ERB-number scale.
        lowest: Let everything below the rate pass, too.
        highest: Let everything above the peak pass, too.

    Returns:
        [frequency] float64, those of `numpy.fft.rfft` of 2 x num_channels points.
    """
    num_points = 2 * num_channels
    if rate == 0:
        return np.eye(1, num_points // 2 + 1)[0]
    r = np.arange(num_points // 2 + 1) * channels_per_erb / num_points / rate
    if lowest:
        return np.exp(-((np.pi * r / 2) ** 2))
    response = r**2 * np.exp(-(r**2))
    return _with_flat_ends(response / response.max(), False, highest)


def _with_flat_ends(magnitude, lowest, highest):
    peak = np.argmax(magnitude)
    if lowest:
        magnitude[:peak] = 1.0
    if highest:
        magnitude[peak:] = 1.0
    return magnitude


def _matrices(response: np.ndarray, size: int, padded: int) -> np.ndarray:
    """The terms h, p, p' as convolutions [term, output, input]; a line is padded so many times."""
    num_points = padded * size
    signed = response.copy()
    signed[0] = 0
    if num_points % 2 == 0:
        signed[-1] = 0
    quadrature = -1j * signed  # The Hilbert transform.
    lag = np.subtract.outer(np.arange(size), np.arange(size)) % num_points
    parts = (response, signed, quadrature)
    return np.stack([np.fft.irfft(part, num_points)[lag] for part in parts])


def transfer_functions(
    network: SpecTemp, num_channels: int, num_frames: int
) -> Iterator[np.ndarray]:
    """The filters of a network as the original keeps them, for cochleagrams padded with zeros.

    Args:
        network: SpecTemp network.
        num_channels: Channels of the cochleagram.
        num_frames: Frames of the cochleagram.

    Yields:
        [2 x num_channels, 3 x num_frames] complex128, one by one (a gigabyte in all at the
        published size), as in `modulations`.
    """
    sizes = (2 * num_channels, 3 * num_frames)
    of_frames = _responses(
        network.temporal_rates_hz, temporal_response, num_frames, network.frame_rate_hz
    )
    of_channels = _responses(
        network.spectral_rates, spectral_response, num_channels, network.channels_per_erb
    )
    over_frames = {rate: _both_signs(each, sizes[1]) for rate, each in of_frames.items()}
    over_channels = {rate: _both_signs(each, sizes[0]) for rate, each in of_channels.items()}
    signs = np.multiply.outer(*(_signs(size) for size in sizes))
    for t, s in network.modulations:
        yield np.multiply.outer(over_channels[s], over_frames[abs(t)]) * (signs * np.sign(t) >= 0)


def _both_signs(response, num_points):
    negative = response[1 : (num_points + 1) // 2][::-1].conj()
    return np.concatenate([response, negative])


def _signs(num_points):
    """Signs of the frequencies of `numpy.fft.fft`; 0 of the mean and of half the sampling rate."""
    signs = np.sign(np.fft.fftfreq(num_points))
    if num_points % 2 == 0:
        signs[num_points // 2] = 0
    return signs
