"""The report of a run: complete, self-contained, within its size, and alive in a browser."""

import dataclasses
import html.parser
import json
import pathlib
import re
import shutil

import browsing
import numpy as np
import pandas as pd
import pytest
import soundfile

from metamer_jax import configs, figures
from metamer_jax.commands.__main__ import MODULES
from metamer_jax.listening import piloting
from metamer_jax.report import write_report

SAMPLE_RATE_HZ = 8000
DURATION_S = 0.5
NETWORKS = ("conv2d", "frequency_grouped")
STAGES = ("cochleagram", "logits")
WORDS = ("left", "no")


def fake_cochleagram(waveforms: np.ndarray) -> np.ndarray:
    """[sound, time] -> [sound, channel, frame]: a spectrogram, to be quick."""
    frames = waveforms.reshape(len(waveforms), -1, 80)
    return np.abs(np.fft.rfft(frames)).swapaxes(1, 2) ** 0.3


def make_run(
    folder: pathlib.Path,
    *,
    networks=NETWORKS,
    stages=STAGES,
    words=WORDS,
    targets_per_word=2,
    seeds=(0,),
    clips=None,
    sample_rate_hz=SAMPLE_RATE_HZ,
    duration_s=DURATION_S,
    fail_rate=0.3,
) -> pathlib.Path:
    """Writes a run folder as the pipeline lays it out, with plausible numbers in it.

    `clips`, [target, time], are taken as targets if given; noise otherwise.
    """
    random = np.random.default_rng(0)
    samples = round(sample_rate_hz * duration_s)
    config = configs.ExperimentConfig(
        networks=networks,
        stages=stages,
        targets_per_word=targets_per_word,
        data=configs.DataConfig(words=words, sample_rate_hz=sample_rate_hz, duration_s=duration_s),
        cochleagram=configs.CochleagramConfig(
            sample_rate_hz=sample_rate_hz,
            duration_s=duration_s,
            high_hz=sample_rate_hz / 2,
            method="multirate",
        ),
        synthesis=configs.SynthesisConfig(seeds=seeds),
    )
    _write_json(
        folder / "config.json",
        {
            "schema_version": 1,
            "experiment": dataclasses.asdict(config),
            "environment": {"python": "3.11", "platform": "cpu"},
        },
    )
    _write_json(folder / "data/summary.json", {"test": {"left": 20, "no": 21}})
    num_targets = len(words) * targets_per_word
    labels = np.repeat(np.arange(len(words)), targets_per_word)
    targets = random.normal(size=(num_targets, samples)) if clips is None else clips
    targets = (0.1 * targets / targets.std(axis=1, keepdims=True)).astype(np.float32)
    (folder / "targets/wav").mkdir(parents=True)
    np.savez(
        folder / "targets/targets.npz",
        waveform=targets,
        target_id=np.arange(num_targets),
        label=labels,
    )
    pd.DataFrame(
        {
            "target_id": range(num_targets),
            "name": [f"{words[k]}/{i:04d}" for i, k in enumerate(labels)],
            "word": [words[k] for k in labels],
            "speaker": "a<b>",
            "split": "test",
        }
    ).to_csv(folder / "targets/targets.csv", index=False)
    for i, label in enumerate(labels):
        path = folder / f"targets/wav/{i}_{words[label]}.wav"
        soundfile.write(path, targets[i], sample_rate_hz, subtype="PCM_16")
    rows, nulls, histograms = [], {}, {}
    for network in networks:
        _write_network(folder / "networks" / network, network, words, random)
        nulls[network] = {}
        for depth, stage in enumerate(stages):
            nulls[network][stage] = _null(f"{network}/{stage}", depth, histograms, random)
            shape = (num_targets, len(seeds))
            noise = random.normal(size=(*shape, samples)) * 0.03 * (depth + 1)
            waveforms = (targets[:, None] + noise).astype(np.float32)
            points = np.arange(0, 301, 25)
            level = random.uniform(0.01, 0.1, size=shape)[..., None]
            trace = level + 0.9 * np.exp(-points / random.uniform(20, 80, size=shape)[..., None])
            at = folder / "metamers" / network / stage
            (at / "wav").mkdir(parents=True)
            np.savez(
                at / "metamers.npz",
                target_id=np.arange(num_targets),
                seed=np.array(seeds),
                waveform=waveforms,
                relative_error=trace[..., -1],
                trace_step=points,
                trace_relative_error=trace,
            )
            for i, label in enumerate(labels):
                for j, seed in enumerate(seeds):
                    path = at / f"wav/{i}_{seed}_{words[label]}.wav"
                    soundfile.write(path, waveforms[i, j], sample_rate_hz, subtype="PCM_16")
                    fails = random.uniform() < fail_rate
                    rows.append(
                        {
                            "network": network,
                            "stage": stage,
                            "stage_index": depth,
                            "word": words[label],
                            "target_id": i,
                            "target_name": f"{words[label]}/{i:04d}",
                            "speaker": "a<b>",
                            "seed": seed,
                            "outcome": "budget",
                            "steps": 300,
                            "target_prediction": words[label],
                            "target_correct": True,
                            "prediction": words[label - 1] if fails else words[label],
                            "class_match": not fails,
                            "spearman": random.uniform(0.85, 0.99) - 0.4 * fails,
                            "pearson_r2": random.uniform(0.8, 0.98) - 0.3 * fails,
                            "snr_db": random.uniform(8, 25) - 6 * fails,
                            "relative_error": trace[i, j, -1],
                            "decided_by": "relative_error" if depth else "spearman",
                            "verdict": "fail" if fails else "pass",
                            "reason": f"class: {words[label - 1]}, target {words[label]}"
                            if fails
                            else "",
                            "optimised_verdict": "fail" if fails and i else "pass",
                        }
                    )
    verification = folder / "verification"
    verification.mkdir()
    table = pd.DataFrame(rows)
    table.to_csv(verification / "metamers.csv", index=False)
    pd.concat([_heard(table, who, networks, random) for who in networks]).to_csv(
        verification / "heard.csv", index=False
    )
    _write_json(verification / "null.json", nulls)
    np.savez(verification / "null_histograms.npz", **histograms)
    return folder


