"""Building a listening experiment: what the files hold, what they must not tell, refusals."""

import dataclasses
import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import wave
import zipfile

import jax
import listening_material
import numpy as np
import pandas as pd
import pytest
import small_run
import soundfile

from metamer_jax import analysis, audio, auditory, metamers, models, pipeline, runs, storage
from metamer_jax.listening.building import build, files, material, sounds
from metamer_jax.listening.building.manifest import KEY_COLUMNS, MANIFEST_COLUMNS
from metamer_jax.listening.config import ListeningConfig
from metamer_jax.listening.serving import sessions
from metamer_jax.storage import checkpoints

RATE_HZ = 16000
CONFIG = ListeningConfig(
    catch_trials=3,
    natural_trials=2,
    practice_trials=2,
    silence_s=0.05,
    calibration_s=0.5,
    headphone_check="antiphase",
    title="Words & <noises>",
)


def read_wav(path):
    """Returns the samples, [time] or [time, ear], and the sample rate."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        channels = file.getnchannels()
        return samples.reshape(-1, channels) if channels > 1 else samples, file.getframerate()


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def experiment():
    return build.make(listening_material.fabricate(), CONFIG)


@pytest.fixture(scope="module")
def folder(experiment, tmp_path_factory):
    return build.write(experiment, tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def manifest(folder):
    return pd.read_csv(folder / "private/manifest.csv", keep_default_na=False, na_values=["nan"])


class TestSounds:
    def test_calibration_noise_is_pink_and_as_loud_as_the_sounds(self):
        noise = sounds.calibration_noise(4.0, RATE_HZ, level_db=-23)
        assert 20 * np.log10(np.sqrt(np.mean(noise**2))) == pytest.approx(-23)
        assert np.abs(noise).max() < 1
        power = np.abs(np.fft.rfft(noise)) ** 2
        hz = np.fft.rfftfreq(len(noise), 1 / RATE_HZ)

        def octave(low):
            return power[(hz >= low) & (hz < 2 * low)].sum()

        assert 10 * np.log10(octave(2000) / octave(250)) == pytest.approx(0, abs=0.5)
        assert power[hz < 90].sum() < 1e-3 * power.sum()

    def test_antiphase_check_is_that_of_woods_et_al(self):
        check = sounds.antiphase_check(RATE_HZ, level_db=-23, seed=4)
        assert check.sounds.shape == (6, 4 * RATE_HZ, 2)
        assert np.bincount(check.correct).tolist() == [2, 2, 2]
        antiphase_places = []
        for trial, correct in zip(check.sounds, check.correct, strict=True):
            tones = [trial[int(1.5 * i * RATE_HZ) :][:RATE_HZ] for i in range(3)]
            level = [20 * np.log10(np.sqrt(np.mean(t[:, 0] ** 2))) for t in tones]
            assert int(np.argmin(level)) == correct
            assert level[correct] - max(level) == pytest.approx(-6)
            opposite = [i for i, t in enumerate(tones) if np.allclose(t[:, 0], -t[:, 1])]
            assert len(opposite) == 1 and opposite[0] != correct
            antiphase_places.append((correct, opposite[0]))
            for tone in tones:  # 200 Hz, 100 ms ramps.
                spectrum = np.abs(np.fft.rfft(tone[:, 0]))
                assert np.argmax(spectrum) == 200
                envelope = np.abs(tone[: RATE_HZ // 10, 0]).max()
                assert np.abs(tone[: RATE_HZ // 100, 0]).max() < 0.03 * envelope
            assert not trial[RATE_HZ : int(1.5 * RATE_HZ)].any()
        assert len(set(antiphase_places)) == 6  # Every order once.

    def test_huggins_check_is_that_of_milne_et_al(self):
        check = sounds.huggins_check(RATE_HZ, level_db=-23, seed=4)
        assert check.sounds.shape == (6, 4 * RATE_HZ, 2)
        assert np.bincount(check.correct).tolist() == [2, 2, 2]
        window = np.hanning(RATE_HZ)
        hz = np.fft.rfftfreq(RATE_HZ, 1 / RATE_HZ)
        for trial, correct in zip(check.sounds, check.correct, strict=True):
            for i in range(3):
                pair = trial[int(1.5 * i * RATE_HZ) :][:RATE_HZ]
                if i != correct:
                    np.testing.assert_array_equal(pair[:, 0], pair[:, 1])
                    continue
                left, right = (np.fft.rfft(window * pair[:, ear]) for ear in range(2))
                agreement = np.real(left * right.conj()) / np.maximum(np.abs(left * right), 1e-12)
                inside = np.abs(hz - 600) < 30
                outside = (np.abs(hz - 600) > 45) & (hz > 50) & (hz < 7900)
                assert np.median(agreement[inside]) < -0.99
                assert np.median(agreement[outside]) > 0.99
                power = np.mean(pair**2, axis=0)  # Neither ear alone tells.
                assert power[0] == pytest.approx(power[1], rel=0.02)

    def test_a_condition_recording_is_what_its_onsets_say(self):
        random = np.random.default_rng(0)
        parts = [random.integers(-9, 9, size=100).astype(np.int16) for _ in range(4)]
        marker = np.full(30, 7, np.int16)
        recording, onsets = sounds.condition_recording(
            parts, [1, 1, 2, 2], marker=marker, silence_s=0.05, sample_rate_hz=1000
        )
        assert onsets.tolist() == [80, 230, 460, 610]
        assert len(recording) == 2 * 80 + 4 * 150
        for part, onset in zip(parts, onsets, strict=True):
            np.testing.assert_array_equal(recording[onset : onset + 100], part)
            assert not recording[onset + 100 : onset + 150].any()
        np.testing.assert_array_equal(recording[:30], marker)


class TestFiles:
    def test_manifest_has_a_row_per_presentation(self, manifest, experiment):
        assert list(manifest.columns) == MANIFEST_COLUMNS
        counts = manifest.groupby("kind").size().to_dict()
        assert counts == {"metamer": 800, "natural": 20, "catch": 30, "practice": 2}
        metamers = manifest[manifest["kind"] == "metamer"]
        assert not metamers[["model", "layer", "word", "target_id"]].isna().any().any()
        for _, heard in metamers.groupby("condition"):
            assert len(heard) == 80 and heard["target_id"].nunique() == 80
            assert set(heard.groupby(["model", "layer"]).size()) == {8}
        for _, batch in metamers.groupby(["condition", "batch"]):
            assert len(set(zip(batch["model"], batch["layer"], strict=True))) == 10
        assert metamers["stimulus_id"].nunique() == 800
        for condition, rows in manifest.groupby("condition"):
            assert rows["trial"].tolist() == list(range(1, len(rows) + 1)), condition

    def test_sounds_are_what_the_manifest_says(self, folder, manifest):
        for row in manifest.drop_duplicates("stimulus_id").itertuples():
            path = folder / "public" / row.file
            assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
        samples, rate = read_wav(path)
        assert rate == row.sample_rate_hz and len(samples) == round(row.duration_s * rate)
        assert np.sqrt(np.mean((samples / 32768) ** 2)) == pytest.approx(row.rms)
        assert np.abs(samples / 32768).max() == pytest.approx(row.peak)
        levels = 20 * np.log10(manifest["rms"])
        assert levels.max() - levels.min() < 0.02 and manifest["peak"].max() < 1

    def test_onsets_match_the_condition_recordings_to_the_sample(self, folder, manifest):
        for condition in (1, 10):
            recording, rate = read_wav(folder / f"conditions/condition_{condition:02d}.wav")
            rows = manifest[manifest["condition"] == condition]
            onsets = rows["onset_in_condition_wav_s"].to_numpy() * rate
            np.testing.assert_allclose(onsets, np.rint(onsets), atol=1e-6)
            covered = np.zeros(len(recording), bool)
            for onset, file in zip(np.rint(onsets).astype(int), rows["file"], strict=True):
                samples, _ = read_wav(folder / "public" / file)
                np.testing.assert_array_equal(recording[onset : onset + len(samples)], samples)
                covered[onset : onset + len(samples)] = True
            # What is left are eight markers and silences.
            marker = files.batch_marker(-23.0, rate)
            starts = np.flatnonzero(np.diff(np.concatenate([[0], rows["batch"]])))
            first = np.rint(onsets[starts]).astype(int) - len(marker) - round(0.05 * rate)
            for start in first:
                np.testing.assert_array_equal(recording[start : start + len(marker)], marker)
                covered[start : start + len(marker)] = True
            assert len(first) == 8 and not recording[~covered].any()

    def test_the_other_sides_of_the_project_can_read_it(self, folder, experiment):
        found = sessions.load_experiment(folder)
        assert found.experiment_id == experiment.experiment_id
        assert found.conditions == tuple(range(1, 11))
        assert found.words == listening_material.WORDS

    def test_answer_key(self, folder, manifest):
        key = pd.read_csv(folder / "private/answer_key.csv")
        assert list(key.columns) == KEY_COLUMNS
        assert key["word"].tolist() == manifest["word"].tolist()

    def test_form_lists_and_script_ask_for_every_trial(self, folder, tmp_path):
        form = pd.read_csv(folder / "conditions/condition_01_form.csv")
        assert form["question"].tolist() == list(range(1, 86))
        assert set(form["choices"]) == {"|".join(listening_material.WORDS)}
        script = (folder / "conditions/create_forms.gs").read_text("utf-8")
        node = shutil.which("node")
        if node is None:
            pytest.skip("no node to run the script")
        mock = """
        const made = [];
        const item = (form, kind) => {
          const it = { kind };
          form.items.push(it);
          const chain = { setTitle: (t) => { it.title = t; return chain; },
            setRequired: () => chain, setChoiceValues: (v) => { it.choices = v; return chain; } };
          return chain;
        };
        globalThis.Logger = { log() {} };
        globalThis.FormApp = { create(title) {
          const form = { title, items: [], setDescription() {}, setProgressBar() {},
            setAllowResponseEdits() {}, getPublishedUrl: () => "url" };
          for (const kind of ["Text", "MultipleChoice", "PageBreak"])
            form[`add${kind}Item`] = () => item(form, kind);
          made.push(form);
          return form;
        } };
        """
        program = f"{mock}\n{script}\ncreateForms(); console.log(JSON.stringify(made));"
        (tmp_path / "forms.js").write_text(program, "utf-8")
        out = subprocess.run(
            [node, tmp_path / "forms.js"], capture_output=True, text=True, check=True
        )
        forms = json.loads(out.stdout)
        assert len(forms) == 10
        titles = [item["title"] for item in forms[2]["items"] if item["kind"] != "PageBreak"]
        assert titles == ["Participant", "Condition", *map(str, range(1, 86))]
        assert sum(item["kind"] == "PageBreak" for item in forms[2]["items"]) == 8
        assert forms[2]["items"][1]["choices"] == ["3"]

    def test_jatos_study_is_the_page_with_its_description(self, folder, experiment):
        with zipfile.ZipFile(folder / "study.jzip") as archive:
            names = archive.namelist()
            description = [name for name in names if name.endswith(".jas")]
            assert len(description) == 1 and "/" not in description[0]
            study = json.loads(archive.read(description[0]))
            assert study["version"] == "3"
            top = study["data"]["dirName"]
            component = study["data"]["componentList"][0]
            assert component["htmlFilePath"] == "index.html" and component["reloadable"]
            public = {str(p.relative_to(folder / "public")) for p in _files(folder / "public")}
            assert {n for n in names if n not in description} == {f"{top}/{n}" for n in public}
            page = archive.read(f"{top}/index.html").decode()
            assert '<script src="jatos.js"></script>' in page
            assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert "jatos.js" not in (folder / "public/index.html").read_text("utf-8")

    def test_everything_the_page_needs_is_there_with_its_licence(self, folder):
        page = (folder / "public/index.html").read_text("utf-8")
        vendor = folder / "public/vendor"
        for path in vendor.glob("*.js"):
            assert f'src="vendor/{path.name}"' in page
            assert path.name in (vendor / "LICENSE.txt").read_text("utf-8")
            assert b"sourceMappingURL" not in path.read_bytes()
        assert "MIT License" in (vendor / "LICENSE.txt").read_text("utf-8")


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


class TestSecrecy:
    """Nothing in public/ tells which word, network or layer a test sound is."""

    def test_names_and_text_hold_no_answers(self, folder, manifest):
        text = (folder / "public/trials.js").read_text("utf-8")
        data = json.loads(text.removeprefix("window.EXPERIMENT = ").strip().removesuffix(";"))
        ids = [i for batches in data["conditions"].values() for batch in batches for i in batch]
        assert sorted(set(ids)) == sorted(
            set(manifest.loc[manifest["kind"] != "practice", "stimulus_id"])
        )
        del data["conditions"], data["words"], data["practice"], data["consent_html"]
        rest = json.dumps(data)
        for word in (*listening_material.STAGES, "conv2d", "frequency_grouped", '"stop"', "voice"):
            assert word not in rest and f'"{word}"' not in text
        for path in _files(folder / "public/audio"):
            assert path.stem[0] == "s" and len(path.stem) == 13
            int(path.stem[1:], 16)

    def test_test_sounds_look_alike_from_outside(self, folder, manifest):
        files = {folder / "public" / name for name in manifest["file"]}
        assert len({path.stat().st_size for path in files}) == 1
        assert {path.stat().st_mtime for path in _files(folder / "public")} == {0}
        heads = {path.read_bytes()[:44] for path in files}
        assert len(heads) == 1  # The same header, and no other chunk fits into the size.

    def test_ids_have_nothing_to_do_with_what_they_name(self, experiment):
        metamers = experiment.manifest[experiment.manifest["kind"] == "metamer"]
        unique = metamers.drop_duplicates("stimulus_id").sort_values("stimulus_id")
        rank = np.arange(len(unique))
        for name in ("layer_index", "target_id"):
            values = unique[name].astype(float).to_numpy()
            assert abs(np.corrcoef(rank, values)[0, 1]) < 0.15
        assert abs(np.corrcoef(rank, unique["model"] == "conv2d")[0, 1]) < 0.15

    def test_the_same_sound_has_the_same_name_everywhere(self, experiment):
        catch = experiment.manifest[experiment.manifest["kind"] == "catch"]
        assert catch["stimulus_id"].nunique() == 3


class TestRepeatability:
    def test_same_seed_same_bytes(self, experiment, folder, tmp_path):
        again = build.make(listening_material.fabricate(), CONFIG)
        assert files_of(build.write(again, tmp_path)) == files_of(folder)

    def test_another_seed_is_another_design(self, experiment):
        small = dataclasses.replace(CONFIG, conditions=2)
        made = [
            build.make(
                listening_material.fabricate(layers=("dense",), targets=3),
                dataclasses.replace(small, seed=seed),
            )
            for seed in (0, 1)
        ]
        assert made[0].design_sha256 != made[1].design_sha256
        assert set(made[0].audio) & set(made[1].audio) == set()

    def test_a_folder_with_responses_is_not_built_over(self, experiment, tmp_path):
        fabricated = listening_material.fabricate(layers=("dense",), targets=2, words=("a", "b"))
        config = dataclasses.replace(CONFIG, natural_trials=0, catch_trials=0, conditions=2)
        build.write(build.make(fabricated, config), tmp_path)
        (tmp_path / "responses").mkdir()
        (tmp_path / "responses/one.json").write_text("{}")
        build.write(build.make(fabricated, config), tmp_path)  # The same: nothing is lost.
        with pytest.raises(ValueError, match="holds responses to another design"):
            build.write(build.make(fabricated, dataclasses.replace(config, seed=1)), tmp_path)


class TestFailures:
    CONFIG = ListeningConfig(
        conditions=4, practice_trials=0, calibration_s=0.2, headphone_check="none", silence_s=0.01
    )

    def fabricate(self, **changes):
        settings = {"models": ("a", "b"), "layers": ("x", "y"), "words": ("left", "no")}
        return listening_material.fabricate(**settings, **changes)

    @staticmethod
    def failing(model, layer, word, target):
        return (model, layer, word, target) in {("a", "x", "no", 0), ("b", "y", "left", 2)}

    def test_spare_targets_replace_failures(self):
        made = build.make(self.fabricate(targets=6, fails=self.failing), self.CONFIG)
        assert (made.manifest["verdict"] == "pass").all() and made.private["holes"] == []
        assert made.private["warnings"] == [made.private["warnings"][-1]]  # Of consent alone.
        assert len(made.private["left_out"]) == 2
        assert "class: " in made.private["left_out"][0]["reason"]

    def test_holes_are_reported(self):
        def fails(model, layer, word, target):
            return (model, layer, word) == ("a", "x", "no")

        config = dataclasses.replace(self.CONFIG, targets_per_word=4)
        made = build.make(self.fabricate(targets=4, fails=fails), config)
        assert len(made.manifest) == 4 * 8 - 4
        assert [
            (h["condition"], h["model"], h["layer"], h["word"]) for h in made.private["holes"]
        ] == [(condition, "a", "x", "no") for condition in (1, 2, 3, 4)]
        assert "4 presentations have no metamer" in made.private["warnings"][0]
        for _, rows in made.manifest.groupby("condition"):
            assert rows["target_id"].is_unique
            assert rows["trial"].tolist() == list(range(1, len(rows) + 1))

    def test_fewer_trials_than_cells_are_warned_of_with_the_power(self):
        few = self.fabricate(targets=1)  # 2 words, 1 recording each: 2 trials of 4 cells.
        (warning, _) = build.make(few, self.CONFIG).private["warnings"]
        assert warning.startswith("a listener hears 2 metamers of 4 combinations")
        assert "its power is 0" in warning
        more = listening_material.fabricate(
            models=("a", "b"), layers=("x", "y", "z"), words=("left", "no"), targets=2
        )
        made = build.make(more, dataclasses.replace(self.CONFIG, conditions=6))
        heard = made.manifest.groupby(["condition", "layer"])["model"].nunique()
        share = (heard == 2).sum() / 18
        assert 0 < share < 1
        assert f"{share:.0%} of listeners hear two networks" in made.private["warnings"][0]
        power = analysis.power(round(20 * share), trials=1).loc[0, "power"]
        assert f"{power:.2f} with 20 listeners" in made.private["warnings"][0]

    def test_replacements_are_reported(self):
        config = dataclasses.replace(self.CONFIG, targets_per_word=4)
        made = build.make(self.fabricate(targets=4, fails=self.failing), config)
        assert made.private["holes"] == [] and made.manifest["verdict"].eq("pass").all()
        for replaced in made.private["replacements"]:
            rows = made.manifest[
                (made.manifest["condition"] == replaced["condition"])
                & (made.manifest["model"] == replaced["model"])
                & (made.manifest["layer"] == replaced["layer"])
                & (made.manifest["word"] == replaced["word"])
            ]
            assert rows["target_id"].tolist() == [replaced["target_id"]]
            assert replaced["target_id"] != replaced["planned_target_id"]

    def test_what_failed_is_left_out_unless_told_otherwise(self):
        fabricated = self.fabricate(targets=4)
        failed = fabricated.metamers.iloc[3]
        fabricated.metamers.loc[3, "verdict"] = "fail"

        def plays_it(config):
            made = build.make(fabricated, config)
            rows = made.manifest
            same = (rows["model"] == failed["model"]) & (rows["layer"] == failed["layer"])
            rows = rows[same & (rows["target_id"] == failed["target_id"])]
            return made.private["warnings"], list(rows["verdict"])

        warnings, played = plays_it(self.CONFIG)
        assert played == [] and len(warnings) == 1
        warnings, played = plays_it(dataclasses.replace(self.CONFIG, verified="any"))
        assert played == ["fail"]
        assert "1 of the 32 metamers that are played failed" in warnings[0]

    def test_sounds_that_are_quieter_than_the_others_are_counted(self):
        fabricated = self.fabricate(targets=4)
        fabricated.metamer_sounds[:2] //= 2
        warnings = build.make(fabricated, self.CONFIG).private["warnings"]
        assert any(w.startswith("2 sounds are played at less than -23.0 dB") for w in warnings)

    def test_targets_that_a_network_gets_wrong_are_left_out(self):
        fabricated = self.fabricate(targets=5, wrong=lambda word, target: target == 2)
        made = build.make(fabricated, self.CONFIG)
        assert not (made.manifest["target_id"] % 100 == 2).any()
        with_them = build.make(
            fabricated,
            dataclasses.replace(
                self.CONFIG, require_correct=False, targets_per_word=5, conditions=5
            ),
        )
        assert (with_them.manifest["target_id"] % 100 == 2).any()

    def test_nothing_to_play_says_why(self):
        fabricated = self.fabricate(targets=2, fails=lambda *_: True)
        with pytest.raises(
            ValueError, match="no metamer may be played: of 16, 0 have the verdicts"
        ):
            build.make(fabricated, self.CONFIG)

    def test_too_few_natural_recordings(self):
        with pytest.raises(ValueError, match="natural_trials \\+ catch_trials is 9, but"):
            build.make(self.fabricate(), dataclasses.replace(self.CONFIG, catch_trials=9))

    def test_the_papers_rule(self):
        config = dataclasses.replace(self.CONFIG, design="shuffle", conditions=3)
        made = build.make(self.fabricate(targets=3, fails=self.failing), config)
        assert len(made.manifest) == 3 * 2 * 4 - len(made.private["holes"])
        assert len(made.private["holes"]) == 0 and made.manifest["verdict"].eq("pass").all()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"design": "random"}, "design must be one of"),
            ({"conditions": 0}, "conditions must be a whole number at least 1, got 0"),
            ({"verified": "raw"}, "verified must be one of"),
            ({"experiment_id": "../x"}, "experiment_id must be letters"),
            ({"completion_url": "javascript:alert(1)"}, "completion_url must begin with"),
            ({"words": ("a", "a")}, "words repeat"),
        ],
    )
    def test_settings_that_cannot_be(self, changes, message):
        with pytest.raises(ValueError, match=message):
            ListeningConfig(**changes)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A verified run whose network is untrained and whose metamers are noisy targets."""
    recordings = tmp_path_factory.mktemp("recordings")
    small_run.write_recordings(recordings)
    config = small_run.config(recordings, tmp_path_factory.mktemp("cache"))
    folder = tmp_path_factory.mktemp("run")
    random = np.random.default_rng(0)
    with runs.open_run(folder, config) as run:
        clips = pipeline.load_recordings(run)
        model = models.build_model("frequency_grouped", len(clips.words))
        variables = auditory.init_variables(jax.random.key(0), model, config.cochleagram)
        network = run.path("networks", "frequency_grouped")
        checkpoints.save(network / "weights.npz", auditory.without_filters(variables))
        storage.write_json(network / "result.json", {"words": clips.words})
        run.record(*(f"networks/frequency_grouped/{n}" for n in ("weights.npz", "result.json")))
        targets = pipeline.choose_targets(clips, config.targets_per_word, config.seed)
        pipeline.common.write_targets(run, clips, targets)
        for stage in config.stages:
            shape = (len(targets), 1)
            waveform = clips.waveforms[targets][:, None]
            waveform = waveform + 0.01 * random.standard_normal(waveform.shape).astype(np.float32)
            found = {name: np.zeros(shape) for name in metamers.Synthesis._fields}
            found |= {"waveform": waveform, "outcome": np.full(shape, metamers.Outcome.BUDGET)}
            storage.write_npz(
                run.path("metamers", "frequency_grouped", stage, "metamers.npz"),
                {"target_id": targets, "seed": np.array([0]), **found},
            )
            run.record(f"metamers/frequency_grouped/{stage}/metamers.npz")
        pipeline.verify_metamers(run, clips)
    return folder


