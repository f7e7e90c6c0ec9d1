"""A real browser for the tests of pages, and what axe finds fault with on a page."""

import functools
import shutil

import pytest

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser among {names}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


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
