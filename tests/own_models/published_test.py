"""Published checkpoints: the formats, what they hold, and what is refused and how."""

import os
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_files
import torch_networks

import metamer_jax as mj
from metamer_jax import configs, models
from metamer_jax.models import torch_checkpoints, torch_import
from metamer_jax.own_models import published

DATA = pathlib.Path(__file__).parents[1] / "reference"
FILES = DATA / "torch_checkpoints"
SMALL = {"name": "cochcnn9", "conv_features": (3, 4, 5, 6, 4), "dense_features": 7}
HEARD = configs.CochleagramConfig(
    sample_rate_hz=4000,
    duration_s=0.2,
    envelope_rate_hz=400,
    low_hz=50,
    high_hz=2000,
    num_filters=23,
    sample_factor=1,
    lowpass_taps=101,
)
STATE = torch_networks.as_trained(torch_networks.cnn9_state((3, 4, 5, 6, 4), 7, 5, flat=8))
ONE = {"one": np.float32(0.25).tobytes()}


@pytest.mark.parametrize("file", ["cochcnn9_zip.pt", "cochcnn9_legacy.pt"])
def test_what_torch_and_dill_wrote(file):
    checkpoint = torch_checkpoints.read_checkpoint(FILES / file)
    assert [*checkpoint.content] == ["model", "optimizer", "schedule", "epoch"]
    assert checkpoint.content["epoch"] == 3
    for place in ("", "attacker."):
        for name, array in STATE.items():
            found = checkpoint.tensors[f"model.module.{place}model.1.{name}"].read()
            assert found.dtype == array.dtype and found.shape == np.shape(array)
            np.testing.assert_array_equal(found, array)
    # A class that dill wrote out with its code: nothing of it is made or run.
    schedule = checkpoint.content["schedule"]
    assert isinstance(schedule, torch_checkpoints.Foreign) and schedule.made_by.startswith("dill.")
    assert checkpoint.foreign == {"schedule": schedule.made_by}


def test_every_kind_of_tensor():
    checkpoint = torch_checkpoints.read_checkpoint(FILES / "kinds.pt")
    numbers = np.arange(24.0, dtype=np.float32).reshape(4, 6)
    expected = {
        "view": numbers[1:3, ::2],
        "transposed": numbers.T,
        "bfloat16": np.float32([1.5, -2]),
        "half": np.float16([[0.5]]),
        "double": np.array([0.1]),
        "long": np.array(7),
        "bool": np.array([True, False]),
        "uint16": np.uint16([65535, 1]),
        "complex": np.complex64([1 + 2j]),
        "parameter": np.ones(2, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }
    found = {name.removeprefix("state_dict."): t for name, t in checkpoint.tensors.items()}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        read = found[name].read()
        assert read.dtype == array.dtype, name
        np.testing.assert_array_equal(read, array, err_msg=name)
    assert checkpoint.foreign == {"state_dict.quantized": "torch._utils._rebuild_qtensor"}


@pytest.mark.parametrize(
    ("listing", "name", "prefix"),
    [
        ("kell2018_wsn_word", "cochcnn9", "module.model.1."),
        ("kell2018_wsn_word_cochleagram", "cochcnn9", "module.model."),
        ("cochresnet_wsn_word", "cochresnet50", "module.model.1."),
        ("cochresnet_wsn_word_cochleagram", "cochresnet50", "module.model."),
        ("spectemp_model", "spectemp", "module.model.1."),
    ],
)
def test_published_names_and_shapes(listing, name, prefix):
    shapes = read_listing(listing)
    model = models.build_model(name, 794)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 211, 390)))
    leaves = {
        torch_import.torch_name(tuple(key.key for key in path)): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
        if path[0].key != "normalization"
    }
    assert torch_checkpoints.find_prefix(shapes, leaves) == prefix
    theirs = {key.removeprefix(prefix): s for key, s in shapes.items() if key.startswith(prefix)}
    ignored = {key for key in theirs if "num_batches" in key or "all_Hts" in key}
    assert theirs.keys() - ignored == leaves.keys()
    for key, shape in leaves.items():
        turned = (*shape[-1:], *shape[-2:-1], *shape[:-2]) if len(shape) > 1 else shape
        assert theirs[key] == turned, key