class TestFromARun:
    CONFIG = ListeningConfig(verified="any", require_correct=False, catch_trials=1)

    def test_what_is_played_is_what_the_run_verified(self, run_folder):
        run = runs.read_run(run_folder, needs=["verification"])
        found = material.load(run, self.CONFIG)
        assert found.words == ("fall", "rise") and len(found.metamers) == 2 * 4
        assert list(found.metamers["layer"].unique()) == ["cochleagram", "dense"]
        verified = pd.read_csv(run_folder / "verification/metamers.csv")
        verified = verified.rename(columns={"stage": "layer"}).set_index(["layer", "target_id"])
        for row, sound in zip(found.metamers.itertuples(), found.metamer_sounds, strict=True):
            before = verified.loc[(row.layer, row.target_id)]
            assert row.verdict == before["verdict"] and row.spearman == before["spearman"]
            name = f"{row.target_id}_{row.metamer_seed}_{row.word}.wav"
            path = run_folder / "metamers/frequency_grouped" / row.layer / "wav" / name
            file, rate = soundfile.read(path, dtype="int16")
            np.testing.assert_array_equal(sound, file)
            assert rate == found.sample_rate_hz
        assert found.playback == run.config.playback
        # Natural recordings are made as the run made its targets.
        clips = pipeline.load_recordings(run)
        expected, _ = audio.to_playback(
            clips.waveforms[found.naturals["target_id"].to_numpy(int)], small_run.SAMPLE_RATE_HZ
        )
        np.testing.assert_array_equal(found.natural_sounds, expected)

    def test_natural_recordings_are_not_the_targets(self, run_folder):
        found = material.load(runs.read_run(run_folder, needs=["verification"]), self.CONFIG)
        others = set(found.naturals["target_id"]) | set(found.practice["target_id"])
        assert len(found.naturals) == 1 and len(found.practice) == 6
        assert not others & set(found.metamers["target_id"]) and len(others) == 7

    def test_subsets_and_what_is_refused(self, run_folder, tmp_path):
        run = runs.read_run(run_folder, needs=["verification"])
        found = material.load(run, dataclasses.replace(self.CONFIG, stages=("dense",)))
        assert set(found.metamers["layer"]) == {"dense"}
        with pytest.raises(ValueError, match="stages must be among .*conv9"):
            material.load(run, dataclasses.replace(self.CONFIG, stages=("conv9",)))
        with pytest.raises(ValueError, match="must be the folder of a run"):
            runs.read_run(tmp_path, needs=["verification"])

    def test_the_driver_builds_it(self, run_folder, tmp_path):
        def build_it(*flags):
            command = [sys.executable, "-m", "experiments.build_listening_test", *flags]
            root = pathlib.Path(__file__).parents[2]
            return subprocess.run(command, cwd=root, capture_output=True, text=True)

        done = build_it(
            f"--workdir={run_folder}",
            f"--out={tmp_path / 'out'}",
            "--verified=any",
            "--norequire_correct",
            "--conditions=2",
            "--practice_trials=1",
            "--headphone_check=none",
            "--set=silence_s=0.1",
        )
        assert done.returncode == 0, done.stderr
        assert "2 combinations, 2 conditions" in done.stdout
        design = json.loads((tmp_path / "out/private/design.json").read_text("utf-8"))
        assert design["config"]["silence_s"] == 0.1 and design["run"]["preset"] == "smoke"
        assert (tmp_path / "out/conditions/condition_02.wav").is_file()


