"""The command `metamer-jax`: which of its subcommands is meant."""

import ast
import importlib
import pathlib
import sys

import metamer_jax
from metamer_jax.commands import drivers

MODULES = {
    "reproduce": "reproduce",
    "train": "train",
    "synthesize": "synthesize",
    "verify": "verify",
    "report": "report",
    "listen build": "build_listening_test",
    "listen pilot": "pilot_listening_test",
    "listen serve": "serve_listening_test",
    "listen machines": "machine_listeners",
    "listen analyze": "analyze_responses",
    "compare": "compare_architectures",
    "benchmark": "benchmark",
}
_HELP = ("--help", "-h", "--helpshort", "-help", "help")


def main() -> None:
    """Runs the subcommand that the command line names; the rest of the line is its flags."""
    words = sys.argv[1:]
    length = 2 if words[:1] == ["listen"] else 1
    name = " ".join(words[:length])
    if name in MODULES:
        sys.argv = [f"metamer-jax {name}", *words[length:]]
        drivers.run_command(importlib.import_module(f"metamer_jax.commands.{MODULES[name]}"))
    elif words[:1] == ["--version"]:
        print(metamer_jax.__version__)
    elif words and words[-1] in _HELP and len(words) <= length:
        print(_listed("listen" if length == 2 else ""))
    else:
        said = f"has no command {name!r}" if words else "needs a command"
        print(f"metamer-jax: {said}: one of {', '.join(MODULES)}", file=sys.stderr)
        sys.exit(2)


def _listed(begin: str) -> str:
    """The commands whose names begin so, each with the first line of what its module says."""
    lines = ["Usage: metamer-jax COMMAND [--flags]; of each, --help shows the flags.", ""]
    width = max(map(len, MODULES)) + 2
    for name, module in MODULES.items():
        if name.startswith(begin):
            # Read, not imported: modules define flags of the same names.
            text = pathlib.Path(__file__).with_name(f"{module}.py").read_text("utf-8")
            summary = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
            lines.append(f"  {name:{width}}{summary}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
