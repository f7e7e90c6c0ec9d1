"""What a release consists of besides the code agrees with it and with its schemas."""

import re
import subprocess
import sys

import pages
import pytest

import metamer_jax


@pytest.mark.parametrize(
    "schema, path",
    [
        ("vendor.github-workflows", ".github/workflows/ci.yml"),
        ("custom.github-workflows-require-timeout", ".github/workflows/ci.yml"),
        ("vendor.citation-file-format", "CITATION.cff"),
    ],
)
def test_it_keeps_to_its_schema(schema, path):
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, path]
    # A citation file is YAML that does not say so.
    done = subprocess.run(
        [*command, "--force-filetype=yaml"], cwd=pages.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_version_is_everywhere_the_same():
    version = metamer_jax.__version__
    assert f'version="{version}"' in pages.text_of("setup.py")
    assert f"\nversion: {version}\n" in pages.text_of("CITATION.cff")
    assert re.search(r"^## (\S+)", pages.text_of("CHANGELOG.md"), re.MULTILINE)[1] == version


def test_the_workflow_names_every_supported_python():
    text = pages.text_of(".github/workflows/ci.yml")
    supported = re.search(r"python: \[(.*)\]", text)[1]
    assert supported == '"3.11", "3.12", "3.13"'
    assert 'python_requires=">=3.11"' in pages.text_of("setup.py")


@pytest.mark.parametrize("page", ["README.md", "CITATION.cff", "docs/paper.md"])
def test_the_paper_is_named(page):
    text = " ".join(pages.text_of(page).split())
    assert "Effects of audio network architecture on network metamers" in text
    assert "Lu" in text and "Feather" in text
