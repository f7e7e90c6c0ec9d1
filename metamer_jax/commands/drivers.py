"""What drivers have in common, whatever their flags: clear errors, and settings as flags."""

import functools
import logging as standard_logging
import math
import pathlib
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from absl import app, flags, logging

from metamer_jax import configs, pipeline, runs, storage
from metamer_jax.runtime import modes, pasting

flags.disclaim_key_flags()  # Flags that are defined here are those of the driver that asked.

T = TypeVar("T")


def run_command(command: types.ModuleType) -> None:
    """Runs a command of this package as the program: what it says and its flags are the help's.

    Args:
        command: The module, with a function `main` of the arguments that are no flags.
    """
    sys.modules["__main__"].__doc__ = command.__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(command.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    run(command.main)


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs a driver: what goes wrong is one line, and the exit status says whose it is.

    Status 0: done, or help was shown. 2: the command, its files or what is installed must change.
    1: the same command may do later (a full disk, a folder in use). 130: interrupted.
    143: ended by SIGTERM or Ctrl-C once the state was saved. With --verbosity=1 errors show where
    they arose, and lines of the log when and where they were written, other packages' too.
    """
    app.run(functools.partial(_guarded, main), flags_parser=_read_flags)


def _read_flags(argv: Sequence[str]) -> list[str]:
    try:
        left = flags.FLAGS(argv)
        for name, value in flags.FLAGS.flag_values_dict().items():
            if isinstance(value, float) and math.isnan(value):  # It passes every bound of absl's.
                raise flags.IllegalFlagValueError(f"flag --{name}=nan: expected a number")
        return left
    except flags.Error as error:
        _leave(error, 2)
    except SystemExit:  # The help was shown.
        sys.exit()


def _guarded(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    try:
        if logging.get_verbosity() < logging.DEBUG:
            _be_quiet()
        if len(argv) > 1:
            raise ValueError(f"Unexpected arguments: {' '.join(argv[1:])}")
        main(argv)
    except KeyboardInterrupt:
        _leave(f"interrupted; what is finished is kept. To continue: {_same_command()}", 130)
    except SystemExit as left:
        if left.code == runs.EXIT_STOPPED:
            print(f"To continue: {_same_command()}", file=sys.stderr)
        raise
    except (storage.StorageError, runs.FolderInUseError, runs.ShareMissingError) as error:
        _leave(error, 1)
    except (ValueError, OSError, ImportError) as error:
        _leave(error, 2)


class _Line(standard_logging.Formatter):
    """A message as people read it: without time, thread and place in the code."""

    def format(self, record: standard_logging.LogRecord) -> str:
        above = "warning: " if record.levelno >= standard_logging.WARNING else ""
        return above + record.getMessage()


def _be_quiet() -> None:
    """Leaves what the package says itself, and warnings of others."""
    for name in ("jax", "matplotlib"):  # Backends that are not there, a font manager's lists.
        standard_logging.getLogger(name).setLevel(standard_logging.WARNING)
    logging.get_absl_handler().setFormatter(_Line())


def _same_command() -> str:
    """The command line, to be given again."""
    program, *arguments = sys.argv
    if program.startswith("metamer-jax "):
        return pasting.command(program.removeprefix("metamer-jax "), *arguments)
    return pasting.python(sys.orig_argv[1:])  # `-m experiments.reproduce`, or a file.


def _leave(error: object, status: int) -> NoReturn:
    logging.debug("where it arose:", exc_info=True)
    text = " ".join(str(error).split())
    print(f"{pathlib.Path(sys.argv[0]).stem}: {text}", file=sys.stderr)
    sys.exit(status)


def markdown(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table as Markdown has it."""
    first, *others = (f"| {' | '.join(map(str, line))} |" for line in (head, *rows))
    return "\n".join((first, "|" + "---|" * len(head), *others))


def begin(read_flags: Callable[[], T]) -> T:
    """Returns what the flags ask for, ready to compute: with the compilation cache.

    Raises:
        ValueError: JAX is in a mode that a run does not bear, or as `read_flags`.
    """
    modes.check_modes()
    found = read_flags()
    pipeline.enable_compilation_cache()
    return found


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
    others: bool = True,
    flag_values: flags.FlagValues = flags.FLAGS,
) -> Callable[[Any], Any]:
    """Defines a flag for some of a config's settings, and --set for all others.

    A flag's type, choices and help are those of its setting.

    Args:
        config: A config of `configs`: whose fields, and their defaults.
        names: Setting by flag, dotted where it is nested; several where one flag sets them all.
        defaults: Whether what holds where a flag is not given is the value in `config`.
        more: Sentences to add to the help, by flag.
        others: Whether there is --set.
        flag_values: Where the flags go.

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
            flags.DEFINE_bool(flag, None, words, flag_values)
        else:
            choices = f" <{'|'.join(field.limits.choices)}>:" if field.limits.choices else ""
            flags.DEFINE(
                _Parser(field), flag, None, f"{choices} {words}".strip(),
                serializer=flags.ArgumentSerializer(), flag_values=flag_values,
            )  # fmt: skip
    if others:
        _define_set(config, names, flag_values)

    def changed(start: Any) -> Any:
        assignments: list[str] = list(flag_values["set"].value or []) if others else []
        if "help" in assignments:
            print(_described(start))
            sys.exit()
        found = {
            path: value
            for flag, settings in paths.items()
            for path in settings
            if (value := flag_values[flag].value) is not None
        }
        given = {}
        for text in assignments:
            path, equals, value = text.partition("=")
            if not equals:
                raise ValueError(f"--set must be NAME=VALUE, got {text!r}")
            given[path] = configs.from_text(configs.field_at(start, path), value)
        # Settings that one flag sets together are set together by the name of either, too.
        together = {
            other: given[path]
            for settings in paths.values()
            for path in settings
            if path in given
            for other in settings
        }
        return configs.replace_all(start, found | together | given)

    return changed


def _define_set(config: Any, names: Mapping[str, Any], flag_values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string(
        "set",
        [],
        "Any other setting by its (dotted) name, e.g. --set="
        + next(path for path in reversed(configs.paths_of(config)) if path not in names)
        + "=VALUE; may be repeated. --set=help lists all settings, what they mean and their "
        "defaults.",
        flag_values=flag_values,
    )


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
