"""Runs the notebooks and keeps what they show: `python scripts/notebook.py`.

Each is run in a process of its own, in its folder; what its code was is kept in its metadata, so
that the tests know whether the outputs are this code's.
"""

import hashlib
import pathlib

import nbclient
import nbformat

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "notebooks"


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """Returns the SHA-256 of the sources of a notebook's code cells, in order."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def run(path: pathlib.Path) -> None:
    """Runs a notebook from start to end and writes it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=1200,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute()
    # The kernel says which Python it has; the code is not of that one alone.
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.metamer_jax = {"sources_sha256": fingerprint(notebook)}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for each in sorted(NOTEBOOKS.glob("*.ipynb")):
        run(each)
        print(f"{each}: {each.stat().st_size / 1e6:.1f} MB")
