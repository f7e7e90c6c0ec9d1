"""The methods section: what it says is what the design, the answers and the analysis say."""

import dataclasses
import json
import re

import listening_folder
import pandas as pd
import pytest

from metamer_jax import configs
from metamer_jax.analysis import suite
from metamer_jax.listening import responses
from metamer_jax.listening.results import exclusions, methods, tables

RUN = {
    "preset": "default",
    "dataset": "spoken_words",
    "seed": 3,
    "synthesis": {
        "steps": 299,
        "optimizer": "adam",
        "start": "pink",
        "loss": "half_sum_of_squares",
        "recipe": "fast",
        "learning_rate": 0.15,
        "cochleagram_learning_rate": 0.65,
        "conv1_learning_rate": None,
        "schedule": "linear",
        "relu_override": True,
        "as_played": True,
    },
    "verification": {
        "criterion": "class_and_rank",
        "null_recordings": 321,
        "min_rank_features": 1000,
        "max_relative_error": 0.05,
    },
    "null_pairs": {"conv2d": {"conv1": 51360}, "frequency_grouped": {"conv1": 51300}},
    "accuracy": {"conv2d": 0.934, "frequency_grouped": 0.921},
    "trained": {
        "conv2d": {"parameters": 1625608, "best_epoch": 31},
        "frequency_grouped": {"parameters": 1866376, "best_epoch": 38},
    },
    "cochleagram": dataclasses.asdict(configs.CochleagramConfig()),
    "training": dataclasses.asdict(configs.TRAINING_RECIPES["augmented"]),
    "recordings": {
        "counts": {"train": {"all": 800}, "validation": {"all": 90}, "test": {"all": 110}},
        "speakers": {"train": 16, "validation": 2, "test": 2},
        "duration_s": 1.0,
        "sample_rate_hz": 16000,
        "split": "speaker",
    },
    "environment": {"jax": "0.10.2", "flax": "0.12.8"},
}
DESIGN = {
    "task": "words",
    "design": "latin",
    "models": list(listening_folder.MODELS),
    "layers": list(listening_folder.LAYERS),
    "metamers_available": 40,
    "left_out": [{}] * 7,
    "level_db": -23.0,
    "ramp_s": 0.01,
    "sample_rate_hz": 16000,
    "headphone": [{"check": "huggins"}] * 6,
    "headphone_limits": {"huggins": 6},
    "config": {"verified": "pass", "headphone_retry": True, "choice_order": "fixed"},
    "run": RUN,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    experiment = listening_folder.make(folder)
    path = folder / "private" / "design.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | DESIGN | {"conditions": 2}))
    manifest = folder / "private" / "manifest.csv"
    head, *rows = manifest.read_text().splitlines()
    error = {"cochleagram": 0.0711, "conv1": 0.0334, "dense": 0.000214}
    manifest.write_text(
        "\n".join(
            [f"{head},metamer_seed,rms,relative_error"]
            + [
                f"{row},0,0.0708,{next((e for name, e in error.items() if name in row), '')}"
                for row in rows
            ]
        )
    )
    key = responses.AnswerKey(experiment)

    def session(i, **changes):
        told = {"age": 20 + 2 * i, "gender": "female" if i % 2 else "male", "answered": "x"}
        return listening_folder.session(
            *(key, 1 + i % 2, f"s{i}", f"p{i}"),
            questionnaire=told,
            consent={"version": "v1", "given": "2026-01-01T10:00:00Z"},
            **changes,
        )

    given = [session(i) for i in range(5)]
    given.append(session(5, headphone={"answers": [], "passed": False}))
    # Of one listener a network's metamers of a layer are not recognised: there is variance.
    for trial, (_, sound) in zip(given[1]["trials"], key.stimuli(2), strict=True):
        if (sound["layer"], sound["model"]) == ("conv1", "conv2d"):
            trial["response"] = next(w for w in listening_folder.WORDS if w != sound["word"])
    for i, doc in enumerate(given):
        listening_folder.write_json(folder / f"{i}.json", doc)
    read = responses.read([folder / f"{i}.json" for i in range(6)], experiment)
    rules = exclusions.ExclusionRules()
    config = suite.AnalysisConfig(permutations=0, resamples=0)
    found = tables.analyze(
        read, config, rules=rules, presented=key.presented(), words=experiment.words
    )
    return methods.text(found, read, experiment), found


@pytest.mark.parametrize(
    "said",
    [
        "6 participants took part",
        "The analysis has the 70 answers of 5 listeners.",  # 14 sounds each.
        "age: mean 24.0, SD 3.2, 20 to 28",
        "gender: male 3, female 2",
        "1 as the headphone check was failed",
        "1000 recordings of 4 words (down, go, left, 7) by 20 speakers, 1 s long, sampled at 16000",
        "800 for training, 90 for validation, 110 for test, no speaker in two of these",
        "and frequency_grouped (1,866,376 trainable parameters, test accuracy 92.1 %)",
        "stages cochleagram, conv1 and dense by 299 steps of Adam from pink noise",
        "51300 to 51360 pairs of different recordings (null distribution, of 321 recordings)",
        "at most 5 % of the norm",
        "24 metamers of 22 recordings were played, of 40 that were made; 7 were left out",
        "10-ms raised-cosine ramps, at an RMS of -23 dB re full scale",
        "Milne et al., 2021",
        "at least 6 of 6 right",
        "sessions that failed were excluded afterwards",
        "2 conditions, each of 12 metamers and 2 natural recordings as catch trials",
        "each was taken by 2 to 3 of the listeners who count",
        "All gave their informed consent on the first page (version v1 of it).",
        "conv2d (1,625,608 trainable parameters, test accuracy 93.4 %)",
        "half-cosine filters, as wide as 50 that span 20 to 8000 Hz evenly",
        "and 4 times as dense, their Hilbert envelopes sampled at 200 Hz and raised to the power",
        "with AdamW (recipe 'augmented', learning rate 0.002, batches of 64) for at most 40 epochs",
        "(31 to 38)",
        "learning rate 0.15, 0.65 at cochleagram, linear schedule",
        "was of conv2d 0.071 at cochleagram, 0.033 at conv1, 0.00021 at dense; of frequency",
        "the design had no place for 9 more",
        "listeners give a two-sided paired t test between two networks at one stage (level 0.05,",
        "of conv2d 100 % at cochleagram, 80 % at conv1, 100 % at dense",
        "less conv2d: +20 points at conv1 (t(4) = 1.00, p = .374, corrected p = .374, dz = 0.45)",
        "no test at cochleagram (zero variance), dense (zero variance)",
        "4-alternative forced choice, chance 25 %",
        "(n up to 5)",
        "jax 0.10.2 and flax 0.12.8",
        "A session took 10.0 min (median).",
    ],
)
def test_it_says(written, said):
    assert said in written[0]


def test_what_was_not_done_is_not_said(written):
    text, found = written
    assert "Woods" not in text and "confidence" not in text and "None" not in text
    assert "Simulated listeners" not in text and "BCa" not in text  # No samples were asked for.
    for name, sentence in (("mixed_model", "mixed model"), ("bayes_factors", "Bayes factors")):
        table = found.tables.get(name)
        assert (sentence in text) == (table is not None and bool((table["reason"] == "").any()))


def test_what_no_file_tells_is_marked(written):
    marked = re.findall(r"\*\*\[to be added: (.*?)\]\*\*", written[0])
    for what in (
        *("recruited", "approved", "paid", "hearing was measured", "number of listeners"),
        *("dB SPL", "architectures", "preregistered", "before the answers were seen"),
    ):
        assert any(what in each for each in marked)


def test_the_documentation_shows_one_as_it_is_written_today(written):
    shown = (listening_folder.ROOT / "docs/_static/methods.md").read_text("utf-8")
    marks = re.compile(r"^#+ .*$|\*\*\[to be added: .*?\]\*\*", re.MULTILINE)
    assert marks.findall(shown) == marks.findall(written[0])


def test_every_source_is_in_the_references_and_no_other(written):
    body, references = written[0].split("## References")
    for cited, reference in methods._REFERENCES.items():
        assert (cited in body) == (reference in references)


def test_who_told_no_consent_is_counted():
    told = pd.DataFrame({"session": ["a", "b", "c"], "consent_version": ["v1", None, ""]})
    read = responses.Responses(
        trials=pd.DataFrame(), sessions=pd.DataFrame({"session": list("abcd")}), questionnaire=told
    )
    said = methods._consent(read)
    assert "In 1 of 4 sessions listeners gave their informed consent" in said
    assert "(version v1 of it)" in said and "[to be added: the consent of the other 3]" in said
    given = dataclasses.replace(read, questionnaire=told.assign(consent_version="v1"))
    assert " All " not in methods._consent(given)  # Of the fourth nothing is known.
    whole = dataclasses.replace(given, sessions=told[["session"]])
    assert methods._consent(whole).startswith(" All gave their informed consent")
