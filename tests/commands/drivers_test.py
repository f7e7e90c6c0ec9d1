"""What the drivers share: settings as flags, errors in one line, exit statuses."""

import pathlib
import subprocess
import sys

import jax
import platformdirs
import pytest
import small_run
from absl import flags

from metamer_jax import configs, runs, storage
from metamer_jax.commands import drivers
from metamer_jax.runtime import modes
from metamer_jax.storage import cache


@pytest.mark.parametrize(
    "error, status, said",
    [
        (ValueError("steps must be\n a number"), 2, "steps must be a number"),
        (FileNotFoundError(2, "No such file", "x.wav"), 2, "No such file: 'x.wav'"),
        (ImportError("needs espeakng_loader"), 2, "needs espeakng_loader"),
        (storage.DamagedFileError("config.json is not JSON"), 2, "config.json is not JSON"),
        (storage.StorageError(28, "No space left", "x.npz"), 1, "No space left: 'x.npz'"),
        (runs.FolderInUseError("in use by process 7"), 1, "in use by process 7"),
        (KeyboardInterrupt(), 130, "interrupted; what is finished is kept"),
    ],
)
def test_an_error_is_one_line_and_an_exit_status(error, status, said, capsys):
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as left:
        drivers._guarded(main, ["driver"])
    shown = capsys.readouterr().err
    assert left.value.code == status
    assert said in shown and shown.count("\n") == 1 and "Traceback" not in shown


@pytest.mark.parametrize(
    "argv, original, said",
    [
        (
            ["metamer-jax listen build", "--workdir=runs/my run"],
            ["python3", "/env/bin/metamer-jax", "listen", "build", "--workdir=runs/my run"],
            "/env/bin/python -m metamer_jax.commands listen build '--workdir=runs/my run'",
        ),
        (
            ["/code/experiments/train.py", "--seed=3"],
            ["/env/bin/python", "-m", "experiments.train", "--seed=3"],
            "/env/bin/python -m experiments.train --seed=3",
        ),
    ],
)
@pytest.mark.parametrize("ended", [KeyboardInterrupt(), SystemExit(runs.EXIT_STOPPED)])
def test_who_interrupts_is_given_the_command_that_continues(
    argv, original, said, ended, monkeypatch, capsys
):
    def main(argv):
        raise ended

    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    monkeypatch.setattr(sys, "executable", "/env/bin/python")
    with pytest.raises(SystemExit):
        drivers._guarded(main, argv[:1])
    assert capsys.readouterr().err.endswith(f"To continue: {said}\n")


def test_arguments_that_are_left_over_are_named(capsys):
    with pytest.raises(SystemExit) as left:
        drivers._guarded(lambda argv: None, ["driver", "runs/mine"])
    assert left.value.code == 2 and "Unexpected arguments: runs/mine" in capsys.readouterr().err


def test_no_flag_is_nan(monkeypatch, capsys):
    own = flags.FlagValues()
    flags.DEFINE_float("chance", None, "Of a right answer.", 0, 1, flag_values=own)
    monkeypatch.setattr(flags, "FLAGS", own)
    assert drivers._read_flags(["driver", "--chance=0.5", "left"]) == ["driver", "left"]
    for value, said in (("nan", "--chance=nan: expected a number"), ("1e999", "--chance=1e999")):
        with pytest.raises(SystemExit) as left:
            drivers._read_flags(["driver", f"--chance={value}"])
        assert left.value.code == 2 and said in capsys.readouterr().err


def test_our_own_faults_keep_their_traceback():
    def main(argv):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        drivers._guarded(main, ["driver"])


