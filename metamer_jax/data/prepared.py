"""Data sets of TensorFlow Datasets' builders: made once, found again, made anew where damaged."""

import pathlib
import shutil
import types
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from metamer_jax import audio, configs
from metamer_jax.data import archives, recordings
from metamer_jax.storage import cache

_DAMAGE = (zipfile.BadZipFile, archives.DamagedArchiveError)


def source(
    builder: Callable[[], Any], identity: Mapping[str, Any], words: tuple[str, ...], **more: Any
) -> recordings.Source:
    """Describes the recordings of a builder, which is made when its clips are asked for.

    Args:
        builder: Makes it, once: `builder_of`.
        identity: As of `recordings.Source`, like the others.
        words: The words.
        **more: What else such a source has.

    Returns:
        The source; files that cannot be used are among its clips as errors.
    """

    def clips():
        try:
            yield from read(builder())
        except audio.AudioFileError as error:
            yield error

    return recordings.Source(
        identity=identity,
        words=words,
        num_clips=None,
        clips=clips,
        passed_over=lambda: builder().info.metadata["passed_over"],
        **more,
    )


def builder_of(
    module: types.ModuleType,
    config: configs.DataConfig,
    words: tuple[str, ...],
    sources: Sequence[pathlib.Path],
    identity: Mapping[str, Any],
    *,
    names: Collection[str],
) -> Any:
    """Returns a builder whose data are prepared and can be read.

    Args:
        module: Of the builder: has `Builder` and, to download from, `URL`.
        config: Settings of the recordings.
        words: The words to prepare.
        sources: Archives or folders that hold them; none: the download.
        identity: What tells their content from others'.
        names: Which of that are names, which may be others for the same content.

    Raises:
        AudioFileError: A file is no usable sound, and the config does not leave such files out.
        ValueError: The source is damaged or does not hold what it should.
        ConnectionError: The download failed; the message says what else can be done.
    """
    from metamer_jax.data import examples  # TensorFlow Datasets is slow to import.

    content = {key: value for key, value in identity.items() if key not in names}
    builder_config = examples.BuilderConfig(
        # pyrefly: ignore[unexpected-keyword]: tfds's own field
        name=f"{next(iter(content))}-{cache.digest([content, list(words)])}",
        # pyrefly: ignore[unexpected-keyword]: tfds's own field
        description=f"Made from {', '.join(f'{k} {v}' for k, v in identity.items())}.",
        words=words,
        sources=tuple(map(str, sources)),
        skip_bad_files=config.skip_bad_files,
    )
    given = f"data_zip {config.data_zip}"
    root = cache.cache_dir(config.cache_dir) / "tensorflow_datasets"
    with cache.lock(root / builder_config.name):
        builder = _prepare(module, builder_config, root, given)
        try:
            for split in builder.info.splits:
                for _ in builder.as_data_source(split):
                    pass
        except Exception as error:  # What array_record raises depends on the damage.
            message = f"{builder.data_dir} is damaged ({error}): making it anew"
            warnings.warn(message, stacklevel=2)
            shutil.rmtree(builder.data_dir)
            builder = _prepare(module, builder_config, root, given)
    return builder


def read(builder: Any, split: str = "train") -> Iterator[recordings.Clip | audio.AudioFileError]:
    """Yields the clips of a prepared split, after the errors of what was left out of it."""
    for file, reason in builder.info.metadata["bad_files"].items():
        yield audio.AudioFileError(file, reason)
    word_of = builder.info.features["label"].int2str
    for example in builder.as_data_source(split):
        file, label = _text(example["file"]), int(example["label"])
        folder = file.split("/")[0] if label < 0 else word_of(label)
        path = pathlib.PurePosixPath(file)
        yield recordings.Clip(
            file=file,
            # yes/a.wav and yes/a.flac are two recordings.
            name=f"{folder}/{path.stem if path.suffix == '.wav' else path.name}",
            word=folder,
            speaker=_text(example["speaker"]),
            samples=example["audio"],
            sample_rate_hz=int(example["sample_rate_hz"]),
            official_split=_text(example.get("official_split", "")),
        )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _prepare(module, builder_config, root, given):
    from absl import logging

    # absl would print the whole config as a warning.
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        builder = module.Builder(data_dir=root, config=builder_config, file_format="array_record")
    finally:
        logging.set_verbosity(verbosity)
    if not builder_config.sources and not pathlib.Path(builder.data_dir).exists():
        _download(builder, module.URL, root / "downloads")
        return builder
    try:
        builder.download_and_prepare(download_dir=root / "downloads")
    except _DAMAGE as error:
        raise ValueError(f"{given} is damaged: {error}") from error
    return builder


def _download(builder, url: str, folder: pathlib.Path) -> None:
    import requests

    advice = "fetch the file on a machine that can, and give it with --data_zip=FILE"
    try:
        # TensorFlow Datasets goes on trying for minutes where there is no network at all.
        requests.head(url, timeout=15, allow_redirects=True).raise_for_status()
        builder.download_and_prepare(download_dir=folder)
    except requests.exceptions.RequestException as error:
        raise ConnectionError(f"cannot download {url} ({error}); {advice}") from error
    except _DAMAGE as error:
        shutil.rmtree(folder)  # Or it would be taken for the file for ever.
        raise ConnectionError(f"the download of {url} is damaged ({error}); {advice}") from error
