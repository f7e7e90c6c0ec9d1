"""Recordings from every source: what is read, refused, split and kept."""

import dataclasses
import functools
import hashlib
import http.server
import importlib.util
import os
import subprocess
import sys
import threading
import warnings
import zipfile

import numpy as np
import pytest

from metamer_jax import audio, configs, data
from metamer_jax.data import recordings, spoken_words
from metamer_jax.storage import cache

pytest.importorskip("soundfile")

RATE = 16000
needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason='espeak-ng is not installed: pip install "metamer_jax[speech]"',
)


def noise(seed, num_samples=RATE):
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples)


def make_folder(root, words=("no", "yes"), speakers=5, tokens=2):
    """Writes <word>/<speaker>_nohash_<token>.wav; returns their paths."""
    paths = []
    for speaker in range(speakers):
        for word in words:
            for token in range(tokens):
                seed = len(paths)
                path = root / word / f"{speaker:08x}_nohash_{token}.wav"
                audio.write_wav(path, noise(seed).clip(-1, 1), RATE)
                paths.append(path)
    return paths


def make_zip(path, folder, top="mini_speech_commands"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top}/README.md", "about")
        for file in sorted(folder.rglob("*.wav")):
            archive.write(file, f"{top}/{file.relative_to(folder).as_posix()}")
            archive.writestr(f"__MACOSX/{top}/{file.parent.name}/._{file.name}", b"junk")
    return path


@pytest.fixture
def folder(tmp_path):
    make_folder(tmp_path / "sounds")
    return tmp_path / "sounds"


@pytest.fixture
def config(tmp_path, folder):
    return configs.DataConfig(
        dataset="wav_folder", data_dir=str(folder), cache_dir=str(tmp_path / "cache")
    )


def changed(config, **changes):
    return configs.replace_given(config, **changes)


# Splits


def split_of(num, rule="random", seed=0, speakers=None, duplicates=None):
    names = np.array([f"word/{i:05d}" for i in range(num)])
    speakers = np.full(num, "") if speakers is None else np.asarray(speakers, dtype=np.str_)
    duplicates = np.arange(num) if duplicates is None else duplicates
    return recordings.split_recordings(rule, seed, names, speakers, duplicates)


def sizes(splits):
    return tuple(int(np.sum(splits == split)) for split in recordings.SPLITS)


def test_random_split_of_8000_is_the_papers():
    splits = split_of(8000)
    assert sizes(splits) == (6400, 800, 800)
    np.testing.assert_array_equal(splits, split_of(8000))
    assert np.any(splits != split_of(8000, seed=1))


def test_speaker_split_of_200_equal_speakers_is_the_papers():
    speakers = np.repeat([f"s{i}" for i in range(200)], 40)
    splits = split_of(8000, "speaker", speakers=speakers)
    assert sizes(splits) == (6400, 800, 800)
    held_by = {split: set(speakers[splits == split]) for split in recordings.SPLITS}
    assert [len(held_by[split]) for split in recordings.SPLITS] == [160, 20, 20]
    assert not held_by["train"] & held_by["test"]
    assert not held_by["train"] & held_by["validation"]
    assert not held_by["validation"] & held_by["test"]


def test_speaker_split_of_unequal_speakers_is_near():
    counts = np.random.default_rng(0).integers(1, 55, 216)
    speakers = np.repeat([f"s{i}" for i in range(216)], counts)
    splits = split_of(len(speakers), "speaker", speakers=speakers)
    for held_out in sizes(splits)[1:]:
        assert held_out == pytest.approx(0.1 * len(speakers), rel=0.05)
    assert all(len(set(splits[speakers == s])) == 1 for s in set(speakers))


@pytest.mark.parametrize("copies", [2, 3])
def test_duplicates_stay_together_and_sizes_exact(copies):
    duplicates = np.arange(1000)
    duplicates[: 100 * copies] = np.repeat(np.arange(0, 100 * copies, copies), copies)
    duplicates = np.random.default_rng(1).permutation(duplicates)
    splits = split_of(1000, duplicates=duplicates)
    assert sizes(splits) == (800, 100, 100)
    assert all(len(set(splits[duplicates == d])) == 1 for d in set(duplicates.tolist()))