def read_listing(name):
    """{name: shape} of a published state dictionary."""
    lines = (DATA / "feather2023" / f"{name}.state_dict.txt").read_text().splitlines()
    parts = (line.replace("(", "|").replace(")", "|").split("|") for line in lines)
    return {
        name.strip(): tuple(map(int, filter(str.strip, shape.split(","))))
        for name, shape, _ in parts
    }


def test_a_checkpoint_under_the_published_names_and_shapes(tmp_path):
    listed = read_listing("cochresnet_wsn_word_cochleagram")
    kinds = {name: "Long" if "new_" in name or "num_" in name else "Float" for name in listed}
    model = {
        name: torch_files.tensor(
            f"{kinds[name]}{'new_std' in name}", 1, shape, [0] * len(shape), kinds[name]
        )
        for name, shape in listed.items()
    }
    content = {"model": torch_files.dictionary(model), "epoch": torch_files.number(3)}
    storages = {
        "FloatFalse": ONE["one"],
        "LongFalse": np.int64(0).tobytes(),
        "LongTrue": np.int64(1).tobytes(),
    }
    path = torch_files.write_zip(
        tmp_path / "checkpoint.pt", torch_files.dictionary(content), storages
    )
    names = tmp_path / "words.txt"
    names.write_text("".join(f"word{i}\n" for i in range(794)))
    found = mj.load_published("cochresnet50", path, class_names=names)
    assert found.model.num_samples == 40000 and found.model.cochleagram.num_frames == 390
    assert found.class_names[793] == "word793"
    published_stages = models.build_model("cochresnet50", 794).stage_names
    assert [name for name in found.model.stage_names if "relu_" not in name] == [*published_stages]
    assert found.model.stage("final").shape == (794,)
    assert found.model.stage("layer4").relu == "yes"
    leaves = jax.tree.leaves(found.weights["params"])
    assert sum(leaf.size for leaf in leaves) == 25_550_760 - (1000 - 794) * 2049
    assert all(float(leaf.ravel()[-1]) == 0.25 for leaf in leaves)


@pytest.fixture(scope="module")
def small():
    return published.load_published(SMALL, FILES / "cochcnn9_zip.pt", cochleagram=HEARD)


def test_a_loaded_network_hears_what_numpy_computes(small):
    sound = 0.1 * np.random.default_rng(0).standard_normal(800).astype(np.float32)
    heard = mj.stage_fn(small.model, "cochleagram")(small.variables, sound)
    expected = torch_networks.cnn9(STATE, np.asarray(heard)[None])
    for stage in ("relu0", "relu4", "final"):
        found = mj.stage_fn(small.model, stage)(small.variables, sound)
        wanted = expected[stage][0]
        wanted = np.moveaxis(wanted, 0, -1) if wanted.ndim == 3 else wanted
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max(), err_msg=stage)
    assert small.class_names == ("0", "1", "2", "3", "4")
    legacy = published.load_published(SMALL, FILES / "cochcnn9_legacy.pt", cochleagram=HEARD)
    jax.tree.map(np.testing.assert_array_equal, legacy.variables, small.variables)
    assert legacy.model == small.model  # So jit compiles it once.


def refused(path, match, name=SMALL, **settings):
    with pytest.raises(ValueError, match=match):
        published.load_published(name, path, **{"cochleagram": HEARD, **settings})


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 441000123\n",
         r"git-lfs pointer.*\(441,000,123 bytes\)"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"", "is empty"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x00" * 257 + b"ustar", "tar archive"),
        (b"weights", "no PyTorch checkpoint: it begins with b'weights'"),
        (pickle.dumps({"a": 1}), "a pickle, but not one that torch.save wrote"),
        (pickle.dumps({"a": 1})[:-3], "no whole checkpoint"),
        (b"\x80\x02\x82\x01.", "an instruction that no checkpoint needs, EXT1"),
    ],
)  # fmt: skip
def test_other_files_are_named(tmp_path, content, match):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    refused(path, match)


