import csv
import dataclasses
import html
import json
import pathlib
import re
import subprocess
import sys

import browsing
import listening_folder
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from metamer_jax import analysis, configs, storage
from metamer_jax.analysis import suite
from metamer_jax.figures import analyses
from metamer_jax.listening import piloting, responses
from metamer_jax.listening.listeners import simulated as simulation
from metamer_jax.listening.results import exclusions, summary, tables, writing

ROOT = pathlib.Path(__file__).parents[2]
QUICK = suite.AnalysisConfig(chance=1 / 4, permutations=0, resamples=0)
HUMAN = "tests/reference/human_responses/auditory_3.csv"


# Lines of flags, and what is said of them.
MISTAKES = [
    (["--simulate=3"], "--simulate needs --experiment"),
    (["--responses=nowhere.csv"], "no such file"),
    (
        [f"--responses={HUMAN}", "--where=observer=human", "--pairing=depth"],
        "--pairing must be 'name', 'index'",
    ),
    ([f"--responses={HUMAN}", "--where=observer=human"], "chance: the answers do not tell"),
]
# Calls the driver with each in one process, which takes as long to start as four to be told.
MISTAKEN = """
import json, sys
from absl import flags
from metamer_jax.commands import analyze_responses, drivers
statuses = []
for line in json.loads(sys.argv[1]):
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    try:
        drivers._guarded(analyze_responses.main, drivers._read_flags(["analyze", *line]))
    except SystemExit as left:
        statuses.append(left.code)
print(json.dumps(statuses))
"""


