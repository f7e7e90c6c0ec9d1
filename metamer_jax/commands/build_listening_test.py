"""Builds a listening experiment from a finished run: a web page, condition recordings, the key.

  metamer-jax listen build --workdir=runs/mine --out=listening/mine
  metamer-jax listen build --workdir=runs/mine --out=listening/mine \\
      --conditions=20 --catch_trials=8 --completion_url=https://app.prolific.com/...

Leaves in --out: public/ (the page; all that participants may see), conditions/ (a recording, a
question list and the script that makes Google forms), private/ (manifest, answer key, design,
report.html) and study.jzip (for JATOS). Open public/index.html to try it, or serve it with
metamer-jax listen serve. The same run, flags and seed give the same files.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from metamer_jax import configs, runs
from metamer_jax.commands import drivers
from metamer_jax.listening import config as listening
from metamer_jax.listening.building import build, material, page_texts
from metamer_jax.runtime import pasting

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the finished run.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder of the experiment. Unset: <workdir>/listening.")
_CONSENT = flags.DEFINE_string(
    "consent", None, "HTML file with your information and consent text for the first screen."
)
_DEBRIEF = flags.DEFINE_string(
    "debrief", None, "HTML file with what is said after the last answer."
)
_TRANSLATION = flags.DEFINE_string(
    "translation", None, "JSON file with all texts in another language (as page/texts_en.json)."
)
_QUESTIONNAIRE = flags.DEFINE_string(
    "questionnaire",
    None,
    "JSON file with questions about the participant, or 'none'. Unset: age, gender, native "
    "language, hearing, headphones.",
)
_FROM_FILES = ("consent_html", "debrief_html", "translation", "questionnaire")
_changed = drivers.setting_flags(
    listening.ListeningConfig(),
    {
        name: name
        for name in configs.fields_of(listening.ListeningConfig)
        if name not in _FROM_FILES
    },
)


def config() -> listening.ListeningConfig:
    """Returns what the flags ask for.

    Raises:
        ValueError: A setting does not exist or has a value that cannot be.
    """
    found = _changed(listening.ListeningConfig())
    given: dict[str, Any] = {}
    for name, flag in (("consent_html", _CONSENT), ("debrief_html", _DEBRIEF)):
        if flag.value:
            given[name] = page_texts.read_text(flag.value, f"--{flag.name}")
    if _QUESTIONNAIRE.value == "none":
        given["questionnaire"] = []
    elif _QUESTIONNAIRE.value:
        questions = page_texts.read_json(_QUESTIONNAIRE.value, "--questionnaire")
        given["questionnaire"] = list(page_texts.check_questionnaire(questions))
    if _TRANSLATION.value:
        texts = page_texts.read_json(_TRANSLATION.value, "--translation")
        given["translation"] = page_texts.check_translation(texts)
    return dataclasses.replace(found, **given)


def main(argv: Sequence[str]) -> None:
    workdir = pathlib.Path(_WORKDIR.value)
    out = pathlib.Path(_OUT.value) if _OUT.value else workdir / "listening"
    settings = drivers.begin(config)
    run = runs.read_run(workdir, needs=["verification"])
    made = build.make(material.load(run, settings), settings)
    build.write(made, out)
    design = made.private
    print(
        f"{design['metamers_played']} metamers, {len(design['combinations'])} combinations, "
        f"{design['conditions']} conditions of {max(design['trials'].values())} trials; "
        f"{len(design['replacements'])} replaced, {len(design['holes'])} holes"
    )
    print(f"Report:  {(out / 'private' / 'report.html').resolve()}")
    print(f"Page:    {(out / 'public' / 'index.html').resolve()}")
    print(f"Serve:   {pasting.command('listen serve', f'--experiment={out}')}")
