"""The command `metamer-jax`: what it lists, and what it makes of a mistake."""

import subprocess
import sys

import pytest
import small_run

from metamer_jax.commands import __main__ as program


def run(*words, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "metamer_jax.commands", *words],
        cwd=cwd or small_run.ROOT, capture_output=True, text=True,
    )  # fmt: skip


def told(capsys, monkeypatch, *words):
    """Exit status and output of a line that starts no command."""
    monkeypatch.setattr(sys, "argv", ["metamer-jax", *words])
    try:
        program.main()
        status = 0
    except SystemExit as left:
        status = left.code
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_help_lists_every_command_with_a_line(capsys, monkeypatch):
    status, out, _ = told(capsys, monkeypatch, "--help")
    lines = out.splitlines()[2:]
    assert status == 0 and len(lines) == len(program.MODULES)
    for line, name in zip(lines, program.MODULES, strict=True):
        assert line.startswith(f"  {name} ") and len(line.split()) > 5
    status, out, _ = told(capsys, monkeypatch, "listen", "--help")
    assert status == 0 and len(out.splitlines()) == 2 + 5


@pytest.mark.parametrize("words", [(), ("listen",), ("traine",), ("listen", "carefully")])
def test_what_is_no_command_is_one_line_that_names_them(words, capsys, monkeypatch):
    status, out, err = told(capsys, monkeypatch, *words)
    assert status == 2 and not out and err.count("\n") == 1 and "listen machines" in err


def test_a_command_shows_its_own_flags_and_refuses_others(tmp_path):
    shown = run("train", "--help")
    assert shown.returncode == 0 and "--epochs" in shown.stdout and "--steps" in shown.stdout
    assert shown.stdout.startswith("Trains the run's networks")
    assert "--coordinator" not in shown.stdout
    wrong = run("listen", "build", "--workdr=x")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("metamer-jax listen build: Unknown command line flag 'workdr'")