def test_speakers_who_share_a_duplicate_stay_together():
    speakers = np.repeat([f"s{i}" for i in range(30)], 4)
    duplicates = np.arange(120)
    duplicates[4 * 7] = duplicates[4 * 19]  # Speakers 7 and 19.
    for seed in range(20):
        splits = split_of(120, "speaker", seed, speakers, duplicates)
        assert splits[4 * 7] == splits[4 * 19]
        assert all(len(set(splits[speakers == s])) == 1 for s in set(speakers))


@pytest.mark.parametrize("num", [3, 4, 7, 15, 16])
def test_no_split_is_empty(num):
    assert min(sizes(split_of(num))) >= 1
    assert min(sizes(split_of(4 * num, "speaker", speakers=np.arange(4 * num) % num))) >= 1
    assert min(sizes(split_of(2 * num, duplicates=np.arange(2 * num) // 2))) >= 1


def test_split_does_not_depend_on_the_order_of_recordings():
    names = np.array([f"word/{i}" for i in range(100)])
    order = np.random.default_rng(0).permutation(100)
    split = functools.partial(recordings.split_recordings, "random", 3)
    unknown = np.full(100, "")
    in_order = split(names, unknown, np.arange(100))
    np.testing.assert_array_equal(split(names[order], unknown, np.arange(100)), in_order[order])


def test_impossible_splits_are_refused():
    with pytest.raises(ValueError, match="at least 3 different recordings, got 2"):
        split_of(2)
    with pytest.raises(ValueError, match="at least 3 speakers, got 2"):
        split_of(10, "speaker", speakers=["a", "b"] * 5)
    with pytest.raises(ValueError, match="1 of 3 have none, such as 'word/00001'"):
        split_of(3, "speaker", speakers=["a", "", "b"])


# Folders


def test_a_folder_becomes_recordings(config):
    loaded = data.load(config)
    assert loaded.words == ("no", "yes")
    assert loaded.waveforms.shape == (20, RATE)
    assert loaded.waveforms.dtype == np.float32
    assert loaded.labels.dtype == np.int32
    np.testing.assert_allclose(loaded.waveforms.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.mean(loaded.waveforms**2, axis=1)), 0.1, rtol=1e-5)
    assert loaded.names[0] == "no/00000000_nohash_0"
    assert loaded.speakers[0] == "00000000"
    expected = audio.normalize(np.rint(noise(0) * 32768))
    np.testing.assert_allclose(loaded.waveforms[0], expected, atol=1e-6)
    assert sizes(loaded.splits) == (16, 2, 2)
    assert loaded.summary["counts"]["test"]["all"] == 2
    test = loaded.subset("test")
    assert len(test) == 2
    assert set(test.names) == set(loaded.names[loaded.splits == "test"])
    with pytest.raises(ValueError, match="split must be one of"):
        loaded.subset("dev")


def test_words_choose_and_order_the_labels(config):
    loaded = data.load(changed(config, words=("yes", "no")))
    assert loaded.words == ("yes", "no")
    assert loaded.names[0].startswith("yes/")
    with pytest.raises(ValueError, match=r"words \['up'\] have no recordings .*'no', 'yes'"):
        data.load(changed(config, words=("yes", "up")))


def test_other_formats_and_rates(tmp_path, folder, config):
    import soundfile

    path = folder / "yes" / "00000000_nohash_0"
    for suffix, rate in ((".flac", 44100), (".ogg", 22050), (".WAV", 8000)):
        soundfile.write(str(path) + suffix, noise(50, rate), rate, format=suffix[1:].upper())
    loaded = data.load(config)
    assert len(loaded) == 23
    assert np.isfinite(loaded.waveforms).all()
    assert "yes/00000000_nohash_0.flac" in loaded.names
    assert len(set(loaded.names)) == 23


def test_short_sounds_are_filled_up_at_the_end(folder, config):
    audio.write_wav(folder / "no" / "short.wav", noise(0, 12288), RATE)
    loaded = data.load(config)
    waveform = loaded.waveforms[list(loaded.names).index("no/short")]
    assert np.ptp(waveform[12288:]) == 0
    assert waveform.std() == pytest.approx(0.1, rel=1e-4)


def test_short_or_slow_sounds_are_refused_unless_asked_for(folder, config):
    audio.write_wav(folder / "no" / "short.wav", noise(0, 12288), RATE)
    with pytest.raises(ValueError, match=r"short.wav: lasts .*shorter.*allow_padding=true"):
        data.load(dataclasses.replace(config, allow_padding=False))
    faster = dataclasses.replace(config, sample_rate_hz=2 * RATE, allow_upsampling=False)
    with pytest.raises(ValueError, match=rf"has {RATE} Hz, less than .*allow_upsampling=true"):
        data.load(faster)
    # What was read with the permission is not taken for what was read without.
    resampled = data.load(dataclasses.replace(faster, allow_upsampling=True))
    assert len(resampled) == len(data.load(config))
    with pytest.raises(ValueError, match="allow_padding=true"):
        data.load(dataclasses.replace(config, allow_padding=False))


def write_bad(path, kind):
    import soundfile

    samples = {
        "silent": np.full(RATE, 0.25),
        "over-long": noise(1, RATE + 2),
        "stereo": noise(1).reshape(-1, 2),
        "empty": np.zeros(0),
        "non-finite": np.where(np.arange(RATE) == 5, np.inf, noise(1)),
    }
    if kind == "unreadable":
        path.write_bytes(b"RIFF rubbish")
    else:
        soundfile.write(path, samples[kind], RATE, subtype="FLOAT")


BAD = {
    "unreadable": "unreadable",
    "empty": "empty",
    "non-finite": "not finite",
    "silent": "silent",
    "stereo": "2 channels",
    "over-long": r"lasts 1.0001 s, longer than duration_s=1",
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("source", ["folder", "msc_zip", "msc_dir"])
def test_bad_files_are_named_or_skipped(tmp_path, folder, config, kind, source):
    write_bad(folder / "no" / "bad.wav", kind)
    if source != "folder":
        pytest.importorskip("tensorflow_datasets")
        given = {"data_dir": str(folder)}
        if source == "msc_zip":
            given = {"data_dir": None, "data_zip": str(make_zip(tmp_path / "a.zip", folder))}
        config = configs.DataConfig(
            dataset="mini_speech_commands",
            words=("no", "yes"),
            cache_dir=config.cache_dir,
            **given,
        )
    with pytest.raises(ValueError, match=f"no/bad.wav: .*{BAD[kind]}.*--skip_bad_files"):
        data.load(config)
    loaded = data.load(changed(config, skip_bad_files=True))
    assert len(loaded) == 20
    ((file, reason),) = loaded.summary["skipped"].items()
    assert file.endswith("no/bad.wav")
    # What a lenient call kept does not make a strict one lenient.
    with pytest.raises(ValueError, match=f"no/bad.wav: .*{BAD[kind]}.*--skip_bad_files"):
        data.load(config)


def test_exact_duplicates_are_found_and_kept_together(folder, config):
    original = folder / "no" / "00000000_nohash_0.wav"
    for i in range(3):
        (folder / "yes" / f"copy{i}.wav").write_bytes(original.read_bytes())
    for seed in range(10):
        loaded = data.load(changed(config, seed=seed))
        duplicates = loaded.summary["duplicates"]
        assert (duplicates["sounds"], duplicates["copies"]) == (1, 3)
        assert duplicates["sounds_under_several_words"] == 1
        members = np.isin(loaded.names, duplicates["names"][0])
        assert members.sum() == 4
        assert len(set(loaded.splits[members])) == 1


def test_a_missing_folder_is_named(config):
    with pytest.raises(ValueError, match="data_dir must be a folder .*nowhere"):
        data.load(changed(config, data_dir="nowhere"))


# The cache


def test_later_loads_come_from_the_cache(config, monkeypatch):
    first = data.load(config)
    monkeypatch.setattr(audio, "read", None)
    again = data.load(changed(config, seed=4, split="speaker"))
    np.testing.assert_array_equal(again.waveforms, first.waveforms)
    assert np.any(again.splits != first.splits)


def test_a_changed_folder_is_read_anew(folder, config):
    data.load(config)
    audio.write_wav(folder / "no" / "new.wav", noise(99), RATE)
    assert "no/new" in data.load(config).names


@pytest.mark.parametrize("damage", ["truncated", "altered", "rubbish"])
def test_a_damaged_cache_is_rebuilt(config, damage):
    first = data.load(config)
    (path,) = cache.cache_dir(config.cache_dir).glob("recordings/*.npz")
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "altered":
        content[len(content) // 2] ^= 1
    else:
        content = b"rubbish"
    path.unlink()  # What was loaded stays as it is.
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        again = data.load(config)
    np.testing.assert_array_equal(again.waveforms, first.waveforms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.load(config)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, config):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot write the cache folder"):
        loaded = data.load(changed(config, cache_dir=str(tmp_path / "file")))
    assert len(loaded) == 20


def test_the_cache_folder(monkeypatch):
    monkeypatch.setenv("METAMER_JAX_CACHE", "elsewhere")
    assert str(cache.cache_dir(None)) == "elsewhere"
    assert str(cache.cache_dir("given")) == "given"
    monkeypatch.delenv("METAMER_JAX_CACHE")
    assert str(cache.cache_dir(None)) == os.path.expanduser("~/.cache/metamer_jax")


# mini_speech_commands


@pytest.fixture
def msc(tmp_path, folder):
    pytest.importorskip("tensorflow_datasets")
    return configs.DataConfig(
        dataset="mini_speech_commands",
        words=("no", "yes"),
        data_zip=str(make_zip(tmp_path / "msc.zip", folder)),
        cache_dir=str(tmp_path / "cache"),
    )


def test_a_zip_and_a_folder_give_what_their_files_give(msc, folder, config):
    from_zip = data.load(msc)
    plain = data.load(config)
    for given in (folder, folder.parent):  # The folder of words, and the one that holds it.
        from_folder = data.load(_with_dir(msc, given))
        np.testing.assert_array_equal(from_folder.waveforms, plain.waveforms)
    for name in ("waveforms", "labels", "names", "speakers", "splits"):
        np.testing.assert_array_equal(getattr(from_zip, name), getattr(plain, name))
    assert from_zip.words == plain.words


def _with_dir(config, folder):
    fields = {**vars(config), "data_zip": None, "data_dir": str(folder)}
    return configs.DataConfig(**fields)


def test_two_zips_of_one_name_are_told_apart(msc, folder, tmp_path):
    first = data.load(msc)
    audio.write_wav(folder / "no" / "00000000_nohash_0.wav", noise(77), RATE)
    make_zip(tmp_path / "msc.zip", folder)
    second = data.load(msc)
    assert np.any(first.waveforms[0] != second.waveforms[0])
    np.testing.assert_array_equal(first.waveforms[1:], second.waveforms[1:])


def test_prepared_data_serve_several_settings_and_are_rebuilt_when_damaged(msc):
    data.load(msc)
    root = cache.cache_dir(msc.cache_dir) / "tensorflow_datasets"
    (record,) = root.rglob("*.array_record*")
    before = record.stat().st_mtime_ns
    half = changed(msc, sample_rate_hz=8000)
    assert data.load(half).waveforms.shape == (20, 8000)
    assert record.stat().st_mtime_ns == before
    record.write_bytes(record.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="damaged"):
        assert len(data.load(changed(msc, sample_rate_hz=4000))) == 20


def test_the_builder_works_alone(msc, tmp_path):
    from metamer_jax.data import examples
    from metamer_jax.data.mini_speech_commands import mini_speech_commands_dataset_builder as b

    config = examples.BuilderConfig(name="small", words=("no", "yes"), sources=(msc.data_zip,))
    builder = b.Builder(data_dir=tmp_path / "tfds", config=config, file_format="array_record")
    builder.download_and_prepare()
    assert builder.name == "mini_speech_commands"
    assert builder.info.splits["train"].num_examples == 20
    assert builder.info.features["label"].names == ["no", "yes"]
    source = builder.as_data_source("train")
    assert source[0]["audio"].shape == (RATE,)


def test_tensorflow_is_not_imported(msc):
    script = (
        "import sys; from metamer_jax import configs, data;"
        f"data.load(configs.from_dict(configs.DataConfig, {vars(msc)!r}));"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_data_needs_numpy_and_scipy_only():
    script = (
        "import sys; import metamer_jax.data;"
        "print([m for m in ('soundfile', 'librosa', 'tensorflow_datasets', 'espeakng_loader',"
        " 'filelock', 'requests') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"


def test_zips_that_are_none_are_refused(msc, tmp_path):
    with pytest.raises(ValueError, match="there is no file .*gone.zip"):
        data.load(changed(msc, data_zip=str(tmp_path / "gone.zip")))
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(ValueError, match="text.zip' is no zip"):
        data.load(changed(msc, data_zip=str(tmp_path / "text.zip")))
    with pytest.raises(ValueError, match=r"words \['up'\] have no recordings"):
        data.load(changed(msc, words=("no", "up")))
    with zipfile.ZipFile(msc.data_zip) as archive:
        entry = archive.getinfo("mini_speech_commands/no/00000000_nohash_0.wav")
    content = bytearray((tmp_path / "msc.zip").read_bytes())
    content[entry.header_offset + 500] ^= 0xFF
    (tmp_path / "msc.zip").write_bytes(content)
    with pytest.raises(ValueError, match="msc.zip is damaged"):
        data.load(msc)


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served")
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/msc.zip", tmp_path / "served"
        running.shutdown()
        thread.join()


def test_the_zip_is_downloaded_where_none_is_given(msc, server, monkeypatch):
    from metamer_jax.data.mini_speech_commands import mini_speech_commands_dataset_builder as b

    url, served = server
    monkeypatch.setattr(b, "URL", url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    fields = {**vars(msc), "data_zip": None}
    with pytest.raises(ConnectionError, match="404.*--data_zip"):
        data.load(configs.DataConfig(**fields))
    (served / "msc.zip").write_text("<html>sign in to the hotel's network</html>")
    with pytest.raises(ConnectionError, match="damaged.*--data_zip"):
        data.load(configs.DataConfig(**fields))
    (served / "msc.zip").write_bytes(open(msc.data_zip, "rb").read())
    downloaded = data.load(configs.DataConfig(**fields))
    np.testing.assert_array_equal(downloaded.waveforms, data.load(msc).waveforms)


# Spoken words


@pytest.fixture
def spoken(tmp_path):
    return configs.DataConfig(
        words=("left", "happy", "two"),
        num_speakers=4,
        tokens_per_word=2,
        cache_dir=str(tmp_path / "cache"),
    )


@needs_espeak
def test_spoken_words(spoken):
    loaded = data.load(spoken)
    assert loaded.waveforms.shape == (24, RATE)
    assert loaded.words == ("left", "happy", "two")
    assert len(set(loaded.speakers)) == 4
    assert loaded.summary["split"] == "speaker"
    assert loaded.summary["duplicates"]["copies"] == 0
    assert np.abs(loaded.waveforms).max() < 3
    by_split = [set(loaded.subset(split).speakers) for split in recordings.SPLITS]
    assert sum(map(len, by_split)) == 4
    assert data.load(changed(spoken, split="random")).summary["split"] == "random"


@needs_espeak
def test_spoken_words_are_the_same_in_every_process(spoken, tmp_path):
    script = (
        "import hashlib, sys; from metamer_jax import configs, data;"
        f"values = {{**{vars(spoken)!r}, 'cache_dir': sys.argv[1]}};"
        "waveforms = data.load(configs.from_dict(configs.DataConfig, values)).waveforms;"
        "print(hashlib.sha256(waveforms.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / name)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for name in ("a", "b")
    }
    here = hashlib.sha256(data.load(spoken).waveforms.tobytes()).hexdigest()
    assert digests == {here}


@needs_espeak
def test_tokens_speakers_and_seeds_differ(spoken):
    loaded = data.load(spoken)
    correlation = np.corrcoef(loaded.waveforms)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 0.9
    other = data.load(changed(spoken, corpus_seed=1))
    assert np.all(np.any(other.waveforms != loaded.waveforms, axis=1))
    # The split's seed leaves the sounds alone.
    np.testing.assert_array_equal(data.load(changed(spoken, seed=1)).waveforms, loaded.waveforms)


@needs_espeak
def test_long_words_are_spoken_faster_or_refused(spoken):
    loaded = data.load(changed(spoken, words=("incomprehensible", "no")))
    assert len(loaded) == 16
    with pytest.raises(ValueError, match="'incomprehensible.*does not fit"):
        data.load(changed(spoken, words=("incomprehensible", "no"), duration_s=0.2))
    with pytest.raises(ValueError, match="free of slashes"):
        data.load(changed(spoken, words=("either/or", "no")))


def test_every_speaker_has_a_voice_of_their_own():
    speakers = [spoken_words.make_speaker(i, seed=0) for i in range(200)]
    assert len({speaker.voice for speaker in speakers}) == 200
    assert speakers[:5] == [spoken_words.make_speaker(i, seed=0) for i in range(5)]


def test_a_missing_speech_library_is_named(spoken, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "metamer_jax\[speech\]"'):
        data.load(spoken)
