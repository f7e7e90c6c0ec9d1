"""What a run holds, as far as it is there: tables, metamers, sounds and pictures."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import soundfile

from metamer_jax import configs, runs, storage, verification
from metamer_jax.cochleagram import filters
from metamer_jax.report import media as media_lib
from metamer_jax.report.run_folder import RunFolder

T = TypeVar("T")
CochleagramFn = Callable[[np.ndarray], np.ndarray]
Key = tuple[str, str, int, int]  # network, stage, target id, seed

_PICTURE_BATCH = 16


def _truth(values: pd.Series) -> pd.Series:
    return values.astype(str).str.lower().isin(("true", "1", "1.0"))


def ordered(first: Iterable[T], more: Iterable[T]) -> list[T]:
    """Returns all names, each once, those of `first` first."""
    return list(dict.fromkeys([*first, *more]))


class RunContents:
    """A run's tables and arrays, read when asked for, absent where not made."""

    def __init__(self, folder: RunFolder, cochleagram_fn: CochleagramFn | None) -> None:
        self.files = folder
        opened = runs.read_run(folder.path, tolerant=True)
        folder.problems += opened.problems
        self.config = opened.config
        self.settings: dict[str, Any] = opened.saved.get("experiment") or {}
        self.environment: dict[str, Any] = opened.saved.get("environment") or {}
        self.sample_rate_hz = self.config.data.sample_rate_hz
        self.metamers = self._metamer_table()
        self.heard = self._heard_table()
        tabled = [] if self.metamers is None else [*self.metamers["network"]]
        self.networks = ordered(
            self.settings.get("networks", ()),
            [*folder.folders("networks"), *folder.folders("metamers"), *tabled],
        )
        self.stages = {
            network: ordered(self.settings.get("stages", ()), self._stages_made(network))
            for network in self.networks
        }
        self.data_summary = folder.json("data/summary.json")
        self.results = {n: folder.json(f"networks/{n}/result.json") for n in self.networks}
        self.logs = {n: folder.json_lines(f"networks/{n}/training.jsonl") for n in self.networks}
        # Sounds of somebody's own, at hand without the data set that they are from.
        self.of_own_sounds = self.data_summary.get("dataset") == "own sounds"
        self.is_trained_here = self.settings.get("preset") != "own" and not self.config.weights
        self.null = folder.json("verification/null.json")
        self.null_histograms = folder.npz("verification/null_histograms.npz") or {}
        self._target_arrays = folder.npz("targets/targets.npz") or {}
        self.targets = self._target_table()
        if self.heard is not None:
            self.heard = self.heard[self._judged(self.heard)]
        self.ids = self._metamer_ids()
        self._waveforms: dict[Key, np.ndarray] = {}
        self._cochleagram_fn = cochleagram_fn
        self._center_hz: np.ndarray | None = None
        self.pictures: dict[Any, np.ndarray] = {}
        self.media = media_lib.Media()

    def _metamer_table(self) -> pd.DataFrame | None:
        table = self.files.csv("verification/metamers.csv")
        if table is None:
            return None
        table = verification.current_columns(table)
        needed = {"network", "stage", "target_id", "seed", "class_match", "verdict"}
        if missing := needed - set(table.columns):
            self.files.problems.append(f"verification/metamers.csv: no columns {sorted(missing)}")
            return None
        table = table.assign(
            class_match=_truth(table["class_match"]), passed=table["verdict"] == "pass"
        )
        if "optimised_verdict" in table:
            table["passed_optimised"] = table["optimised_verdict"] == "pass"
        for name in ("relative_error", "spearman"):
            if name not in table:
                table[name] = np.nan
        return table

    def _heard_table(self) -> pd.DataFrame | None:
        """What every network heard in every metamer and target: verification/heard.csv."""
        table = self.files.csv("verification/heard.csv")
        needed = {"participant", "kind", "model", "layer", "layer_index", "target_id", "seed"}
        needed |= {"word", "correct", "verdict"}
        if table is None:
            return None
        if missing := needed - {*table.columns}:
            self.files.problems.append(f"verification/heard.csv: no columns {sorted(missing)}")
            return None
        return table.assign(correct=_truth(table["correct"]))

    def _judged(self, heard: pd.DataFrame) -> list[bool]:
        """Of each answer, whether the right one is a class of the network that gave it."""
        # What somebody calls the sounds for a model of their own need not be.
        known = {network: {*self.classes(network)} for network in self.networks}
        return [
            participant not in known or word in known[participant]
            for participant, word in zip(heard["participant"], heard["word"], strict=True)
        ]

    def classes(self, network: str) -> list[str]:
        """What a network tells apart; none where somebody's own model has no classes."""
        return [name for name in self.results[network].get("words") or self.words if name]

    def _stages_made(self, network: str) -> list[str]:
        """Stages found in the verification table (in its order) and the folders."""
        tabled = []
        if self.metamers is not None:
            tabled = [*self.metamers.loc[self.metamers["network"] == network, "stage"]]
        return [*tabled, *self.files.folders(f"metamers/{network}")]

    def _target_table(self) -> pd.DataFrame:
        table = self.files.csv("targets/targets.csv")
        if table is None:
            ids = self._target_arrays.get("target_id", np.array([], dtype=int))
            labels = self._target_arrays.get("label", np.zeros(len(ids), dtype=int))
            words = self.config.data.words
            named = [words[k] if 0 <= k < len(words) else f"word {k}" for k in labels]
            table = pd.DataFrame({"target_id": ids, "word": named})
        for name in ("name", "speaker", "split"):
            table[name] = table[name].astype(object).fillna("").astype(str) if name in table else ""
        table["word"] = table["word"].astype(str)
        return table.set_index("target_id", drop=False)

    def _metamer_ids(self) -> dict[tuple[str, str], tuple[list[int], list[int]]]:
        """Target ids and seeds of every network and stage that has been synthesised."""
        found = {}
        for network in self.networks:
            for stage in self.stages[network]:
                name = f"metamers/{network}/{stage}/metamers.npz"
                arrays = self.files.npz(name, ("target_id", "seed"))
                if arrays and {"target_id", "seed"} <= set(arrays):
                    found[network, stage] = (
                        [int(k) for k in arrays["target_id"]],
                        [int(k) for k in np.atleast_1d(arrays["seed"])],
                    )
        return found

    @property
    def num_metamers(self) -> int:
        """Metamers on disk, over all networks and stages."""
        return sum(len(targets) * len(seeds) for targets, seeds in self.ids.values())

    @property
    def words(self) -> list[str]:
        """Words of the targets, in the order of the settings."""
        return ordered(self.config.data.words, self.targets["word"])

    def row(self, key: Key) -> dict[str, Any] | None:
        """Returns a metamer's line of the verification table."""
        if self.metamers is None:
            return None
        if not hasattr(self, "_rows"):
            columns = ["network", "stage", "target_id", "seed"]
            self._rows = {
                tuple(values): place
                for place, values in enumerate(self.metamers[columns].itertuples(index=False))
            }
            self._records: list[dict[str, Any]] = [
                {str(name): value for name, value in row.items()}
                for row in self.metamers.to_dict("records")
            ]
        place = self._rows.get(key)
        return None if place is None else self._records[place]

    def target_waveform(self, target_id: int) -> np.ndarray | None:
        """A target's sound [time]; None where the folder has none."""
        ids = self._target_arrays.get("target_id")
        waveforms = self._target_arrays.get("waveform")
        if ids is None or waveforms is None or target_id not in ids:
            return None
        return storage.take(waveforms, int(np.flatnonzero(ids == target_id)[0]))

    def load_waveforms(self, keys: Iterable[Key]) -> None:
        """Reads the raw metamers, each file once, and keeps only the asked ones."""
        wanted: dict[tuple[str, str], list[Key]] = {}
        for key in keys:
            if key not in self._waveforms:
                wanted.setdefault(key[:2], []).append(key)
        for (network, stage), group in wanted.items():
            name = f"metamers/{network}/{stage}/metamers.npz"
            arrays = self.files.npz(name, ("waveform",))
            if not arrays or "waveform" not in arrays:
                continue
            targets, seeds = self.ids[network, stage]
            for key in group:
                place = targets.index(key[2]), seeds.index(key[3])
                self._waveforms[key] = storage.take(arrays["waveform"], place).astype(np.float32)

    def waveform(self, key: int | Key) -> np.ndarray | None:
        """The sound [time] of a target (by id) or metamer; None where there is none."""
        return self._waveforms.get(key) if isinstance(key, tuple) else self.target_waveform(key)

    def traces(self, network: str, stage: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns steps [point] and relative errors [metamer, point]."""
        name = f"metamers/{network}/{stage}/metamers.npz"
        arrays = self.files.npz(name, ("trace_step", "trace_relative_error"))
        if not arrays or len(arrays) < 2 or arrays["trace_step"].size == 0:
            return None
        errors = np.array(arrays["trace_relative_error"])
        return np.array(arrays["trace_step"]), errors.reshape(-1, errors.shape[-1])

    # Sounds and pictures -------------------------------------------------------------------------

    def _cochleagrams(self, waveforms: np.ndarray) -> np.ndarray:
        if self._cochleagram_fn is None:
            self._cochleagram_fn, self._center_hz = _run_cochleagram(self.config.cochleagram)
        return np.asarray(self._cochleagram_fn(waveforms))

    def draw(self, keys: Sequence[int | Key]) -> None:
        """Computes the cochleagrams of targets (by id) and metamers, in batches of one size."""
        keys = [k for k in keys if k not in self.pictures and self.waveform(k) is not None]
        for start in range(0, len(keys), _PICTURE_BATCH):
            batch = keys[start : start + _PICTURE_BATCH]
            # The keys left are those that have one.
            waveforms = np.stack([np.nan_to_num(np.asarray(self.waveform(k))) for k in batch])
            padding = np.zeros((_PICTURE_BATCH - len(batch), waveforms.shape[1]), np.float32)
            try:
                values = self._cochleagrams(np.concatenate([waveforms.astype(np.float32), padding]))
            except ValueError as error:  # Sounds of another length than the settings say.
                self.files.problems.append(f"pictures: {error}")
                return
            self.pictures.update(zip(batch, values.astype(np.float32), strict=False))

    def picture(self, key: int | Key) -> np.ndarray | None:
        """The cochleagram [channel, frame] of a target (by id) or metamer, once `draw` made it."""
        return self.pictures.get(key)

    def center_hz(self, num_channels: int) -> np.ndarray:
        """[channel] centre frequencies of the pictures' channels, Hz."""
        if self._center_hz is None or len(self._center_hz) != num_channels:
            config = self.config.cochleagram
            low, high = filters.hz_to_erb_number(np.array([config.low_hz, config.high_hz]))
            self._center_hz = filters.erb_number_to_hz(np.linspace(low, high, num_channels))
        return self._center_hz

    def played(self, key: int | Key, word: str) -> tuple[np.ndarray, int] | None:
        """Returns the 16-bit samples as played and their rate; made anew where there is no file."""
        if isinstance(key, tuple):
            network, stage, target_id, seed = key
            folder, stem = f"metamers/{network}/{stage}/wav", f"{target_id}_{seed}"
        else:
            folder, stem = "targets/wav", f"{key}"
        path = self.files.path / folder / f"{stem}_{word}.wav"
        if not self.files.is_sound(f"{folder}/"):
            path = None
        elif not path.is_file():
            path = self.files.first(f"{folder}/{stem}_*.wav")
        if path is not None:
            try:
                return soundfile.read(path, dtype="int16")
            except Exception as error:  # The page says so, and makes them of the waveform.
                self.files.problems.append(f"{folder}/{path.name}: {error}")
        waveform = self.waveform(key)
        if waveform is None:
            return None
        level_db = self.config.playback.level_db
        return media_lib.as_int16(waveform, level_db), self.sample_rate_hz

    def embed(self, keys: Sequence[int | Key]) -> None:
        """Makes the page's sound and picture of targets (by id) and metamers."""
        keys = [key for key in keys if sound_name(key) not in self.media]
        metamers = [key for key in keys if isinstance(key, tuple)]
        self.load_waveforms(metamers)
        targets = ordered([k for k in keys if not isinstance(k, tuple)], [k[2] for k in metamers])
        self.draw([*targets, *metamers])
        for key in keys:
            target_id = key[2] if isinstance(key, tuple) else key
            word = self.word(target_id)
            sound = self.played(key, word)
            if sound is not None:
                self.media.add(sound_name(key), *media_lib.encode_audio(*sound))
            picture = self.picture(key)
            if picture is not None:
                reference = self.picture(target_id)
                reference = picture if reference is None else reference
                maximum = float(np.nanmax(reference))
                encoded = media_lib.encode_picture(picture, maximum=maximum)
                self.media.add(picture_name(key), *encoded)

    def embedded_bytes(self, key: int | Key) -> int:
        """What a target's (by id) or metamer's sound and picture add to the page."""
        names = (sound_name(key), picture_name(key))
        return sum(self.media.size(name) for name in names if name in self.media)

    def word(self, target_id: int) -> str:
        """The word that a target says."""
        return str(self.targets["word"].get(target_id, f"target {target_id}"))


def sound_name(key: int | Key) -> str:
    """Returns what the page calls the sound of a target (by id) or metamer."""
    return f"sound {key}"


def picture_name(key: int | Key) -> str:
    """Returns what the page calls the picture of a target (by id) or metamer."""
    return f"picture {key}"


def _run_cochleagram(config: configs.CochleagramConfig) -> tuple[CochleagramFn, np.ndarray]:
    """The run's cochleagram by its fast method (a picture needs no more), and its channels' Hz."""
    # A report of a run without sounds needs no JAX, which takes a second to import.
    import jax

    from metamer_jax import cochleagram

    config = dataclasses.replace(config, method="multirate")
    bank = cochleagram.design_cochleagram(config)
    jitted = jax.jit(
        lambda waveforms, bank: cochleagram.cochleagram(waveforms, bank, config=config)
    )
    return lambda waveforms: np.asarray(jitted(waveforms, bank)), np.asarray(bank.center_hz)
