"""Files and folders as strangers bring them: read rightly, or refused in one line."""

import io
import os
import re
import struct
import tarfile
import unicodedata
import zipfile

import numpy as np
import pytest

from metamer_jax import audio, configs, data, sound_files
from metamer_jax.data import archives, wav_folder

soundfile = pytest.importorskip("soundfile")

RATE, COUNT = 8000, 800


def noise(seed, count=COUNT):
    return 0.1 * np.random.default_rng(seed).standard_normal(count)


def encoded(samples, rate=RATE, **how):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **{"format": "WAV", "subtype": "PCM_16", **how})
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def contents(words=("no", "yes"), each=6):
    return {
        f"{word}/{i:08x}_nohash_0.wav": encoded(noise(100 * w + i))
        for w, word in enumerate(words)
        for i in range(each)
    }


def make_folder(root, files):
    for name, content in files.items():
        put(root / name, content)
    return root


def make_zip(path, files, **how):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def load(tmp_path):
    def loaded(folder=None, *, archive=None, dataset="wav_folder", **changes):
        given = {"data_dir": str(folder)} if archive is None else {"data_zip": str(archive)}
        settings = {"sample_rate_hz": RATE, "duration_s": COUNT / RATE, **given, **changes}
        config = configs.DataConfig(dataset=dataset, cache_dir=str(tmp_path / "cache"), **settings)
        return data.load(config)

    return loaded


# What a header says of a file's length.


def with_size(content, name, form, size):
    at = content.index(name) + 4
    return content[:at] + struct.pack(form, size) + content[at + struct.calcsize(form) :]


