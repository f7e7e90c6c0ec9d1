"""Has a browser take a built experiment as a listener would, and keeps pictures of every screen.

  metamer-jax listen pilot --experiment=runs/mine/listening

On a desktop and on a phone: consent, questions, volume, the headphone check failed and tried again,
practice, the sounds, a reload within them, the end; and once more until it withdraws. Pictures go
to pilot/ of the experiment. What the page sends is compared with what was pressed; no answer gets
to responses/. Needs playwright and a Chromium: pip install 'metamer_jax[pilot]'.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from metamer_jax.listening import piloting

_EXPERIMENT = flags.DEFINE_string(
    "experiment", None, "Folder that metamer-jax listen build wrote.", required=True
)
_OUT = flags.DEFINE_string("out", None, "Where the pictures go. Unset: pilot/ of the experiment.")
_SPEED = flags.DEFINE_float("speed", 10.0, "How many times as fast sounds are played.", 0.1, 100)
_SIZES = flags.DEFINE_list(
    "sizes", list(piloting.SIZES), f"Sizes of the screen, of {', '.join(piloting.SIZES)}."
)


def main(argv: Sequence[str]) -> None:
    out = pathlib.Path(_OUT.value or pathlib.Path(_EXPERIMENT.value) / "pilot")
    problems = []
    if unknown := [size for size in _SIZES.value if size not in piloting.SIZES]:
        raise ValueError(f"--sizes must be of {', '.join(piloting.SIZES)}, got {unknown}")
    with piloting.launched() as browser:
        for size in _SIZES.value:
            done = piloting.pilot(browser, _EXPERIMENT.value, out, size, speed=_SPEED.value)
            print(
                f"{size}: {len(done.screens)} screens, {len(done.session['trials'])} sounds "
                f"answered, sent {done.posts} times"
            )
            problems += [f"{size}: {problem}" for problem in done.problems]
    print(f"Pictures: {out}")
    if problems:
        raise ValueError("; ".join(problems))
