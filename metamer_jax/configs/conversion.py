"""Settings from and to JSON, changed by flags, compared field by field."""

import dataclasses
import difflib
import json
import operator
from collections.abc import Mapping
from typing import Any

from metamer_jax.configs import checks
from metamer_jax.configs.checks import require


def replace_given(config: Any, /, **changes: Any) -> Any:
    """Returns `config` with those fields replaced whose new value is not None."""
    return dataclasses.replace(config, **{k: v for k, v in changes.items() if v is not None})


def replace_dotted(config: Any, name: str, value: Any) -> Any:
    """Returns `config` with one field replaced, named by its dotted path, e.g. "training.epochs".

    Raises:
        ValueError: There is no such field, or its config refuses the value.
    """
    return replace_all(config, {name: value})


def replace_all(config: Any, changes: Mapping[str, Any]) -> Any:
    """Returns `config` with several fields replaced and only then checked.

    So fields that must agree can be changed together.

    Args:
        config: The settings.
        changes: New values by dotted path, e.g. {"data.duration_s": 2.0, "seed": 1}.

    Raises:
        ValueError: There is no such field, or the values, or some of them together, cannot be.
    """
    grouped: dict[str, Any] = {}
    for path, value in changes.items():
        field_at(config, path)
        name, _, rest = path.partition(".")
        if rest:
            grouped.setdefault(name, {})[rest] = value
        else:
            grouped[name] = value
    given = {}
    for name, value in grouped.items():
        nested = getattr(config, name)
        if dataclasses.is_dataclass(nested) and isinstance(value, Mapping):
            value = _prefixed(name, replace_all, nested, value)
        given[name] = value
    return dataclasses.replace(config, **given)


def field_at(config: Any, path: str) -> checks.Field:
    """Returns the field that a dotted path names.

    Raises:
        ValueError: There is none.
    """
    name, _, rest = path.partition(".")
    known = checks.fields_of(type(config))
    near = "".join(f", did you mean {n!r}?" for n in difflib.get_close_matches(name, known, 1))
    kind = type(config).__name__
    require(name in known, f"{kind} has no setting {name!r}{near or '.'} It has {', '.join(known)}")
    if not rest:
        return known[name]
    nested = getattr(config, name)
    require(dataclasses.is_dataclass(nested), f"{name!r} has no settings, so no {rest!r}")
    return field_at(nested, rest)


def paths_of(config: Any, prefix: str = "") -> dict[str, checks.Field]:
    """Returns every setting, those of nested configs included, by its dotted path."""
    found = {}
    for name, field in checks.fields_of(type(config)).items():
        nested = getattr(config, name)
        if dataclasses.is_dataclass(nested):
            found |= paths_of(nested, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def value_at(config: Any, path: str) -> Any:
    """Returns the value of the setting that a dotted path names."""
    return operator.attrgetter(path)(config)


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
    fields = checks.fields_of(cls)
    require(isinstance(values, Mapping), f"{cls.__name__} must be an object, got {values!r}")
    values = getattr(cls, "from_older", dict)(values)
    unknown = sorted(set(values) - set(fields))
    require(not unknown, f"{cls.__name__} has no field {unknown}; it has {sorted(fields)}")
    given = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(fields[name].annotation):
            value = _prefixed(name, from_dict, fields[name].annotation, value)
        given[name] = value
    return cls(**given)


def _prefixed(name: str, make: Any, *args: Any) -> Any:
    """Calls `make`; what its ValueError says of a field is said of `name`'s."""
    try:
        return make(*args)
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from error


def differences(old: Any, new: Any) -> list[str]:
    """Lists the fields, dotted, in which two configs of one class differ."""
    values = {path: (value_at(old, path), value_at(new, path)) for path in paths_of(new)}
    return [f"{path}: {a!r} before, {b!r} now" for path, (a, b) in values.items() if a != b]
