"""Every file of a run goes through writers that say of a full disk what is safe and what to do."""

import contextlib
import errno
import os

import matplotlib.figure
import numpy as np
import pytest

from metamer_jax import audio, report, storage
from metamer_jax.report import charts
from metamer_jax.storage import atomic

WRITERS = {
    "figure": lambda path: charts._save_png(matplotlib.figure.Figure(), path),
    "sound": lambda path: audio.write_wav(path, np.ones(9, np.int16), 8000),
    "report": lambda path: report.write_report(path.parent, save_figures=False),
    "copy": lambda path: storage.copy_file(__file__, path),
    "arrays": lambda path: storage.write_npz(path, {"a": np.ones(3)}),
    "table": lambda path: storage.write_csv(path, [{"a": 1}]),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_explained_whatever_is_written(tmp_path, monkeypatch, what):
    @contextlib.contextmanager
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield

    monkeypatch.setattr(atomic, "atomic_write", full)
    with pytest.raises(storage.StorageError, match="free some space and run the same command"):
        WRITERS[what](tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
