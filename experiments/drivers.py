"""What drivers have in common, whatever their flags: clear errors, and values given as text."""

import ast
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from absl import app

from metamer_jax import pipeline, runs, storage

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


def tuple_or_none(values: list[str] | None) -> tuple[str, ...] | None:
    """Returns a list flag's value as settings hold it."""
    return None if values is None else tuple(values)


def assignment(text: str) -> tuple[str, Any]:
    """Returns name and value of a --set flag.

    Raises:
        ValueError: It is not NAME=VALUE.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # A word: no quotes needed.
