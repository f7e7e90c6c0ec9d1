"""The figures that are kept of every release."""

import os
import pathlib
import re
from typing import Any

from metamer_jax import storage


def read(folder: str | os.PathLike) -> dict[str, list[dict[str, Any]]]:
    """Reads what a benchmark found of each release.

    Args:
        folder: Where a file lies for each, such as 0.2.0.json.

    Returns:
        Rows of the benchmark's table by release, the oldest first.

    Raises:
        ValueError: A file has another name, or holds no rows.
    """
    found = {}
    for path in pathlib.Path(folder).glob("*.json"):
        if not re.fullmatch(r"\d+(\.\d+)+", path.stem):
            raise ValueError(f"{path} must have a release for its name, such as 0.2.0.json")
        content = storage.read_json(path)
        if not isinstance(content, dict) or not content.get("rows"):
            raise ValueError(f"{path} must be what a benchmark writes, with rows")
        found[path.stem] = content["rows"]
    return dict(sorted(found.items(), key=lambda item: [int(n) for n in item[0].split(".")]))
