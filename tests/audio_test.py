"""Sound files, levels and sample rates."""

import io
import pickle
import wave

import numpy as np
import pytest

from metamer_jax import audio
from metamer_jax.configs import PlaybackConfig

soundfile = pytest.importorskip("soundfile")

RATE = 16000


def tone(duration_s=0.5, frequency_hz=440.0, rate=RATE, amplitude=0.5):
    times = np.arange(round(duration_s * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


@pytest.mark.parametrize(("suffix", "tolerance"), [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.05)])
def test_reads_the_usual_formats(tmp_path, suffix, tolerance):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(), RATE)
    waveform, rate = audio.read(path)
    assert rate == RATE
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, tone(), atol=tolerance)


def test_16_bit_files_survive_exactly(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 1001).astype(np.int16)
    audio.write_wav(tmp_path / "a" / "x.wav", samples, 22050)
    waveform, rate = audio.read(tmp_path / "a" / "x.wav")
    assert rate == 22050
    np.testing.assert_array_equal(waveform * 32768, samples)
    np.testing.assert_array_equal(waveform, audio.from_int16(samples))
    audio.write_wav(tmp_path / "again.wav", waveform, rate)
    assert (tmp_path / "again.wav").read_bytes() == (tmp_path / "a" / "x.wav").read_bytes()
    with wave.open(str(tmp_path / "again.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 22050, 1001)


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "x.wav"
    audio.write_wav(path, tone(), RATE)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"within \[-1, 1\]"):
        audio.write_wav(path, 3 * tone(), RATE)
    with pytest.raises(ValueError, match="finite"):
        audio.write_wav(path, tone() * np.nan, RATE)
    with pytest.raises(ValueError, match=r"\[time\]"):
        audio.write_wav(path, np.zeros((2, 3)), RATE)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.wav"]


def encoded(samples, subtype="PCM_16"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (encoded(np.zeros(0)), "holds no samples"),
        (b"not a sound at all", "unreadable"),
        (encoded(tone())[:3000], "cut short: 13044 bytes"),
        (encoded(np.stack([tone()] * 2, axis=1)), "2 channels"),
        (encoded(np.where(np.arange(8000) == 7, np.nan, tone()), "FLOAT"), "1 of its 8000"),
    ],
)
def test_a_bad_file_is_an_error_with_its_name_and_the_reason(tmp_path, data, reason):
    path = tmp_path / "bad.wav"
    path.write_bytes(data)
    with pytest.raises(audio.AudioFileError, match=reason) as error:
        audio.read(path)
    assert error.value.file == str(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(audio.AudioFileError, match="gone.wav: unreadable"):
        audio.read(tmp_path / "gone.wav")


def test_an_audio_file_error_crosses_processes():
    error = pickle.loads(pickle.dumps(audio.AudioFileError("a.wav", "empty")))
    assert (error.file, error.reason, str(error)) == ("a.wav", "empty", "a.wav: empty")


def test_normalize_sets_mean_and_rms_of_each_sound():
    waveforms = np.stack([tone() + 0.3, 1e-3 * tone(frequency_hz=100.0)])
    result = audio.normalize(waveforms)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean(axis=-1), 0.0, atol=1e-7)
    np.testing.assert_allclose(np.sqrt(np.mean(result**2, axis=-1)), 0.1, rtol=1e-5)


@pytest.mark.parametrize(("bad", "reason"), [(0.7, "silent"), (np.nan, "not finite")])
def test_normalize_refuses_what_has_no_level(bad, reason):
    with pytest.raises(ValueError, match=f"{reason} \\(sound 1\\)"):
        audio.normalize(np.stack([tone(), np.full(8000, bad)]))


@pytest.mark.parametrize("from_hz", [8000, 11025, 22050, 44100, 48000])
def test_resample_keeps_a_tone(from_hz):
    resampled = audio.resample(tone(1.0, rate=from_hz), from_hz, RATE)
    assert resampled.shape == (RATE,)
    middle = slice(1000, -1000)
    np.testing.assert_allclose(resampled[middle], tone(1.0)[middle], atol=2e-3)


def test_resample_removes_what_would_alias():
    resampled = audio.resample(tone(1.0, frequency_hz=11000.0, rate=44100), 44100, RATE)
    assert np.abs(resampled[1000:-1000]).max() < 2e-3


def test_resample_refuses_odd_rates():
    with pytest.raises(ValueError, match="to_hz"):
        audio.resample(tone(), RATE, 0)


def rms_db(samples):
    return 20 * np.log10(np.sqrt(np.mean((samples / 32768.0) ** 2, axis=-1)))


def test_sounds_are_played_at_one_level_and_fade():
    random = np.random.default_rng(0)
    waveforms = random.standard_normal((5, 8000)) * [[0.1], [1], [5], [0.01], [2]] + 0.3
    played, level_db = audio.to_playback(waveforms, RATE)
    assert played.dtype == np.int16
    np.testing.assert_allclose(level_db, -23)
    np.testing.assert_allclose(rms_db(played), -23, atol=0.01)
    assert (np.abs(played[:, [0, -1]]) <= 1).all()
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(160) / 160)
    centred = waveforms - waveforms.mean(axis=1, keepdims=True)
    for sound, original in zip(played / 32768, centred, strict=True):
        gain = np.sum(sound[400:-400] * original[400:-400]) / np.sum(original[400:-400] ** 2)
        np.testing.assert_allclose(
            sound[:160], gain * ramp * original[:160], atol=gain * 0.02 * original.std() + 4e-5
        )


def test_a_peak_lowers_its_own_sound_and_no_other():
    click = np.zeros(8000)
    click[4000] = 1.0  # Its peak is 39 dB above its rms.
    sounds = np.stack([tone(), click])
    played, level_db = audio.to_playback(sounds, RATE)
    np.testing.assert_allclose(level_db, [-23, -39], atol=0.1)
    np.testing.assert_allclose(rms_db(played), level_db, atol=0.01)
    assert played.max() == 32767
    np.testing.assert_array_equal(played[0], audio.to_playback(sounds[:1], RATE)[0][0])
    lower = PlaybackConfig(peak=0.5)
    assert np.abs(audio.to_playback(sounds, RATE, lower)[0]).max() == 16384
    # A network takes both at one level, by gains that are known.
    heard = audio.heard(played, level_db)
    np.testing.assert_allclose(np.sqrt(np.mean(heard**2, axis=-1)), audio.RMS, rtol=1e-3)


def test_ramps_longer_than_the_sound_are_refused():
    with pytest.raises(ValueError, match="ramp_s must be at most half the sound"):
        audio.to_playback(np.ones((1, 100)), RATE)


def test_16_bit_files_are_read_sample_for_sample(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, (2, 50)).astype(np.int16)
    paths = [tmp_path / f"{i}.wav" for i in range(2)]
    for path, sound in zip(paths, samples, strict=True):
        audio.write_wav(path, sound, RATE)
    np.testing.assert_array_equal(audio.read_int16(paths, RATE), samples)
    with pytest.raises(audio.AudioFileError, match="expected 8000"):
        audio.read_int16(paths, 8000)
