"""Settings of the documentation site: `bash scripts/docs.sh` builds it into build/docs."""

import re

import metamer_jax

project = "metamer_jax"
author = "The metamer_jax authors"
release = version = metamer_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["benchmarks/**"]
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
html_show_sphinx = False
html_copy_source = False


_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Attributes):$", re.MULTILINE)


def _as_text(app, what, name, obj, options, lines):
    """Docstrings are plain text: what reStructuredText would read as markup stands for itself.

    Paragraphs before the sections that are indented or aligned in columns stay as they are.
    """
    text = "\n".join(lines)
    first = _SECTION.search(text)
    before, sections = (
        (text, "") if first is None else (text[: first.start()], text[first.start() :])
    )
    paragraphs = [
        _literal(p) if re.search(r"^ |\S {2,}\S", p, re.MULTILINE) else _escaped(p)
        for p in before.split("\n\n")
    ]
    lines[:] = "\n\n".join([*paragraphs, _escaped(sections)]).split("\n")


def _literal(paragraph):
    return "::\n\n" + "\n".join(f"    {line}" for line in paragraph.split("\n"))


def _escaped(text):
    parts = text.split("`")  # Text and code in turns.
    parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    parts[2::2] = [re.sub(r"^(?=\w)", r"\\ ", part) for part in parts[2::2]]  # `vmap`s
    return "`".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", _as_text, priority=100)
