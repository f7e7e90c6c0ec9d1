"""Settings of the documentation site: `bash scripts/docs.sh` builds it into build/docs."""

import inspect
import re

import metamer_jax

project = "metamer_jax"
author = "The metamer_jax authors"
release = version = metamer_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["benchmarks/**", "_static/**"]
nitpicky = False  # Types of other packages have no inventory here: nothing is fetched.

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # Fields are documented once, as the class says them.
default_role = "code"

html_theme = "furo"  # Fonts of the reader's system, no script from elsewhere.
html_title = f"metamer_jax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False


# A field of a dataclass or named tuple, and the comments above and behind it.
_FIELD = re.compile(
    r"(?P<above>(?:^    # .*\n)*)^    (?P<name>[a-z]\w*): [^#\n]*(?:#(?P<behind>.*))?$",
    re.MULTILINE,
)
_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Attributes):$", re.MULTILINE)


def _as_text(app, what, name, obj, options, lines):
    """Docstrings are plain text: what reStructuredText would read as markup stands for itself.

    Paragraphs before the sections that are indented or aligned in columns stay as they are.
    """
    text = "\n".join(lines)
    if what == "class" and "Attributes:" not in text:
        text += _fields(obj)
    first = _SECTION.search(text)
    before, sections = (
        (text, "") if first is None else (text[: first.start()], text[first.start() :])
    )
    paragraphs = [
        _literal(p) if re.search(r"^ |\S {2,}\S", p, re.MULTILINE) else _escaped(p)
        for p in before.split("\n\n")
    ]
    lines[:] = "\n\n".join([*paragraphs, _escaped(sections)]).split("\n")


def _fields(of):
    """What comments say of the fields of a class, as a section of its docstring."""
    try:
        source = inspect.getsource(of)
    except (OSError, TypeError):
        return ""
    said = ""
    for field in _FIELD.finditer(source):
        comment = " ".join(
            f"{field['above']} {field['behind'] or ''}".replace("    # ", " ").split()
        )
        if comment:
            said += f"    {field['name']}: {comment}\n"
    return f"\n\nAttributes:\n{said}" if said else ""


def _skips(app, what, name, obj, skip, options):
    """Fields of named tuples stand in the class's signature."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field") else None


def _literal(paragraph):
    return "::\n\n" + "\n".join(f"    {line}" for line in paragraph.split("\n"))


def _escaped(text):
    parts = text.split("`")  # Text and code in turns.
    parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    parts[2::2] = [re.sub(r"^(?=\w)", r"\\ ", part) for part in parts[2::2]]  # `vmap`s
    return "`".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", _as_text, priority=100)
    app.connect("autodoc-skip-member", _skips)
