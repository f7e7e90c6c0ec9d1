"""Model metamers of auditory neural networks.

    import metamer_jax as mj

    model, variables = mj.wrap_model(my_network, my_variables, num_samples=16000)
    stage = mj.stage_fn(model, "conv2")
    made = mj.synthesize(key, sounds, ids, stage_fn=stage, variables=variables)

    found = mj.make_metamers((model, variables), sounds, ["conv2"], ...)    # all of it in one call
    mj.save_run("runs/mine", found)                           # for the report, listening tests, ...

What is listed in `__all__` is there at once, modules too (`mj.cochleagram`, `mj.verification`);
nothing is imported before it is used. `pipeline` is the place to start reading,
`docs/your_own_model.md` the place to start with a model of one's own.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

_FROM = {
    "AsPlayed": "metamers",
    "CochleagramConfig": "configs",
    "DataConfig": "configs",
    "SPECTROGRAMS": "configs",
    "SpectrogramConfig": "configs",
    "PlaybackConfig": "configs",
    "SynthesisConfig": "configs",
    "SYNTHESIS_RECIPES": "configs",
    "VerificationConfig": "configs",
    "design_spectrogram": "front_ends",
    "load_published": "own_models",
    "load_recordings": "data",
    "log_mel": "front_ends",
    "make_metamers": "pipeline.own_models",
    "mel_spectrogram": "front_ends",
    "register_torch_lowering": "own_models",
    "save_run": "pipeline.own_runs",
    "stage_fn": "own_models",
    "stft": "front_ends",
    "synthesize": "metamers",
    "verify": "own_models",
    "wrap_model": "own_models",
}
_MODULES = (
    "audio",
    "auditory",
    "cochleagram",
    "configs",
    "data",
    "figures",
    "front_ends",
    "metamers",
    "models",
    "pipeline",
    "verification",
)
__all__ = [*_FROM, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _FROM:
        module = importlib.import_module(f"metamer_jax.{_FROM[name]}")
        return getattr(module, "load" if name == "load_recordings" else name)
    if name in _MODULES:
        return importlib.import_module(f"metamer_jax.{name}")
    raise AttributeError(f"module 'metamer_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
