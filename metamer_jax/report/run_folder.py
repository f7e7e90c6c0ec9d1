"""Reads a run folder that may be unfinished or damaged: what is missing is None, never an error."""

import contextlib
import json
import pathlib
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from metamer_jax import storage, verification


class RunFolder:
    """A run folder's files, with a list of those that are there and could not be read.

    Attributes:
        path: The folder.
        problems: "<file>: <reason>" for every file that could not be read.
    """

    def __init__(
        self,
        path: pathlib.Path | str,
        leave_out: Mapping[str, str] = types.MappingProxyType({}),
    ) -> None:
        self.path = pathlib.Path(path)
        self._leave_out = leave_out
        self.problems: list[str] = [f"{name}: {reason}" for name, reason in leave_out.items()]

    def _read(self, name: str, reader: Callable[[pathlib.Path], Any]) -> Any:
        path = self.path / name
        if not path.is_file() or not self.is_sound(name):
            return None
        try:
            return reader(path)
        except Exception as error:  # A report shows what it can, whatever a file's state.
            self.problems.append(f"{name}: {type(error).__name__}: {error}")
            return None

    def is_sound(self, name: str) -> bool:
        """Whether a file (or folder, ending in "/") may be shown."""
        return name not in self._leave_out

    def json(self, name: str) -> dict[str, Any]:
        """Returns the object in a JSON file, empty where there is none."""
        value = self._read(name, lambda path: json.loads(path.read_text("utf-8")))
        return value if isinstance(value, dict) else {}

    def json_lines(self, name: str) -> pd.DataFrame | None:
        """A log as a table, up to its first broken line; None where there is no log."""

        def read(path: pathlib.Path) -> pd.DataFrame:
            # The last line may be half written while training goes on.
            rows = []
            for line in path.read_text("utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    break
            return pd.DataFrame(rows)

        table = self._read(name, read)
        return None if table is None or table.empty else table

    def csv(self, name: str) -> pd.DataFrame | None:
        """Returns a table, with words as they are called, whatever that is."""
        return self._read(name, lambda path: storage.read_csv(path, text=verification.TEXTS))

    def npz(self, name: str, keys: Iterable[str] | None = None) -> dict[str, np.ndarray] | None:
        """Returns those arrays of a file that it holds (all without `keys`).

        Large ones stay in the file: `storage.take` reads rows of them.
        """

        def read(path: pathlib.Path) -> dict[str, np.ndarray]:
            with contextlib.suppress(storage.DamagedFileError):  # Compressed, or another's.
                found = storage.map_npz(path, check=False)
                return {key: found[key] for key in found if keys is None or key in keys}
            with np.load(path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files if keys is None or key in keys}

        return self._read(name, read)

    def folders(self, name: str) -> list[str]:
        """Names of the folders within a folder, sorted."""
        path = self.path / name
        return sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []

    def first(self, pattern: str) -> pathlib.Path | None:
        """Returns the first file whose path under the run folder fits a glob pattern."""
        return next(iter(sorted(self.path.glob(pattern))), None)
