"""Builds a listening experiment from a finished run: a web page, condition recordings, the key.

  python -m experiments.build_listening_test --workdir=runs/mine --out=listening/mine
  python -m experiments.build_listening_test --workdir=runs/mine --out=listening/mine \\
      --conditions=20 --catch_trials=8 --completion_url=https://app.prolific.com/...

Leaves in --out: public/ (the page; all that participants may see), conditions/ (a recording, a
question list and the script that makes Google forms), private/ (manifest, answer key, design,
report.html) and study.jzip (for JATOS). Open public/index.html to try it, or serve it with
python -m experiments.serve_listening_test. The same run, flags and seed give the same files.
"""

import pathlib
from collections.abc import Sequence

from absl import app, flags

from experiments import drivers
from metamer_jax import configs, pipeline
from metamer_jax.listening import config as listening
from metamer_jax.listening.building import build, material

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the finished run.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder of the experiment. Unset: <workdir>/listening.")
_SEED = flags.DEFINE_integer("seed", None, "Seed of the design: which target, order, names.")
_ID = flags.DEFINE_string("experiment_id", None, "Name of the experiment. Unset: from the design.")
_TITLE = flags.DEFINE_string("title", None, "What participants see above the page.")
_DESIGN = flags.DEFINE_enum(
    "design",
    None,
    listening.DESIGNS,
    "'latin': no recording twice in a condition, every combination of network and stage once in a "
    "batch, exactly balanced over conditions. 'shuffle': the paper's looser rule.",
)
_CONDITIONS = flags.DEFINE_integer("conditions", None, "How many conditions; default 10.")
_NETWORKS = flags.DEFINE_list("networks", None, "Networks whose metamers are played. Unset: all.")
_STAGES = flags.DEFINE_list("stages", None, "Stages. Unset: all.")
_WORDS = flags.DEFINE_list(
    "words", None, "Words whose metamers are played; all of the run's words stay choices."
)
_TARGETS = flags.DEFINE_integer(
    "targets_per_word",
    None,
    "Targets of each word in the design. Unset: as many as there are combinations, or as the word "
    "with the fewest has; the others are spare.",
)
_REQUIRE_CORRECT = flags.DEFINE_bool(
    "require_correct", None, "Only targets that every network classifies correctly (default)."
)
_VERIFIED = flags.DEFINE_enum(
    "verified",
    None,
    listening.VERIFIED,
    "Which metamers are played: those that passed verification (default), or 'any', what failed "
    "too; manifest and report say so.",
)
_NATURAL = flags.DEFINE_integer("natural_trials", None, "Natural recordings in each condition.")
_CATCH = flags.DEFINE_integer(
    "catch_trials",
    None,
    "Natural recordings in each condition that check attention; 8 to 16 suit an online study. "
    "Default none: the paper's check is the metamers of the cochleagram.",
)
_PRACTICE = flags.DEFINE_integer("practice_trials", None, "Practice trials with feedback.")
_HEADPHONES = flags.DEFINE_enum(
    "headphone_check", None, listening.HEADPHONE_CHECKS, "Default: both, 12 trials in two minutes."
)
_CHOICES = flags.DEFINE_enum(
    "choice_order",
    None,
    listening.CHOICE_ORDERS,
    "Word buttons in the same order for everybody, or shuffled once for each participant.",
)
_FULLSCREEN = flags.DEFINE_bool("fullscreen", None, "Ask to fill the screen.")
_SERVER = flags.DEFINE_bool(
    "server", None, "The page talks to serve_listening_test (default); --noserver: a static host."
)
_COMPLETION = flags.DEFINE_string(
    "completion_url", None, "Where participants go at the end, e.g. Prolific's completion address."
)
_CONSENT = flags.DEFINE_string(
    "consent", None, "HTML file with your information and consent text for the first screen."
)
_CONTACT = flags.DEFINE_string("contact", None, "Whom participants may ask; shown on the page.")
_SET = flags.DEFINE_multi_string(
    "set", [], "Any other setting of ListeningConfig: --set=silence_s=1.5"
)


def config() -> listening.ListeningConfig:
    """Returns what the flags ask for.

    Raises:
        ValueError: A setting does not exist or has a value that cannot be.
    """
    consent = None
    if _CONSENT.value:
        try:
            consent = pathlib.Path(_CONSENT.value).read_text("utf-8")
        except OSError as error:
            raise ValueError(
                f"--consent: {_CONSENT.value} cannot be read ({error.strerror})"
            ) from error
    found = configs.replace_given(
        listening.ListeningConfig(),
        seed=_SEED.value,
        experiment_id=_ID.value,
        title=_TITLE.value,
        design=_DESIGN.value,
        conditions=_CONDITIONS.value,
        networks=drivers.tuple_or_none(_NETWORKS.value),
        stages=drivers.tuple_or_none(_STAGES.value),
        words=drivers.tuple_or_none(_WORDS.value),
        targets_per_word=_TARGETS.value,
        require_correct=_REQUIRE_CORRECT.value,
        verified=_VERIFIED.value,
        natural_trials=_NATURAL.value,
        catch_trials=_CATCH.value,
        practice_trials=_PRACTICE.value,
        headphone_check=_HEADPHONES.value,
        choice_order=_CHOICES.value,
        fullscreen=_FULLSCREEN.value,
        server=_SERVER.value,
        completion_url=_COMPLETION.value,
        consent_html=consent,
        contact=_CONTACT.value,
    )
    for assignment in _SET.value:
        found = configs.replace_dotted(found, *drivers.assignment(assignment))
    return found


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    workdir = pathlib.Path(_WORKDIR.value)
    out = pathlib.Path(_OUT.value) if _OUT.value else workdir / "listening"
    try:
        settings = config()
        run = material.open_run(workdir)
        pipeline.enable_compilation_cache()
        made = build.make(material.load(run, settings), settings)
        build.write(made, out)
    except (ValueError, OSError) as error:
        raise app.UsageError(str(error)) from error
    design = made.private
    print(
        f"{design['metamers_played']} metamers, {len(design['combinations'])} combinations, "
        f"{design['conditions']} conditions of {max(design['trials'].values())} trials; "
        f"{len(design['replacements'])} replaced, {len(design['holes'])} holes"
    )
    print(f"Report:  {(out / 'private' / 'report.html').resolve()}")
    print(f"Page:    {(out / 'public' / 'index.html').resolve()}")
    print(f"Serve:   python -m experiments.serve_listening_test --experiment={out}")


if __name__ == "__main__":
    app.run(main)