def test_help_and_mistakes_from_the_shell(tmp_path):
    def run(*arguments, driver="reproduce"):
        command = [sys.executable, "-m", f"experiments.{driver}", *arguments]
        return subprocess.run(command, cwd=small_run.ROOT, capture_output=True, text=True)

    shown = run("--help")
    assert shown.returncode == 0 and "--duration_s" in shown.stdout
    folder = tmp_path / "run"
    for flag, said in (
        (
            "--set=cochleagram.sample_rate_hz=9000",
            "high_hz must not exceed half the sample",
        ),
        ("--stepz=2", "Unknown command line flag 'stepz'"),
    ):
        done = run(f"--workdir={folder}", flag)
        assert done.returncode == 2 and said in done.stderr
        assert "Traceback" not in done.stderr and not folder.exists()
    done = run(f"--workdir={folder}", driver="verify")
    assert done.returncode == 2 and not folder.exists()
    assert f"{folder} must be the folder of a run" in done.stderr and "Traceback" not in done.stderr


def test_settings_become_flags_and_set_assignments_are_checked_once():
    config, own = configs.ExperimentConfig(), flags.FlagValues()
    names = {
        "steps": "synthesis.steps",
        "duration_s": ("data.duration_s", "cochleagram.duration_s"),
        "words": "data.words",
        "skip_bad_files": "data.skip_bad_files",
    }
    changed = drivers.setting_flags(config, names, flag_values=own)

    def parsed(*arguments):
        for name in own:
            own[name].unparse()
        own(["driver", *arguments])
        return changed(config)

    assert own["steps"].help.startswith("Gradient steps of each metamer.")
    found = parsed("--steps=7", "--duration_s=1.5", "--words=7,nan", "--skip_bad_files")
    assert found.synthesis.steps == 7 and found.data.words == ("7", "nan")
    assert found.data.duration_s == found.cochleagram.duration_s == 1.5
    assert found.data.skip_bad_files is True
    assert parsed() == config
    for half in ("data", "cochleagram"):
        found = parsed("--duration_s=1", f"--set={half}.duration_s=1.5")
        assert found.data.duration_s == found.cochleagram.duration_s == 1.5
    with pytest.raises(ValueError, match="data.duration_s=1.5 and cochleagram.duration_s=2.0 must"):
        parsed("--set=data.duration_s=1.5", "--set=cochleagram.duration_s=2")
    both = ("--set=cochleagram.low_hz=50", "--set=cochleagram.high_hz=60")
    assert parsed(*both).cochleagram.high_hz == 60.0
    for assignment, said in (
        ("seed", "--set must be NAME=VALUE"),
        ("sed=1", "has no setting 'sed'"),
        ("seed=4294967296", "seed must be a whole number"),
        ("synthesis.tolerance=-1", "synthesis.tolerance must be a number at least 0"),
        ("synthesis.tolerance=nan", "tolerance must be a number at least 0"),
        ("synthesis.steps=2.5", "synthesis.steps must be a whole number at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            parsed(f"--set={assignment}")


@pytest.mark.parametrize(
    "name, value, default",
    [
        ("jax_enable_x64", True, False),
        ("jax_debug_nans", True, False),
        ("jax_debug_infs", True, False),
        ("jax_numpy_dtype_promotion", "strict", "standard"),
        ("jax_transfer_guard", "disallow", "allow"),
    ],
)
def test_modes_of_jax_that_a_run_does_not_bear_are_refused_first(name, value, default):
    modes.check_modes()
    jax.config.update(name, value)
    try:
        with pytest.raises(ValueError, match="cannot be used here"):
            modes.check_modes()
    finally:
        jax.config.update(name, default)
    modes.check_modes()


def test_a_user_without_a_home_has_a_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("METAMER_JAX_CACHE", raising=False)
    assert cache.cache_dir(None) == platformdirs.user_cache_path("metamer_jax")

    def no_home(name):
        raise RuntimeError("could not determine the home directory")

    for homeless in (no_home, lambda name: pathlib.Path("~/.cache") / name):
        monkeypatch.setattr(platformdirs, "user_cache_path", homeless)
        with pytest.warns(UserWarning, match="METAMER_JAX_CACHE"):
            assert cache.cache_dir(None).is_absolute()
    monkeypatch.setenv("METAMER_JAX_CACHE", str(tmp_path))
    assert cache.cache_dir(None) == tmp_path
    with pytest.raises(ValueError, match="cache_dir must"):
        cache.cache_dir("~nobody-here/cache")
