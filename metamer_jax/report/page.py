"""One self-contained HTML page: the shell, its looks, and figures drawn in its colours.

`templates/base.html.jinja` is the shell (style, script, navigation), `pieces.html.jinja` the
parts that reports share. A page built on them needs no network and no other file.
"""

import functools
import io
import re

import jinja2
import markupsafe
import matplotlib

from metamer_jax.figures import style

_THEME = {
    style.INK: "var(--ink)",
    style.MUTED: "var(--muted)",
    style.GRID: "var(--line)",
    style.NULL: "var(--null)",
    style.PAPER: "var(--surface)",
    style.PASS: "var(--pass)",
    style.FAIL: "var(--fail)",
}


@functools.cache
def environment() -> jinja2.Environment:
    """Returns the templates of this package; a report adds its own on top of them."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("metamer_jax.report"),
        autoescape=jinja2.select_autoescape(["jinja"], default_for_string=True, default=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    made.filters["percent"] = percent
    made.filters["fixed"] = fixed
    made.filters["p_value"] = p_value
    return made


def render(template: str, **context: object) -> str:
    """Fills in a template of this package."""
    light = {name[4:-1]: color for color, name in _THEME.items()}  # By CSS variable.
    return environment().get_template(template).render(light=light, **context)


def number(value: object, digits: int = 3) -> str:
    """Writes a number with `digits` significant digits, and a dash where there is none."""
    if value is None or value != value:
        return "–"
    if isinstance(value, (int,)) or (isinstance(value, float) and value.is_integer()):
        return f"{int(value):,}"
    if not isinstance(value, float):
        return str(value)
    if 10**digits <= abs(value) < 1e5:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if 1e-4 <= abs(value) < 1e5 else f"{value:.{digits - 1}e}"


def fixed(value: float | None, digits: int = 3) -> str:
    """Writes a number with `digits` decimals, and a dash where there is none."""
    if value is None or value != value:
        return "–"
    return f"{float(value):.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """Writes a share as a percentage, and a dash where there is none."""
    if value is None or value != value:
        return "–"
    return f"{100 * float(value):.{digits}f}\N{NO-BREAK SPACE}%"


def p_value(value: float | None, undefined: str = "–") -> str:
    """Writes a p value with three decimals and no zero before them."""
    if value is None or value != value:
        return undefined
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def svg(figure: style.Figure, label: str, prefix: str) -> markupsafe.Markup:
    """Turns a figure into inline SVG that follows the page's colours and font.

    Args:
        figure: Drawn with the colours of `metamer_jax.figures.style`.
        label: What is to be seen, for those who cannot see it.
        prefix: Unique on the page; ids inside the figure begin with it.

    Returns:
        The element, escaped.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # A style element inside the figure would apply to the whole page.
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    # Ids of groups serve nobody; those of clips and markers are referred to.
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r' id="([^"]*)"', rf' id="{prefix}-\1"', text)
    text = re.sub(r'href="#([^"]*)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    for color, variable in _THEME.items():
        text = text.replace(color, variable)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text)
    assert size is not None  # Matplotlib writes it.
    width_px = float(size.group(1)) * 96 / 72
    text = text.replace(size.group(0), f'style="width: {width_px:.0f}px"', 1)
    text = re.sub(r"\s*\n\s*", "\n", text)
    opening = markupsafe.Markup('<svg role="img" aria-label="{}"').format(label)
    return opening + markupsafe.Markup(text[len("<svg") :])
