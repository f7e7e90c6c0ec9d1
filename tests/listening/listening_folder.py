"""A tiny experiment, made by hand, and sessions of it: for tests of serving and reading."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading

from metamer_jax import storage
from metamer_jax.listening.serving import sessions

WORDS = ("down", "go", "left", "7")  # The last: a word that looks like a number.
MODELS = ("conv2d", "frequency_grouped")
LAYERS = ("cochleagram", "conv1", "dense")
SHA = "ab" * 32
PAGE = "<!doctype html><title>page</title>"
ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def served(server):
    """Lets a server answer until the end; yields it."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def analyze(*flags, **environment):
    """Runs the analysis as from a shell."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.analyze_responses", *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


def make(folder, num_conditions=2, catch=2, layers=LAYERS, words=WORDS, repeats=2):
    """Writes the folder; a condition has every model and layer twice, then catch trials."""
    rows = [
        row("practice-0", "practice", condition=0, batch=0, word=words[0], trial=0),
        row("practice-1", "practice", condition=0, batch=0, word=words[1], trial=1),
    ]
    for condition in range(1, num_conditions + 1):
        sounds = [
            ("metamer", model, layer, repeat)
            for repeat in range(repeats)
            for model in MODELS
            for layer in layers
        ]
        sounds += [("catch", "", "", i) for i in range(catch)]
        for trial, (kind, model, layer, repeat) in enumerate(sounds, start=1):
            rows.append(
                row(
                    f"s{condition:02d}{trial:03d}",
                    kind,
                    condition=condition,
                    batch=repeat + 1,
                    trial=trial,
                    model=model,
                    layer=layer,
                    layer_index=layers.index(layer) if layer else "",
                    target_id=10 * condition + trial,
                    word=words[(trial + condition) % len(words)],
                    onset_in_condition_wav_s=3.0 * trial,
                )
            )
    private, public = folder / "private", folder / "public"
    storage.write_csv(private / "manifest.csv", rows)
    storage.write_csv(private / "answer_key.csv", [{"stimulus_id": "s", "word": "secret"}])
    storage.write_json(
        private / "design.json",
        {
            "experiment_id": "tiny",
            "design_sha256": SHA,
            "conditions": list(range(1, num_conditions + 1)),
            "words": list(words),
        },
    )
    storage.write_text(public / "index.html", PAGE)
    storage.write_text(public / "audio" / "a1.wav", "RIFF")
    return sessions.load_experiment(folder)


def row(stimulus_id, kind, **values):
    columns = (
        *("condition", "batch", "position_in_batch", "trial", "stimulus_id", "file", "kind"),
        *("model", "layer", "layer_index", "target_id", "word", "onset_in_condition_wav_s"),
    )
    found = dict.fromkeys(columns, "") | {"stimulus_id": stimulus_id, "kind": kind} | values
    return {"experiment_id": "tiny", **found}


def session(key, condition=1, session_id="a1", participant="p1", num_trials=None, **changes):
    """A session in which every answer is right."""
    stimuli = key.stimuli(condition)[:num_trials]
    return {
        "schema_version": 1,
        "experiment_id": "tiny",
        "design_sha256": SHA,
        "session_id": session_id,
        "participant": participant,
        "condition": condition,
        "started": "2026-01-01T10:00:00Z",
        "finished": "2026-01-01T10:10:00Z",
        "user_agent": "test",
        "headphone": {"answers": [], "passed": True},
        "calibration_done": True,
        "trials": [
            {
                "trial": entry["trial"],
                "stimulus_id": stimulus,
                "response": entry["word"],
                "choice_order": list(WORDS),
                "rt_ms": 812.5,
                "played_at": "2026-01-01T10:01:00Z",
                "reloaded": False,
            }
            for stimulus, entry in stimuli
        ],
        "complete": num_trials is None,
    } | changes


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
