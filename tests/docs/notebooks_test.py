"""The notebooks: run from start to end at smoke size, and kept in git without outputs."""

import importlib.util
import os
import pathlib

import pytest

nbformat = pytest.importorskip("nbformat")

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ids = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["explore_metamers.ipynb"]


@ids
def test_outputs_are_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell["id"]
        assert not cell.metadata
    assert "widgets" not in notebook.metadata


def outputs(notebook, kind):
    """What the cells show of one kind of content, in order."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][kind] for output in shown if kind in output.get("data", {})]


@ids
@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra [speech]"
)
@pytest.mark.slow
def test_it_runs_from_start_to_end(path, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    environment = {
        **os.environ,
        "METAMER_JAX_NOTEBOOK_SIZE": "smoke",
        "METAMER_JAX_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)
    # Target beside another word, the grid, two of errors, four nulls, the networks compared.
    assert len(outputs(notebook, "image/png")) == 9
    pages = "".join(outputs(notebook, "text/html"))
    assert pages.count("<audio") == 1 + 2 * (1 + 2)
    assert pages.count("pass") + pages.count("fail") >= 4
    said = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "4 metamers in" in said
    assert "frequency_grouped dense: 100%" in said  # A bar, as in a terminal.
