"""Settings that say what they mean and check themselves: type, range and choices of every field.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Example:
        steps: int = setting(1500, "Gradient steps.", at_least=1)

        def __post_init__(self):
            check_fields(self)

A field is written once: from its annotation and `setting` follow its check, its flag and the
flag's help. Every failed check raises a ValueError that names the field.
"""

import ast
import dataclasses
import functools
import math
import numbers
import operator
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

# PRNG keys are made of 32 bits: seeds beyond share their keys with smaller ones.
NUM_SEEDS = 2**32

# How a number stands to the bounds of a range.
_HOLDS = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
}
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def require(condition: bool, message: str) -> None:
    """Raises a ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a number or word must be besides of its type; of a tuple, each of its items."""

    choices: tuple[str, ...] | None = None
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """Those of the range that there are, by name."""
        bounds = {name: getattr(self, name) for name in _HOLDS}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def admit(self, value: Any) -> bool:
        """Says whether a value is within the limits."""
        within = all(_HOLDS[name](value, bound) for name, bound in self.bounds.items())
        return within and (self.choices is None or value in self.choices)

    def __str__(self) -> str:
        said = (f"{name} {bound}".replace("_", " ") for name, bound in self.bounds.items())
        return " and ".join(said)


def setting(default: Any, doc: str, *, choices: Sequence[str] | None = None, **limits: Any) -> Any:
    """Returns a dataclass field that knows what it means and what it may be.

    Args:
        default: Its default.
        doc: What it means, with the unit, for readers and for the help of its flag.
        choices: The words that it may be.
        **limits: at_least, above, at_most, below: the range of a number.
    """
    words = None if choices is None else tuple(choices)
    metadata = {"doc": doc, "limits": Limits(choices=words, **limits)}
    return dataclasses.field(default=default, metadata=metadata)


def seed_setting(default: Any, doc: str) -> Any:
    """Returns a field that holds a seed, or several: such that no two share a key."""
    return setting(default, doc, at_least=0, below=NUM_SEEDS)


@dataclasses.dataclass(frozen=True)
class Field:
    """One setting of a class: what `fields_of` finds."""

    name: str
    annotation: Any
    default: Any
    doc: str
    limits: Limits

    @property
    def optional(self) -> bool:
        """Whether it may be None."""
        return type(None) in typing.get_args(self.annotation)

    @property
    def kind(self) -> Any:
        """Its annotation without None."""
        if not self.optional:
            return self.annotation
        (kind,) = (a for a in typing.get_args(self.annotation) if a is not type(None))
        return kind

    @property
    def items(self) -> tuple[Any, ...]:
        """Of a tuple its items' types (`tuple[int, ...]`: int and ...); else nothing."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is tuple else ()

    @property
    def wanted(self) -> str:
        """What it must be, in words."""
        item = self.items[0] if self.items else self.kind
        if self.limits.choices is not None:
            text = f"one of {self.limits.choices}"
        elif item is not bool and self.limits == Limits(above=0):
            text = f"a positive {_NAMES[item].removeprefix('a ')}"
        else:
            text = _NAMES.get(item, getattr(item, "__name__", str(item)))
            text += f" {limits}" if (limits := str(self.limits)) else ""
        if self.items:
            count = "" if self.items[-1] is ... else f" of {len(self.items)}"
            text = f"a list{count}, each {text}"
        return text + (" or None" if self.optional else "")


@functools.cache
def fields_of(cls: type) -> Mapping[str, Field]:
    """Returns the settings of a dataclass by name."""
    hints = typing.get_type_hints(cls)
    return types.MappingProxyType(
        {
            f.name: Field(
                name=f.name,
                annotation=hints[f.name],
                default=f.default,
                doc=f.metadata.get("doc", ""),
                limits=f.metadata.get("limits", Limits()),
            )
            for f in dataclasses.fields(cls)
            if f.init
        }
    )


def check_fields(config: Any) -> None:
    """Holds every field of a frozen dataclass against its annotation and limits.

    What is the same value in another type becomes of the field's: lists tuples, 16000.0 a whole
    number, NumPy's scalars Python's. So equal settings are saved, hashed and compared as equal.

    Raises:
        ValueError: A field is of another type, not finite, out of its range or repeats.
    """
    for name, field in fields_of(type(config)).items():
        value = getattr(config, name)
        fitted = _fit(field, value)
        if fitted is not value:
            object.__setattr__(config, name, fitted)


def _fit(field: Field, value: Any) -> Any:
    if value is None and field.optional:
        return None
    refusal = f"{field.name} must be {field.wanted}, got {value!r}"
    if not field.items:
        return _fit_one(field.kind, value, field.limits, refusal)
    require(isinstance(value, (list, tuple)), refusal)
    kinds = field.items
    if kinds[-1] is ...:
        kinds = kinds[:1] * len(value)
    require(len(value) == len(kinds), refusal)
    fitted = tuple(
        _fit_one(kind, item, field.limits, refusal) for kind, item in zip(kinds, value, strict=True)
    )
    require(
        field.items[-1] is not ... or len(set(fitted)) == len(fitted),
        f"{field.name} repeat: {fitted}",
    )
    same = isinstance(value, tuple) and all(map(operator.is_, fitted, value))
    return value if same else fitted


def _fit_one(kind: Any, value: Any, limits: Limits, refusal: str) -> Any:
    if kind in (int, float):
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        require(number and math.isfinite(value), refusal)
        require(kind is float or int(value) == value, refusal)
        if type(value) is not kind:
            value = kind(value)
    else:  # Of `dict[str, Any]` that it is a dict is all that is said here.
        plain = typing.get_origin(kind) or kind
        require(isinstance(value, (list, tuple) if plain is list else plain), refusal)
    require(limits.admit(value), refusal)
    return value


def from_text(field: Field, text: str) -> Any:
    """Reads a setting as it is given in a command; `check_fields` then says whether it may be.

    Args:
        field: Which.
        text: A number, true or false, a word (no quotes needed), None; of lists the items with
            commas between.

    Returns:
        Its value.

    Raises:
        ValueError: The text is nothing of the field's type.
    """
    if field.optional and text in ("None", "null"):
        return None
    refusal = f"{field.name} must be {field.wanted}, got {text!r}"
    if not field.items:
        return _one_from_text(field.kind, text, refusal)
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("()", "[]"):
        inner = inner[1:-1]
    items = [item.strip() for item in inner.split(",")]
    return tuple(_one_from_text(field.items[0], item, refusal) for item in items if item)


def _one_from_text(kind: Any, text: str, refusal: str) -> Any:
    if kind is bool:
        require(text.lower() in ("true", "false"), refusal)
        return text.lower() == "true"
    if kind is str:
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        return text[1:-1] if quoted else text
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        raise ValueError(refusal) from None
    return value
