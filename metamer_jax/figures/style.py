"""How all figures look: colours, sizes, and the elements that several of them share."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import matplotlib
import matplotlib.axes
import matplotlib.colors
import matplotlib.figure
import matplotlib.image
import numpy as np

Axes = matplotlib.axes.Axes
Figure = matplotlib.figure.Figure

# A page replaces these exact values by its theme's, so that a figure follows light and dark.
INK = "#22303c"
MUTED = "#66717c"
GRID = "#d5dbe1"
NULL = "#aab4be"
PAPER = "#fefefe"  # Behind everything: what fills an open mark.

PASS = "#2a8f5b"
FAIL = "#cc4436"
NETWORKS = ("#2f78c4", "#d9702b", "#2f9e6e", "#a55bc4", "#c2a21d", "#c74f77", "#4aa3b8", "#7d6b5d")
_STAGES = ("#1f9a8a", "#3d8fd1", "#8a70d6", "#c65a9f", "#de6f4a")
COLORMAP = "magma"
# A theme-neutral tint, so light at its fullest that ink can be read on it on light and on dark.
_TINT = matplotlib.colors.LinearSegmentedColormap.from_list(
    "tint", [(*matplotlib.colors.to_rgb(NETWORKS[0]), a) for a in (0.0, 0.62)]
)


@contextlib.contextmanager
def house_style(*, grid: bool = True) -> Iterator[None]:
    """Draws in the style of all figures within the block, with or without a grid."""
    with matplotlib.rc_context(
        {
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlecolor": INK,
            "axes.labelsize": 9,
            "axes.labelcolor": INK,
            "axes.edgecolor": MUTED,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": grid,
            "axes.axisbelow": True,
            "axes.facecolor": "none",
            "grid.color": GRID,
            "grid.linewidth": 0.6,
            "figure.facecolor": "none",
            "text.color": INK,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "lines.linewidth": 1.8,
            "pdf.fonttype": 42,  # Text stays text in a journal's hands.
        }
    ):
        yield


def one_panel(
    width_in: float,
    height_in: float,
    *,
    left_in: float = 0.6,
    bottom_in: float = 0.48,
    top_in: float = 0.3,
) -> tuple[Figure, Axes]:
    """One axes in margins of fixed size: panels line up, and no layout has to be solved."""
    figure = Figure(figsize=(width_in, height_in))
    figure.subplots_adjust(
        left=left_in / width_in,
        right=1 - 0.12 / width_in,
        bottom=bottom_in / height_in,
        top=1 - top_in / height_in,
    )
    return figure, figure.add_subplot()


def errors(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Lengths [2, point] of bars from values [point] to their intervals' ends; 0 without one."""
    return np.nan_to_num(np.clip([values - low, high - values], 0, None))


def network_color(index: int) -> str:
    """Returns the colour of the network at this place in the run's list."""
    return NETWORKS[index % len(NETWORKS)]


def stage_colors(num_stages: int) -> list[str]:
    """Returns `num_stages` colours, ordered from the first stage to the last."""
    colors = matplotlib.colors.LinearSegmentedColormap.from_list("stages", _STAGES)
    places = np.linspace(0, 1, num_stages) if num_stages > 1 else [0.0]
    return [matplotlib.colors.to_hex(colors(place)) for place in places]


def percentages(
    axis: Axes,
    percent: np.ndarray,
    *,
    written: np.ndarray | None = None,
    fontsize: float = 7.5,
    aspect: Literal["auto", "equal"] | None = None,
) -> matplotlib.image.AxesImage:
    """Draws a matrix of percentages, each cell coloured by its number and the number in it.

    Args:
        axis: Loses its grid, spines and tick marks.
        percent: [row, column], 0 to 100; nan leaves a cell empty.
        written: [row, column], whose numbers are written. None: all that there are.
        fontsize: Of the numbers, points.
        aspect: As of `imshow`.

    Returns:
        What a colour bar is drawn from, where the numbers are not written.
    """
    image = axis.imshow(np.nan_to_num(percent), cmap=_TINT, vmin=0, vmax=100, aspect=aspect)
    axis.grid(False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for row, column in np.argwhere(np.isfinite(percent) if written is None else written):
        text = {"ha": "center", "va": "center", "fontsize": fontsize, "color": INK}
        axis.text(column, row, f"{percent[row, column]:.0f}", **text)
    return image
