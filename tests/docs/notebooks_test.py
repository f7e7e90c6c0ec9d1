"""The notebooks: run from start to end, and kept in git with what they show."""

import hashlib
import importlib.util
import os
import pathlib
import re

import pytest

nbformat = pytest.importorskip("nbformat")

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ids = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["explore_metamers.ipynb"]


@ids
def test_outputs_are_those_of_the_code(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    sources = "\0".join(cell.source for cell in code)
    # Else `python scripts/notebook.py` makes them anew.
    assert notebook.metadata.metamer_jax.sources_sha256 == (
        hashlib.sha256(sources.encode()).hexdigest()
    )
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size < 1.5e6
    shown = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in shown} <= {"stream", "display_data", "execute_result"}
    assert all(output.get("name") != "stderr" for output in shown)  # No warnings.
    text = path.read_text("utf-8")
    assert not re.search(r"(/home/|/root/|/tmp/|/work/|/Users/|Traceback|Warning)", text)
    check_what_is_shown(notebook)


def check_what_is_shown(notebook):
    assert len(outputs(notebook, "image/png")) == 1  # Chance and the metamers.
    pages = "".join(outputs(notebook, "text/html"))
    assert pages.count("<audio") == 1 + (1 + 4) + (1 + 2)
    assert pages.count("<img") == (1 + 4) + (1 + 2)
    assert pages.count("null distribution of") == 6


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
    folder = tmp_path / "notebooks"
    folder.mkdir()
    environment = {
        **os.environ,
        "METAMER_JAX_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    client = nbclient.NotebookClient(
        notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    check_what_is_shown(notebook)