def test_cut_and_foreign_archives_are_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    whole = (FILES / "cochcnn9_zip.pt").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, f"cut short or damaged: a zip of {len(whole) // 2:,} bytes")
    spoiled = bytearray(whole)
    start = whole.index(STATE["conv4.weight"].tobytes())
    spoiled[start : start + 4] = b"\0\0\0\0"
    path.write_bytes(spoiled)
    refused(path, "damaged: Bad CRC-32")
    whole = (FILES / "cochcnn9_legacy.pt").read_bytes()
    path.write_bytes(whole[:-100])
    refused(path, "cut short within storage")
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros(2))
    refused(path, "a zip, but not PyTorch's: it holds a.npy")


def test_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("was run"))
    content = torch_files.dictionary({"model": torch_files.OPERATING_SYSTEM})
    path = torch_files.write_zip(tmp_path / "checkpoint.pt", content, {})
    found = torch_checkpoints.read_checkpoint(path).content["model"]
    assert (found.made_by, found.arguments) == ("os.system", ("exit",))


def test_what_a_tensor_says_of_itself_is_checked(tmp_path):
    content = torch_files.dictionary(
        {
            "long": torch_files.tensor("one", 1, (2,), (1,)),
            "backward": torch_files.tensor("one", 1, (1,), (-1,)),
            "unknown": torch_files.tensor("two", 1, (1,), (1,), kind="QInt8"),
        }
    )
    path = torch_files.write_zip(tmp_path / "checkpoint.pt", content, {**ONE, "two": b"0"})
    tensors = torch_checkpoints.read_checkpoint(path).tensors
    for name in ("long", "backward"):
        with pytest.raises(ValueError, match=r"reaches beyond its 1 numbers"):
            tensors[name].read()
    with pytest.raises(ValueError, match="unsupported type, 'qint8'"):
        tensors["unknown"].read()


def test_a_file_that_does_not_fit_says_what_it_holds(tmp_path):
    refused(
        FILES / "kinds.pt", r"has none of .*holds 1 entries \(state_dict\) with 11 tensors.*qten"
    )
    # Fewer channels than the file's filters.
    path = FILES / "cochcnn9_zip.pt"
    fewer = configs.CochleagramConfig(sample_rate_hz=4000, high_hz=2000, num_filters=20)
    refused(path, r"coch_filters must have \(channels, bins\)", cochleagram=fewer)
    # Another width, another network, and preprocessing that is not there in the published ones.
    refused(path, "'conv1.weight' must make", name={**SMALL, "conv_features": (3, 8, 5, 6, 4)})
    refused(path, "lacks bn1.*has also batch.*all the names of 'cochcnn9'", name="cochresnet50")
    state = {f"net.{name}": array for name, array in STATE.items()}
    np.savez(tmp_path / "scaled.npz", **state, **{"preproc.normalize.new_std": np.int64([2])})
    refused(tmp_path / "scaled.npz", "new_std must be 1")
    np.savez(tmp_path / "state.npz", **state)
    assert published.load_published(SMALL, tmp_path / "state.npz", cochleagram=HEARD)
    with pytest.raises(ValueError, match="must be a published network, one of cochcnn9"):
        published.load_published("conv2d", path)


def test_class_names(tmp_path):
    path = tmp_path / "words.txt"

    def read(content, count=3):
        path.write_text(content)
        return published.read_class_names(path, count)

    assert read("null\ndog\n\ncat\n") == ("null", "dog", "cat")
    assert read("2\tcat\n0 null\n1, ice cream\n") == ("null", "ice cream", "cat")
    for content, match in (
        ("dog\ncat\n", "must be 3 lines, .* has 2"),
        ("dog\ncat\ndog\n", r"\['dog'\] more than once"),
        ("1 dog\n2 cat\n3 cow\n", "must number classes 0 to 2"),
    ):
        with pytest.raises(ValueError, match=match):
            read(content)
