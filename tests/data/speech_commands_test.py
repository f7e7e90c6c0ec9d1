"""Speech Commands from small archives of sines: layouts, lists, words, noise, damage."""

import functools
import gzip
import http.server
import io
import tarfile
import threading
import zipfile

import jax
import numpy as np
import pytest

from metamer_jax import audio, configs, data, models, training
from metamer_jax.data import archives
from metamer_jax.training import augmentation

pytest.importorskip("tensorflow_datasets")

RATE = 4000
WORDS = ("bed", "cat", "zero")
VALIDATION = {f"{word}/{1:08x}_nohash_0.wav" for word in WORDS}
TEST = {f"{word}/{2:08x}_nohash_0.wav" for word in WORDS}


def sine(frequency_hz, seconds=1.0):
    return 0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(round(RATE * seconds)) / RATE)


def wav(samples):
    return audio.encode_wav(samples, RATE)


def contents(words=WORDS, speakers=5, noise=True, lists=True):
    """{path in the archive: bytes}; no two sounds are alike."""
    files = {"README.md": b"about"}
    for w, word in enumerate(words):
        for speaker in range(speakers):
            samples = sine(200 + 97 * w + 13 * speaker)
            files[f"{word}/{speaker:08x}_nohash_0.wav"] = wav(samples)
    if noise:
        files["_background_noise_/README.md"] = b"about"
        files["_background_noise_/hum.wav"] = wav(sine(50, 2.6))
        files["_background_noise_/short.wav"] = wav(sine(60, 0.6))
        files["_background_noise_/mute.wav"] = wav(np.zeros(RATE))
    if lists:
        files["validation_list.txt"] = "\n".join([*sorted(VALIDATION), "absent/x.wav"]).encode()
        files["testing_list.txt"] = "\n".join(sorted(TEST)).encode() + b"\n"
    return files


def make_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            if name.endswith(".wav"):
                archive.addfile(tarfile.TarInfo(f"./{name.replace('/', '/._')}"))
    return path


def make_zip(path, files, top=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


def make_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.fixture
def config(tmp_path):
    return configs.DataConfig(
        dataset="speech_commands",
        words=WORDS,
        sample_rate_hz=RATE,
        data_zip=str(make_tar(tmp_path / "official.tar.gz", contents())),
        cache_dir=str(tmp_path / "cache"),
    )


def changed(config, **changes):
    return configs.DataConfig(**{**vars(config), **changes})


def test_the_official_layout_and_lists(config):
    loaded = data.load(config)
    assert loaded.words == WORDS and len(loaded) == 15
    assert loaded.summary["split"] == "official"
    files = np.char.add(loaded.names, ".wav")
    expected = [
        "validation" if f in VALIDATION else "test" if f in TEST else "train" for f in files
    ]
    assert loaded.splits.tolist() == expected
    row = list(files).index("cat/00000003_nohash_0.wav")
    sound = audio.normalize(sine(200 + 97 + 39))
    np.testing.assert_allclose(loaded.waveforms[row], sound, atol=1e-4)
    assert loaded.speakers[row] == "00000003"


def test_archives_and_folders_of_one_content_are_alike(config, tmp_path):
    first = data.load(config)
    files = contents()
    given = [
        {"data_zip": str(make_zip(tmp_path / "a.zip", files))},
        {"data_zip": str(make_zip(tmp_path / "b.zip", files, top="speech_commands/"))},
        {"data_zip": None, "data_dir": str(make_folder(tmp_path / "folder", files))},
    ]
    for changes in given:
        other = data.load(changed(config, **changes))
        for name in ("waveforms", "names", "splits", "noise"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))


def test_noise_is_split_off_and_cut_into_pieces(config):
    noise = data.load(config).noise
    assert noise.shape == (3, RATE)  # Two of hum, one of short; mute is left out.
    np.testing.assert_allclose(noise[1], audio.normalize(sine(50, 2)[RATE:]), atol=1e-4)
    repeated = np.resize(sine(60, 0.6), RATE)
    np.testing.assert_allclose(noise[2], audio.normalize(repeated), atol=1e-4)
    assert data.load(changed(config, sample_rate_hz=2000)).noise.shape == (3, 2000)


