"""The guide to models of one's own, as a stranger would follow it."""

import pathlib
import re

import numpy as np

import metamer_jax

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "your_own_model.md"


def test_the_guide_runs_and_says_what_comes_out(capsys):
    blocks = re.findall(r"```(\w*)\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    names, printed = {}, []
    for language, code in blocks:
        if language == "python":
            exec(compile(code, GUIDE.name, "exec"), names)
            printed.append(capsys.readouterr().out)
        else:  # What the block before it prints.
            assert printed[-1].strip() == code.strip()
    made, found = names["made"], names["found"]
    assert made.waveform.shape == (2, 1, 2000)
    assert np.all(made.relative_error < 0.2)
    assert (found.table["verdict"] == "pass").all(), found.table["reason"].tolist()
    assert "blocks/1" in names["model"].stage_names


def test_every_name_of_the_package_that_the_guide_uses_exists():
    for name in set(re.findall(r"\bmj\.(\w+)", GUIDE.read_text("utf-8"))):
        assert hasattr(metamer_jax, name), name
