"""Is it a metamer? Measures of match, a null distribution of chance matches, and verdicts.

The measures are those of Feather et al. (2019, 2023): same class, and activations that are more
alike than those of any two of about 10^6 random pairs of different natural recordings.

Everything here runs on the host in NumPy: it is sorting and a few large matrix products, done once
per stage, and must not depend on which accelerator made the metamers.
"""

from metamer_jax.verification.criteria import (
    NON_FINITE_OUTCOMES,
    PREFIXES,
    TEXTS,
    Verdicts,
    current_columns,
    deciding_measure,
    judged,
    verdicts,
    yields,
)
from metamer_jax.verification.null import (
    MEASURES,
    QUANTILES,
    NullDistribution,
    NullMeasure,
    fingerprints,
    null_distribution,
    percentile,
)
from metamer_jax.verification.quality import MatchQuality, average_ranks, match_quality

__all__ = [
    "MEASURES",
    "MatchQuality",
    "NON_FINITE_OUTCOMES",
    "NullDistribution",
    "NullMeasure",
    "PREFIXES",
    "QUANTILES",
    "TEXTS",
    "Verdicts",
    "average_ranks",
    "current_columns",
    "deciding_measure",
    "fingerprints",
    "judged",
    "match_quality",
    "null_distribution",
    "percentile",
    "verdicts",
    "yields",
]
