"""PyTorch checkpoints (.pt, .pth, .ckpt) read as data: no code of the file is run, no torch needed.

    checkpoint = read_checkpoint("checkpoint.pt")
    checkpoint.tensors["module.model.1.conv0.weight"].read()      # a NumPy array

A checkpoint is a pickle beside the bytes of its tensors: a zip of both since PyTorch 1.6, one after
the other before. A pickle is a program for a small stack machine whose instructions may import and
call anything. `_follow` interprets them itself and calls nothing: what a file asks to be called
becomes a `Foreign` object that only says so, but for tensors, whose descriptions are kept. Arrays
are read when asked for, so that an optimizer's state beside the weights costs nothing.
"""

import collections
import dataclasses
import os
import pathlib
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from metamer_jax.storage import ZIP_DAMAGE

# torch.save before 1.6 begins with these two numbers, pickled.
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {
    "double": "f8", "float": "f4", "half": "f2", "bfloat16": "bfloat16",
    "long": "i8", "int": "i4", "short": "i2", "char": "i1", "byte": "u1", "bool": "?",
    "complexfloat": "c8", "complexdouble": "c16",
    # As torch.<name>, which newer files say.
    "float64": "f8", "float32": "f4", "float16": "f2",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1",
    "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8",
    "complex64": "c8", "complex128": "c16",
}  # fmt: skip
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
# Other files that people have in the place of a checkpoint, by how they begin.
_OTHER_KINDS = (
    (rb"version https://git-lfs", "a git-lfs pointer, not the file itself: run `git lfs pull`"),
    (rb"\s*(<!doctype html|<html|<\?xml|<head)", "a web page: the download did not give the file"),
    (rb"\x1f\x8b", "gzip-compressed: unpack it first"),
    (rb"BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "an archive: unpack it first"),
    (rb"\x89HDF", "an HDF5 file (Keras?), not PyTorch's"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb".{8}\{\"", "a .safetensors file: give it that ending"),
    (rb".{257}ustar", "a tar archive (PyTorch before 0.2 wrote such ones): unpack or resave it"),
)


@dataclasses.dataclass(frozen=True)
class Global:
    """The name of something that a pickle would import."""

    name: str  # "torch._utils._rebuild_tensor_v2"


@dataclasses.dataclass(eq=False)
class Foreign:
    """What a pickle would make by calling something: inert, it only says what and of what."""

    made_by: str
    arguments: tuple = ()
    contents: list = dataclasses.field(default_factory=list)  # States and items put into it.


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """Where a tensor's numbers are."""

    key: str
    dtype: str | None  # "float"; None: bytes, whose type the tensor says.
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor in a file.

    Attributes:
        shape: Its sizes.
        dtype: As PyTorch calls it or its storage: "float", "bfloat16", "long", ...
        storage: What holds it, perhaps with others.
        offset: Of its first element, elements.
        strides: Elements from one entry to the next, along each axis.
        load: Returns the bytes of a storage.
    """

    shape: tuple[int, ...]
    dtype: str
    storage: Storage
    offset: int
    strides: tuple[int, ...]
    load: Callable[[Storage], bytes] = dataclasses.field(repr=False)

    def read(self) -> np.ndarray:
        """Returns its numbers; bfloat16 as float32.

        Raises:
            ValueError: The type has no NumPy counterpart, or the file holds too few bytes.
        """
        code = _DTYPES.get(self.dtype)
        if code is None:
            raise ValueError(f"tensor is of an unsupported type, {self.dtype!r} (quantised?)")
        content = self.load(self.storage)
        dtype = np.dtype(code).newbyteorder("<")
        flat = np.frombuffer(content, dtype, len(content) // dtype.itemsize)
        reach = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        sound = self.offset >= 0 and min((*self.shape, *self.strides), default=0) >= 0
        if not sound or (0 not in self.shape and self.offset + sum(reach) >= len(flat)):
            raise ValueError(f"tensor of shape {self.shape} reaches beyond its {len(flat)} numbers")
        own = np.dtype(np.float32) if code == "bfloat16" else dtype.newbyteorder("=")
        if 0 in self.shape:
            return np.zeros(self.shape, own)
        steps = [stride * dtype.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps).astype(own)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        path: The file.
        content: The pickled object: dictionaries, lists and plain values, `Tensor`s, and for all
            else `Foreign`s.
        tensors: Every tensor under its name; that of an entry of nested dictionaries is their keys
            with dots between ("model.module.conv0.weight").
        foreign: What makes the other entries that are objects, by their names: other classes, and
            tensors of kinds that NumPy does not have ("torch._utils._rebuild_qtensor").
    """

    path: pathlib.Path
    content: Any
    tensors: Mapping[str, Tensor | np.ndarray]
    foreign: Mapping[str, str]

    def describe(self) -> str:
        """Says in one line what is in it."""
        if not isinstance(self.content, dict):
            made = self.content.made_by if isinstance(self.content, Foreign) else ""
            return f"holds {made or type(self.content).__name__}, no dictionary"
        keys = ", ".join(str(key) for key in [*self.content][:6])
        first = ", ".join(f"{name} {list(t.shape)}" for name, t in [*self.tensors.items()][:3])
        return (
            f"holds {len(self.content)} entries ({keys}{', ...' * (len(self.content) > 6)}) with "
            f"{len(self.tensors)} tensors ({first}{', ...' * (len(self.tensors) > 3)})"
        )


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Reads what `torch.save` wrote, with any pickle module, in either of its formats.

    Args:
        path: The file.

    Returns:
        Its content; arrays are read from the file when they are asked for.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is something else, which is named, or damaged.
    """
    path = pathlib.Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty")
    if head.startswith(b"PK\x03\x04"):
        content = _read_zip(path, size)
    elif (kind := other_kind(head)) is not None:
        raise ValueError(f"{path} is {kind}")
    elif head.startswith(b"\x80"):
        content = _read_legacy(path)
    else:
        raise ValueError(f"{path} is no PyTorch checkpoint: it begins with {head[:12]!r}")
    named = dict(_named(content, "", set()))
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    foreign = {n: value.made_by for n, value in named.items() if isinstance(value, Foreign)}
    return Checkpoint(path, content, tensors, foreign)


def other_kind(head: bytes) -> str | None:
    """Names a file that people have in the place of one with weights, by how it begins.

    Args:
        head: Its first 512 bytes.

    Returns:
        What it is and what to do; None: it is none of these.
    """
    for start, kind in _OTHER_KINDS:
        if re.match(start, head, re.DOTALL | re.IGNORECASE):
            told = re.search(rb"\nsize (\d+)", head) if kind.startswith("a git-lfs") else None
            return f"{kind}{f' ({int(told[1]):,} bytes)' if told else ''}"
    return None


def _named(value, name, seen) -> Iterator[tuple[str, Tensor | Foreign]]:
    if isinstance(value, (Tensor, Foreign)):
        yield name, value
    elif isinstance(value, dict) and id(value) not in seen:  # It may hold itself.
        seen.add(id(value))
        for key, inner in value.items():
            yield from _named(inner, f"{name}.{key}" if name else str(key), seen)


def _read_zip(path, size):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
            if not pickles:
                kind = "TorchScript's" if any("code/" in n for n in names) else "not PyTorch's"
                raise ValueError(f"{path} is a zip, but {kind}: it holds {', '.join(names[:4])}")
            folder = pickles[0].removesuffix("data.pkl")
            if f"{folder}constants.pkl" in names:
                raise ValueError(f"{path} is a TorchScript archive: save its state_dict() instead")
            order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in names else b""
            if order.strip() == b"big":
                raise ValueError(f"{path} is of a big-endian machine: save it on another")

            def load(storage):
                with zipfile.ZipFile(path) as again:
                    try:
                        return again.read(f"{folder}data/{storage.key}")
                    except (KeyError, ValueError, *ZIP_DAMAGE) as error:
                        raise ValueError(f"{path} is damaged: {error}") from error

            with archive.open(pickles[0]) as file:
                return _follow(file, _Tensors(load), path)
    except ZIP_DAMAGE as error:
        raise ValueError(
            f"{path} is cut short or damaged: a zip of {size:,} bytes, {error}; download it again"
        ) from error


def _read_legacy(path):
    places = {}

    def load(storage):
        start, count = places[storage.key]
        with path.open("rb") as file:
            file.seek(start)
            return file.read(count)

    with path.open("rb") as file:
        if _follow(file, None, path) != _LEGACY_MAGIC:
            raise ValueError(f"{path} is a pickle, but not one that torch.save wrote")
        version = _follow(file, None, path)
        if version != _LEGACY_VERSION:
            raise ValueError(f"{path} is of an unknown version of torch.save, {version!r}")
        about = _follow(file, None, path)
        if isinstance(about, dict) and about.get("little_endian") is False:
            raise ValueError(f"{path} is of a big-endian machine: save it on another")
        tensors = _Tensors(load)
        content = _follow(file, tensors, path)
        # Then the storages' keys, and in that order their sizes and bytes.
        keys = _follow(file, None, path)
        if not isinstance(keys, list) or {str(key) for key in keys} != tensors.known.keys():
            raise ValueError(f"{path} is damaged: the storages that it lists are not its tensors'")
        for key in keys:
            storage = tensors.known[str(key)]
            count = int.from_bytes(file.read(8), "little")
            width = np.dtype(_DTYPES.get(storage.dtype or "byte", "u1")).itemsize
            places[storage.key] = file.tell(), count * width
            if file.seek(0, 2) < sum(places[storage.key]):
                raise ValueError(f"{path} is cut short within storage {key}; download it again")
            file.seek(sum(places[storage.key]))
    return content


class _Tensors:
    """Makes storages and tensors of what a pickle says of them, and keeps the storages."""

    def __init__(self, load):
        self.known = {}
        self.load = load

    def storage(self, description):
        kind, storage_type, key, _, size, *_ = description
        if kind != "storage" or not isinstance(storage_type, Global):
            raise ValueError(f"unknown kind of reference {kind!r}")
        name = storage_type.name.rpartition(".")[2].removesuffix("Storage").lower()
        made = Storage(str(key), None if name == "untyped" else name, int(size))
        return self.known.setdefault(made.key, made)

    def tensor(self, storage, offset, shape, strides, dtype=None):
        if not isinstance(storage, Storage):
            raise ValueError(f"a tensor without a storage, but a {type(storage).__name__}")
        kind = storage.dtype if dtype is None else dtype.name.rpartition(".")[2]
        if kind is None:
            raise ValueError("a tensor whose type nothing says")
        return Tensor(
            tuple(map(int, shape)),
            kind,
            storage,
            int(offset),
            tuple(map(int, strides)),
            self.load,
        )


def _follow(file: IO[bytes], tensors: "_Tensors | None", path: pathlib.Path) -> Any:
    """Follows one pickle's instructions as data, and returns what they lay on the stack last."""
    stack, marks, memo = [], [], {}

    def popped():
        """Everything above the last mark."""
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    def pairs(items):
        return zip(items[::2], items[1::2], strict=True)

    try:
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name == "STOP":
                return stack.pop()
            if name in ("PROTO", "FRAME"):
                continue
            if name == "MARK":
                marks.append(len(stack))
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name in ("POP", "POP_MARK"):
                popped() if name == "POP_MARK" else stack.pop()
            elif name == "DUP":
                stack.append(stack[-1])
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            elif name in ("TUPLE", "LIST", "FROZENSET"):
                stack.append(tuple(popped()) if name == "TUPLE" else popped())
            elif name == "DICT":
                stack.append(dict(pairs(popped())))
            elif name in ("APPEND", "SETITEM", "BUILD"):
                count = 2 if name == "SETITEM" else 1
                items = stack[-count:]
                del stack[-count:]
                _put(stack[-1], name, items)
            elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
                items = popped()
                _put(stack[-1], name, items)
            elif name == "GLOBAL":
                stack.append(Global(str(argument).replace(" ", ".")))
            elif name == "STACK_GLOBAL":
                stack[-2:] = [Global(".".join(stack[-2:]))]
            elif name in ("REDUCE", "NEWOBJ"):
                stack[-2:] = [_called(stack[-2], stack[-1], tensors)]
            elif name == "NEWOBJ_EX":
                stack[-3:] = [_called(stack[-3], stack[-2], tensors)]
            elif name in ("INST", "OBJ"):
                items = popped()
                made_by = items.pop(0) if name == "OBJ" else Global(str(argument).replace(" ", "."))
                stack.append(_called(made_by, tuple(items), tensors))
            elif name in ("PERSID", "BINPERSID"):
                if tensors is None:
                    raise ValueError("a reference to a tensor where there can be none")
                stack.append(tensors.storage(argument if name == "PERSID" else stack.pop()))
            elif opcode.stack_after in _PLAIN and not opcode.stack_before:
                stack.append(argument)
            else:
                raise ValueError(f"an instruction that no checkpoint needs, {name}")
    # A length that is not one is a memory error when it is read.
    except (ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
        raise ValueError(f"{path} is no whole checkpoint: its pickle holds {error!r}") from error
    raise ValueError(f"{path} is no whole checkpoint: its pickle has no end")


# What an instruction leaves that says all by itself: a number, a text or bytes.
_PLAIN = [
    [kind]
    for kind in (
        pickletools.pyint,
        pickletools.pyinteger_or_bool,
        pickletools.pyfloat,
        pickletools.pybytes_or_str,
        pickletools.pybytes,
        # pyrefly: ignore[missing-attribute]: there since Python 3.8, but not in its stubs
        pickletools.pybytearray,
        pickletools.pyunicode,
    )
]
_CONSTANTS = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}


def _put(into, instruction, items):
    """Puts items or a state into what is being built; a dictionary's attributes are dropped."""
    if isinstance(into, Foreign):
        into.contents.extend(items)
    elif isinstance(into, dict) and instruction.startswith("SETITEM"):
        into.update(zip(items[::2], items[1::2], strict=True))
    elif isinstance(into, list) and instruction != "BUILD":
        into.extend(items)
    elif not isinstance(into, (dict, Tensor, Global)):
        raise ValueError(f"{instruction} upon a {type(into).__name__}")


def _called(made_by, arguments, tensors):
    """What a call would make: a tensor's description, a dictionary, or a placeholder."""
    if not isinstance(made_by, Global) or not isinstance(arguments, tuple):
        return Foreign(getattr(made_by, "made_by", type(made_by).__name__), (arguments,))
    name = made_by.name
    if name in _TENSORS:
        return tensors.tensor(*arguments[:4])
    if name == "torch._utils._rebuild_tensor_v3":
        return tensors.tensor(*arguments[:4], dtype=arguments[6])
    if name in _PARAMETERS:
        return arguments[0]
    if name == "torch._tensor._rebuild_from_type_v2":
        return _called(arguments[0], arguments[2], tensors)
    if name == "torch.Size":
        return tuple(*arguments)
    if name in ("collections.OrderedDict", "collections.defaultdict", "builtins.dict"):
        items = [each for each in arguments if isinstance(each, (list, dict))]
        return dict(items[0]) if items else {}
    return Foreign(name, arguments)


def find_prefix(names: Mapping[str, Any], wanted: collections.abc.Collection[str]) -> str | None:
    """Finds what stands before the names of a network among those of a checkpoint.

    Args:
        names: Of the checkpoint's tensors.
        wanted: The network's own names.

    Returns:
        The prefix under which most of the wanted names are, the shortest of several ("model.module.
        model.1." and not the copy of an attacker, "model.module.attacker.model.1."); None where no
        wanted name is found.
    """
    ends = collections.defaultdict(list)
    for name in wanted:
        ends[name.rpartition(".")[2]].append(name)
    counts = collections.Counter(
        name.removesuffix(end)
        for name in names
        for end in ends[name.rpartition(".")[2]]
        if name == end or name.endswith(f".{end}")
    )
    return min(counts, key=lambda prefix: (-counts[prefix], len(prefix)), default=None)
