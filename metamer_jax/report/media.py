"""Sounds and pictures as bytes small enough to live inside a page."""

import base64
import io

import markupsafe
import matplotlib
import numpy as np
import soundfile
from PIL import Image

from metamer_jax.figures import style


def as_int16(waveform: np.ndarray, level_db: float | None = None) -> np.ndarray:
    """Rounds a waveform to 16 bits.

    Args:
        waveform: [time], full scale at 1.
        level_db: RMS re full scale to bring it to first; None leaves the level as it is.

    Returns:
        [time] int16. The level is lowered where a peak would otherwise be clipped.
    """
    waveform = np.nan_to_num(np.asarray(waveform, dtype=np.float64))
    if level_db is not None:
        rms = np.sqrt(np.mean(waveform**2)) or 1.0
        waveform = waveform * (10 ** (level_db / 20) / rms)
    peak = np.max(np.abs(waveform), initial=0.0)
    waveform = waveform / max(peak, 1.0)
    return np.round(waveform * 32767).astype(np.int16)


def encode_audio(samples: np.ndarray, sample_rate_hz: int) -> tuple[str, bytes]:
    """Packs 16-bit samples as WAV.

    A lossy format would change the very stimuli. FLAC would save about a quarter, but Chromium
    fails to seek in one of a single block (8 kHz, 0.5 s), and then never plays that sound again.

    Args:
        samples: [time] int16.
        sample_rate_hz: Samples per second.

    Returns:
        (MIME type, file contents).
    """
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate_hz, subtype="PCM_16", format="WAV")
    return "audio/wav", file.getvalue()


def encode_picture(
    values: np.ndarray, *, maximum: float, max_side: int = 400, quality: int = 78
) -> tuple[str, bytes]:
    """Paints an array with a colour map, first channel at the bottom, as WebP.

    Args:
        values: [channel, frame].
        maximum: The value of the brightest colour; zero is the darkest.
        max_side: Larger pictures are averaged down to this many pixels.
        quality: Of WebP, 0 to 100.

    Returns:
        (MIME type, file contents).
    """
    scaled = np.clip(np.nan_to_num(np.asarray(values)) / (maximum or 1.0), 0, 1)
    rgb = matplotlib.colormaps[style.COLORMAP](scaled[::-1], bytes=True)[..., :3]
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    if max(picture.size) > max_side:
        width, height = picture.size
        size = (min(width, max_side), min(height, max_side))
        picture = picture.resize(size, Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality, method=4)
    return "image/webp", file.getvalue()


def as_uri(mime: str, data: bytes) -> str:
    """Returns a file's contents as a data URI, to live inside a page."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


class Media:
    """The sounds and pictures of one page, each embedded once however often it is shown."""

    def __init__(self) -> None:
        self._uris: dict[str, str] = {}
        self._shown: dict[str, str] = {}

    def add(self, key: str, mime: str, data: bytes) -> None:
        """Takes a sound or picture under a key that is new on the page."""
        self._uris[key] = as_uri(mime, data)

    def __contains__(self, key: str) -> bool:
        return key in self._uris

    def size(self, key: str) -> int:
        """Bytes that embedding `key` adds to the page."""
        return len(self._uris[key])

    def attributes(self, key: str) -> markupsafe.Markup:
        """HTML attributes of the element that shows `key`: its data the first time.

        Later elements name the first one; the page's script copies its `src`.

        Returns:
            The attributes, escaped.
        """
        if key in self._shown:
            return markupsafe.Markup('data-like="{}"').format(self._shown[key])
        self._shown[key] = f"m{len(self._shown)}"
        return markupsafe.Markup('id="{}" src="{}"').format(self._shown[key], self._uris[key])

    def forget_shown(self) -> None:
        """Starts a new rendering: every key is embedded again at its first place."""
        self._shown.clear()
