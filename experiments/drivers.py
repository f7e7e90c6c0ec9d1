"""What drivers have in common, whatever their flags: clear errors, and settings as flags."""

import contextlib
import functools
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from absl import app, flags

from metamer_jax import configs, pipeline, runs, storage

flags.disclaim_key_flags()  # Flags that are defined here are those of the driver that asked.

T = TypeVar("T")


def begin(argv: Sequence[str], read_flags: Callable[[], T]) -> T:
    """Returns what the flags ask for, ready to compute: with the compilation cache.

    Args:
        argv: As `main` has it: nothing may be left of it but the program.
        read_flags: Makes settings of the flags.

    Raises:
        app.UsageError: An argument is left, or `read_flags` raised a ValueError.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    try:
        found = read_flags()
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    pipeline.enable_compilation_cache()
    return found


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Ends the process with the message alone where the run folder is the trouble."""
    try:
        yield
    except (storage.StorageError, runs.FolderInUseError, storage.DamagedFileError) as error:
        sys.exit(f"Error: {error}")


class _Parser(flags.ArgumentParser):
    """Reads a flag as the setting that it sets."""

    def __init__(self, field: configs.Field):
        super().__init__()
        self._field = field

    def parse(self, argument: Any) -> Any:
        return configs.from_text(self._field, argument)

    def flag_type(self) -> str:
        return self._field.wanted


def setting_flags(
    config: Any,
    names: Mapping[str, str | tuple[str, ...]],
    *,
    defaults: bool = True,
    more: Mapping[str, str] = types.MappingProxyType({}),
) -> Callable[[Any], Any]:
    """Defines a flag for some of a config's settings, and --set for all of them.

    A flag's type, choices and help are those of its setting.

    Args:
        config: A config of `configs`: whose fields, and their defaults.
        names: Setting by flag, dotted where it is nested; several where one flag sets them all.
        defaults: Whether what holds where a flag is not given is the value in `config`.
        more: Sentences to add to the help, by flag.

    Returns:
        A function that returns a config of that class with what the flags ask for. It raises
        a ValueError where a setting does not exist or has a value that cannot be.
    """
    paths = {flag: (p,) if isinstance(p, str) else p for flag, p in names.items()}
    for flag, (path, *_) in paths.items():
        field = configs.field_at(config, path)
        default = _value_at(config, path)
        parts = [field.doc, more.get(flag, ""), "Commas between." if field.items else ""]
        if defaults and default not in (None, ()):
            parts.append(f"Unset: {_shown(default)}.")
        words = " ".join(part for part in parts if part)
        if field.kind is bool:
            flags.DEFINE_bool(flag, None, words)
        else:
            choices = f" <{'|'.join(field.limits.choices)}>:" if field.limits.choices else ""
            flags.DEFINE(
                _Parser(field), flag, None, f"{choices} {words}".strip(),
                serializer=flags.ArgumentSerializer(),
            )  # fmt: skip
    assignments = flags.DEFINE_multi_string(
        "set",
        [],
        "Any other setting by its (dotted) name, e.g. --set="
        + next(path for path in reversed(configs.paths_of(config)) if path not in names)
        + "=VALUE; may be repeated. --set=help lists all settings, what they mean and their "
        "defaults.",
    )

    def changed(start: Any) -> Any:
        if "help" in assignments.value:
            print(_described(start))
            sys.exit()
        found = {
            path: value
            for flag, settings in paths.items()
            for path in settings
            if (value := flags.FLAGS[flag].value) is not None
        }
        for text in assignments.value:
            path, equals, value = text.partition("=")
            if not equals:
                raise ValueError(f"--set must be NAME=VALUE, got {text!r}")
            found[path] = configs.from_text(configs.field_at(start, path), value)
        return configs.replace_all(start, found)

    return changed


def _value_at(config: Any, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), config)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return "empty" if value == "" else str(value)


def _described(config: Any) -> str:
    lines = []
    for path, field in configs.paths_of(config).items():
        about = f"{path}={_shown(_value_at(config, path))} ({field.wanted})"
        lines += [about, textwrap.indent(textwrap.fill(field.doc, 88), "    ")]
    return "\n".join(lines)
