"""Pages of the documentation as their readers follow them: blocks of code, and commands.

A block says behind its language what it needs, if anything; GitHub and the site don't show it:

    ```bash             is run by the tests, from top to bottom of the page
    ```bash slow        takes longer than a test may: run by `pytest -m slow`, with what is above it
    ```bash network     is not run, since it needs what NEEDS says; its flags are parsed
    ```text output      is what the block of Python before it prints
"""

import dataclasses
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
)
# What a test can't count on: other hosts, a cluster or several machines, a TPU's compiler, a model
# or data of the reader's own, and a reader who types into it or ends it.
NEEDS = ("network", "cluster", "tpu", "own", "reader")
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?P<words>[^\n]*)\n(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def is_slow(self) -> bool:
        return "slow" in self.words

    @property
    def runs(self) -> bool:
        return self.language in ("python", "bash") and not set(self.words) & set(NEEDS)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    """A page's text."""
    return (ROOT / page).read_text("utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page that name their language."""
    text = text_of(page)
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            tuple(found["words"].split()),
            textwrap.dedent(found["text"]),
        )
        for found in _FENCE.finditer(text)
    ]


def command_lines(block: Block) -> Iterator[str]:
    """The commands of a block of bash, without comments, each on one line."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if command := re.sub(r"(^|\s)#.*", "", line).strip():
            yield command


def calls(page: str) -> Iterator[tuple[Block, str, tuple[str, ...]]]:
    """The drivers that a page's commands start: (block, module or script, arguments).

    What stands in brackets is optional, and parsed with the rest; "..." stands for more, and a
    variable of the shell for some number.
    """
    for block in blocks(page):
        if block.language != "bash":
            continue
        for line in command_lines(block):
            words = shlex.split(re.sub(r"\$\w+", "1", re.sub(r"[\[\]]", " ", line)))
            words = [word for word in words if word not in ("...", "&")]
            while words and (re.match(r"[A-Z_]+=", words[0]) or words[0] == "srun"):
                words = words[1:]
            if words[:2] == ["bash", "-c"]:
                words = shlex.split(words[2])
            if words[:2] == ["python", "-m"]:
                yield block, words[2], tuple(words[3:])
            elif words[:1] == ["bash"]:
                yield block, words[1], tuple(words[2:])
            elif words[:1] == ["metamer-jax"]:
                yield block, "metamer_jax.commands", tuple(words[1:])


def link_checkout(folder: pathlib.Path) -> pathlib.Path:
    """Makes a checkout of links to this one, with an environment that is this process's Python.

    Commands write into it, not into the repository, and scripts/ finds everything installed.
    """
    for entry in ROOT.iterdir():
        if entry.name not in (".venv", ".git", "runs", "build", "docs"):
            (folder / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "docs", folder / "docs")  # Where the gallery is written to.
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    _script(programs / "python", f'exec {shlex.quote(sys.executable)} "$@"')
    _script(
        programs / "metamer-jax",
        f'exec {shlex.quote(sys.executable)} -m metamer_jax.commands "$@"',
    )
    (programs / "activate").write_text(f"export PATH={shlex.quote(str(programs))}:$PATH\n")
    with open(ROOT / "setup.py") as setup:
        stamp = subprocess.run(["cksum"], stdin=setup, capture_output=True, text=True, check=True)
    for extras in ("speech", "dev", "docs"):
        (folder / ".venv" / f"installed-{extras}").write_text(stamp.stdout)
    return folder


def _script(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