def test_words_choose_a_subset_and_the_default_is_all_35(config):
    loaded = data.load(changed(config, words=("zero", "bed")))
    assert loaded.words == ("zero", "bed") and len(loaded) == 10
    assert len(configs.SPEECH_COMMANDS_WORDS) == len(set(configs.SPEECH_COMMANDS_WORDS)) == 35
    with pytest.raises(ValueError, match=r"words \['backward', 'bird', .*'bed', 'cat', 'zero'"):
        data.load(changed(config, words=()))


def test_several_archives_make_one_task(config, tmp_path):
    one = make_zip(tmp_path / "one.zip", contents(("bed", "cat"), noise=False, lists=False))
    extra = {f"_silence_/{i}.wav": wav(sine(70 + i)) for i in range(2)}
    two = make_tar(tmp_path / "two.tgz", {**contents(("zero",), noise=False, lists=False), **extra})
    joined = changed(config, data_zip=f"{one},{two}")
    loaded = data.load(joined)
    assert len(loaded) == 15 and loaded.noise.shape == (2, RATE)
    assert loaded.summary["split"] == "random"  # No lists.
    assert data.load(changed(joined, split="speaker")).summary["split"] == "speaker"
    with pytest.raises(ValueError, match="split='official' needs .*validation_list.txt"):
        data.load(changed(joined, split="official"))
    with pytest.raises(ValueError, match="two files are called bed/00000000_nohash_0.wav"):
        data.load(changed(config, data_zip=f"{one},{config.data_zip}"))


def test_one_list_alone_is_no_official_split(config, tmp_path):
    files = contents()
    del files["testing_list.txt"]
    given = changed(config, data_zip=str(make_tar(tmp_path / "half.tar.gz", files)))
    assert data.load(given).summary["split"] == "random"
    with pytest.raises(ValueError, match="testing_list.txt.*not both of them"):
        data.load(changed(given, split="official"))


def test_an_official_split_without_a_test_recording_is_refused(config, tmp_path):
    files = {**contents(), "testing_list.txt": b""}
    given = changed(config, data_zip=str(make_tar(tmp_path / "a.tar.gz", files)))
    with pytest.raises(ValueError, match=r"no recording of these words into \['test'\]"):
        data.load(given)
    with pytest.raises(ValueError, match="split='official' needs dataset='speech_commands'"):
        configs.DataConfig(split="official")