WAV, RIFX = encoded(noise(0)), encoded(noise(0), endian="BIG")
RF64, AIFF = encoded(noise(0), format="RF64"), encoded(noise(0), format="AIFF")
AU, CAF = encoded(noise(0), format="AU"), encoded(noise(0), format="CAF")
LONG = RF64.index(b"ds64") + 16
UNFINISHED = {
    "sox": with_size(WAV, b"data", "<I", 0x7FFFF000),
    "arecord": with_size(WAV, b"data", "<I", 0x7FFFFFFF),
    "ffmpeg": with_size(WAV, b"data", "<I", 0xFFFFFFFF),
    "killed": with_size(with_size(WAV, b"data", "<I", 0), b"RIFF", "<I", 36),
    "RIFX": with_size(RIFX, b"data", ">I", 0x7FFFFFFF),
    "RF64": RF64[:LONG] + struct.pack("<Q", 2**64 - 1) + RF64[LONG + 8 :],
    "RF64 without its length": RF64[:LONG] + bytes(8) + RF64[LONG + 8 :],
    "AIFF": with_size(AIFF, b"SSND", ">I", 0x7FFFFFFF),
    "AU": AU[:8] + b"\xff" * 4 + AU[12:],
    "CAF": with_size(CAF, b"data", ">q", -1),
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_a_placeholder_stands_for_the_end_of_the_file(kind):
    samples, rate = audio.decode(UNFINISHED[kind], kind)
    assert rate == RATE
    np.testing.assert_allclose(samples, noise(0), atol=2**-15)
    shorter, _ = audio.decode(UNFINISHED[kind][:-200], kind)
    np.testing.assert_array_equal(shorter, samples[:700])


FORMATS = (
    *(
        {"format": "WAV"},
        {"format": "WAV", "endian": "BIG"},
        {"format": "RF64"},
        {"format": "AIFF"},
    ),
    *({"format": "AU"}, {"format": "CAF"}, {"format": "W64"}, {"format": "NIST"}),
    *({"format": "FLAC"}, {"format": "OGG", "subtype": "VORBIS"}, {"format": "OGG"}),
    {"format": "MP3", "subtype": "MPEG_LAYER_III"},
)


@pytest.mark.parametrize("how", FORMATS, ids=lambda how: " ".join(how.values()))
def test_a_sound_cut_short_is_an_error_in_every_format(how):
    if how == {"format": "OGG"}:
        how = {"format": "OGG", "subtype": "OPUS"}
    content = encoded(noise(0, RATE), **how)
    whole = audio.decode(content, "whole")[0]
    assert len(whole) == RATE
    for length in (len(content) // 2, len(content) * 9 // 10, len(content) - 3):
        with pytest.raises(audio.AudioFileError, match="^cut: unreadable "):
            audio.decode(content[:length], "cut")


def test_a_frame_too_many_is_cut_off_and_told(tmp_path, load, caplog):
    files = contents()
    files["no/long.wav"] = encoded(noise(7, 4411), 44100)  # 0.1 s, and one frame.
    files["no/short.wav"] = encoded(noise(8, 799))
    folder = make_folder(tmp_path / "sounds", files)
    loaded = load(folder, allow_padding=False)
    assert loaded.summary["cut_by_a_frame"] == 1
    assert "1 recordings are longer than duration_s by one frame" in caplog.text
    found = loaded.waveforms[list(loaded.names).index("no/long")]
    quantised = np.rint(noise(7, 4411)[:4410] * 32768) / 32768
    np.testing.assert_allclose(
        found, audio.normalize(audio.resample(quantised, 44100, RATE)), atol=1e-4
    )
    put(folder / "no/longer.wav", encoded(noise(7, 5000), 44100))
    with pytest.raises(ValueError, match=r"longer.wav: lasts 0.1134 s.*--duration_s=0.2 takes it"):
        load(folder)


@pytest.mark.filterwarnings("error")  # As which pytest has what a callback of libsndfile's prints.
def test_a_header_that_points_before_the_file_is_refused_quietly():
    content = AIFF.replace(b"SSND", b"\xff" * 4)
    with pytest.raises(audio.AudioFileError, match="x: unreadable"):
        audio.decode(content, "x")


# What is no sound, or none of a recording's size.


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path, load):
    folder = make_folder(tmp_path / "sounds", contents())
    os.mkfifo(folder / "no/pipe.wav")
    (folder / "no/folder.wav").mkdir()
    (folder / "no/zero.wav").symlink_to("/dev/zero")
    for dataset in ("wav_folder", "mini_speech_commands", "speech_commands"):
        given = {"dataset": dataset, "words": ("no", "yes")}
        with pytest.raises(
            audio.AudioFileError, match="folder.wav: unreadable .*directory.*--skip"
        ):
            load(folder, **given)
        loaded = load(folder, **given, skip_bad_files=True)
        assert len(loaded) == 12
        reasons = {name.split("/")[-1]: why for name, why in loaded.summary["skipped"].items()}
        assert reasons["pipe.wav"] == reasons["zero.wav"] == "unreadable (no regular file)"


def test_no_file_is_read_beyond_a_limit(tmp_path, load, monkeypatch):
    with open(tmp_path / "sparse.wav", "wb") as file:
        file.write(WAV)
        file.truncate(16 << 30)
    with pytest.raises(audio.AudioFileError, match="sparse.wav: unreadable .larger than 128 MiB"):
        audio.read(tmp_path / "sparse.wav")
    monkeypatch.setattr(sound_files, "MAX_BYTES", 1 << 16)
    monkeypatch.setattr(sound_files, "MAX_FRAMES", 1 << 16)
    bomb = encoded(np.zeros(1 << 17), format="FLAC")
    assert len(bomb) < 1 << 16
    with pytest.raises(audio.AudioFileError, match="bomb: unreadable .lasts 8 s or longer"):
        audio.decode(bomb, "bomb")
    files = {**contents(), "no/bomb.wav": bytes(1 << 20)}
    tar = tmp_path / "a.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(make_folder(tmp_path / "files", files), ".")
    for path in (make_zip(tmp_path / "a.zip", files), tar):
        given = {"archive": path, "dataset": "speech_commands", "words": ("no", "yes")}
        with pytest.raises(audio.AudioFileError, match="no/bomb.wav: unreadable .larger than"):
            load(**given)
        assert len(load(**given, skip_bad_files=True)) == 12
    monkeypatch.setattr(archives, "_MAX_NOISE_BYTES", 3000)
    noisy = {f"_background_noise_/{i}.wav": WAV for i in range(3)}
    with pytest.raises(ValueError, match="b.zip has more than .* MiB of background noise"):
        archives.survey([make_zip(tmp_path / "b.zip", noisy)])


def test_archives_that_cannot_be_unpacked_say_how_to_repack(tmp_path, load):
    content = make_zip(tmp_path / "a.zip", contents()).read_bytes()
    deflate64 = bytearray(content)
    for header, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = -1
        while (at := deflate64.find(header, at + 1)) >= 0:
            deflate64[at + place] = 9
    path = put(tmp_path / "explorer.zip", bytes(deflate64))
    encrypted = bytearray(content)
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    locked = put(tmp_path / "locked.zip", bytes(encrypted))
    for dataset in ("mini_speech_commands", "speech_commands"):
        given = {"dataset": dataset, "words": ("no", "yes")}
        with pytest.raises(ValueError, match="explorer.zip is packed by method 9 .*pack it again"):
            load(archive=path, **given)
        with pytest.raises(ValueError, match="locked.zip is encrypted: unpack it"):
            load(archive=locked, **given)


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_damaged_archive_is_named_however_it_is_packed(tmp_path, method):
    path, draw = tmp_path / "a.zip", np.random.default_rng(method)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents(each=1).items():
            archive.writestr(name, content)
    whole, told = path.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for at in draw.integers(len(whole), size=3):
            damaged[at] = draw.integers(256)
        path.write_bytes(damaged)
        try:
            for _, content in archives.read(path, lambda _: True):
                told += isinstance(content, audio.AudioFileError)
        except ValueError as error:
            assert "a.zip is" in str(error), repr(error)
            told += 1
    assert told > 200


# Lists of the official split.


LISTS = {
    "validation_list.txt": ["no/00000000_nohash_0.wav", "yes/00000000_nohash_0.wav"],
    "testing_list.txt": ["no/00000001_nohash_0.wav", "yes/00000001_nohash_0.wav"],
}


@pytest.mark.parametrize(
    "written",
    [
        lambda lines: "\n".join(lines).encode("utf-8-sig"),
        lambda lines: "\r\n".join(lines).encode("utf-16"),
        lambda lines: "\n".join(lines).encode("utf-16-le"),
        lambda lines: "\r\n".join(line.replace("/", "\\") for line in lines).encode(),
        lambda lines: "\n".join(f"./{line} " for line in lines).encode(),
        lambda lines: "\n".join(f"/data/v0.02/{line}" for line in lines).encode(),
    ],
    ids=["mark", "UTF-16", "UTF-16 without a mark", "backslashes", "dots", "paths"],
)
def test_lists_are_read_in_any_encoding_and_style(tmp_path, written):
    files = {**contents(), **{name: written(lines) for name, lines in LISTS.items()}}
    official = archives.survey([make_folder(tmp_path / "sounds", files)]).official
    expected = {line: archives.LISTS[name] for name, lines in LISTS.items() for line in lines}
    assert official == expected


def test_lists_that_name_nothing_are_refused_and_gaps_told(tmp_path, caplog):
    files = {**contents(), "testing_list.txt": b"no/00000001_nohash_0.wav\nno/gone.wav"}
    files["validation_list.txt"] = b"no/00000000.wav\nyes/00000000.wav"
    folder = make_folder(tmp_path / "sounds", files)
    with pytest.raises(ValueError, match="validation_list.txt must have .* none of its 2 lines"):
        archives.survey([folder])
    put(folder / "validation_list.txt", "größe/a.wav".encode("latin-1"))
    with pytest.raises(ValueError, match="validation_list.txt must be text in UTF-8"):
        archives.survey([folder])
    put(folder / "validation_list.txt", b"absent/a.wav\nno/00000000_nohash_0.wav")
    assert len(archives.survey([folder]).official) == 2
    assert "1 of 2 lines of testing_list.txt name no file that is there" in caplog.text


# Names, endings, places.


@pytest.mark.parametrize("dataset", ["wav_folder", "mini_speech_commands", "speech_commands"])
def test_words_are_compared_in_composed_unicode(tmp_path, load, dataset):
    composed, apart = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))
    folder = make_folder(tmp_path / "sounds", contents((apart, "yes")))
    loaded = load(folder, dataset=dataset, words=(apart, "yes"))
    assert loaded.words == (composed, "yes") and len(loaded) == 12
    assert loaded.names[0] == f"{composed}/00000000_nohash_0"
    np.testing.assert_array_equal(
        load(folder, dataset=dataset, words=(composed, "yes")).waveforms, loaded.waveforms
    )
    with pytest.raises(ValueError, match="words repeat"):
        configs.DataConfig(words=(composed, apart))
    (folder / composed).mkdir()
    with pytest.raises(ValueError, match="two folders are called 'größe'"):
        wav_folder.find_words(folder)


