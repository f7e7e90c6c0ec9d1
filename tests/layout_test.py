"""The architecture, held: a room imports from the floors below it and from nowhere else."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[1] / "metamer_jax"
# From the ground up; what a lower line holds knows nothing of a higher one.
FLOORS = (
    ("configs", "storage", "runtime", "figures", "gradients", "sound_files"),
    ("analysis", "audio", "cochleagram", "front_ends", "models", "verification", "runs"),
    ("metamers", "auditory", "training", "data", "report"),
    ("own_models",),
    ("pipeline", "benchmarks"),
    ("listening", "comparison", "aot"),
    ("commands",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imports(path):
    """Modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metamer_jax"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "metamer_jax" else [node.module]


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_stands_on_a_floor_and_none_is_empty():
    assert {room_of(path) for path in modules()} == set(FLOOR)


def test_at_most_eight_modules_stand_outside_the_rooms():
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def test_imports_point_downwards():
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in modules()
        for name in imports(path)
        if (room := name.split(".")[1]) != room_of(path) and FLOOR[room] >= FLOOR[room_of(path)]
    ]
    assert not upwards


def test_no_submodule_is_named_as_what_its_room_hands_on():
    for init in PACKAGE.rglob("__init__.py"):
        room = ".".join(("metamer_jax", *init.parent.relative_to(PACKAGE).parts))
        below = {path.stem for path in init.parent.glob("*.py")}
        below |= {path.parent.name for path in init.parent.glob("*/__init__.py")}
        handed_on = {
            alias.name
            for node in ast.parse(init.read_text("utf-8")).body
            if isinstance(node, ast.ImportFrom) and node.module != room
            for alias in node.names
        }
        assert not handed_on & below, init
