"""Commands of this package as they can be pasted into the terminal that shows them."""

import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Sequence

_PROGRAM, _MODULE = "metamer-jax", "metamer_jax.commands"


def command(name: str, *arguments: str) -> str:
    """Writes a command of this package so that it works where this process was started.

    `scripts/reproduce.sh` activates no environment, so the program's bare name may not be found
    there, or be that of another environment.

    Args:
        name: What `metamer-jax --help` lists, such as "listen build".
        arguments: Flags, as the command takes them.

    Returns:
        The line: with the program's bare name where the shell finds it, else with its path, and
        with this Python where the environment has no such program.
    """
    here = shutil.which(_PROGRAM, path=os.path.dirname(sys.executable))
    found = shutil.which(_PROGRAM)
    words = [*name.split(), *arguments]
    if found and (here is None or os.path.samefile(found, here)):
        return shlex.join([_PROGRAM, *words])
    return shlex.join([_from_here(here), *words]) if here else python(["-m", _MODULE, *words])


def python(arguments: Sequence[str]) -> str:
    """Writes a call of this Python: as `python` where the shell finds this one, else by its path.

    Args:
        arguments: What comes after.

    Returns:
        The line.
    """
    # Of environments, each Python may be a link to the same file.
    is_found = (shutil.which("python") or "") == os.path.abspath(sys.executable)
    return shlex.join(["python" if is_found else _from_here(sys.executable), *arguments])


def _from_here(path):
    """The path as it is shortest: relative where it lies in a folder of the working directory."""
    full, here = pathlib.Path(path).absolute(), pathlib.Path.cwd()
    return str(full.relative_to(here)) if here in full.parents[1:] else str(full)
