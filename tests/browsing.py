"""A real browser for the tests of pages, and what axe finds fault with on a page."""

import functools
import shutil

import pytest

from metamer_jax.listening import piloting

SIZES = piloting.SIZES


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not any(map(shutil.which, piloting.BROWSERS)):
        pytest.skip(f"no browser among {piloting.BROWSERS}")
    with piloting.launched() as browser:
        yield browser


@functools.cache
def _axe() -> str:
    return pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT


# Of what is there a hundred times alike, three; letters in drawings axe cannot judge.
_LEFT_OUT = ["tbody tr:nth-child(n+4)", ".target-block:nth-of-type(n+4)", "svg > *"]


def violations(page, schemes=("light", "dark")) -> list[str]:
    """Runs axe on a page as it is, in each colour scheme; what it finds, a line an element."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_axe())
    found = []
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        result = page.evaluate(
            "([exclude, all]) => axe.run({ exclude }, { resultTypes: ['violations'], "
            "...(all ? {} : { runOnly: ['color-contrast'] }) })",
            [[[each] for each in _LEFT_OUT], scheme == schemes[0]],  # Colours alone change.
        )
        found += [
            f"{scheme}: {rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
            for rule in result["violations"]
            for node in rule["nodes"]
        ]
    return found
