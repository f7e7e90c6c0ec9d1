"""Checks that all settings share; each raises a ValueError that names the field."""

import math
import typing


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def require_choice(name: str, value: object, choices: typing.Iterable[object]) -> None:
    choices = tuple(choices)
    require(value in choices, f"{name} must be one of {choices}, got {value!r}")


def require_positive(**values: float) -> None:
    for name, value in values.items():
        finite = isinstance(value, (int, float)) and math.isfinite(value)
        require(finite and value > 0, f"{name} must be a positive number, got {value!r}")
