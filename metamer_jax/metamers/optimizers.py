"""Optimisers of waveforms, and their learning rates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metamer_jax.configs import SynthesisConfig
from metamer_jax.gradients import norm

_NORM_EPSILON = 1e-10  # Feather et al. (2023): the gradient is divided by its norm plus this.
_SUFFICIENT_DECREASE = 1e-4  # Armijo's constant; Nocedal and Wright (2006), section 3.1.
_SHRINK_MIN, _SHRINK_MAX = 0.1, 0.5  # Bounds on the quadratic interpolation of a step.
_MAX_SHRINKS = 6  # After so many in a row the memory is taken to mislead, and dropped.
_LEVEL_FLOOR = 0.01  # Of the whole sound's level: from silence a sound must find its way back.


def relative_adam(
    learning_rate: optax.ScalarOrSchedule, beta1: float, beta2: float, window: int
) -> optax.GradientTransformation:
    """Adam with Nesterov momentum, its update multiplied by the sound's level around each sample.

    Adam (Kingma & Ba, 2015) makes every sample's step about as long as the learning rate. Here
    the rate is a part of the local level: LAMB's layer-wise ratio (You et al., 2020), with
    stretches of sound for layers.

    Args:
        learning_rate: Length of a sample's step as a part of the level, or a schedule of it.
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of their squares.
        window: Number of samples whose level is taken as one (see `local_level`).

    Returns:
        A transformation for one array [time].
    """
    adam = optax.chain(
        optax.scale_by_adam(b1=beta1, b2=beta2, nesterov=True),
        optax.scale_by_learning_rate(learning_rate),
    )

    def update(gradient, state, params):
        step, state = adam.update(gradient, state)
        return jnp.asarray(step) * local_level(params, window), state

    # For one array, where optax has trees in mind.
    return optax.GradientTransformation(adam.init, update)  # pyrefly: ignore[bad-argument-type]: ^


def local_level(waveform: jax.Array, window: int) -> jax.Array:
    """Root mean square around each sample, at least about a hundredth of the whole sound's.

    With p_k the mean square of window k, whose centre is at c_k = (k + 1/2) window, the level at
    sample n, c_k <= n + 1/2 < c_(k + 1), is the square root of

        p_k + (p_(k + 1) - p_k) (n + 1/2 - c_k) / window + (0.01 rms)^2.

    Interpolating powers keeps it continuous: steps of a level that jumped at the edges of windows
    would leave edges in the sound.

    Args:
        waveform: Sound [time].
        window: Number of samples in a window; the last window may be shorter.

    Returns:
        [time], in the waveform's unit.
    """
    num_samples = waveform.shape[0]
    count = -(-num_samples // window)
    filled = np.minimum(window, num_samples - window * np.arange(count))  # The last may be short.
    # The zeros that fill up the last window add nothing to a sum; `filled` makes it a mean.
    padded = jnp.pad(waveform**2, (0, count * window - num_samples))
    power = padded.reshape(count, window).sum(axis=1) / filled
    ends = jnp.concatenate([power[:1], power, power[-1:]])  # Level beyond the outer centres.
    rise = (jnp.arange(window) + 0.5) / window
    # [between two centres, sample]: rows and samples in a row are the samples in order, from half
    # a window before the first sample on.
    between = ends[:-1, None] + (ends[1:] - ends[:-1])[:, None] * rise
    power = jax.lax.dynamic_slice_in_dim(between.reshape(-1), window // 2, num_samples)
    return jnp.sqrt(power + _LEVEL_FLOOR**2 * jnp.mean(waveform**2))


class LbfgsState(NamedTuple):
    """The accepted point, the way tried from it, and what is known of the curvature."""

    count: jax.Array  # [] int32, evaluations so far.
    point: jax.Array  # [n] accepted last.
    value: jax.Array  # [] there.
    gradient: jax.Array  # [n] there.
    direction: jax.Array  # [n] from there to where the whole step would lead.
    step: jax.Array  # [] part of it that is being tried.
    shrinks: jax.Array  # [] int32, how often it was shortened.
    steps: jax.Array  # [memory, n] differences of accepted points, newest last.
    changes: jax.Array  # [memory, n] of their gradients.
    products: jax.Array  # [memory] step times change; 0 where there is none yet.


def lbfgs(first_step: float, memory_size: int = 10) -> optax.GradientTransformationExtraArgs:
    """Limited-memory BFGS with a backtracking line search, one evaluation an update.

    Nocedal (1980), Math. Comp. 35; Nocedal and Wright (2006), algorithms 7.4 and 3.1.
    A pair of differences is kept only if its curvature is positive. For one array; batch by vmap.

    The line search is unrolled: instead of a loop of evaluations inside one update, each update
    looks at one evaluation and either accepts the point tried, x + t d, because

        f(x + t d) <= f(x) + 1e-4 t g.d                        (Armijo's condition),

    and sets out from it in a new direction, or shortens t and tries again from x. So every sound
    of a batch costs one evaluation a step, wherever in its own search it is.

    Args:
        first_step: Root mean square of the first update, along the gradient.
        memory_size: Number of pairs of differences kept.

    Returns:
        A transformation whose `update(gradient, state, params, value=...)` needs the value and
        gradient at `params`, which must have been moved by every earlier update.

    Raises:
        ValueError: `memory_size` is less than one.
    """
    if memory_size < 1:
        raise ValueError(f"memory_size must be at least 1, got {memory_size}")

    def init(params):
        memory = jnp.zeros((memory_size, *params.shape), params.dtype)
        zero = jnp.zeros((), params.dtype)
        return LbfgsState(
            count=jnp.zeros((), jnp.int32),
            point=params,
            value=zero + jnp.inf,
            gradient=jnp.zeros_like(params),
            direction=jnp.zeros_like(params),
            step=zero,
            shrinks=jnp.zeros((), jnp.int32),
            steps=memory,
            changes=memory,
            products=jnp.zeros(memory_size, params.dtype),
        )

    def update(gradient, state, params=None, *, value, **_):
        slope = jnp.vdot(state.gradient, state.direction)
        first = state.count == 0
        enough = value <= state.value + _SUFFICIENT_DECREASE * state.step * slope
        accepted = first | enough
        after = _accept(state, gradient, params, value, first_step)
        before = _shorten(state, value, slope, first_step)
        new = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), after, before)
        return new.point + new.step * new.direction - params, new

    # For one array, where optax has trees in mind.
    return optax.GradientTransformationExtraArgs(
        init,
        update,  # pyrefly: ignore[bad-argument-type]: ^
    )


def _accept(state, gradient, params, value, first_step):
    """Moves to the point tried, and sets out from it."""
    step, change = params - state.point, gradient - state.gradient
    product = jnp.vdot(step, change)
    curved = (state.count > 0) & (product > 1e-7 * norm(step) * norm(change))

    def push(memory, new):
        return jnp.where(curved, jnp.concatenate([memory[1:], new[None]]), memory)

    steps, changes = push(state.steps, step), push(state.changes, change)
    products = push(state.products, product)
    direction = -_inverse_hessian_times(gradient, steps, changes, products)
    known = (products[-1] > 0) & (jnp.vdot(direction, gradient) < 0)
    return LbfgsState(
        count=state.count + 1,
        point=params,
        value=value,
        gradient=gradient,
        direction=jnp.where(known, direction, _first_direction(gradient, first_step)),
        step=jnp.ones_like(state.step),
        shrinks=jnp.zeros_like(state.shrinks),
        steps=steps,
        changes=changes,
        products=products,
    )


def _shorten(state, value, slope, first_step):
    """Goes back along the direction, or after too many times sets out down the gradient."""
    excess = value - state.value - state.step * slope
    # The parabola through f(x), its slope s = g.d there and the value tried has its minimum at
    # -s t^2 / (2 (f(x + t d) - f(x) - s t)).
    part = -state.step * slope / (2 * jnp.where(excess > 0, excess, 1))
    part = jnp.where((excess > 0) & jnp.isfinite(excess), part, _SHRINK_MIN)
    step = state.step * jnp.clip(part, _SHRINK_MIN, _SHRINK_MAX)
    lost = state.shrinks >= _MAX_SHRINKS
    down = _first_direction(state.gradient, first_step) * 0.1
    return state._replace(
        count=state.count + 1,
        direction=jnp.where(lost, down, state.direction),
        step=jnp.where(lost, 1.0, step),
        shrinks=jnp.where(lost, 0, state.shrinks + 1),
        products=jnp.where(lost, 0.0, state.products),
    )


def _first_direction(gradient, first_step):
    """Down the gradient, with a root mean square of `first_step`."""
    length = norm(gradient)
    return -gradient * (first_step * gradient.size**0.5 / jnp.where(length > 0, length, 1))


def _inverse_hessian_times(gradient, steps, changes, products):
    """The two-loop recursion; pairs without a product are passed over.

    With rho = 1 / s.y of each pair, newest first: a = rho s.q, q <- q - a y; then oldest first:
    r <- r + s (a - rho y.r). It is what the updates H <- (I - rho s y') H (I - rho y s') + rho s s'
    make of the gradient, without a matrix.

    Between the loops stands the inverse Hessian to begin with, (s.y / y.y) I of the newest pair
    of step s and change of gradient y (Nocedal and Wright, equation 7.20).

    Returns:
        The product, of the gradient's shape.
    """
    inverse = jnp.where(products > 0, 1 / jnp.where(products > 0, products, 1), 0)

    def backward(q, pair):
        step, change, rho = pair
        alpha = rho * jnp.vdot(step, q)
        return q - alpha * change, alpha

    q, alphas = jax.lax.scan(backward, gradient, (steps, changes, inverse), reverse=True)
    square = jnp.sum(changes[-1] ** 2)
    q = q * jnp.where(square > 0, products[-1] / jnp.where(square > 0, square, 1), 1)

    def forward(r, pair):
        step, change, rho, alpha = pair
        return r + step * (alpha - rho * jnp.vdot(change, r)), None

    return jax.lax.scan(forward, q, (steps, changes, inverse, alphas))[0]


def learning_rate_schedule(config: SynthesisConfig) -> optax.Schedule:
    """Returns the step size as a function of the updates made."""
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(config.learning_rate, config.steps)
    if config.schedule == "linear":
        return optax.linear_schedule(config.learning_rate, 0.0, config.steps)
    return optax.exponential_decay(
        config.learning_rate,
        config.decay_steps,
        config.decay_rate,
        staircase=config.schedule == "staircase",
    )


def make_optimizer(config: SynthesisConfig) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser of one waveform; its updates also take the loss, as `value`."""
    if config.optimizer == "lbfgs":
        return lbfgs(config.learning_rate, config.memory_size)
    schedule = learning_rate_schedule(config)
    if config.optimizer == "adam":
        optimizer = optax.adam(schedule, b1=config.beta1, b2=config.beta2)
    elif config.optimizer == "relative_adam":
        optimizer = relative_adam(schedule, config.beta1, config.beta2, config.level_window)
    else:
        optimizer = optax.chain(
            optax.normalize_by_update_norm(eps=_NORM_EPSILON),
            optax.scale_by_learning_rate(schedule),
        )
    return optax.with_extra_args_support(optimizer)