def test_a_bad_sound_is_named_or_skipped(config, tmp_path):
    files = {**contents(), "cat/bad.wav": b"RIFF rubbish"}
    given = changed(config, data_zip=str(make_tar(tmp_path / "bad.tar.gz", files)))
    with pytest.raises(audio.AudioFileError, match="cat/bad.wav: unreadable.*--skip_bad_files"):
        data.load(given)
    lenient = data.load(changed(given, skip_bad_files=True))
    assert len(lenient) == 15 and list(lenient.summary["skipped"]) == ["cat/bad.wav"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_damaged_archives_are_refused(config, tmp_path, kind):
    make = make_tar if kind == "tar" else make_zip
    path = make(tmp_path / f"damaged.{kind}", contents())
    content = bytearray(path.read_bytes())
    where = len(content) // 2 if kind == "zip" else len(content) - 6  # A tar.gz's checksum.
    content[where] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged.{kind} is damaged"):
        data.load(changed(config, data_zip=str(path)))
    if kind == "tar":
        content = make(path, contents()).read_bytes()
        unpacked = bytearray(gzip.decompress(content))
        unpacked[unpacked.index(b"./cat") + 2] ^= 0xFF  # A header, whose sum is then wrong.
        for damaged in (content[:-2000], content[: len(content) // 2], bytes(unpacked)):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="damaged.tar is damaged"):
                data.load(changed(config, data_zip=str(path)))


def test_what_is_no_archive_is_refused(config, tmp_path):
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(ValueError, match=r"\.zip, \.tar or \.tar\.gz.*text.zip' is none"):
        data.load(changed(config, data_zip=str(tmp_path / "text.zip")))
    with pytest.raises(ValueError, match="there is no file .*gone.zip"):
        data.load(changed(config, data_zip=f"{config.data_zip},gone.zip"))
    with pytest.raises(ValueError, match="data_dir must be a folder .*nowhere"):
        data.load(changed(config, data_zip=None, data_dir="nowhere"))


def test_the_archive_is_downloaded_where_none_is_given(config, tmp_path, monkeypatch):
    from metamer_jax.data.speech_commands import speech_commands_dataset_builder as b

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(b, "URL", f"{address}/gone.tar.gz")
        with pytest.raises(ConnectionError, match="404.*--data_zip"):
            data.load(changed(config, data_zip=None))
        monkeypatch.setattr(b, "URL", f"{address}/official.tar.gz")
        downloaded = data.load(changed(config, data_zip=None))
        server.shutdown()
        thread.join()
    assert downloaded.summary["split"] == "official" and len(downloaded) == 15


def test_a_survey_reads_no_words_sounds(tmp_path):
    held = archives.survey([make_tar(tmp_path / "a.tar.gz", contents())])
    assert set(held.words) == set(WORDS)
    assert sorted(held.noise) == [f"_background_noise_/{n}.wav" for n in ("hum", "mute", "short")]
    assert {f for f, split in held.official.items() if split == "test"} == TEST


# Noise in training.


def test_background_noise_is_mixed_at_the_snr(config):
    noise = audio.normalize(np.random.default_rng(0).standard_normal((3, 100)))
    clip = audio.normalize(np.sin(np.arange(100)))
    settings = configs.AugmentConfig(background_snr_db=(6.0, 6.0))
    found = []
    for seed in range(6):
        mixed = np.asarray(
            augmentation.augment_waveform(jax.random.key(seed), clip, settings, noise=noise),
            np.float64,
        )
        assert np.sqrt(np.mean(mixed**2)) == pytest.approx(0.1, rel=1e-4)
        # Which piece, turned how far: that whose part explains what is not the clip.
        best = None
        for i, piece in enumerate(noise):
            for turn in range(100):
                basis = np.stack([clip, np.roll(piece, turn)], axis=1).astype(np.float64)
                parts, rest, *_ = np.linalg.lstsq(basis, mixed, rcond=None)
                if best is None or rest[0] < best[0]:
                    best = rest[0], i, turn, parts
        rest, piece, turn, (signal, added) = best
        assert rest < 1e-6
        assert 20 * np.log10(signal / added) == pytest.approx(6.0, abs=1e-3)
        found.append((piece, turn))
    assert len({piece for piece, _ in found}) > 1 and len({turn for _, turn in found}) > 3


def _frames(waveforms):
    return waveforms.reshape(len(waveforms), 4, -1)


def test_training_clips_are_mixed_with_background_noise():
    rng = np.random.default_rng(0)
    clips = training.Examples(audio.normalize(rng.standard_normal((5, 40))), np.arange(5) % 2)
    noise = audio.normalize(rng.standard_normal((2, 40)))
    recipe = configs.TrainingConfig(augment=configs.AugmentConfig(background_snr_db=(0.0, 0.0)))
    # Its images are the cochleagrams themselves.
    model = models.build_model({"name": "conv2d", "input_shape": (4, 10)}, num_words=2)
    material = training.prepare(model, clips, clips, recipe, feature_fn=_frames, noise=noise)
    key = jax.random.key(0)
    mixed = np.asarray(training.clips_of_epoch(key, material, {}, recipe).inputs).reshape(5, 40)
    for clip, found in zip(clips.inputs, mixed, strict=True):
        turned = np.stack([np.roll(piece, turn) for piece in noise for turn in range(40)])
        sums = audio.normalize(clip + turned)  # At 0 dB the two are as loud.
        assert np.min(np.abs(sums - found).max(axis=1)) < 1e-5
    np.testing.assert_array_equal(material.validation.inputs.reshape(5, 40), clips.inputs)


def test_background_noise_needs_recordings_of_it():
    settings = configs.AugmentConfig(background_snr_db=(0.0, 20.0))
    assert settings.of_waveforms
    with pytest.raises(ValueError, match="background_snr_db needs background noise"):
        augmentation.augment_waveform(jax.random.key(0), np.ones(4), settings)
    clips = training.Examples(np.ones((4, 40), np.float32), np.array([0, 1, 1, 0]))
    model = models.build_model("conv2d", num_words=2)
    recipe = configs.TrainingConfig(augment=settings)
    for noise, got in ((None, "0,"), (np.zeros((0, 40)), "0, 40"), (np.ones((3, 9)), "3, 9")):
        with pytest.raises(ValueError, match=rf"noise must be .*got \({got}\)"):
            training.prepare(model, clips, clips, recipe, feature_fn=_frames, noise=noise)
    with pytest.raises(ValueError, match="background_snr_db must be"):
        configs.AugmentConfig(background_snr_db=(9.0, 0.0))
