"""What stands in an experiment's files: page, condition recordings, forms, JATOS study, report."""

import dataclasses
import functools
import importlib.resources
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from metamer_jax.audio import encode_wav, rounded
from metamer_jax.listening.building import sounds
from metamer_jax.listening.config import ListeningConfig
from metamer_jax.listening.serving import sessions
from metamer_jax.report import page

_PAGE_FILES = (
    *("index.html", "style.css", "page.js", "session.js", "delivery.js"),
    *("presentation.js", "timeline.js", "screens.js", "experiment.js"),
)
_DATAPIPE = b"https://pipe.jspsych.org"  # The one host that a page may name.
_LISTENING = importlib.resources.files("metamer_jax.listening")
_PAGE = _LISTENING / "page"


@dataclasses.dataclass(frozen=True, eq=False)
class ExperimentContent:
    """Everything that an experiment's files say, before they are written."""

    experiment_id: str
    design_sha256: str
    config: ListeningConfig
    manifest: pd.DataFrame  # Columns MANIFEST_COLUMNS; practice is condition 0.
    public: dict[str, Any]  # What trials.js holds.
    private: dict[str, Any]  # What design.json holds.
    audio: dict[str, bytes]  # stimulus_id -> wav file.
    samples: dict[str, np.ndarray]  # stimulus_id -> [time] int16, of test sounds.
    sample_rate_hz: int


def public_files(experiment: ExperimentContent) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of what listeners' browsers load."""
    for name in _PAGE_FILES:
        content = (_PAGE / name).read_bytes()
        if name == "index.html" and experiment.config.datapipe_experiment:
            content = content.replace(b"connect-src 'self'", b"connect-src 'self' " + _DATAPIPE)
        yield name, content
    for file in sorted((_PAGE / "vendor").iterdir(), key=lambda file: file.name):
        yield f"vendor/{file.name}", file.read_bytes()
    text = json.dumps(experiment.public, ensure_ascii=True, separators=(",", ":"))
    text = text.replace("<", "\\u003c")  # Nothing in it can end the script element.
    yield "trials.js", f"window.EXPERIMENT = {text};\n".encode()
    for stimulus_id, content in experiment.audio.items():
        yield f"audio/{stimulus_id}.wav", content


def condition_files(experiment: ExperimentContent) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of each condition's WAV and form, and the script that makes forms."""
    manifest, rate = experiment.manifest, experiment.sample_rate_hz
    marker = batch_marker(experiment.private["level_db"], rate)
    digits = max(2, len(str(experiment.config.conditions)))
    forms = []
    for condition in sorted(set(manifest["condition"]) - {0}):
        rows = manifest[manifest["condition"] == condition]
        name = f"condition_{condition:0{digits}d}"
        recording, _ = sounds.condition_recording(
            [experiment.samples[i] for i in rows["stimulus_id"]],
            rows["batch"].tolist(),
            marker=marker,
            silence_s=experiment.config.silence_s,
            sample_rate_hz=rate,
        )
        yield f"{name}.wav", encode_wav(recording, rate)
        table = rows[["trial", "batch", "position_in_batch", "onset_in_condition_wav_s"]]
        choices = "|".join(experiment.private["words"])
        form = table.rename(columns={"trial": "question"}).assign(choices=choices)
        yield f"{name}_form.csv", form.to_csv(index=False, lineterminator="\n").encode()
        forms.append(
            {
                "condition": int(condition),
                "recording": f"{name}.wav",
                "batches": [int(n) for n in rows.groupby("batch").size()],
            }
        )
    words = experiment.private["words"]
    data = {"title": experiment.config.title, "words": words, "forms": forms}
    script = (_LISTENING / "building" / "forms.gs").read_text("utf-8")
    script = script.replace("/* DATA */ null", json.dumps(data, ensure_ascii=True, indent=1))
    yield "create_forms.gs", script.encode()


def batch_marker(level_db: float, sample_rate_hz: int) -> np.ndarray:
    """Returns the sound before each batch of a condition's WAV: [time] int16."""
    return rounded(sounds.batch_marker(sample_rate_hz, level_db=level_db))


def jatos_study(experiment: ExperimentContent, public: Mapping[str, bytes]) -> bytes:
    """Returns a study to import into JATOS: a zip of the page's folder and its description."""
    folder = slug(experiment.experiment_id)
    identity = functools.partial(sessions.jatos_uuid, experiment.design_sha256)
    description = {
        "version": "3",
        "data": {
            "uuid": identity("study"),
            "title": experiment.config.title,
            "description": f"Listening experiment {experiment.experiment_id}.",
            "groupStudy": False,
            "linearStudy": False,
            "allowPreview": False,
            "dirName": folder,
            "comments": "",
            "jsonData": None,
            "endRedirectUrl": experiment.config.completion_url or None,
            "studyEntryMsg": None,
            "componentList": [
                {
                    "uuid": identity("component"),
                    "title": experiment.config.title,
                    "htmlFilePath": "index.html",
                    "reloadable": True,  # A reload resumes the session.
                    "active": True,
                    "comments": "",
                    "jsonData": None,
                }
            ],
            "batchList": [
                {
                    "uuid": identity("batch"),
                    "title": "Default",
                    "active": True,
                    "maxActiveMembers": None,
                    "maxTotalMembers": None,
                    "maxTotalWorkers": None,
                    "allowedWorkerTypes": [
                        "GeneralMultiple",
                        "GeneralSingle",
                        "Jatos",
                        "PersonalMultiple",
                        "PersonalSingle",
                    ],
                    "comments": None,
                    "jsonData": None,
                }
            ],
        },
    }
    files = {f"{folder}.jas": json.dumps(description, indent=2).encode()}
    for name, content in public.items():
        if name == "index.html":
            content = content.replace(b"<!-- jatos -->", b'<script src="jatos.js"></script>')
            # What JATOS's own script needs is for JATOS to say, not for our content policy.
            content = re.sub(rb"<!-- Nothing but.*?-->\n<meta http-equiv[^\n]*\n", b"", content)
        files[f"{folder}/{name}"] = content
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # Dated 1980: equal files, equal archives.
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def slug(title: str) -> str:
    """Returns a title as part of a file name: lower case, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "experiment"


def report(experiment: ExperimentContent) -> str:
    """Returns the page for whoever runs the experiment: what the design came to."""
    manifest = experiment.manifest
    metamers = manifest[manifest["kind"] == "metamer"]
    by_combination = [
        {
            "model": model,
            "layer": layer,
            "presentations": len(rows),
            "least": int(rows.groupby("condition").size().min()),
            "most": int(rows.groupby("condition").size().max()),
            "metamers": len(rows.drop_duplicates(["target_id", "metamer_seed"])),
            "words": rows["word"].nunique(),
            "median_spearman": float(rows["spearman"].astype(float).median()),
            "median_error": float(rows["relative_error"].astype(float).median()),
        }
        for model, layer in experiment.private["combinations"]
        for rows in [metamers[(metamers["model"] == model) & (metamers["layer"] == layer)]]
        if len(rows)
    ]
    kinds = manifest.groupby("kind").size().to_dict()
    size_mb = sum(map(len, experiment.audio.values())) / 1e6
    return page.render(
        "listening_design.html.jinja",
        design=experiment.private,
        config=dataclasses.asdict(experiment.config),
        by_combination=by_combination,
        kinds=kinds,
        size_mb=size_mb,
        files=len(experiment.audio),
    )
