"""A pilot by script: a browser takes a built experiment as a listener would, screen by screen.

Pictures of all screens are kept to be looked at; what the page sends is checked as the server
checks it, read as the analysis reads it, and compared with what was pressed. No answer of a pilot
gets among those of listeners: the pilot stands in for the server.
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

from metamer_jax.listening import responses
from metamer_jax.listening.serving import sessions

# Width and height, CSS pixels.
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
ADDRESS = "http://pilot.localhost/"  # Of no machine: what is asked for there is answered here.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_MS = 120_000  # For a page to load or a screen to come, on a busy machine.
# Plays `window.SPEED` times as fast, and keeps a list of what was played that outlives a reload.
FAST = """
  const note = (what) => {
    const before = JSON.parse(sessionStorage.getItem("played") || "[]");
    sessionStorage.setItem("played", JSON.stringify([...before, what]));
  };
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = function (...given) {
    this.playbackRate.value = window.SPEED || 40;
    note("buffer");
    return start.apply(this, given);
  };
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    this.playbackRate = Math.min(window.SPEED || 16, 16); // Chromium takes no more.
    note(this.src);
    return play.apply(this);
  };
"""
# What the page waits for.
STATE = """() => {
  const group = document.querySelector("#jspsych-audio-button-response-btngroup");
  if (group) return group.querySelector("button").disabled ? "listening" : "choose";
  if (document.querySelector(".rating")) return "confidence";
  if (document.querySelector("#noise")) return "calibration";
  if (document.querySelector("#comments")) return "comments";
  if (document.querySelector("#json")) return "end";
  if (document.querySelector("form.questions")) return "questions";
  if (document.querySelector("#withdrawn")) return "withdrawn";
  if (document.querySelector("#jspsych-fullscreen-btn")) return "fullscreen";
  const word = document.querySelector("#word");
  if (word) return word.disabled ? "listening" : "type";
  const button = document.querySelector("#jspsych-html-button-response-btngroup button");
  if (button) return document.querySelector("[data-play]") ? "play" : "message";
  return document.querySelector("#stage h1 ~ form, #stage .main") ? "first" : "";
}"""
NEXT = "#jspsych-html-button-response-btngroup button"
CHOICES = "#jspsych-audio-button-response-btngroup button"
# What a screen is.
_SCREEN = """() => {
  const text = (selector) => document.querySelector(selector)?.textContent ?? "";
  return [
    text("#stage h1"), text("#stage p:not(.answer)"), text("#stage .answer").slice(0, 6),
    document.querySelectorAll("#found li").length > 0,
    document.querySelector("#stage details") !== null,
    document.querySelector("dialog[open]") !== null,
  ].map((each) => String(each).replace(/[0-9]+/g, "#"));
}"""
_STORED = """() => Object.entries(localStorage).filter(([key]) => key.includes(":session:"))
  .map(([, value]) => JSON.parse(value))[0]"""
_TIMEOUT_S = 60.0


@dataclasses.dataclass(frozen=True, eq=False)
class Pilot:
    """What a pilot of one size of screen saw and sent."""

    session: dict[str, Any]  # As the page kept it at its end.
    screens: list[pathlib.Path]  # Pictures, in the order in which the screens came.
    posts: int  # Sessions that the page sent.
    problems: list[str]  # What is not as it should be, for people to read.


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """Starts a browser without a window, and ends it.

    Yields:
        Playwright's `Browser`.

    Raises:
        ImportError: The package `playwright` (extra `pilot`) is not installed.
        ValueError: There is no Chromium or Chrome on the PATH, or it or a page in it gave up.
    """
    try:
        from playwright import sync_api
    except ImportError as error:
        raise ImportError(
            "a pilot needs the package playwright: pip install 'metamer_jax[pilot]'"
        ) from error
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise ValueError(f"a pilot needs a browser on the PATH, one of {', '.join(BROWSERS)}")
    off = ("background-networking", "component-update", "sync", "gpu")
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{each}" for each in off)]
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=arguments)
            yield browser
            browser.close()
        except sync_api.Error as error:
            raise ValueError(f"the browser gave up: {error.message}") from error


def pilot(
    browser: Any,
    folder: str | os.PathLike,
    out: str | os.PathLike,
    size: str = "desktop",
    *,
    speed: float = 10.0,
    look: Callable[[Any], None] | None = None,
) -> Pilot:
    """Takes a whole experiment, its headphone check twice, and another to withdraw from it.

    Args:
        browser: From `launched`.
        folder: What `metamer-jax listen build` wrote.
        out: Where pictures go, named by size, number and heading, in place of an earlier pilot's.
        size: Of `SIZES`. A phone is touched, a desktop has a keyboard.
        speed: How many times as fast sounds are played; the first of each kind a fifth of that.
        look: Called with playwright's `Page` at every new screen.

    Returns:
        What came of it.

    Raises:
        ValueError: `size` is none of `SIZES`, the folder holds no experiment, or the page does not
            go on.
    """
    if size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    experiment, out = sessions.load_experiment(folder), pathlib.Path(out)
    for earlier in out.glob(f"{size}_[0-9][0-9]_*.png"):
        earlier.unlink()
    listener = _Listener(browser, experiment, out, size, speed, look)
    try:
        session = listener.take()
        listener.check(session)
        listener.withdraw()
    finally:
        listener.close()
    return Pilot(session, listener.screens, len(listener.posts), listener.problems)


class _Listener:
    """Answers what the page asks, and remembers what it saw and pressed."""

    def __init__(self, browser, experiment, out, size, speed, look):
        self.experiment, self.out, self.size, self.speed = experiment, out, size, speed
        self.look = look
        self.screens: list[pathlib.Path] = []
        self.problems: list[str] = []
        self.posts: list[dict[str, Any]] = []
        self.withdrawals: list[dict[str, Any]] = []
        self.pressed: dict[str, str] = {}
        self.fails = False  # The headphone check, the first time.
        self._seen: set[Any] = set()
        self._heard: collections.Counter[str] = collections.Counter()
        width, height = SIZES[size]
        self.touch = size == "phone"
        self._browser = browser
        self._options = {
            "viewport": {"width": width, "height": height},
            "has_touch": self.touch,
            "is_mobile": self.touch,
        }
        self._open(f"?participant=pilot-{size}")

    def _open(self, query: str) -> None:
        """Another browser profile, which keeps nothing of the one before."""
        self._context = self._browser.new_context(**self._options)
        self._context.set_default_timeout(PATIENCE_MS)
        self._context.add_init_script(FAST)
        self._context.route("**/*", self._answer)
        self.page = self._context.new_page()
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(ADDRESS + query)
        self.data = self.page.evaluate("window.EXPERIMENT")

    def close(self) -> None:
        self._context.close()

    def _answer(self, route) -> None:
        """Stands in for the server, for DataPipe, and for where the page sends listeners."""
        url = urllib.parse.urlsplit(route.request.url)
        name = urllib.parse.unquote(url.path).lstrip("/") or "index.html"
        if not route.request.url.startswith(ADDRESS):
            sent = route.request.post_data
            if sent is not None:
                self.posts.append(json.loads(json.loads(sent)["data"]))
            return route.fulfill(status=204)  # A page that is sent on so stays where it is.
        if name == "api/condition":
            return route.fulfill(json={"condition": self.experiment.conditions[0]})
        if name == "api/session":
            self.posts.append(json.loads(route.request.post_data))
            return route.fulfill(json={"stored": True})
        if name == "api/withdraw":
            self.withdrawals.append(json.loads(route.request.post_data))
            return route.fulfill(json={"deleted": True})
        file = self.experiment.public / name
        if not file.is_file():
            self.problems.append(f"the page asks for {name}, which is not there")
            return route.fulfill(status=404, body="")
        return route.fulfill(path=file)

    # What is on the screen.

    def state(self) -> str:
        """Waits until the page waits for something."""
        end = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < end:
            if state := self.page.evaluate(STATE):
                return state
            self.page.wait_for_timeout(15)
        raise ValueError(f"the page does not go on: {self.page.inner_text('body')[:200]!r}")

    def picture(self, state: str) -> None:
        """Keeps a picture of a screen that was not there before, and looks at it."""
        heading, *rest = self.page.evaluate(_SCREEN)
        key = (state, heading, *rest)
        if key in self._seen:
            return
        self._seen.add(key)
        words = re.sub(r"[^a-z]+", "-", f"{state} {heading}".lower()).strip("-")
        path = self.out / f"{self.size}_{len(self.screens) + 1:02d}_{words[:40]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)
        self.screens.append(path)
        excess = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if excess > 0:
            self.problems.append(f"{path.name}: {excess} pixels wider than the screen")
        if self.look is not None:
            self.look(self.page)

    def stored(self) -> dict[str, Any]:
        return self.page.evaluate(_STORED)

    # What is done.

    def press(self, selector: str, place: int = 0) -> None:
        at = self.page.locator(selector).nth(place)
        at.tap() if self.touch else at.click()

    def choose(self, selector: str, place: int) -> None:
        """Presses one of several buttons, by its key where there is a keyboard."""
        if self.touch or place > 8:
            self.press(selector, place)
        else:
            self.page.keyboard.press(str(place + 1))

    def answer(self) -> int:
        """The place of the answer that is given to the sound that was heard last."""
        session, data = self.stored(), self.data
        order, headphone = session["choice_order"], session["headphone"]
        if session["trials"]:
            row = session["trials"][-1]
            place = (row["trial"] - 1) % len(order)  # Every answer in its turn.
            self.pressed[row["stimulus_id"]] = order[place]
            return place
        if data["headphone"] and headphone["passed"] is None:
            trial = data["headphone"][len(headphone["answers"]) % len(data["headphone"])]
            return trial["correct"] % 3 if self.fails else trial["correct"] - 1
        number = len(session["practice"])
        right = order.index(data["practice"][number]["word"])
        return right if number else (right + 1) % len(order)

    def act(self, state: str) -> None:
        """Does what the page waits for, and waits until the page has taken it."""
        page = self.page
        shown = page.evaluate_handle(
            "document.querySelector('.jspsych-content, .screen')?.firstElementChild ?? null"
        )
        self._do(state)
        end = time.monotonic() + 1
        page.wait_for_timeout(15)
        while state != "listening" and shown.evaluate("e => e?.isConnected"):
            if time.monotonic() > end:
                break  # Whatever it is, it is looked at again.
            page.wait_for_timeout(15)

    def _do(self, state: str) -> None:
        page = self.page
        if state == "first":
            self.press("#stage .main")
        elif state == "questions":
            self._fill_in()
        elif state == "calibration":
            self.press("#noise")
            page.locator(f"{NEXT}:enabled").wait_for()
            self.press(NEXT)
        elif state == "play":
            # The first of its kind is slower, so that there is time for a picture.
            kind = page.evaluate(_SCREEN)[0]
            self._heard[kind] += 1
            slow = 5 if self._heard[kind] == 1 else 1
            page.evaluate(f"window.SPEED = {self.speed / slow}")
            self.press(NEXT) if self.touch else page.keyboard.press("Space")
        elif state == "choose":
            self.choose(CHOICES, self.answer())
        elif state == "type":
            word = self.stored()["choice_order"][self.answer()]
            page.fill("#word", word[:2])
            self.picture(state)
            page.fill("#word", word)
            page.keyboard.press("Enter")
        elif state == "confidence":
            self.choose(NEXT, 3)
        elif state == "comments":
            page.fill("#comments", "A pilot by script.")
            self.press("input[type=submit]")
        elif state == "fullscreen":
            self.press("#jspsych-fullscreen-btn")
        elif state == "message":
            self.press(NEXT) if self.touch else page.keyboard.press("Enter")

    def _fill_in(self) -> None:
        for i, question in enumerate(self.data["questionnaire"]):
            if question["type"] == "choice":
                self.page.select_option(f"#q{i}", index=1)
            elif question["type"] == "number":
                low, high = question.get("min", 0), question.get("max", 1e9)
                self.page.fill(f"#q{i}", f"{min(max(30, low), high):g}")
            else:
                self.page.fill(f"#q{i}", "pilot")
        self.press("#stage .main")

    def go_on(self, *until: str, when: Callable[[dict[str, Any]], Any] = bool) -> None:
        """Takes part until the page is in one of those states, and its session as is said."""
        end = time.monotonic() + 30 * _TIMEOUT_S
        while time.monotonic() < end:
            state = self.state()
            self.picture(state)
            if state in until and when(self.stored()):
                return
            self.act(state)
        raise ValueError(f"the page never came to {' or '.join(until)}")

    def take(self) -> dict[str, Any]:
        """Takes the whole experiment, and comes back within it, as after a mistake."""
        self.fails = bool(self.data["headphone"]) and self.data["headphone_retry"]
        if self.fails:
            self.go_on("message", when=lambda session: session["headphone"]["attempts"] > 1)
            self.fails = False
            self.page.reload()
        self.go_on("play", "message", when=lambda session: session["trials"])
        self.page.reload()
        self.go_on("end")
        return self.stored()

    def check(self, session: dict[str, Any]) -> None:
        """Compares what the page kept and sent with what was pressed."""
        try:
            sessions.check_session(session, self.experiment)
            read = responses.from_sessions([session], self.experiment).trials
        except ValueError as error:
            self.problems.append(f"the session is not as the design has it: {error}")
            return
        got = dict(zip(read["stimulus_id"], read["response"], strict=True))
        if not session["complete"] or got != self.pressed:
            wrong = [name for name in self.pressed if got.get(name) != self.pressed[name]]
            self.problems.append(
                f"answers to {', '.join(wrong) or 'sounds not heard'} are not kept"
            )
        sends = self.data["server"] or self.data.get("datapipe_experiment")
        if sends and (not self.posts or self.posts[-1]["trials"] != session["trials"]):
            self.problems.append("what was sent is not what was answered")

    def withdraw(self) -> None:
        """Takes part again, stays when asked, then withdraws; nothing may be left."""
        self.close()
        self._open("")  # Here the experimenter may name the listener.
        self.go_on("play", when=lambda session: session["trials"])
        session = self.stored()
        if self.data["headphone"] and not session["headphone"]["passed"]:
            self.problems.append("right answers do not pass the headphone check")
        number = session["session_id"]
        for button in ("#no", "#yes"):
            self.press("#withdraw")
            self.page.locator("dialog[open]").wait_for()
            self.picture("withdraw")
            self.press(button)
        self.page.locator("#withdrawn").wait_for()
        self.picture("withdrawn")
        kept = self.page.evaluate("Object.keys(localStorage)")
        if kept:
            self.problems.append(f"a listener withdrew, and the browser keeps {kept}")
        if self.data["server"] and [w["session_id"] for w in self.withdrawals] != [number]:
            self.problems.append("a listener withdrew, and the server was not told")
