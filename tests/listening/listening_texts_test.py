"""What the page says: translations are whole, questions are checked."""

import copy
import pathlib
import re

import pytest

from metamer_jax.listening.building import page_texts
from metamer_jax.listening.config import LANGUAGES, TASKS

PAGE = pathlib.Path(page_texts.__file__).parents[1] / "page"


class TestTranslations:
    def test_german_and_spanish_are_there(self):
        files = {path.stem for path in PAGE.glob("texts_*.json")}
        assert files == {f"texts_{language}" for language in LANGUAGES}

    @pytest.mark.parametrize("language", ["de", "en", "es"])
    def test_they_say_everything_with_the_same_values(self, language):
        found = page_texts.check_translation(page_texts.load(language))
        english = page_texts.load("en")
        assert found["language"] == language
        for question, theirs in zip(found["questionnaire"], english["questionnaire"], strict=True):
            for name in ("name", "type", "required", "min", "max"):
                assert question.get(name) == theirs.get(name)
            values = [[c["value"] for c in q.get("choices", ())] for q in (question, theirs)]
            assert values[0] == values[1]  # The data are the same whatever the language.
            assert language == "en" or question["label"] != theirs["label"]
        for key, text in english["texts"].items():
            tags = [re.findall(r"</?\w+", str(t)) for t in (text, found["texts"][key])]
            assert sorted(tags[0]) == sorted(tags[1]), key

    def test_every_text_is_used_and_every_use_has_a_text(self):
        code = "".join(file.read_text("utf-8") for file in PAGE.glob("*.js"))
        used = set(re.findall(r"(?:\bt|plain)\(\s*[`\"]([a-z_0-9]+)[`\"]", code))
        used |= set(re.findall(r"\"([a-z]+_[a-z_]+)\"", code))
        texts = set(page_texts.load("en")["texts"])
        families = {f"{task}_{what}" for task in TASKS for what in ("question", "intro")}
        families |= {f"answer_{a}" for a in ("same", "different", "first", "second")}
        families |= {f"confidence_{i}" for i in range(1, 6)} | {"first", "second", "third"}
        families |= {
            f"{c}_{what}" for c in ("antiphase", "huggins") for what in ("intro", "question")
        }
        assert texts - used - families == set()
        direct = set(re.findall(r"(?:\bt|plain)\(\s*\"([a-z_0-9]+)\"", code))
        assert direct - texts == set()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"play": None}, r"missing \(\['play'\]\)"),
            ({"more": "x"}, r"unknown \(\['more'\]\)"),
            ({"play": " "}, "play must be a text"),
            ({"play": "Play {volume}"}, "play must be a text with no other values"),
            ({"sounds": "many"}, "sounds must be plural forms"),
            ({"sounds": {"one": "x"}}, "sounds must be plural forms, 'other' among them"),
        ],
    )
    def test_what_lacks_something_is_refused(self, change, message):
        given = copy.deepcopy(page_texts.load("de"))
        for key, text in change.items():
            if text is None:
                del given["texts"][key]
            else:
                given["texts"][key] = text
        with pytest.raises(ValueError, match=message):
            page_texts.check_translation(given)

    def test_languages_that_are_not_there_are_named(self):
        with pytest.raises(ValueError, match="language must be one of .*got 'fr'.*translation"):
            page_texts.load("fr")
        with pytest.raises(ValueError, match="language must be a code"):
            page_texts.check_translation(page_texts.load("en") | {"language": "Klingon!"})


class TestQuestions:
    GOOD = {"name": "age", "type": "number", "label": "Age?"}

    @pytest.mark.parametrize(
        ("questions", "message"),
        [
            ("age", "must be a list"),
            (["age"], r"questionnaire\[0\] must be an object"),
            ([{}], "name must be small letters"),
            ([GOOD | {"name": "Age years"}], "name must be small letters"),
            ([GOOD, GOOD], "the name 'age' is taken"),
            ([GOOD | {"type": "slider"}], "type must be one of"),
            ([GOOD | {"label": ""}], "label must be the question"),
            ([GOOD | {"min": "18"}], "min must be a number"),
            ([GOOD | {"help": "x"}], r"unknown fields \['help'\]"),
            ([GOOD | {"type": "choice"}], "choices must be two or more"),
            ([GOOD | {"type": "choice", "choices": ["a", "b"]}], "choices must be two or more"),
        ],
    )
    def test_what_lacks_something_is_refused(self, questions, message):
        with pytest.raises(ValueError, match=message):
            page_texts.check_questionnaire(questions)
