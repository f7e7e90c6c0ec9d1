"""Is it a metamer? Measures of match, a null distribution of chance matches, and verdicts.

The measures are those of Feather et al. (2019, 2023): same class, and activations that are more
alike than those of any two of about 10^6 random pairs of different natural recordings.

Everything here runs on the host in NumPy: it is sorting and a few large matrix products, done once
per stage, and must not depend on which accelerator made the metamers.
"""

from metamer_jax.verification.criteria import NON_FINITE_OUTCOMES as NON_FINITE_OUTCOMES
from metamer_jax.verification.criteria import PREFIXES as PREFIXES
from metamer_jax.verification.criteria import TEXTS as TEXTS
from metamer_jax.verification.criteria import Verdicts as Verdicts
from metamer_jax.verification.criteria import current_columns as current_columns
from metamer_jax.verification.criteria import deciding_measure as deciding_measure
from metamer_jax.verification.criteria import judged as judged
from metamer_jax.verification.criteria import verdicts as verdicts
from metamer_jax.verification.criteria import yields as yields
from metamer_jax.verification.null import MEASURES as MEASURES
from metamer_jax.verification.null import QUANTILES as QUANTILES
from metamer_jax.verification.null import NullDistribution as NullDistribution
from metamer_jax.verification.null import NullMeasure as NullMeasure
from metamer_jax.verification.null import fingerprints as fingerprints
from metamer_jax.verification.null import null_distribution as null_distribution
from metamer_jax.verification.null import percentile as percentile
from metamer_jax.verification.quality import MatchQuality as MatchQuality
from metamer_jax.verification.quality import average_ranks as average_ranks
from metamer_jax.verification.quality import match_quality as match_quality
