"""Which channels share a grid: few grids, few points."""

from collections.abc import Callable, Sequence

import numpy as np


def plan_groups(
    needed: np.ndarray, lengths: Sequence[int], group_cost: Callable[[int], float]
) -> list[tuple[int, np.ndarray]]:
    """Groups channels onto few grids, so that the points plus the groups' overheads are fewest.

    With the channels in the order of what they need, a best grouping is of neighbours: a channel
    between two of a group fits their grid, too, and needs no more points there than elsewhere. So
    the least cost of the first j channels is, over the place i of the last cut,

        best[j] = min over i of best[i] + (j - i) points[j] + group_cost(points[j]),

    where the last group takes the grid of its most demanding channel (dynamic programming).

    Args:
        needed: [channel] points that each channel's grid must have at least.
        lengths: Lengths that a grid may have, ascending; the last serves every channel.
        group_cost: Points of a grid to the overhead of one more group, in grid points of work.

    Returns:
        Points and channel indices of each group, coarsest first; all channels once.
    """
    by_need = np.argsort(needed, kind="stable")
    place = np.minimum(np.searchsorted(lengths, needed[by_need]), len(lengths) - 1)
    grid = np.asarray(lengths)[place]
    best = [(0.0, 0)]  # best[j]: least cost of the j least demanding channels, and its last cut.
    for j in range(1, len(grid) + 1):
        points = int(grid[j - 1])
        overhead = group_cost(points)
        best.append(min((best[i][0] + (j - i) * points + overhead, i) for i in range(j)))
    groups, j = [], len(grid)
    while j:
        i = best[j][1]
        groups.append((int(grid[j - 1]), np.sort(by_need[i:j])))
        j = i
    return groups[::-1]


def fast_fft_lengths(limit: int) -> list[int]:
    """Lists the even numbers below `limit` with no prime factor above five, ascending."""
    products = {
        2**a * 3**b * 5**c for a in range(1, 24) for b in range(15) for c in range(10)
        if 2**a * 3**b * 5**c < limit
    }  # fmt: skip
    return sorted(products)
