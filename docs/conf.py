"""Settings of the documentation site: `bash scripts/docs.sh` builds it into build/docs."""

import html
import inspect
import json
import pathlib
import posixpath
import re

from sphinx import addnodes
from sphinx.writers import html5

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


def _notebook(app, docname, source):
    """notebook.md becomes the notebook that it names, with what git holds of its outputs."""
    if docname != "notebook":
        return
    (name,) = re.findall(r"\]\((.*\.ipynb)\)", source[0])
    path = pathlib.Path(app.srcdir, name).resolve()
    app.env.note_dependency(str(path))
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text.replace("](../docs/", "]("))  # Links from where it stands.
        else:
            parts += [f"```python\n{text}\n```", *map(_output, cell["outputs"])]
    source[0] = "\n\n".join(parts)


def _output(output):
    """What a cell showed, as Markdown: of several forms the one that a browser shows best."""
    data = output.get("data", {})
    if "text/html" in data:
        shown = "".join(data["text/html"])
    elif "image/png" in data:
        shown = f'<img alt="" src="data:image/png;base64,{data["image/png"].strip()}">'
    else:
        return f"```text\n{''.join(output.get('text', data.get('text/plain', ''))).rstrip()}\n```"
    return f'```{{raw}} html\n<div class="table-wrapper output">{shown}</div>\n```'


def _open_sound(writer, node):
    """A link to a sound has a player before it."""
    if node.get("filename", "").endswith(".flac"):
        source = posixpath.join(writer.builder.dlpath, node["filename"])
        player = '<audio controls preload="none" src="{}"></audio> '
        writer.body.append(player.format(html.escape(source)))
    html5.HTML5Translator.visit_download_reference(writer, node)


def _close_sound(writer, node):
    html5.HTML5Translator.depart_download_reference(writer, node)


def setup(app):
    app.connect("source-read", _notebook)
    sound = {"html": (_open_sound, _close_sound)}
    app.add_node(addnodes.download_reference, override=True, **sound)
    app.connect("autodoc-process-docstring", _as_text, priority=100)
    app.connect("autodoc-skip-member", _skips)
