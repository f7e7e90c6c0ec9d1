"""Modes of JAX in which a run cannot be computed."""

import jax

# What each would do: computation is in float32 by design, and NaN means "no value" in places.
_REFUSED = {
    "jax_enable_x64": (True, "a run is computed in float32"),
    "jax_debug_nans": (True, "NaN stands for what is not there, e.g. after an early stop"),
    "jax_debug_infs": (True, "an error that is not known yet is infinite"),
    "jax_numpy_dtype_promotion": ("strict", "arrays of several types meet"),
}
_GUARDS = ("host_to_device", "device_to_device", "device_to_host")


def check_modes() -> None:
    """Refuses modes of JAX, set in the environment or by `jax.config`, that a run does not bear.

    Raises:
        ValueError: One is on; the message names it.
    """
    for name, (value, reason) in _REFUSED.items():
        if getattr(jax.config, name) == value:
            raise ValueError(
                f"{name.upper()}={value} cannot be used here ({reason}): unset it, in the "
                f"environment or by jax.config.update"
            )
    for direction in _GUARDS:
        guard = getattr(jax.config, f"jax_transfer_guard_{direction}") or "allow"
        if "disallow" in guard:
            raise ValueError(
                f"JAX_TRANSFER_GUARD={guard} ({direction}) cannot be used here (sounds and results "
                f"go to the device and back): unset it, in the environment or by jax.config.update"
            )
