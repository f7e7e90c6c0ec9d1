"""Makes torch_checkpoints/*.pt: what the reader of checkpoints is tested on.

    python tests/reference/make_torch_checkpoints.py     # with torch==2.13.0 and dill==0.4.1

`cochcnn9_zip.pt` and `cochcnn9_legacy.pt` are laid out as the published ones are (dill; a model
inside an attacker inside DataParallel; an optimizer's state; a class that dill writes out), with a
small network of random weights. `kinds.pt` has a tensor of every kind, with the usual pickle.
"""

import collections
import pathlib
import sys

import dill
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import torch_networks  # noqa: E402

FOLDER = pathlib.Path(__file__).parent / "torch_checkpoints"


class Schedule:
    """Written out by dill, since nobody can import it from here."""

    def __init__(self):
        self.rate = lambda epoch: 0.1**epoch


def published():
    state = torch_networks.as_trained(torch_networks.cnn9_state((3, 4, 5, 6, 4), 7, 5, flat=8))
    network = {name: torch.as_tensor(array) for name, array in state.items()}
    filters = torch.zeros(1).expand(25, 401, 2)
    model = collections.OrderedDict()
    for place in ("", "attacker."):
        model[f"module.{place}preproc.normalize.new_mean"] = torch.zeros(1, 1, 1, dtype=torch.int64)
        model[f"module.{place}preproc.normalize.new_std"] = torch.ones(1, 1, 1, dtype=torch.int64)
        of_filters = f"module.{place}model.0.full_rep.rep.Cochleagram.compute_subbands.coch_filters"
        model[of_filters] = filters
        model.update({f"module.{place}model.1.{name}": array for name, array in network.items()})
    weights = [torch.nn.Parameter(a.clone()) for a in network.values() if a.is_floating_point()]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    return {"model": model, "optimizer": optimizer.state_dict(), "schedule": Schedule(), "epoch": 3}


def kinds():
    numbers = torch.arange(24.0).reshape(4, 6)
    state = {
        "view": numbers[1:3, ::2],
        "transposed": numbers.t(),
        "bfloat16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "half": torch.tensor([[0.5]], dtype=torch.float16),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "long": torch.tensor(7),
        "bool": torch.tensor([True, False]),
        "uint16": torch.tensor([65535, 1], dtype=torch.uint16),
        "complex": torch.tensor([1 + 2j]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
        "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    }
    return {"state_dict": state}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    checkpoint = published()
    torch.save(checkpoint, FOLDER / "cochcnn9_zip.pt", pickle_module=dill)
    legacy = {"pickle_module": dill, "_use_new_zipfile_serialization": False}
    torch.save(checkpoint, FOLDER / "cochcnn9_legacy.pt", **legacy)
    torch.save(kinds(), FOLDER / "kinds.pt")
