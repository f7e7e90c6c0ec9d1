"""Settings of a listening experiment."""

import dataclasses
import math
import re

DESIGNS = ("latin", "shuffle")
HEADPHONE_CHECKS = ("antiphase", "huggins", "both", "none")
CHOICE_ORDERS = ("fixed", "shuffled")
VERIFIED = ("pass", "any")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListeningConfig:
    """How an experiment is made from a run; the defaults are the paper's procedure.

    Empty tuples and None mean everything that the run offers.
    """

    seed: int = 0
    experiment_id: str = ""  # Empty: made from the design's hash.
    title: str = "Listening experiment"

    # What is played.
    design: str = "latin"  # "latin" (balanced, see `listening.design`) or "shuffle" (the paper's).
    conditions: int = 10
    networks: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    words: tuple[str, ...] = ()  # Whose metamers are played; all of the run's words stay choices.
    targets_per_word: int | None = None
    require_correct: bool = True  # Only targets that every network classifies correctly.
    # Which metamers may enter: those that passed verification as they are played, or "any", what
    # failed too; the manifest and the report then say so.
    verified: str = "pass"
    natural_trials: int = 0  # Natural recordings among a condition's trials.
    catch_trials: int = 0  # The same, as a check of attention; 8 to 16 suit an online experiment.
    practice_trials: int = 6  # Natural recordings, with feedback.

    # How it is played; level and ramps are the run's (`PlaybackConfig`).
    silence_s: float = 2.0  # After each sound of a condition's WAV.
    calibration_s: float = 6.0
    headphone_check: str = "both"

    # The page.
    choice_order: str = "fixed"  # Of the word buttons: "fixed" or "shuffled" once a listener.
    fullscreen: bool = False
    server: bool = True  # Ask api/condition and post to api/session where the page came by http.
    completion_url: str = ""  # Where listeners are sent at the end, e.g. Prolific's address.
    consent_html: str = ""  # Replaces the text of the first screen.
    contact: str = ""  # Shown on the first screen and where sending the answers failed.

    def __post_init__(self):
        for name, choices in (
            ("design", DESIGNS),
            ("headphone_check", HEADPHONE_CHECKS),
            ("choice_order", CHOICE_ORDERS),
            ("verified", VERIFIED),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {value!r}")
        for name, least in (
            ("seed", 0),
            ("conditions", 1),
            ("natural_trials", 0),
            ("catch_trials", 0),
            ("practice_trials", 0),
        ):
            _require_count(name, getattr(self, name), least)
        if self.targets_per_word is not None:
            _require_count("targets_per_word", self.targets_per_word, 1)
        for name in ("silence_s", "calibration_s"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a number of seconds, at least 0, got {value!r}")
        if self.experiment_id and not re.fullmatch(
            r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.experiment_id
        ):
            raise ValueError(
                f"experiment_id must be letters, digits, '.', '_' and '-', beginning with a letter "
                f"or digit (it names files), got {self.experiment_id!r}"
            )
        if self.completion_url and not re.match(r"https?://", self.completion_url):
            raise ValueError(
                f"completion_url must begin with https:// or http://, got {self.completion_url!r}"
            )
        for name in ("networks", "stages", "words"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} repeat: {values}")


def _require_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}")
