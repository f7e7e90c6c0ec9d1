"""What a step of synthesis costs: measured against a plain dense path, in one run.

Machines differ and neighbours are noisy: what counts are medians and the ratios to the yardstick,
which is timed in turns with everything else.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import auditory, cochleagram, metamers, models
from metamer_jax.cochleagram import core, filters
from metamer_jax.configs import CochleagramConfig, SynthesisConfig


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to time."""

    name: str  # e.g. "conv2d conv1".
    method: str  # "yardstick", "dense" or "multirate".
    batch_size: int


@dataclasses.dataclass
class Timed:
    """A compiled program that takes some steps with a batch, and what XLA says of it."""

    case: Case
    run: Callable[[], None]  # Takes `steps` steps and waits for them.
    steps: int
    compile_s: float
    flops: float  # Per target and step, by XLA's cost analysis; NaN where it has none.
    bytes_accessed: float  # The same.
    peak_bytes: float  # Temporary memory of the program.
    seconds: list[float] = dataclasses.field(default_factory=list)

    def measure(self) -> None:
        """Runs once more and keeps the time."""
        start = time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - start)

    @property
    def ms_per_target_step(self) -> float:
        """Median over the measurements, milliseconds."""
        return 1e3 * statistics.median(self.seconds) / (self.case.batch_size * self.steps)


def plain_cochleagram(response: jax.Array, waveform: jax.Array, *, config: CochleagramConfig):
    """The yardstick: an inverse FFT of every band at the full rate, and a strided convolution."""
    num_samples = config.num_samples
    analytic = response * jnp.fft.rfft(waveform)
    missing = num_samples - analytic.shape[-1]
    envelope = jnp.abs(jnp.fft.ifft(jnp.pad(analytic, ((0, 0), (0, missing)))))
    kernel = filters.envelope_kernel(config.lowpass_taps, config.stride)
    before = -filters.envelope_offset(
        num_samples, config.lowpass_taps, config.stride, config.lowpass_padding
    )
    after = (config.num_frames - 1) * config.stride + config.lowpass_taps - num_samples - before
    low_passed = jax.lax.conv_general_dilated(
        envelope[:, None],
        jnp.asarray(kernel, envelope.dtype)[None, None],
        (config.stride,),
        [(before, after)],
    )[:, 0]
    return core.compress(low_passed, config)


def prepare(
    case: Case,
    *,
    config: CochleagramConfig,
    synthesis: SynthesisConfig,
    steps: int,
    num_words: int = 8,
    seed: int = 0,
) -> Timed:
    """Compiles the step of a case, on noise as targets.

    Args:
        case: What to time; a network's weights are random, which costs the same.
        config: The cochleagram; the case sets its method.
        synthesis: Optimiser and loss.
        steps: Steps that one measurement takes.
        num_words: Of the network.
        seed: Of the targets and weights.

    Returns:
        The compiled program, to be measured.
    """
    stage_fn, variables = _stage(case, config, num_words, seed)
    if synthesis.as_played:
        stage_fn = metamers.parametrised(stage_fn, metamers.AsPlayed(config.sample_rate_hz))
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((case.batch_size, config.num_samples))
    targets = jnp.asarray(0.1 * noise, jnp.float32)
    synthesis = dataclasses.replace(
        synthesis, steps=10**6, tolerance=0.0, chunk_steps=steps, batch_size=case.batch_size
    )
    kwargs: dict[str, Any] = {"stage_fn": stage_fn, "variables": variables, "config": synthesis}
    start = time.perf_counter()
    compiled = metamers.lower(case.batch_size, config.num_samples, **kwargs).compile()
    compile_s = time.perf_counter() - start
    costs = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    state = metamers.init(jax.random.key(seed), targets, range(case.batch_size), **kwargs)
    box = [metamers.advance(state, steps)[0]]  # Compiles, or takes it from the cache; warms up.

    def run():
        box[0], _ = metamers.advance(box[0], steps)

    return Timed(
        case=case,
        run=run,
        steps=steps,
        compile_s=compile_s,
        # XLA counts the body of a loop whose length it does not know once.
        flops=costs.get("flops", float("nan")) / case.batch_size,
        bytes_accessed=costs.get("bytes accessed", float("nan")) / case.batch_size,
        peak_bytes=float(getattr(memory, "temp_size_in_bytes", float("nan"))),
    )


def _stage(case, config, num_words, seed):
    if case.method == "yardstick":
        response = jnp.asarray(cochleagram.default_bank(config).response, jnp.float32)
        return functools.partial(plain_cochleagram, config=config), response
    config = dataclasses.replace(config, method=case.method)
    network, _, stage = case.name.rpartition(" ")
    model = models.build_model(network or "conv2d", num_words)
    variables = auditory.init_variables(jax.random.key(seed), model, config)
    return auditory.stage_fn(model, stage, config, relu_override=True), variables


def measure(timed: Sequence[Timed], rounds: int, on_round: Callable[[], None] = lambda: None):
    """Times the programs in turns, so that what slows the machine slows all of them."""
    for _ in range(rounds):
        for one in timed:
            one.measure()
        on_round()


def device_ceilings(size: int = 2048, megabytes: int = 256) -> dict[str, float]:
    """Measures what the device at hand can do: a large matrix product and a large copy.

    Returns:
        flops_per_s (float32 at the highest precision) and bytes_per_s (read and written).
    """
    matrix = jnp.ones((size, size)) * 1e-3
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    vector = jnp.ones(megabytes * 2**20 // 4)
    copy = jax.jit(lambda v: v + 1)
    return {
        "flops_per_s": 2 * size**3 / _best_seconds(product, matrix),
        "bytes_per_s": 2 * vector.nbytes / _best_seconds(copy, vector),
    }


def _best_seconds(fn, argument, tries: int = 7) -> float:
    jax.block_until_ready(fn(argument))
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        jax.block_until_ready(fn(argument))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def floor_ms(timed: Timed, ceilings: dict[str, float]) -> float:
    """The least time per target and step that XLA's counts of flops and bytes allow."""
    return 1e3 * max(
        timed.flops / ceilings["flops_per_s"], timed.bytes_accessed / ceilings["bytes_per_s"]
    )
