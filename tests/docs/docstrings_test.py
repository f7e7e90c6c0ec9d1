"""What docstrings say of arguments, results and errors agrees with the code: by ruff's rules."""

import pathlib
import shutil
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "metamer_jax"
RULES = """
preview = true
[lint]
select = ["D100", "D101", "D102", "D103", "D104", "D417", "DOC102", "DOC201", "DOC202", "DOC402",
  "DOC403", "DOC501"]
[lint.pydocstyle]
convention = "google"
[lint.pydoclint]
ignore-one-line-docstrings = true
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "ruff.toml"
    path.write_text(RULES)
    return path


def check(rules, *arguments):
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    return subprocess.run(
        [*command, f"--config={rules}", *map(str, arguments)], capture_output=True, text=True
    )


def test_docstrings_agree_with_signatures(rules):
    commands = PACKAGE / "commands"
    found = check(rules, PACKAGE, f"--exclude={commands}")
    assert found.returncode == 0, found.stdout
    # What a command's main does its module says, which is what --help shows.
    found = check(rules, commands, "--ignore=D103")
    assert found.returncode == 0, found.stdout


def test_what_is_left_out_is_found(rules, tmp_path):
    module = tmp_path / "module.py"
    shutil.copy(PACKAGE / "gradients.py", module)
    assert check(rules, module).returncode == 0
    text = module.read_text().replace("    Returns:\n", "    Nothing:\n", 1)
    module.write_text(text)
    assert "return" in check(rules, module).stdout
