"""Which channels share a grid: few grids, few points."""

import numpy as np

# Overheads of one more group of subbands, in grid points of work; set by measurement on a CPU.
_GROUP_COST = 3000


def plan_groups(needed: np.ndarray, num_samples: int) -> list[tuple[int, np.ndarray]]:
    """Groups channels onto few grids, so that the points plus the groups' overheads are fewest.

    Returns:
        (points, channel indices) per group; all channels once. Grids have lengths that FFTs are
        fast at, or the clip's own length where a filter is too wide for a coarser one.
    """
    sizes = _fast_fft_lengths(num_samples)
    by_need = np.argsort(needed, kind="stable")
    grid = np.array([next((s for s in sizes if s >= m), num_samples) for m in needed[by_need]])
    best = [(0, 0)]  # best[j]: least cost of the j least demanding channels, and its last cut.
    for j in range(1, len(grid) + 1):
        best.append(
            min((best[i][0] + (j - i) * int(grid[j - 1]) + _GROUP_COST, i) for i in range(j))
        )
    groups, j = [], len(grid)
    while j:
        i = best[j][1]
        groups.append((int(grid[j - 1]), np.sort(by_need[i:j])))
        j = i
    return groups[::-1]


def _fast_fft_lengths(limit: int) -> list[int]:
    """Even numbers below `limit` with no prime factor above five."""
    products = {
        2**a * 3**b * 5**c for a in range(1, 24) for b in range(15) for c in range(10)
        if 2**a * 3**b * 5**c < limit
    }  # fmt: skip
    return sorted(products)
