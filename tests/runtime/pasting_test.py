"""Commands that are printed are found by the shell that they are pasted into."""

import subprocess
import sys

import pytest

from metamer_jax.runtime import pasting


@pytest.fixture(params=["env", "my env"])
def environment(request, tmp_path, monkeypatch):
    """An environment whose programs say who they are, and a working directory above it."""
    programs = tmp_path / request.param / "bin"
    for name in ("python", "metamer-jax"):
        write_program(programs / name, f"this {name}")
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return programs


def write_program(path, said):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{said}" "$@"\n')
    path.chmod(0o755)


def paste(line):
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout


def test_the_program_is_called_by_its_path_where_the_shell_does_not_find_it(environment):
    line = pasting.command("listen build", "--workdir=runs/my run")
    assert paste(line) == "this metamer-jax listen build --workdir=runs/my run\n"
    assert not line.startswith("/") and "metamer-jax listen build" in line.replace("'", "")


def test_the_program_is_called_by_its_name_where_the_shell_finds_it(environment, monkeypatch):
    monkeypatch.setenv("PATH", f"{environment}:/usr/bin:/bin")
    assert pasting.command("train", "--seed=3") == "metamer-jax train --seed=3"
    assert pasting.python(["-m", "experiments.train"]) == "python -m experiments.train"


def test_another_environments_program_is_not_mistaken_for_this_one(
    environment, tmp_path, monkeypatch
):
    for name in ("metamer-jax", "python"):
        write_program(tmp_path / "other" / name, "another")
    monkeypatch.setenv("PATH", f"{tmp_path / 'other'}:/usr/bin:/bin")
    assert paste(pasting.command("train")) == "this metamer-jax train\n"
    assert paste(pasting.python(["-V"])) == "this python -V\n"


def test_an_environment_without_the_program_calls_its_python(environment, monkeypatch):
    (environment / "metamer-jax").unlink()
    monkeypatch.chdir(environment)
    said = paste(pasting.command("train", "--seed=3"))
    assert said == "this python -m metamer_jax.commands train --seed=3\n"
