"""Cochleagrams of targets and their metamers, on one colour scale."""

from collections.abc import Mapping, Sequence

import numpy as np

from metamer_jax.figures import style
from metamer_jax.figures.style import Figure


def frequency_ticks(
    center_hz: np.ndarray, wanted_hz: Sequence[float] = (100, 500, 1000, 2000, 4000)
) -> list[tuple[float, float]]:
    """Places ticks on a channel axis.

    Args:
        center_hz: [channel], centre frequencies, Hz, ascending.
        wanted_hz: Frequencies to mark; those outside the channels are left out.

    Returns:
        Pairs (frequency in Hz, channel as a fractional index).
    """
    center_hz = np.asarray(center_hz, dtype=float)
    inside = [f for f in wanted_hz if center_hz[0] <= f <= center_hz[-1]]
    return [(f, float(np.interp(f, center_hz, np.arange(len(center_hz))))) for f in inside]


def hz_label(frequency_hz: float) -> str:
    """Writes 500 as "500" and 4000 as "4k"."""
    return f"{frequency_hz / 1000:g}k" if frequency_hz >= 1000 else f"{frequency_hz:g}"


def cochleagram_pair(
    target: np.ndarray,
    metamer: np.ndarray,
    *,
    center_hz: np.ndarray,
    frame_rate_hz: float,
    titles: tuple[str, str] = ("target", "metamer"),
    unit: str = "arbitrary units",
) -> Figure:
    """Draws a target's cochleagram beside its metamer's, on the target's colour scale.

    Args:
        target: [channel, frame].
        metamer: [channel, frame].
        center_hz: [channel], centre frequencies, ascending.
        frame_rate_hz: Frames per second.
        titles: Over the left and the right panel.
        unit: Of the compressed envelope.

    Returns:
        The figure.

    Raises:
        ValueError: The two differ in shape, or `center_hz` does not fit them.
    """
    target, metamer = np.asarray(target), np.asarray(metamer)
    if target.ndim != 2 or target.shape != metamer.shape:
        raise ValueError(
            f"target and metamer must be [channel, frame] and alike, got {target.shape} and "
            f"{metamer.shape}"
        )
    if len(center_hz) != target.shape[0]:
        raise ValueError(f"center_hz must hold {target.shape[0]} channels, got {len(center_hz)}")
    with style.house_style():
        figure = Figure(figsize=(6.4, 2.9), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, values, title in zip(axes, (target, metamer), titles, strict=True):
            end_ms = 1000 * values.shape[1] / frame_rate_hz
            image = _draw(axis, values, float(np.nanmax(target)) or 1.0, end_ms, center_hz)
            axis.set(title=title, xlabel="Time (ms)")
        axes[0].set_ylabel("Frequency (Hz)")
        figure.colorbar(image, ax=axes, label=f"Compressed envelope ({unit})", pad=0.01)
    return figure


def _draw(axis, values, top, end_ms, center_hz):
    """Draws a cochleagram [channel, frame], `top` the brightest, with Hz on its axis."""
    ticks = frequency_ticks(center_hz)
    axis.grid(False)
    axis.set_yticks([place for _, place in ticks], [hz_label(f) for f, _ in ticks])
    extent = (0, end_ms, -0.5, len(values) - 0.5)
    looks = {"origin": "lower", "aspect": "auto", "cmap": style.COLORMAP}
    return axis.imshow(values, vmin=0, vmax=top, extent=extent, **looks)


def metamer_grid(
    pictures: Mapping[str, Sequence[tuple[str, np.ndarray]]],
    *,
    center_hz: np.ndarray,
    duration_s: float,
    word: str,
    unit: str = "arbitrary units",
) -> Figure:
    """Draws a target and its metamers from every stage, one row per network.

    Args:
        pictures: Network -> (label, cochleagram [channel, frame]) in order, the target first.
        center_hz: [channel] centre frequencies, Hz, ascending.
        duration_s: Of the sound.
        word: What is spoken.
        unit: Of the compressed envelope.

    Returns:
        The figure.
    """
    rows, columns = len(pictures), max(len(row) for row in pictures.values())
    with style.house_style():
        figure = Figure(figsize=(1.75 * columns + 0.6, 1.75 * rows + 0.5), facecolor="white")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        top = max(np.max(image) for row in pictures.values() for _, image in row)
        for line, (network, row) in zip(axes, pictures.items(), strict=True):
            for axis, (label, image) in zip(line, row, strict=True):
                drawn = _draw(axis, image, top, 1000 * duration_s, center_hz)
                axis.set_title(label, fontsize=8.5)
            line[0].set_ylabel(f"{network}\nfrequency (Hz)")
        for axis in axes[-1]:
            axis.set_xlabel("time (ms)")
        figure.suptitle(
            f"“{word}” and sounds that each network hears as the same, matched at one stage",
            fontsize=10,
            color=style.INK,
        )
        figure.tight_layout(rect=(0, 0, 1 - 0.35 / figure.get_figwidth(), 1))
        bar = figure.colorbar(drawn, ax=axes, pad=0.15 / figure.get_figwidth(), fraction=0.02)
        bar.set_label(f"Compressed envelope ({unit})")
    return figure
