"""PyTorch checkpoints written by hand, as the formats are described: pickles byte by byte."""

import struct
import zipfile

OPERATING_SYSTEM = b"cos\nsystem\n(X\x04\x00\x00\x00exittR"  # os.system("exit"), when unpickled.


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def together(*items):
    return b"(" + b"".join(items) + b"t"


def dictionary(items):
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def call(module, name, *arguments):
    return f"c{module}\n{name}\n".encode() + together(*arguments) + b"R"


def tensor(key, size, shape, strides, kind="Float"):
    """A tensor from the beginning of the storage `key` of `size` numbers."""
    storage = together(
        text("storage"), f"ctorch\n{kind}Storage\n".encode(), text(key), text("cpu"), number(size)
    )
    hooks = b"ccollections\nOrderedDict\n)R"
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage + b"Q",
        number(0),
        together(*map(number, shape)),
        together(*map(number, strides)),
        b"\x89",
        hooks,
    )


def constant(shape, kind="Float"):
    """A tensor of any size, all of whose numbers are the one of storage "one"."""
    return tensor("one", 1, shape, [0] * len(shape), kind)


def write_zip(path, content, storages, folder="archive"):
    """Writes the format of PyTorch 1.6 and later: `content` is a pickle without its two ends."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr(f"{folder}/version", "3\n")
        for key, stored in storages.items():
            archive.writestr(f"{folder}/data/{key}", stored)
    return path
