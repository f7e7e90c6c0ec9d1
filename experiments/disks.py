"""Small file systems for studies of full disks."""

import contextlib
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def mounted(options: str) -> Iterator[pathlib.Path | None]:
    """Mounts a file system in memory where we may, else yields None.

    Args:
        options: Of mount, such as "size=1m".
    """
    disk = pathlib.Path(tempfile.mkdtemp())
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    done = shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield disk if done else None
    finally:
        if done:
            subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


def remount(disk: pathlib.Path, options: str) -> None:
    """Changes the options of a mounted file system, such as its size."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)