class TestPaper:
    def test_its_table_follows_from_forms(self, tmp_path):
        """Seven conditions on Google forms, by five people, and one that is dropped."""
        experiment = listening_folder.make(
            tmp_path,
            num_conditions=10,
            catch=0,
            layers=configs.STAGES,
            words=configs.WORDS,
            repeats=8,
        )
        key = responses.AnswerKey(experiment)
        right = {
            (model, layer): round(56 * share)
            for model, curve in simulation.PAPER_CURVES.items()
            for layer, share in curve.items()
        }
        rows = [["Timestamp", "Participant", "Condition", *range(1, 81)]]
        people = ["author"] * 3 + ["p1", "p2", "p3", "p4"]
        for condition, name in enumerate([*people, "author"], start=1):
            answers = []
            for _, entry in key.stimuli(condition):
                left = right[entry["model"], entry["layer"]]
                wrong = configs.WORDS[configs.WORDS.index(entry["word"]) - 1]
                answers.append(entry["word"] if left > 0 else wrong)
                right[entry["model"], entry["layer"]] -= 1
            rows.append(["now", name, condition, *answers])
        with open(tmp_path / "forms.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        read = responses.read(tmp_path / "forms.csv", experiment)
        found = tables.analyze(
            read,
            suite.AnalysisConfig(permutations=100, resamples=100),
            presented=key.presented(),
            words=experiment.words,
        )
        counts = found.exclusions.counts.set_index("rule")
        assert counts.loc["reference", "dropped"] == 1  # The eighth: nothing right any more.
        assert counts.loc["kept", "kept_trials"] == 560
        assert counts.loc["kept", "kept_participants"] == 5
        p = found.tables["compare_models_paper"].set_index("layer")["p"]
        printed = {"all": 0.724, "conv1": 0.079, "conv2": 0.803, "dense": 0.022, "logits": 1.0}
        for layer, expected in printed.items():
            assert p[layer] == pytest.approx(expected, abs=6e-4)
        assert np.isnan(p["cochleagram"])


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Responses of simulated listeners, and what was found in them."""
    experiment = listening_folder.make(
        tmp_path_factory.mktemp("e"), num_conditions=4, catch=4, layers=configs.STAGES[:4]
    )
    sessions = simulation.simulate(experiment, 12, seed=1)
    read = responses.from_sessions(sessions, experiment)
    some = read.trials[read.trials["participant"] < "simulated-0008"]
    machines = some.assign(participant="net" + some["participant"].str[-1], source="machine")
    predictions = read.trials[["stimulus_id", "model", "word"]].drop_duplicates()
    found = tables.analyze(
        read,
        suite.AnalysisConfig(permutations=200, resamples=200),
        presented=responses.AnswerKey(experiment).presented(),
        words=experiment.words,
        machines=machines,
        manifest=predictions.rename(columns={"word": "model_prediction"}),
        planned={
            "early less late": [
                {"layer": "conv1", "weight": 1},
                {"layer": "dense", "weight": -1},
            ]
        },
    )
    return read, found


browser = browsing.browser  # The fixture.


@pytest.fixture(scope="module")
def written(simulated, tmp_path_factory):
    """The folder of an analysis in which nothing is missing."""
    read, found = simulated
    assert found.omitted == {}
    folder = tmp_path_factory.mktemp("analysis")
    writing.write(found, read, folder)
    return folder


class TestTables:
    def test_every_table_is_made_and_labelled(self, simulated, written):
        read, found = simulated
        tmp_path = written
        for name in found.tables:
            table = storage.read_csv(tmp_path / f"{name}.csv")
            both = name in suite.BESIDE_MACHINES
            assert set(table["source"]) == {"simulated and machine" if both else "simulated"}
            assert len(json.loads((tmp_path / f"{name}.json").read_text())) == len(table)
        for name in ("trials", "trials_counted", "sessions", "exclusions"):
            assert set(storage.read_csv(tmp_path / f"{name}.csv")["source"]) == {"simulated"}
        found_summary = storage.read_json(tmp_path / "summary.json")
        assert found_summary["simulated"] and found_summary["participants"] == 12
        assert summary.in_words(found, read).startswith("SIMULATED LISTENERS")
        np.testing.assert_allclose(found.tables["recognition"]["chance"], 1 / 4)
        assert set(found.tables["recognition_of_other_sounds"]["kind"]) == {"catch"}
        assert set(found.tables["anova"]["effect"]) == {"layer", "model", "layer:model"}
        page = (tmp_path / "report.html").read_text()
        for name, drawing in analyses.DRAWINGS.items():
            assert (tmp_path / "figures" / f"{name}.png").is_file(), name
            assert drawing.title in html.unescape(page)

    @pytest.mark.parametrize("size", browsing.SIZES)
    def test_the_report_fits_the_window_and_axe_finds_no_fault(self, browser, written, size):
        width, height = browsing.SIZES[size]
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(piloting.PATIENCE_MS)
        page.goto((written / "report.html").as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        wide = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0
        for what, button in (("table", "CSV"), ("figure", "SVG"), ("figure", "PNG")):
            there = page.locator(f"main {what}").count()
            assert (
                page.get_by_role("button", name=re.compile(f"^Save.*{button}", re.I)).count()
                == there
            )
        # Of cells that are alike some will do, or axe takes long.
        page.evaluate(
            "document.querySelectorAll('tr:nth-child(n+3), td:nth-child(n+5), th:nth-child(n+5)')"
            ".forEach((cell) => cell.remove())"
        )
        assert browsing.violations(page) == []
        page.close()

    def test_networks_judge_the_sounds_of_each_listener(self, simulated):
        _, found = simulated
        curves = found.tables["recognition_by_observer"].set_index(["observer", "model", "layer"])
        assert (curves.loc["network", "mean"] == 1).all()  # As the manifest says.
        people = found.tables["recognition"].set_index(["model", "layer"])["mean"]
        pd.testing.assert_series_equal(curves.loc["human", "mean"], people, check_names=False)
        effects = found.tables["anova_observers"].set_index(["model", "effect"])
        assert effects.loc[("conv2d", "observer"), "n"] == 24
        assert effects.loc[("conv2d", "observer"), "p"] < 0.01
        assert "Half recognised at layer" in summary.in_words(found, simulated[0])

    def test_natural_sounds_are_a_layer_where_asked(self, simulated):
        read, _ = simulated
        found = tables.analyze(read, dataclasses.replace(QUICK, natural_layer=True))
        layers = list(found.tables["recognition"]["layer"])
        assert layers == ["natural", *configs.STAGES[:4]] * 2
        natural = found.tables["recognition"].query("layer == 'natural'")
        assert natural["mean"].nunique() == 1 and set(natural["trials"]) == {12 * 4}
        assert "natural" not in set(found.tables["stimuli"]["layer"])
        assert any("catch trials" in note for note in found.warnings)

    def test_people_and_simulated_are_not_mixed(self, simulated):
        read, _ = simulated
        trials = read.trials.copy()
        trials.loc[:100, "source"] = "page"
        with pytest.raises(ValueError, match="people's or simulated, not both"):
            tables.analyze(responses.Responses(trials, read.sessions))

    def test_what_cannot_be_made_says_why(self, simulated, tmp_path):
        read, _ = simulated
        one = read.trials[read.trials["participant"] == "simulated-0000"]
        alone = responses.Responses(one, read.sessions[:1])
        found = tables.analyze(
            alone, suite.AnalysisConfig(chance=1 / 4, permutations=100, resamples=100)
        )
        assert "recognition" in found.tables
        assert "two" in found.omitted["gee"]
        rules = exclusions.ExclusionRules(reference_layer="conv1", catch_min=None)
        found = tables.analyze(
            responses.Responses(one.assign(correct=0.0), read.sessions[:1]),
            suite.AnalysisConfig(chance=1 / 4),
            rules=rules,
        )
        assert set(found.omitted.values()) == {"no trials are left"}
        writing.write(found, alone, tmp_path)
        said = summary.in_words(found, alone).splitlines()
        reason = "No session counts: of 1, 1 as below 100 % right on metamers of conv1"
        assert said[2].startswith(reason)  # First of all, below whose answers they are.
        assert sum("no trials are left" in line for line in said) == 1
        assert reason in (tmp_path / "report.html").read_text()
        with pytest.raises(ValueError, match="no trial is of"):
            tables.analyze(read, suite.AnalysisConfig(chance=1 / 4, exclude_layers=("conv7",)))
        with pytest.raises(ValueError, match="chance: the answers do not tell how many words"):
            tables.analyze(read)

    def test_one_listener_has_wilsons_interval_in_words_too(self, simulated):
        read, _ = simulated
        one = read.trials[read.trials["participant"] == "simulated-0000"]
        found = tables.analyze(responses.Responses(one, read.sessions[:1]), QUICK)
        row = found.tables["recognition"].iloc[0]
        assert row["layer"] == "cochleagram" and row["mean"] == 1 and row["trials"] == 2
        low = 100 * scipy.stats.binomtest(2, 2).proportion_ci(method="wilson").low
        assert f"100 % [{low:.0f}, 100]" in summary.in_words(found, read)
        assert "100 % [100, 100]" not in summary.in_words(simulated[1], read)

    @pytest.mark.parametrize("chance", [float("nan"), 0.0, 1.0, -1.0])
    def test_a_chance_that_cannot_be_is_refused(self, chance):
        with pytest.raises(ValueError, match="chance must be a number above 0 and below 1"):
            suite.AnalysisConfig(chance=chance)

    def test_a_listener_without_a_cell_is_left_out_of_the_anova_and_named(self, tmp_path):
        rows = ["participant,model,layer,layer_index,proportion_correct"]
        for i in range(6):
            for model in ("a", "b"):
                for depth, layer in enumerate(("conv1", "relu2", "final")):
                    if (i, model, layer) != (4, "b", "relu2"):
                        share = 0.9 - 0.2 * depth + 0.01 * ((7 * i + 3 * depth) % 5)
                        rows.append(f"p{i},{model},{layer},{depth},{share:.3f}")
        path = tmp_path / "proportions.csv"
        path.write_text("\n".join(rows))
        read = responses.read(path)
        config = suite.AnalysisConfig(chance=0.125, permutations=20, resamples=20)
        found = tables.analyze(read, config)
        (warning,) = [w for w in found.warnings if "left out" in w and w.startswith("anova")]
        assert "1 of 6 listeners" in warning and warning.endswith("p4")
        complete = dataclasses.replace(read, trials=read.trials[read.trials["participant"] != "p4"])
        expected = tables.analyze(complete, config)
        pd.testing.assert_frame_equal(found.tables["anova"], expected.tables["anova"])


class TestDriver:
    @pytest.mark.slow
    def test_simulated_listeners_from_end_to_end(self, tmp_path):
        listening_folder.make(tmp_path, num_conditions=3)
        curves = tmp_path / "curves.json"
        curves.write_text('{"conv2d": {"conv1": 0.0}}')
        done = listening_folder.analyze(
            f"--experiment={tmp_path}", "--simulate=6", "--draws=100", f"--curves={curves}"
        )
        assert done.returncode == 0, done.stderr
        assert "SIMULATED LISTENERS" in done.stdout
        table = storage.read_csv(tmp_path / "analysis_simulated" / "recognition.csv")
        cell = table[(table["model"] == "conv2d") & (table["layer"] == "conv1")]
        assert cell["mean"].tolist() == [0.0]
        assert not (tmp_path / "analysis").exists()

    def test_a_published_table(self, tmp_path):
        done = listening_folder.analyze(
            *(f"--responses={HUMAN}", "--where=observer=human", f"--out={tmp_path}"),
            *("--exclude_layers=natural_audio", "--draws=100", "--chance=0.125"),
            *("--network_where=observer=network", "--scheme=feather2023"),
        )
        assert done.returncode == 0, done.stderr
        source = pd.read_csv(ROOT / HUMAN)
        direct = analysis.anova(
            source,
            dv="proportion_correct",
            subject="participant",
            within=["layer", "model"],
            where={"observer": "human"},
            exclude={"layer": "natural_audio"},
            permutations=0,
        )
        found = pd.read_csv(tmp_path / "anova.csv")
        assert found["effect"].tolist() == direct["effect"].tolist()
        np.testing.assert_allclose(found["F"], direct["F"], rtol=1e-12)
        assert set(found["scheme"]) == {"feather2023"}
        mixed = pd.read_csv(tmp_path / "anova_observers.csv").set_index(["model", "effect"])
        one = analysis.anova(
            source,
            dv="proportion_correct",
            subject=["observer", "participant"],
            within="layer",
            between="observer",
            where={"model": "cochresnet50"},
            exclude={"layer": "natural_audio"},
            permutations=0,
        ).set_index("effect")
        np.testing.assert_allclose(mixed.loc["cochresnet50", "F"], one["F"], rtol=1e-12)
        assert "SIMULATED" not in done.stdout

    def test_layers_are_paired_by_a_table(self, tmp_path):
        models = ("cochresnet50", "cochresnet50_l2_1_robust_waveform")
        pairs = tmp_path / "pairs.csv"
        pairs.write_text(f"name,{models[0]},{models[1]}\nend,final,avgpool\nfinal,avgpool,final\n")
        rows = pd.read_csv(ROOT / HUMAN).query("observer == 'human' and model in @models")
        rows.to_csv(tmp_path / "two.csv", index=False)
        given = (f"--responses={tmp_path / 'two.csv'}", f"--out={tmp_path}", "--draws=50")
        done = listening_folder.analyze(*given, "--chance=0.125", f"--pairing={pairs}")
        assert done.returncode == 0, done.stderr
        found = storage.read_csv(tmp_path / "compare_models.csv").set_index("layer")
        assert list(found["layer_b"].fillna("")[:2]) == ["avgpool", "final"]
        wide = rows.set_index(["participant", "model", "layer"])["proportion_correct"].unstack()
        mean = wide.groupby("model").mean()
        expected = mean.loc[models[1], "avgpool"] - mean.loc[models[0], "final"]
        assert found.loc["end", "difference"] == pytest.approx(expected)

    def test_mistakes_are_told_without_a_traceback(self):
        done = subprocess.run(
            [sys.executable, "-c", MISTAKEN, json.dumps([flags for flags, _ in MISTAKES])],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [2] * len(MISTAKES)
        for line, (_, message) in zip(done.stderr.splitlines(), MISTAKES, strict=True):
            assert message in line
