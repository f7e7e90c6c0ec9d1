"""What rates measured on two cores say of many metamers on many processes, by arithmetic alone.

Work is dealt in whole units (`metamer_jax.runs.shares`), so that the longest share has
ceil(units / shares) of them; what every share does for itself is added whole.
"""

import dataclasses
import math
from collections.abc import Mapping

from metamer_jax.benchmarks import aot

# Readings of a finished batch by who joins them: looked for, seen to be whole, copied.
_READINGS = 3


@dataclasses.dataclass(frozen=True)
class Rates:
    """What was measured of one process on one core while its neighbour was as busy.

    Attributes:
        batch_size: Metamers of a batch.
        batch_s: Seconds of a batch by stage ("conv2d conv1"), of the cochleagram once.
        first_batch_s: Seconds from the command to the first batch, without that batch.
        stage_s: Seconds that a further stage takes beside its batches.
        verified_first_s: Seconds from the command to the first metamer that is verified.
        verified_s: Seconds of a metamer's verification.
        verified_parts: Networks and stages that are verified.
        verified_together: Targets of each that one process verifies together.
        heard_s: Seconds in which all machine listeners hear a metamer.
        sound_bytes: Bytes of a target as it is read.
        metamer_bytes: Bytes of a metamer in its batch's file.
        read_bytes_per_s: How fast files of that kind are read and checked.
        write_bytes_per_s: How fast they are written.
    """

    batch_size: int
    batch_s: Mapping[str, float]
    first_batch_s: float
    stage_s: float
    verified_first_s: float
    verified_s: float
    verified_parts: int
    verified_together: int
    heard_s: float
    sound_bytes: float
    metamer_bytes: float
    read_bytes_per_s: float
    write_bytes_per_s: float

    def per_core_hour(self) -> dict[str, float]:
        """Metamers that a core makes in an hour, by stage."""
        return {stage: 3600 * self.batch_size / s for stage, s in self.batch_s.items()}


@dataclasses.dataclass(frozen=True)
class Pod:
    """TPU chips, several to a host, and what XLA counts of a step on one of them.

    Attributes:
        chips: How many.
        chips_per_host: Of which so many belong to one process.
        step: A step of `targets_per_chip` sounds on a chip.
        targets_per_chip: Sounds at once on a chip.
        evaluations: Steps of a metamer.
    """

    chips: int
    chips_per_host: int
    step: aot.Cost
    targets_per_chip: int
    evaluations: int

    @property
    def hosts(self) -> int:
        """How many processes there are."""
        return math.ceil(self.chips / self.chips_per_host)

    @property
    def bound_by(self) -> str:
        """What bounds the step: "bytes" or "arithmetic"."""
        by_bytes = self.step.bytes_accessed / aot.V5E_BYTES_PER_S
        return "bytes" if by_bytes >= self.step.floor_s else "arithmetic"


def targets_of(rates: Rates, metamers: int) -> int:
    """Targets of so many metamers, the same at every stage."""
    return math.ceil(metamers / len(rates.batch_s))


def longest_share(units: int, shares: int) -> int:
    """Units of the share that has most."""
    return math.ceil(units / shares)


def on_cores(rates: Rates, metamers: int, shares: int) -> dict[str, float]:
    """Computes how long the parts that grow with the number of metamers take.

    Args:
        rates: What was measured.
        metamers: How many, the same number at every stage.
        shares: Processes, a core each.

    Returns:
        Seconds by part, one part after the other.
    """
    stages, targets = len(rates.batch_s), targets_of(rates, metamers)
    batches = math.ceil(targets / rates.batch_size)
    a_batch = sum(rates.batch_s.values()) / stages
    return {
        "synthesis": rates.first_batch_s
        + (stages - 1) * rates.stage_s
        + longest_share(stages * batches, shares) * a_batch,
        **_after_synthesis(rates, targets, shares),
    }


def on_pod(rates: Rates, metamers: int, pod: Pod) -> dict[str, float]:
    """Computes the same for a pod: least times of what its chips do, measured ones of its hosts.

    Args:
        rates: What was measured, of a core, for all that is not a step.
        metamers: How many, the same number at every stage.
        pod: The chips.

    Returns:
        Seconds by part.
    """
    stages, targets = len(rates.batch_s), targets_of(rates, metamers)
    batches = math.ceil(targets / (pod.targets_per_chip * pod.chips_per_host))
    mine = longest_share(stages * batches, pod.hosts)
    sounds = mine * pod.targets_per_chip * pod.chips_per_host
    return {
        "compiling the steps": stages * pod.step.compile_s,
        "steps": mine * pod.evaluations * pod.step.floor_s,
        "targets read": sounds * rates.sound_bytes / rates.read_bytes_per_s,
        "batches written": sounds * rates.metamer_bytes / rates.write_bytes_per_s,
        **_after_synthesis(rates, targets, pod.hosts),
    }


def _after_synthesis(rates: Rates, targets: int, shares: int) -> dict[str, float]:
    """Seconds of what follows the synthesis, by part."""
    size = targets * rates.metamer_bytes
    join = size * (_READINGS / rates.read_bytes_per_s + 1 / rates.write_bytes_per_s)
    dealt = rates.verified_parts * math.ceil(targets / rates.verified_together)
    together = longest_share(dealt, shares) * rates.verified_together
    verified = min(together, rates.verified_parts * targets) * rates.verified_s
    return {
        "batches joined": longest_share(len(rates.batch_s), shares) * join,
        "verification": rates.verified_first_s + verified,
        "machine listeners": longest_share(targets * len(rates.batch_s), shares) * rates.heard_s,
    }


def longest(parts: Mapping[str, float]) -> str:
    """Name of the part that takes longest."""
    return max(parts, key=lambda name: parts[name])


def core_hours(rates: Rates, metamers: int) -> float:
    """Core-hours of the synthesis alone, fixed costs left out."""
    return sum(metamers / len(rates.batch_s) / each for each in rates.per_core_hour().values())