def _heard(table: pd.DataFrame, listener: str, networks, random) -> pd.DataFrame:
    """What a network hears: in its own metamers what verification says, in others' the half."""
    names = {"network": "model", "stage": "layer", "stage_index": "layer_index"}
    kept = ["word", "target_id", "seed", "prediction", "verdict", *names]
    own = table["network"] == listener
    heard = np.where(own | (random.uniform(size=len(table)) < 0.5), table["prediction"], "other")
    made = table[kept].rename(columns=names).assign(kind="metamer", response=heard)
    targets = made.drop_duplicates("target_id")[["word", "target_id"]]
    natural = targets.assign(kind="natural", response=targets["word"])
    both = pd.concat([made, natural]).assign(participant=listener, source="machine")
    return both.assign(correct=both["response"] == both["word"])


def _write_json(path: pathlib.Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _write_network(folder: pathlib.Path, network: str, words, random) -> None:
    folder.mkdir(parents=True)
    epochs = np.arange(1, 11)
    loss = 2 * np.exp(-epochs / 3) + 0.1
    log = pd.DataFrame(
        {
            "epoch": epochs,
            "train_loss": loss,
            "train_accuracy": 1 - loss / 3,
            "validation_loss": loss + 0.02 * epochs,
            "validation_accuracy": 0.95 - loss / 3,
            "seconds": 4.0,
        }
    )
    log.to_json(folder / "training.jsonl", orient="records", lines=True)
    counts = random.integers(0, 4, size=(len(words), len(words))) + 60 * np.eye(
        len(words), dtype=int
    )
    result = {
        "network": network,
        "parameters": 1625608,
        "epochs": 10,
        "best_epoch": 8,
        "test_accuracy": 0.876,
        "validation_accuracy": 0.881,
        "train_accuracy": 0.97,
        "seconds": 44.2,
        "confusion": counts.tolist(),
    }
    _write_json(folder / "result.json", result)


def _null(name: str, depth: int, histograms: dict, random) -> dict:
    facts = {
        "recordings": 1500,
        "pairs": 1000000,
        "same_speaker_pairs": 4000,
        "duplicates_excluded": 3,
    }
    values = np.clip(random.normal(0.2, 0.15 + 0.03 * depth, size=20000), -1, 0.9)
    for measure, data, edges in (
        ("spearman", values, np.linspace(-1, 1, 101)),
        ("pearson_r2", values**2, np.linspace(0, 1, 101)),
        ("snr_db", 20 * values - 12, np.linspace(-40, 40, 101)),
    ):
        counts, edges = np.histogram(data, edges)
        histograms[f"{name}/{measure}_counts"] = counts
        histograms[f"{name}/{measure}_edges"] = edges
        quantiles = {str(q): float(np.quantile(data, q)) for q in (0.5, 0.99, 0.999)}
        facts[measure] = {"quantiles": quantiles, "max": float(data.max())}
    return facts


class Page(html.parser.HTMLParser):
    """What a page refers to, its ids, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.ids, self.references, self.words = [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.references += [attrs[name] for name in ("src", "href", "xlink:href") if name in attrs]

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "smoke-spoken_words-seed0")


@pytest.fixture(scope="module")
def report(run_folder):
    return write_report(run_folder, cochleagram_fn=fake_cochleagram)


def read(path: pathlib.Path) -> Page:
    return Page(path.read_text("utf-8"))


class TestPage:
    def test_refers_to_nothing_outside_itself(self, report):
        page = read(report)
        outside = [r[:60] for r in page.references if not r.startswith(("#", "data:"))]
        assert outside == []
        inside = [r[1:] for r in page.references if r.startswith("#")]
        assert set(inside) <= set(page.ids)
        assert len(page.ids) == len(set(page.ids))

    def test_shows_every_target_and_metamer(self, report):
        page = read(report)
        labels = [a.get("aria-label", "") for tag, a in page.tags if tag == "audio"]
        for network in NETWORKS:
            for stage in STAGES:
                for target in range(4):
                    wanted = f"target {target}, {network} matched at {stage}, seed 0"
                    assert any(wanted in label for label in labels), wanted
        assert sum("spoken word" in label for label in set(labels)) == 4
        assert all(a.get("alt") for tag, a in page.tags if tag == "img")

    def test_names_settings_accuracies_and_reasons(self, report, run_folder):
        text = read(report).text
        table = pd.read_csv(run_folder / "verification/metamers.csv", keep_default_na=False)
        for reason in set(table["reason"]):
            assert reason in text
        for setting in ("scale 796.87416837456942"[:20], "beta2 0.999", "platform cpu", "87.6 %"):
            assert setting in text
        failed = (table["verdict"] == "fail").sum()
        assert 0 < failed < len(table)
        assert f"{failed} of {len(table)} metamers were not verified" in text
        optimised = (table["optimised_verdict"] == "pass").sum()
        assert f"{optimised} of {len(table)} metamers hold as they were optimised" in text
        passed = ((table["verdict"] == "pass") & (table["network"] == "conv2d"))[:4].sum()
        assert f"{passed} of 4" in text

    def test_opens_with_who_recognises_what(self, report, run_folder):
        """The numbers of the table, counted from the answers by hand."""
        page = read(report)
        heard = pd.read_csv(run_folder / "verification/heard.csv", keep_default_na=False)
        right = {}
        for row in heard.itertuples():
            if row.verdict == "pass" and row.participant != row.model:
                right.setdefault((row.model, row.layer), []).append(row.response == row.word)
        assert right.keys() == {(n, stage) for n in NETWORKS for stage in STAGES}
        for answers in right.values():
            share = sum(answers) / len(answers)
            assert f"{100 * share:.0f} % {sum(answers)}/{len(answers)}" in page.text
        assert page.ids.index("recognition") < page.ids.index("about") < page.ids.index("listen")
        assert "Machine listener: frequency_grouped recognises of conv2d’s metamers" in page.text

    @pytest.mark.parametrize("classes", [["left", "no", "up"], ["0", "1", "2"], [""]])
    def test_speaks_of_a_model_of_ones_own_as_what_it_is(self, tmp_path, classes):
        folder = make_run(tmp_path, networks=("model",), stages=("hidden",), fail_rate=0)
        (folder / "networks/model/training.jsonl").unlink()
        saved = json.loads((folder / "config.json").read_text())
        saved["experiment"]["preset"] = "own"
        _write_json(folder / "config.json", saved)
        _write_json(folder / "data/summary.json", {"dataset": "own sounds"})
        _write_json(folder / "networks/model/result.json", {"words": classes, "parameters": 7})
        path = folder / "verification/metamers.csv"
        table = pd.read_csv(path, keep_default_na=False)
        table.assign(target_prediction=classes[0]).to_csv(path, index=False)
        page = read(write_report(folder, cochleagram_fn=fake_cochleagram, save_figures=False))
        assert ("takes all 4 targets for" in page.text) == bool(classes[0])
        text = page.text.lower().split("recipe paper, seed 0", 1)[1].split("settings every")[0]
        assert not re.search(r"spoken|\bword\b|not yet made|training", text)
        assert ("recognised (%)" in text) == (classes[0] == "left")
        (cards, *_) = [tag for _, tag in page.tags if tag.get("class") == "cards"]
        assert cards["style"] == "--stages:5"  # A single picture is not as wide as the page.
        assert "Metamers of model that were verified: 4 of 4 at hidden" in page.text
        assert ("same class" in text) == bool(classes[0])

    def test_stands_beside_the_paper(self, report, copied_run_folder):
        text = read(report).text
        for said in ("56/56", "50/56 43/56 .079", "179/280 183/280 .724", "n/a", "Lu, Effects of"):
            assert said in text, said
        config = json.loads((copied_run_folder / "config.json").read_text())
        config["experiment"]["preset"] = "smoke"
        _write_json(copied_run_folder / "config.json", config)
        text = read(
            write_report(copied_run_folder, cochleagram_fn=fake_cochleagram, save_figures=False)
        ).text
        assert "56/56" not in text and "Lu, Effects of" in text

    def test_shows_people_where_they_answered(self, copied_run_folder):
        answers = copied_run_folder / "listening/analysis/recognition.csv"
        answers.parent.mkdir(parents=True)
        answers.write_text(
            "model,layer,mean,ci_low,ci_high,wilson_low,wilson_high,n,correct,trials,source\n"
            "conv2d,logits,0.25,0.1,0.4,0.12,0.44,7,14,56,page\n"
        )
        text = read(
            write_report(copied_run_folder, cochleagram_fn=fake_cochleagram, save_figures=False)
        ).text
        assert "People recognise of conv2d’s metamers 25 % at logits." in text
        assert "25 % 14/56 10–40" in text and "No person has listened" not in text
        assert "people (n = 7)" in text

    def test_escapes_what_it_is_given(self, report):
        assert "a<b>" not in report.read_text("utf-8").replace("a&lt;b&gt;", "")

    def test_saves_figures(self, report):
        names = {path.name for path in (report.parent / "figures").iterdir()}
        assert {
            "training_conv2d_accuracy.png",
            "error_conv2d_logits.png",
            "null_conv2d_cochleagram_spearman.png",
            "confusion_frequency_grouped.png",
            "cochleagrams_frequency_grouped_logits.png",
            "recognition.png",
        } <= names
        assert not any(name.endswith(".tmp") for name in names)

    def test_embeds_the_sound_as_played(self, report, run_folder):
        """Lossless: the embedded samples are those of the WAV file."""
        import base64
        import io

        text = report.read_text("utf-8")
        found = re.search(
            r'aria-label="metamer of “left”, target 1, conv2d matched at logits, seed 0"'
            r' data-save="conv2d_logits_1_0_left.wav" id="\w+" src="data:[^,]*,([^"]*)"',
            text,
        )
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(found[1])), dtype="int16")
        expected, expected_rate = soundfile.read(
            run_folder / "metamers/conv2d/logits/wav/1_0_left.wav", dtype="int16"
        )
        np.testing.assert_array_equal(samples, expected)
        assert rate == expected_rate

    def test_draws_with_the_cochleagram_of_the_run(self, copied_run_folder):
        page = read(write_report(copied_run_folder, max_metamers=4, save_figures=False))
        assert any(tag == "img" for tag, _ in page.tags)
        assert "could not be read" not in page.text
        assert not (copied_run_folder / "figures").exists()


@pytest.fixture
def copied_run_folder(run_folder, tmp_path):
    ignored = shutil.ignore_patterns("figures", "report.html")
    return pathlib.Path(shutil.copytree(run_folder, tmp_path / "run", ignore=ignored))


class TestSize:
    def test_keeps_a_seeded_sample_and_the_failures(self, copied_run_folder):
        path = write_report(
            copied_run_folder, max_metamers=8, cochleagram_fn=fake_cochleagram, save_figures=False
        )
        text = read(path).text
        assert "8 of 16 metamers: those of 2 targets out of 4, drawn with seed 0" in text
        assert "all of them can be heard" in text

    def test_stays_below_the_bound(self, copied_run_folder):
        plain = write_report(copied_run_folder, cochleagram_fn=fake_cochleagram, save_figures=False)
        megabytes = plain.stat().st_size / 1e6 - 0.06
        path = write_report(
            copied_run_folder,
            max_megabytes=megabytes,
            cochleagram_fn=fake_cochleagram,
            save_figures=False,
        )
        assert path.stat().st_size <= megabytes * 1e6
        assert re.search(r"(4|8|12) of 16 metamers: those of \d targets", read(path).text)

    def test_refuses_a_bound_that_holds_no_page(self, small_run_folder):
        with pytest.raises(ValueError, match="max_megabytes"):
            write_report(small_run_folder, max_megabytes=0.01, save_figures=False)

    def test_refuses_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(ValueError, match="run_folder"):
            write_report(tmp_path / "nothing")


@pytest.fixture(scope="module")
def small_run_folder(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("runs") / "small", networks=("conv2d",), stages=("logits",)
    )


class TestUnfinished:
    @pytest.mark.parametrize(
        "missing",
        [
            "config.json",
            "targets",
            "networks",
            "metamers",
            "verification",
            "metamers/conv2d/logits",
            "verification/null_histograms.npz",
            "targets/targets.csv",
        ],
    )
    def test_reports_what_there_is(self, small_run_folder, tmp_path, missing):
        folder = tmp_path / "run"
        shutil.copytree(
            small_run_folder, folder, ignore=shutil.ignore_patterns("figures", "report.html")
        )
        path = folder / missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        text = read(write_report(folder, cochleagram_fn=fake_cochleagram, save_figures=False)).text
        for command in re.findall(r"metamer[-_]jax(?:\.commands)? ((?:listen )?\S+)", text):
            assert command in MODULES
        if missing != "targets/targets.csv":
            assert "not yet" in text.lower() or missing == "targets"

    def test_an_empty_folder_is_a_page_of_missing_parts(self, tmp_path):
        text = read(write_report(tmp_path)).text
        assert text.count("Not yet made") >= 6

    def test_a_damaged_file_is_named(self, small_run_folder, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(
            small_run_folder, folder, ignore=shutil.ignore_patterns("figures", "report.html")
        )
        (folder / "verification/null.json").write_text("{")
        (folder / "metamers/conv2d/logits/metamers.npz").write_bytes(b"PK\x03\x04 cut off")
        text = read(write_report(folder, cochleagram_fn=fake_cochleagram, save_figures=False)).text
        assert "verification/null.json: JSONDecodeError" in text
        assert "metamers/conv2d/logits/metamers.npz" in text


class TestFigures:
    def test_pair_refuses_shapes_that_differ(self):
        with pytest.raises(ValueError, match="alike"):
            figures.cochleagram_pair(
                np.zeros((3, 4)), np.zeros((3, 5)), center_hz=np.arange(3), frame_rate_hz=200
            )

    def test_confusion_refuses_other_words(self):
        with pytest.raises(ValueError, match="counts"):
            figures.confusion(np.zeros((2, 2)), ("left", "no", "yes"))

    def test_frequency_ticks_lie_between_their_channels(self):
        ticks = figures.frequency_ticks(np.array([50.0, 150.0, 450.0]), (20, 100, 300, 1000))
        assert ticks == [(100, 0.5), (300, 1.5)]

    def test_traces_that_stopped_keep_their_error(self):
        figure = figures.error_traces(np.arange(3), np.array([[1.0, 0.5, np.nan], [1.0, 0.5, 0.5]]))
        np.testing.assert_allclose(figure.axes[0].lines[-1].get_ydata(), [1.0, 0.5, 0.5])


browser = browsing.browser  # The fixture.


@pytest.fixture(scope="module")
def loaded(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(piloting.PATIENCE_MS)
    page.problems, page.requests = [], []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(report.as_uri())
    yield page
    page.close()


@pytest.fixture
def opened(loaded):
    """The report, loaded once, as it is when it has just been opened."""
    loaded.set_viewport_size({"width": 1280, "height": 900})
    loaded.emulate_media(color_scheme="light")
    loaded.locator("[data-network-choice='']").click()
    loaded.evaluate("document.querySelectorAll('audio').forEach((a) => a.pause())")
    return loaded


class TestInABrowser:
    def test_everything_loads_and_nothing_is_asked_of_the_network(self, opened):
        opened.wait_for_function(
            "[...document.querySelectorAll('audio')].every(a => a.readyState >= 1)", timeout=10000
        )
        durations = opened.evaluate("[...document.querySelectorAll('audio')].map(a => a.duration)")
        np.testing.assert_allclose(durations, DURATION_S, atol=0.01)
        widths = opened.evaluate("[...document.images].map(i => i.naturalWidth)")
        assert len(widths) >= 20 and min(widths) > 0
        assert all(url.startswith(("file:", "data:")) for url in opened.requests)
        assert opened.problems == []

    @pytest.mark.parametrize("size", browsing.SIZES)
    def test_fits_the_window_and_axe_finds_no_fault(self, opened, size):
        width, height = browsing.SIZES[size]
        opened.set_viewport_size({"width": width, "height": height})
        opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        opened.wait_for_function(
            """() => [...document.querySelectorAll(".scroll")].every((box) =>
              box.scrollWidth <= box.clientWidth + 1
              || box.previousElementSibling.textContent.includes("scrolls sideways"))"""
        )
        assert (opened.locator(".sideways").count() > 0) == (size == "phone")
        wide = opened.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0
        assert browsing.violations(opened) == []

    def test_all_that_is_shown_can_be_saved(self, opened):
        for what in ("table", "figure.chart", "audio"):
            everything = opened.locator(f"main {what}").count()
            assert (
                opened.locator(f"main {what}[data-save]:not([data-save=''])").count()
                == everything
                > 0
            )
            names = opened.evaluate(
                "what => [...document.querySelectorAll(what)].map(e => e.dataset.save)", what
            )
            if what != "audio":  # One is shown again where it failed.
                assert len(set(names)) == len(names)

    def test_one_sound_plays_at_a_time(self, opened):
        # In one go inside the page: a busy machine may take longer than a sound lasts.
        states = opened.evaluate(
            """async () => {
              const buttons = [...document.querySelectorAll(".cards button.play")].slice(0, 2);
              const audios = buttons.map((b) => b.parentElement.querySelector("audio"));
              const state = () => buttons.map((b, i) => [b.ariaPressed, audios[i].paused]);
              const states = [];
              for (const [i, button] of buttons.entries()) {
                const playing = new Promise((done, refuse) => {
                  audios[i].addEventListener("playing", done, { once: true });
                  setTimeout(() => refuse(audios[i].error?.message ?? "silent"), 10000);
                });
                button.click();
                await playing;
                states.push(state());
              }
              document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
              states.push(state());
              return states;
            }"""
        )
        on, off = ["true", False], ["false", True]
        assert states == [[on, off], [off, on], [off, off]]
        assert opened.problems == []

    def test_every_sound_plays_twice(self, opened):
        """A sound that cannot be sought back to its start plays once and never again."""
        errors = opened.evaluate(
            """async () => {
              const errors = [];
              for (const audio of document.querySelectorAll("audio")) {
                for (const turn of [1, 2]) {
                  try {
                    await audio.play();
                    await new Promise((done) => setTimeout(done, 20));
                    audio.pause();
                    audio.currentTime = 0;
                  } catch (error) { errors.push(String(error)); }
                }
                if (audio.error) errors.push(audio.error.message);
              }
              return errors;
            }"""
        )
        assert errors == []

    def test_plays_a_row_in_order_and_by_keyboard(self, opened):
        opened.evaluate(
            """() => {
              window.heard = [];
              document.addEventListener("play", (event) => {
                window.heard.push(event.target.getAttribute("aria-label"));
              }, true);
            }"""
        )
        opened.locator(".row [data-sequence]").first.focus()
        opened.keyboard.press("Enter")
        opened.wait_for_function("window.heard.length === 3", timeout=20000)
        heard = opened.evaluate("window.heard")
        assert "spoken word" in heard[0]
        assert "cochleagram" in heard[1] and "logits" in heard[2]
        opened.locator("button.play").first.focus()
        opened.keyboard.press("ArrowRight")
        focused = opened.evaluate("document.activeElement.getAttribute('aria-label')")
        assert "matched at cochleagram" in focused

    def test_shows_one_network(self, opened):
        opened.locator("[data-network-choice=conv2d]").click()
        rows = opened.locator(".row[data-network=frequency_grouped]")
        assert rows.count() == 4 and not rows.first.is_visible()
        assert opened.locator(".row[data-network=conv2d]").first.is_visible()

    def test_follows_the_dark_theme(self, opened):
        background = "getComputedStyle(document.body).backgroundColor"
        light = opened.evaluate(background)
        opened.emulate_media(color_scheme="dark")
        assert opened.evaluate(background) != light