def test_wav_files_are_plain():
    data = audio.encode_wav(np.arange(6, dtype=np.int16).reshape(3, 2), 8000)
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)


def test_page_files_are_packaged():
    page = pathlib.Path(build.__file__).parents[1] / "page"
    assert {path.name for path in page.iterdir()} >= {"index.html", "experiment.js", "style.css"}


class TestReplacing:
    """A build takes the place of a build, and of nothing else."""

    @pytest.fixture
    def small(self):
        made = listening_material.fabricate(layers=("dense",), targets=1)
        return build.make(
            made, dataclasses.replace(CONFIG, catch_trials=0, natural_trials=0, conditions=2)
        )

    @pytest.mark.parametrize("name", ["public", "conditions", "private", "study.jzip"])
    def test_files_of_the_user_stay(self, small, tmp_path, name):
        path = tmp_path / name / "index.html" if "." not in name else tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        (tmp_path / "notes.txt").write_text("mine too")
        before = files_of(tmp_path)
        with pytest.raises(ValueError, match="give the experiment a folder of its own"):
            build.write(small, tmp_path)
        assert files_of(tmp_path) == before

    @pytest.mark.parametrize(
        "name", ["public/logo.png", "conditions/notes.txt", "private/keys.csv", "public/a/b.wav"]
    )
    def test_files_that_were_added_to_a_build_stay(self, small, tmp_path, name):
        build.write(small, tmp_path)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        before = files_of(tmp_path)
        with pytest.raises(ValueError, match=f"{tmp_path / name} was not made by a build"):
            build.write(small, tmp_path)
        assert files_of(tmp_path) == before
        (tmp_path / name).unlink()
        build.write(small, tmp_path)

    def test_links_are_not_followed(self, small, tmp_path):
        build.write(small, tmp_path / "e")
        (tmp_path / "e/public").rename(tmp_path / "elsewhere")
        (tmp_path / "e/public").symlink_to(tmp_path / "elsewhere")
        before = files_of(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match="was not made by a build"):
            build.write(small, tmp_path / "e")
        assert files_of(tmp_path / "elsewhere") == before

    @pytest.mark.parametrize("earlier", [True, False])
    @pytest.mark.parametrize("at", range(1, 10, 2))
    def test_a_build_that_fails_leaves_what_was(self, small, tmp_path, monkeypatch, at, earlier):
        (tmp_path / "notes.txt").write_text("mine")
        if earlier:
            build.write(small, tmp_path)
        before = files_of(tmp_path)
        rename, calls = pathlib.Path.rename, []

        def fail(path, target):
            calls.append(path)
            if len(calls) == at:
                raise OSError(28, "No space left on device")
            return rename(path, target)

        monkeypatch.setattr(pathlib.Path, "rename", fail)
        if at <= (8 if earlier else 4):
            with pytest.raises(storage.StorageError):
                build.write(small, tmp_path)
            assert files_of(tmp_path) == before
        monkeypatch.undo()
        build.write(small, tmp_path)
        assert not (tmp_path / ".listening_build").exists()

    def test_a_full_disk_leaves_what_was(self, small, tmp_path, monkeypatch):
        build.write(small, tmp_path)
        before = files_of(tmp_path)

        def full(path, content):
            raise storage.StorageError(28, "No space left on device", str(path))

        monkeypatch.setattr(storage, "write_json", full)
        with pytest.raises(storage.StorageError):
            build.write(small, tmp_path)
        assert files_of(tmp_path) == before
