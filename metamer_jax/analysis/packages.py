"""Packages that only some analyses need: those of the extra `statistics`."""

import importlib
import types


def load(module: str, what: str) -> types.ModuleType:
    """A module of such a package, imported where it is first needed, as it takes a second.

    Args:
        module: Its full name.
        what: The analysis that asks for it, in words.

    Returns:
        The module.

    Raises:
        ImportError: The package is not installed; the message has the command that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{what}: needs the package {package}: pip install 'metamer_jax[statistics]'"
        ) from error
