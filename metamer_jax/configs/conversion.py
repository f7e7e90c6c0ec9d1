"""Settings from and to JSON, changed by flags, compared field by field."""

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from metamer_jax.configs.checks import require


def replace_given(config: Any, /, **changes: Any) -> Any:
    """Returns `config` with those fields replaced whose new value is not None."""
    return dataclasses.replace(config, **{k: v for k, v in changes.items() if v is not None})


def replace_dotted(config: Any, name: str, value: Any) -> Any:
    """Returns `config` with one field replaced, named by its dotted path, e.g. "training.epochs".

    Raises:
        ValueError: There is no such field, or its config refuses the value.
    """
    field, _, rest = name.partition(".")
    known = sorted(f.name for f in dataclasses.fields(config))
    require(field in known, f"{type(config).__name__} has no setting {field!r}; it has {known}")
    if rest:
        nested = getattr(config, field)
        require(dataclasses.is_dataclass(nested), f"{field!r} has no settings, so no {rest!r}")
        value = replace_dotted(nested, rest, value)
    elif isinstance(value, list):
        value = tuple(value)
    return dataclasses.replace(config, **{field: value})


def to_json(config: Any) -> str:
    """Returns the config's fields, nested ones included, as readable JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_dict(cls: type, values: Mapping[str, Any]) -> Any:
    """Builds the dataclass `cls` from what `to_json` wrote, once read back.

    A class whose settings were once called otherwise has a static method `from_older` that
    translates them.

    Args:
        cls: The dataclass.
        values: Its fields, nested ones as mappings.

    Returns:
        An instance of `cls`.

    Raises:
        ValueError: A field is not one of `cls`, or its value is refused by `cls`.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values = getattr(cls, "from_older", dict)(values)
    unknown = sorted(set(values) - set(fields))
    require(not unknown, f"{cls.__name__} has no field {unknown}; it has {sorted(fields)}")
    hints = typing.get_type_hints(cls)
    given = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = from_dict(hints[name], value)
        elif isinstance(value, list):
            value = tuple(value)
        given[name] = value
    return cls(**given)


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Lists the fields, dotted, in which two configs of one class differ."""
    found = []
    for field in dataclasses.fields(new):
        a, b = getattr(old, field.name), getattr(new, field.name)
        if dataclasses.is_dataclass(b):
            found += differences(a, b, f"{prefix}{field.name}.")
        elif a != b:
            found.append(f"{prefix}{field.name}: {a!r} before, {b!r} now")
    return found
