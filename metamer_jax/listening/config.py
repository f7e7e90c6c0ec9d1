"""Settings of a listening experiment."""

import dataclasses
import re
from typing import Any

from metamer_jax.configs.checks import check_fields, seed_setting, setting

DESIGNS = ("latin", "shuffle")
HEADPHONE_CHECKS = ("antiphase", "huggins", "both", "none")
CHOICE_ORDERS = ("fixed", "shuffled")
LANGUAGES = ("de", "en", "es")
TASKS = ("words", "same_different", "abx")
VERIFIED = ("pass", "any")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListeningConfig:
    """How an experiment is made from a run; the defaults are the paper's procedure.

    Empty tuples and None mean everything that the run offers.
    """

    seed: int = seed_setting(0, "Seed of the design: which target, order, names.")
    experiment_id: str = setting(
        "", "Name of the experiment, in its files' names too. Empty: made from the design."
    )
    title: str = setting("Listening experiment", "What participants see above the page.")

    task: str = setting(
        "words",
        "What is asked: the word; whether two sounds are the same; which of two sounds the third "
        "is (ABX). The latter two compare a metamer with its recording.",
        choices=TASKS,
    )

    # What is played.
    design: str = setting(
        "latin",
        "'latin': no recording twice in a condition, every combination of network and stage once "
        "in a batch, exactly balanced over conditions. 'shuffle': the paper's looser rule.",
        choices=DESIGNS,
    )
    conditions: int = setting(10, "How many conditions.", at_least=1)
    networks: tuple[str, ...] = setting((), "Networks whose metamers are played. Empty: all.")
    stages: tuple[str, ...] = setting((), "Stages whose metamers are played. Empty: all.")
    words: tuple[str, ...] = setting(
        (),
        "Words whose metamers are played; all of the run's words stay choices. Empty: all.",
    )
    targets_per_word: int | None = setting(
        None,
        "Targets of each word in the design. None: as many as there are combinations, or as the "
        "word with the fewest has; the others are spare.",
        at_least=1,
    )
    require_correct: bool = setting(True, "Only targets that every network classifies correctly.")
    verified: str = setting(
        "pass",
        "Which metamers may be played: those that passed verification as they are played, or "
        "'any', what failed too; manifest and report then say so.",
        choices=VERIFIED,
    )
    natural_trials: int = setting(0, "Natural recordings in each condition.", at_least=0)
    catch_trials: int = setting(
        0,
        "Natural recordings in each condition that check attention; 8 to 16 suit an online study. "
        "None by default: the paper's check is the metamers of the cochleagram.",
        at_least=0,
    )
    practice_trials: int = setting(
        6, "Practice trials: natural recordings, with feedback.", at_least=0
    )

    # How it is played; level and ramps are the run's (`PlaybackConfig`).
    silence_s: float = setting(
        2.0, "Silence after each sound of a condition's recording, s.", at_least=0
    )
    calibration_s: float = setting(6.0, "Length of the sound to set the level by, s.", at_least=0)
    headphone_check: str = setting(
        "both", "Which headphone check; both: 12 trials in two minutes.", choices=HEADPHONE_CHECKS
    )

    # The page.
    choice_order: str = setting(
        "fixed",
        "Word buttons in the same order for everybody, or shuffled once for each participant.",
        choices=CHOICE_ORDERS,
    )
    fullscreen: bool = setting(False, "Ask to fill the screen.")
    server: bool = setting(
        True,
        "The page talks to serve_listening_test where it came by http; false: a static host.",
    )
    datapipe_experiment: str = setting(
        "",
        "Experiment id of DataPipe (pipe.jspsych.org), which stores each complete session as a "
        "file; the page then talks to that host and to no server. Empty: it does not.",
    )
    completion_url: str = setting(
        "", "Where participants go at the end, e.g. Prolific's completion address."
    )
    language: str = setting("en", "Language of the page.", choices=LANGUAGES)
    # Texts in another language, in place of `language` (`building.page_texts.check_translation`).
    translation: dict[str, Any] | None = setting(None, "All texts in another language.")
    consent_html: str = setting("", "HTML that replaces the text of the first screen.")
    consent_version: str = setting(
        "", "Version of that text, shown and stored with each session. Empty: a hash of the text."
    )
    debrief_html: str = setting("", "HTML that replaces the text after the last question.")
    # Each as `building.page_texts.check_questionnaire` says.
    questionnaire: list[dict[str, Any]] | None = setting(
        None,
        "Questions about the listener. None: age, gender, native language, hearing, headphones.",
    )
    headphone_retry: bool = setting(
        True, "Who fails the headphone check has one more try, with advice."
    )
    confidence: bool = setting(False, "Ask how sure one is after each answer: 1 to 5.")
    typed_beyond: int = setting(
        20, "With more words, answers are typed, with suggestions.", at_least=0
    )
    contact: str = setting(
        "",
        "Whom participants may ask; shown on the first screen and where sending answers failed.",
    )

    def __post_init__(self):
        check_fields(self)
        if self.experiment_id and not re.fullmatch(
            r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.experiment_id
        ):
            raise ValueError(
                f"experiment_id must be letters, digits, '.', '_' and '-', beginning with a letter "
                f"or digit (it names files), got {self.experiment_id!r}"
            )
        if self.datapipe_experiment and not re.fullmatch(r"[\w-]+", self.datapipe_experiment, re.A):
            raise ValueError(
                f"datapipe_experiment must be an id as DataPipe shows it (letters and digits), "
                f"got {self.datapipe_experiment!r}"
            )
        if self.completion_url and not re.match(r"https?://", self.completion_url):
            raise ValueError(
                f"completion_url must begin with https:// or http://, got {self.completion_url!r}"
            )
