"""From a run to a report: build, serve, a session in a real browser, machines, statistics."""

import pathlib
import re
import subprocess
import sys

import listening_page_test
import pandas as pd
import pytest
import small_run
from listening_page_test import go_on, opened, stored

from metamer_jax import configs, pipeline, runs, storage
from metamer_jax.figures import listening
from metamer_jax.listening import responses
from metamer_jax.listening.serving import sessions

ROOT = pathlib.Path(__file__).parents[2]
browser = listening_page_test.browser  # The fixture.
SETTINGS = (
    *("--conditions=2", "--practice_trials=1", "--headphone_check=none", "--set=silence_s=0.01"),
    *("--norequire_correct", "--set=calibration_s=0.5"),
)


def drive(module, *flags):
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Either:
    """Equal to each of some states of the page."""

    def __init__(self, *states):
        self.states = states

    def __eq__(self, other):
        return other in self.states


def take(page, words):
    """Takes a whole session; `words` says by stimulus what to answer."""
    while True:
        go_on(page, Either("choose", "comments"))
        if listening_page_test.state_of(page) == "comments":
            break
        trials = stored(page)["trials"]
        # Practice, whose trials are not among the session's, is answered with the first word.
        wanted = words.get(trials[-1]["stimulus_id"], "") if trials else ""
        choices = page.locator("#jspsych-audio-button-response-btngroup button")
        texts = [text.split("\n")[-1].strip() for text in choices.all_inner_texts()]
        choices.nth(texts.index(wanted) if wanted in texts else 0).click()
        listening_page_test.wait_until(page, listening_page_test.ANSWERED)
    go_on(page, "end")
    page.get_by_text("Your answers were saved.").wait_for()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    small_run.write_recordings(folder / "words")
    # The class alone decides: such short synthesis of such small networks would rarely pass.
    lenient = configs.VerificationConfig(
        null_recordings=50, min_rank_features=10**6, max_relative_error=1e3
    )
    config = small_run.config(folder / "words", folder / "cache", verification=lenient)
    run_folder = tmp_path_factory.mktemp("run")
    with runs.open_run(run_folder, config) as run:
        recordings = pipeline.load_recordings(run)
        pipeline.train_networks(run, recordings)
        pipeline.synthesize_metamers(run, recordings)
        pipeline.verify_metamers(run, recordings)
    return run_folder


@pytest.mark.slow
def test_from_a_run_to_a_report(browser, workdir, tmp_path):
    folder = tmp_path / "experiment"
    drive("build_listening_test", f"--workdir={workdir}", f"--out={folder}", *SETTINGS)
    experiment = sessions.load_experiment(folder)
    manifest = storage.read_csv(
        folder / "private" / "manifest.csv", text=("stimulus_id", "word", "model", "layer", "kind")
    )
    right = dict(zip(manifest["stimulus_id"], manifest["word"], strict=True))

    # Two people: one hears everything, the other always says the same word.
    with listening_page_test._served(folder) as url, opened(browser) as open_page:
        page = open_page(f"{url}?participant=anna")
        take(page, right)
        assert page.problems == []
        other = experiment.words[1]
        with opened(browser) as open_another:
            page = open_another(f"{url}?participant=ben")
            take(page, dict.fromkeys(right, other))
            assert page.problems == []

    read = responses.read(folder / "responses", experiment)
    assert read.trials.groupby("participant")["correct"].mean()["anna"] == 1
    assert set(read.trials.loc[read.trials["participant"] == "ben", "response"]) == {other}
    assert set(read.trials["condition"]) == {1, 2}  # The less used one was handed out.

    panel = ("--listeners=1", "--recipes=paper", "--networks=frequency_grouped", "--epochs=1")
    told = drive(
        "machine_listeners", f"--workdir={workdir}", f"--experiment={folder}", *panel, "--draws=100"
    )
    assert "MACHINE LISTENERS" in told

    told = drive("analyze_responses", f"--experiment={folder}", "--reference_min=0", "--draws=200")
    assert "SIMULATED" not in told and "2 sessions read (server), 2 count" in told
    tables = folder / "analysis"
    recognition = storage.read_csv(tables / "recognition.csv")
    expected = (
        read.trials[read.trials["kind"] == "metamer"]
        .groupby(["layer", "participant"])["correct"]
        .mean()
        .groupby("layer")
        .mean()
    )
    assert recognition.set_index("layer")["mean"].to_dict() == pytest.approx(expected.to_dict())
    assert (recognition["n"] == 2).all() and set(recognition["source"]) == {"server"}
    figures = {path.name for path in (tables / "figures").iterdir()}
    for name in ("recognition_by_layer", "recognition_by_word", "confusion_by_network"):
        assert {f"{name}.pdf", f"{name}.png"} <= figures
    assert {"people_and_machines.png", "recognition_matrix.png"} <= figures
    assert (tables / "figures" / "recognition_by_layer.pdf").read_bytes()[:5] == b"%PDF-"

    with opened(browser) as open_page:
        page = open_page((tables / "report.html").as_uri())
        assert page.problems == []
        assert [u for u in page.requests if not u.startswith("data:")] == [page.url]
        text = page.inner_text("main")
        assert page.locator("figure svg").count() == len(figures) // 2
        assert "SIMULATED" not in text and listening.LABELS["machine"] in text
        cells = page.locator("#recognition table").first.locator("tbody tr").all_inner_texts()
        assert len(cells) == len(recognition) and "frequency_grouped" in cells[0]

    drive("analyze_responses", f"--experiment={folder}", "--simulate=3", "--draws=50")
    simulated = (folder / "analysis_simulated" / "report.html").read_text("utf-8")
    assert "<title>SIMULATED" in simulated
    # On top of the page, and in every figure of theirs.
    assert simulated.count(listening.LABELS["simulated"]) >= 5
    for name in ("recognition", "confusion", "exclusions"):
        table = pd.read_csv(folder / "analysis_simulated" / f"{name}.csv")
        assert set(table["source"]) == {"simulated"}


@pytest.mark.slow
def test_a_run_can_end_with_an_experiment(workdir):
    told = drive("reproduce", f"--workdir={workdir}", "--listening")
    assert re.search(r"Serve it: .* listen serve --experiment=", told)
    experiment = sessions.load_experiment(workdir / "listening")
    assert len(experiment.conditions) == 10 and experiment.words == ("fall", "rise")
    assert (experiment.public / "index.html").is_file()