@pytest.mark.parametrize("dataset", ["wav_folder", "mini_speech_commands", "speech_commands"])
def test_every_format_is_taken_and_what_is_none_is_counted_and_said(
    tmp_path, load, dataset, caplog
):
    files = contents(each=2)
    for word in ("no", "yes"):
        for i, (ending, name) in enumerate({"aiff": "AIFF", "mp3": "MP3", "au": "AU"}.items()):
            how = {"subtype": "MPEG_LAYER_III"} if ending == "mp3" else {}
            files[f"{word}/{i}.{ending}"] = encoded(noise(90 + i), format=name, **how)
    files |= {"no/a.m4a": b"", "no/b.m4a": b"", "yes/notes": b""}
    loaded = load(make_folder(tmp_path / "sounds", files), dataset=dataset, words=("no", "yes"))
    assert len(loaded) == 10
    assert loaded.summary["passed_over"] == {".m4a": 2, "": 1}
    said = "3 files that are no sounds.*: 2 .m4a, 1 without an ending .such as .*no/a.m4a"
    assert caplog.text.count("passed over") == 1
    assert re.search(said, caplog.text)
    row = [name.split(".")[0] for name in loaded.names].index("no/0")
    np.testing.assert_allclose(loaded.waveforms[row], audio.normalize(noise(90)), atol=1e-4)


def test_what_is_there_is_said_where_no_words_are(tmp_path, load):
    flat = {f"{i}_jackson_0.wav": WAV for i in range(10)}
    for name, files, said in (
        ("flat", flat, "10 sound files lie in it without a folder, such as '0_jackson_0.wav'"),
        (
            "deep",
            {f"v1/{n}": c for n, c in contents().items()},
            "deeper, such as .*'no', 'yes'.*v1",
        ),
        ("video", {"no/a.mp4": b"", "yes/b.mp4": b""}, "it holds files 2 with .mp4; what is read"),
        ("empty", {}, "it holds no files"),
        ("one", contents(("no",)), r"two words or more in data_dir=.*, got \['no'\]"),
    ):
        folder = make_folder(tmp_path / name, files)
        folder.mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=said):
            load(folder)


def test_a_folder_of_mp3_is_taken(tmp_path, load):
    files = {
        f"{word}/{i}.mp3": encoded(noise(i + n), format="MP3", subtype="MPEG_LAYER_III")
        for n, word in ((0, "no"), (50, "yes"))
        for i in range(5)
    }
    assert len(load(make_folder(tmp_path / "sounds", files))) == 10
