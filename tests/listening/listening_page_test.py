"""The page in a real browser: whole sessions from a file, a host and our server; no replay."""

import contextlib
import dataclasses
import functools
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
import zipfile

import browsing
import listening_folder
import listening_material
import pandas as pd
import pytest

from metamer_jax.listening import piloting, responses
from metamer_jax.listening.building import build, page_texts
from metamer_jax.listening.config import ListeningConfig
from metamer_jax.listening.serving import sessions

# Eight trials in four batches of two; with the practice trial, nine short sounds.
CONFIG = ListeningConfig(
    conditions=2,
    practice_trials=1,
    calibration_s=0.5,
    silence_s=0.01,
    headphone_check="none",
    server=False,
    title="Words & noises",
    questionnaire=[],
    contact="lab@example.org",
)
ANSWERED = "!document.querySelector('#jspsych-audio-button-response-btngroup')"

browser = browsing.browser  # The fixture.


def build_experiment(folder, words=listening_material.WORDS, **changes):
    fabricated = listening_material.fabricate(layers=("dense",), targets=1, words=words)
    build.write(build.make(fabricated, dataclasses.replace(CONFIG, **changes)), folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_experiment(tmp_path_factory.mktemp("experiment"))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def hosted(public):
    """Serves a folder on loopback, as a static host would; yields its address."""
    handler = functools.partial(QuietHandler, directory=str(public))
    with listening_folder.served(
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    ) as server:
        yield f"http://127.0.0.1:{server.server_port}/"


@contextlib.contextmanager
def opened(browser, **options):
    """Yields a function that opens pages of one new browser profile and watches them."""
    context = browser.new_context(viewport={"width": 1100, "height": 760}, **options)
    context.set_default_timeout(piloting.PATIENCE_MS)
    context.add_init_script(piloting.FAST)

    def open_page(url):
        page = context.new_page()
        page.problems, page.requests = [], []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(url)
        return page

    yield open_page
    context.close()


def state_of(page, *wanted, timeout_s=30):
    """Waits until the page is in one of those states (any, without) and returns it."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        state = page.evaluate(piloting.STATE)
        if state and (state in wanted or not wanted):
            return state
        page.wait_for_timeout(15)
    raise AssertionError(f"the page stays {state!r}, not {wanted}: {page.inner_text('body')}")


def wait_until(page, expression, timeout_s=30):
    """Waits for an expression to be true; the page's content policy forbids playwright's own."""
    end = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never came: {expression}"
        page.wait_for_timeout(15)


def go_on(page, until, *, key="3", on_state=lambda state: None):
    """Takes part, by the keyboard where that is how it is done, until the page is as said."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        state = state_of(page)
        if state == until:
            return
        on_state(state)
        if state == "first":
            page.click("#stage .main")
            wait_until(page, "!document.querySelector('#stage .screen:not(:has(.questions))')")
        elif state == "calibration":
            page.click("#noise")
            page.click(piloting.NEXT)
            wait_until(page, "!document.querySelector('#noise')")
        elif state == "questions":
            for i in range(page.locator("form.questions select").count()):
                page.locator("form.questions select").nth(i).select_option(index=1)
            page.click("#stage .main")
            wait_until(page, "!document.querySelector('form.questions')")
        elif state == "message":
            page.keyboard.press("Enter")
        elif state == "play":
            page.keyboard.press("Space")
        elif state == "choose":
            page.keyboard.press(key)
        elif state == "comments":
            page.fill("#comments", "Fine, <b>thanks</b>")
            page.click("input[type=submit]")
        page.wait_for_timeout(10)
    raise AssertionError(f"never came to {until!r}")


def stored(page):
    """Returns the session that the browser keeps."""
    return page.evaluate(
        """() => Object.entries(localStorage).filter(([key]) => key.includes(":session:"))
          .map(([, value]) => JSON.parse(value))[0]"""
    )


def at_trial(page, number):
    """Goes on until a test trial waits to be played."""
    go_on(page, "play")
    for _ in range(20):
        if page.inner_text("#stage h1") == f"Sound {number} of 8":
            return
        page.keyboard.press("Space")
        go_on(page, "choose")
        page.keyboard.press("1")
        wait_until(page, ANSWERED)
        go_on(page, "play")
    raise AssertionError(f"never came to trial {number}")


def check(session, folder, *, condition=None):
    """Checks a complete session against the schema, the design and the reader."""
    experiment = sessions.load_experiment(folder)
    sessions.check_session(session, experiment)
    expected = (
        "schema_version experiment_id design_sha256 session_id participant condition started "
        "finished user_agent headphone calibration_done trials complete"
    ).split()
    assert set(expected) <= set(session)
    assert session["complete"] and session["finished"] > session["started"]
    assert session["calibration_done"] is True
    assert condition in (None, session["condition"])
    manifest = pd.read_csv(folder / "private/manifest.csv")
    rows = manifest[manifest["condition"] == session["condition"]]
    assert [t["trial"] for t in session["trials"]] == rows["trial"].tolist()
    assert [t["stimulus_id"] for t in session["trials"]] == rows["stimulus_id"].tolist()
    for trial in session["trials"]:
        assert set(trial) >= {
            *("trial", "stimulus_id", "response", "choice_order", "rt_ms", "played_at"),
            "reloaded",
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", trial["played_at"])
    found = responses.from_sessions([session], experiment)
    return found.trials


class TestFromAFile:
    def test_a_whole_session_by_keyboard(self, browser, tmp_path):
        folder = build_experiment(tmp_path, headphone_check="antiphase", choice_order="shuffled")
        url = (folder / "public/index.html").as_uri() + "?condition=2&PROLIFIC_PID=p7&STUDY_ID=s1"
        public = (folder / "public").as_uri()
        with opened(browser) as open_page:
            page = open_page(url)
            assert page.title() == "Words & noises"
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent").startswith("I agree")
            page.keyboard.press("Enter")
            go_on(page, "end")
            session = stored(page)
            assert "lab@example.org" in page.inner_text("#stage")
            with page.expect_download() as download:
                page.keyboard.press("Tab")
                page.keyboard.press("Enter")
            assert json.loads(download.value.path().read_text("utf-8")) == session
            assert re.fullmatch(
                r"words-noises-[0-9a-f]{8}_p7_\w{8}\.json", download.value.suggested_filename
            )
            with page.expect_download() as download:
                page.click("#csv")
            table = tmp_path / "session.csv"
            shutil.copy(download.value.path(), table)
            played = page.evaluate("JSON.parse(sessionStorage.getItem('played'))")
            assert page.problems == []
            assert all(u.startswith((public, "data:", "blob:")) for u in page.requests)
        trials = check(session, folder, condition=2)
        assert session["participant"] == "p7" and session["prolific"]["study_id"] == "s1"
        assert session["comments"] == "Fine, <b>thanks</b>"
        assert sorted(session["choice_order"]) == sorted(listening_material.WORDS)
        third = session["choice_order"][2]
        assert {t["response"] for t in session["trials"]} == {third}
        assert trials["correct"].sum() == (trials["word"] == third).sum() == 1
        assert all(t["rt_ms"] > 0 and not t["reloaded"] for t in session["trials"])
        assert len(session["headphone"]["answers"]) == 12  # Failed, tried once more, and failed.
        assert [a["attempt"] for a in session["headphone"]["answers"]] == 6 * [1] + 6 * [2]
        assert session["headphone"]["passed"] is False and session["headphone"]["attempts"] == 2
        assert {a["answer"] for a in session["headphone"]["answers"]} == {3}
        assert len(session["practice"]) == 1
        for trial in session["trials"]:
            assert sum(trial["stimulus_id"] in source for source in played) == 1
        # The table that can be downloaded says the same.
        again = responses.read(table, sessions.load_experiment(folder)).trials
        pd.testing.assert_frame_equal(
            again[["trial", "stimulus_id", "response", "correct"]],
            trials[["trial", "stimulus_id", "response", "correct"]],
        )


@pytest.fixture(scope="module")
def url(folder):
    with hosted(folder / "public") as url:
        yield url


class TestFromAHost:
    def test_a_reload_goes_on_with_the_next_sound(self, browser, folder, url):
        with opened(browser) as open_page:
            page = open_page(f"{url}?participant=anna")
            at_trial(page, 3)
            page.evaluate("window.SPEED = 0.05")  # A second: long enough to be caught at it.
            page.keyboard.press("Space")
            state_of(page, "listening")
            page.keyboard.press("1")  # Not unlocked yet.
            before = stored(page)
            assert len(before["trials"]) == 3 and before["trials"][2]["response"] is None
            page.requests.clear()
            page.reload()
            assert "You have heard 3 of 8 sounds" in page.inner_text("#stage")
            go_on(page, "play")
            assert page.inner_text("#stage h1") == "Sound 4 of 8"
            for trial in before["trials"]:  # Not even fetched again.
                assert not any(trial["stimulus_id"] in request for request in page.requests)
            go_on(page, "end")
            session = stored(page)
            played = page.evaluate("JSON.parse(sessionStorage.getItem('played'))")
            assert page.problems == []
            assert all(u.startswith((url, "data:")) for u in page.requests)
            page.reload()  # What is finished does not begin again.
            assert state_of(page) == "end"
        check(session, folder)
        assert session["reloads"] == 1 and session["session_id"] == before["session_id"]
        assert [t["reloaded"] for t in session["trials"]] == [False, False, True, True] + 4 * [
            False
        ]
        answered = [t["response"] is not None for t in session["trials"]]
        assert answered == [True, True, False] + 5 * [True]
        assert len(played) == 1 + 1 + 8  # Calibration, practice, and each sound once.

    def test_nothing_plays_a_sound_again(self, browser, url):
        with opened(browser) as open_page:
            page = open_page(f"{url}?participant=ben")
            at_trial(page, 2)
            other = open_page(f"{url}?participant=ben")  # The same session in a second tab.
            go_on(other, "play")
            assert other.inner_text("#stage h1") == "Sound 2 of 8"
            other.keyboard.press("Space")
            go_on(other, "choose")
            played = other.evaluate("sessionStorage.getItem('played')")
            for key in ("Space", "Enter", "p", "ArrowLeft", "MediaPlayPause", "Backspace", "9"):
                other.keyboard.press(key)
            assert other.locator("#stage button:has-text('Play')").count() == 0
            assert other.locator("audio").count() == 0
            assert other.evaluate("sessionStorage.getItem('played')") == played
            other.keyboard.press("4")
            # In the first tab, the sound that the second has played is skipped.
            before = page.evaluate("sessionStorage.getItem('played')")
            page.bring_to_front()
            page.keyboard.press("Space")
            wait_until(page, "document.querySelector('#stage h1')?.textContent !== 'Sound 2 of 8'")
            assert page.evaluate("sessionStorage.getItem('played')") == before
            page.go_back()
            page.goto(f"{url}?participant=ben")
            assert "You have heard 2 of 8" in page.inner_text("#stage")

    def test_the_mouse_and_the_accessible_names(self, browser, url):
        with opened(browser, color_scheme="dark", reduced_motion="reduce") as open_page:
            page = open_page(url)
            page.get_by_text("For the experimenter").click()
            page.get_by_label("Participant code").fill("carla")
            page.get_by_label("Condition").select_option("2")
            page.get_by_role("button", name="I agree and want to take part").click()
            page.get_by_role("button", name="The volume is comfortable").wait_for()
            assert page.get_by_role("button", name="The volume is comfortable").is_disabled()
            at_trial(page, 2)
            bar = page.get_by_role("progressbar", name="Progress")
            assert bar.get_attribute("aria-valuenow") == "33"  # 4 of 12 steps.
            assert page.locator("header").inner_text().endswith("Part 1 of 4")
            page.get_by_role("button", name="Play the sound").click()
            group = page.get_by_role("group", name="Which word do you hear?")
            group.get_by_role("button", name="stop", disabled=False).click()
            session = stored(page)
            assert (session["participant"], session["condition"]) == ("carla", 2)
            assert session["trials"][1]["response"] == "stop"
            assert page.locator("[aria-live]").count() >= 1
            page.reload()
            page.get_by_role("button", name=re.compile("another participant")).click()
            page.get_by_role("button", name="I agree").wait_for()

    def test_says_when_sounds_cannot_be_loaded(self, browser, url):
        with opened(browser) as open_page:
            page = open_page(url)
            page.route("**/audio/*.wav", lambda route: route.fulfill(status=404, body="no"))
            page.click("#stage .main")
            page.get_by_text("The sounds could not be loaded").wait_for(timeout=10000)
            page.unroute("**/audio/*.wav")
            page.get_by_role("button", name="Try again").click()
            page.get_by_role("button", name="Continue").click()
            state_of(page, "calibration")


class TestFromTheServer:
    def test_a_session_arrives_and_the_participant_is_sent_on(self, browser, tmp_path):
        completion = "https://completion.example/done?cc=C0DE"
        folder = build_experiment(tmp_path, server=True, completion_url=completion)
        with _served(folder) as url, opened(browser) as open_page:
            page = open_page(f"{url}?PROLIFIC_PID=dora")
            page.route("https://completion.example/**", lambda r: r.fulfill(body="<h1>Done</h1>"))
            go_on(page, "comments")
            # After each batch; the last is on its way while the screen is shown.
            end, posts = time.monotonic() + 10, []
            while len(posts) < 4 and time.monotonic() < end:
                page.wait_for_timeout(15)
                posts = [u for u in page.requests if u.endswith("api/session")]
            assert len(posts) == 4
            # The answers are on their way before there is a debrief to read.
            with page.expect_response(lambda r: '"complete":true' in (r.request.post_data or "")):
                page.click("input[type=submit]")
                state_of(page, "message")
            assert "What this study is about" in page.inner_text("#stage")
            (sent,) = responses.read(
                folder / "responses", sessions.load_experiment(folder)
            ).sessions.itertuples()
            assert sent.complete and sent.trials == 8
            page.keyboard.press("Enter")
            page.wait_for_url(completion, timeout=15000)
            foreign = [u for u in page.requests if not u.startswith((url, "data:"))]
            assert foreign == [completion] and page.problems == []
        found = responses.read(folder / "responses", sessions.load_experiment(folder))
        assert len(found.trials) == 8 and set(found.trials["participant"]) == {"dora"}

    def test_a_static_host_will_do(self, browser, tmp_path):
        folder = build_experiment(tmp_path, server=True)
        with hosted(folder / "public") as url, opened(browser) as open_page:
            page = open_page(f"{url}?condition=1")
            page.evaluate("window.setTimeout = ((s) => (f, ms) => s(f, ms / 50))(setTimeout)")
            go_on(page, "end")
            page.get_by_text("could not be sent").wait_for()
            assert "Please download them" in page.inner_text("#sent")
            page.route("**/api/session", lambda r: r.fulfill(json={"stored": True}))
            page.get_by_role("button", name="Try again").click()
            page.get_by_text("Your answers were saved.").wait_for()


@contextlib.contextmanager
def _served(folder):
    command = [sys.executable, "-m", "experiments.serve_listening_test"]
    with subprocess.Popen(
        [*command, f"--experiment={folder}", "--port=0"],
        cwd=pathlib.Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            found = re.search(r"http://\S+", process.stdout.readline())
            yield found.group()
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build_experiment(
        tmp_path_factory.mktemp("whole"),
        server=True,
        questionnaire=None,
        headphone_check="huggins",
        confidence=True,
        practice_trials=2,
        words=listening_material.WORDS[:4],
    )


class TestPilot:
    """Every screen of the page at a desktop's and a phone's size: seen, measured, and sent."""

    @pytest.mark.slow
    @pytest.mark.parametrize("size", piloting.SIZES)
    def test_all_screens_are_seen_and_without_fault(self, browser, whole, tmp_path, size):
        faults = []

        def look(page):
            faults.extend(browsing.violations(page))

        done = piloting.pilot(browser, whole, tmp_path, size, speed=60, look=look)
        assert done.problems == [] and faults == []
        names = "".join(path.name for path in done.screens)
        for screen in (
            *(
                "first-words",
                "questions",
                "calibration",
                "headphone-check",
                "once-more",
                "practice",
            ),
            *("the-study", "play", "listening", "choose", "confidence", "break", "welcome-back"),
            *("comments", "what-this-study", "end-thank-you", "withdraw", "withdrawn"),
        ):
            assert screen in names, screen
        assert sorted(done.screens) == sorted(tmp_path.iterdir())
        headphone = done.session["headphone"]
        assert headphone["attempts"] == 2 and headphone["passed"] is True
        assert headphone["first_checks"]["huggins"] == {"right": 0, "of": 6, "passed": False}
        assert headphone["checks"]["huggins"] == {"right": 6, "of": 6, "passed": True}
        assert [a["attempt"] for a in headphone["answers"]] == 6 * [1] + 6 * [2]
        assert len({trial["response"] for trial in done.session["trials"]}) == 4
        assert done.session["reloads"] == 2
        check(done.session, whole)
        assert not (whole / "responses").exists()  # Listeners' answers are no pilot's.

    @pytest.mark.slow
    def test_what_the_page_gets_wrong_is_told(self, browser, tmp_path):
        folder = build_experiment(
            tmp_path / "e",
            consent_html="<p style='width:2000px'>Wide</p>",
            practice_trials=0,
            words=listening_material.WORDS[:2],
        )
        file = folder / "public/timeline.js"
        wrong = file.read_text("utf-8").replace(
            "s.choice_order[place];\n            mine.rt", "s.choice_order[0];\n            mine.rt"
        )
        assert wrong != file.read_text("utf-8")
        file.write_text(wrong)
        done = piloting.pilot(browser, folder, tmp_path / "pictures", speed=60)
        wide, answers, _ = done.problems  # The consent's text is seen twice.
        assert "pixels wider than the screen" in wide
        assert answers.startswith("answers to ") and answers.endswith("are not kept")

    def test_a_size_that_there_is_not_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="size: expected one of desktop, phone, got 'watch'"):
            piloting.pilot(None, tmp_path, tmp_path, "watch")


QUESTIONS = (
    {"name": "age", "type": "number", "label": "Age?", "min": 16, "max": 120},
    {
        "name": "hearing",
        "type": "choice",
        "label": "Hearing?",
        "required": True,
        "choices": [{"value": "normal", "label": "fine"}, {"value": "loss", "label": "a loss"}],
    },
    {"name": "native_language", "type": "text", "label": "Language?"},
)


class TestAroundTheSounds:
    """Consent, questions, the headphone check's second try, withdrawal, languages."""

    def test_questions_are_asked_and_kept_with_the_consents_version(self, browser, tmp_path):
        folder = build_experiment(
            tmp_path, questionnaire=QUESTIONS, consent_version="v2 <b>", consent_html="<p>Mine</p>"
        )
        with hosted(folder / "public") as url, opened(browser) as open_page:
            page = open_page(f"{url}?participant=anna")
            bar = page.get_by_role("progressbar", name="Progress")
            assert bar.get_attribute("aria-valuenow") == "0"
            assert "Version of this text: v2 <b>" in page.inner_text("#stage")
            page.click("#stage .main")
            state_of(page, "questions")
            at_questions = int(bar.get_attribute("aria-valuenow"))
            page.get_by_label("Age?", exact=True).fill("7")
            page.get_by_role("button", name="Continue").click()
            assert state_of(page) == "questions"  # Too young, and hearing is required.
            page.reload()
            page.get_by_role("button", name="Continue").click()
            assert state_of(page) == "questions"
            page.get_by_label("Age?", exact=True).fill("34")
            page.get_by_label("Hearing?").select_option("fine")
            page.get_by_role("button", name="Continue").click()
            state_of(page, "calibration")
            session = stored(page)
            assert int(bar.get_attribute("aria-valuenow")) > at_questions > 0
            assert page.problems == []
        answers = session["questionnaire"]
        assert answers.pop("answered") > session["consent"]["given"]
        assert answers == {"age": 34, "hearing": "normal", "native_language": None}
        assert session["consent"]["version"] == "v2 <b>"
        assert sessions.check_session(session, sessions.load_experiment(folder))

    def test_withdrawing_deletes_everywhere(self, browser, tmp_path):
        folder = build_experiment(tmp_path, server=True)
        with _served(folder) as url, opened(browser) as open_page:
            page = open_page(f"{url}?participant=fay")
            assert page.get_by_role("button", name="Stop and withdraw").count() == 0
            at_trial(page, 4)
            experiment = sessions.load_experiment(folder)
            for _ in range(100):
                if list((folder / "responses").glob("*.json")):
                    break
                time.sleep(0.05)
            (file,) = (folder / "responses").glob("*.json")
            assert len(responses.read(folder / "responses", experiment).trials) == 2
            page.get_by_role("button", name="Stop and withdraw").click()
            page.get_by_role("button", name="Go on with the study").click()
            assert state_of(page) == "play"
            page.get_by_role("button", name="Stop and withdraw").click()
            page.get_by_role("button", name="Stop and delete my answers").click()
            page.get_by_text("Your answers were deleted, here and where").wait_for()
            assert page.evaluate("Object.keys(localStorage).length") == 0
            assert not file.exists()
            body = (folder / "responses/sessions.sqlite").read_bytes()
            assert b"fay" not in body
            page.reload()  # Said once; then the page is as new.
            assert page.get_by_role("button", name="I agree").count() == 1
            assert [p for p in page.problems if "favicon" not in p] == []

    @pytest.mark.parametrize("server", [True, False])
    def test_withdrawing_says_what_could_not_be_deleted(self, browser, tmp_path, server):
        folder = build_experiment(tmp_path, server=server)
        with hosted(folder / "public") as url, opened(browser) as open_page:
            page = open_page(f"{url}?participant=gil")
            go_on(page, "calibration")
            page.evaluate("window.setTimeout = ((s) => (f, ms) => s(f, ms / 50))(setTimeout)")
            number = stored(page)["session_id"]
            page.get_by_role("button", name="Stop and withdraw").click()
            page.get_by_role("button", name="Stop and delete my answers").click()
            page.locator("#withdrawn").wait_for()
            said = page.inner_text("#withdrawn")
            assert page.evaluate("Object.keys(localStorage).length") == 0
        if server:
            assert "could not be told" in said and number in said and "lab@example.org" in said
        else:
            assert "none had been sent anywhere" in said and "lab@example.org" in said

    def test_confidence_is_asked_after_each_answer(self, browser, tmp_path):
        folder = build_experiment(tmp_path, confidence=True, practice_trials=0)
        with opened(browser) as open_page:
            page = open_page((folder / "public/index.html").as_uri())
            at_trial_one = "document.querySelector('#stage h1')?.textContent === 'Sound 1 of 8'"
            go_on(page, "choose")
            wait_until(page, at_trial_one)
            page.keyboard.press("2")
            group = page.get_by_role("group", name="How sure are you?")
            group.wait_for()
            page.reload()  # The answer is there; the question does not come again.
            page.get_by_role("button", name="Continue").click()
            for _ in range(7):
                go_on(page, "choose")
                page.keyboard.press("2")
                group.wait_for()
                page.keyboard.press("4")
                group.wait_for(state="detached")
            go_on(page, "end")
            session = stored(page)
            assert page.problems == []
        assert [t.get("confidence") for t in session["trials"]] == [None, *[4] * 7]
        check(session, folder)

    @pytest.mark.parametrize("language", ["de", "es"])
    @pytest.mark.slow
    def test_every_screen_is_in_its_language(self, browser, tmp_path, language):
        folder = build_experiment(
            tmp_path, language=language, headphone_check="antiphase", questionnaire=None
        )
        english = page_texts.load("en")["texts"]
        said = {
            text
            for key, text in english.items()
            if isinstance(text, str) and "{" not in text and "<" not in text and len(text) > 12
        }
        with opened(browser) as open_page:
            page = open_page((folder / "public/index.html").as_uri())
            assert page.evaluate("document.documentElement.lang") == language
            seen = []

            def look(state):
                seen.append(page.inner_text("body"))

            go_on(page, "end", on_state=look)
            seen.append(page.inner_text("body"))
            assert page.problems == []
        for text in seen:
            assert not [phrase for phrase in said if phrase in text]
            assert "{" not in text and "undefined" not in text and "[object" not in text

    def test_a_sound_that_does_not_play_is_told_and_repeated(self, browser, tmp_path):
        folder = build_experiment(tmp_path, practice_trials=0)
        with hosted(folder / "public") as url, opened(browser) as open_page:
            page = open_page(f"{url}?participant=hal")
            at_trial(page, 2)
            page.evaluate(
                """() => {
                  const start = AudioBufferSourceNode.prototype.start;
                  let silent = 1;
                  window.mute = (n) => { silent = n; };
                  AudioBufferSourceNode.prototype.start = function (...given) {
                    if (silent-- > 0) return undefined; // As where another program has the device.
                    return start.apply(this, given);
                  };
                  window.setTimeout = ((s) => (f, ms) => s(f, ms > 5000 ? 300 : ms))(setTimeout);
                }"""
            )
            page.keyboard.press("Space")
            page.get_by_text("The sound did not play").wait_for()
            page.get_by_role("button", name="Play it again").click()
            go_on(page, "choose")
            page.keyboard.press("1")
            at_trial(page, 3)
            page.evaluate("mute(9)")
            page.keyboard.press("Space")
            for _ in range(2):
                page.get_by_role("button", name="Play it again").click()
            at_heading = "document.querySelector('#stage h1')?.textContent !== 'Sound 3 of 8'"
            wait_until(page, at_heading)
            page.evaluate("mute(0)")
            go_on(page, "end")
            session = stored(page)
            assert [p for p in page.problems if "favicon" not in p] == []
        rows = session["trials"]
        assert rows[1]["played_times"] == 2 and rows[1]["response"] is not None
        assert rows[2]["failed"] and rows[2]["response"] is None and rows[2]["played_times"] == 3
        assert all("failed" not in row for row in rows[3:])
        check(session, folder)


class TestComparisons:
    @pytest.mark.parametrize(
        "task", [pytest.param("same_different", marks=pytest.mark.slow), "abx"]
    )
    def test_a_session_of_comparisons(self, browser, tmp_path, task):
        made = listening_material.fabricate(layers=("dense",), targets=1)
        made = listening_material.with_originals(made)
        build.write(build.make(made, dataclasses.replace(CONFIG, task=task)), tmp_path)
        asked = {"same_different": "Are the two sounds the same?", "abx": "Which of the first two"}
        with opened(browser) as open_page:
            page = open_page((tmp_path / "public/index.html").as_uri())
            go_on(page, "choose", key="1")
            assert asked[task] in page.inner_text("#stage")
            go_on(page, "end", key="1")
            session = stored(page)
            assert page.problems == []
        trials = check(session, tmp_path)
        first = {"same_different": "same", "abx": "first"}[task]
        assert set(trials["response"]) == {first}
        manifest = pd.read_csv(tmp_path / "private/manifest.csv")
        right = manifest.set_index("stimulus_id")["answer"]
        assert (trials["correct"] == (trials["stimulus_id"].map(right) == first)).all()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Eight hundred made-up words; eight of them are spoken."""
    syllables = [a + b for a in "bdfgklmnpr" for b in ("a", "é", "i", "o")]
    words = sorted({a + b for a in syllables for b in syllables})[:800]
    fabricated = listening_material.fabricate(layers=("dense",), targets=1, words=words[:8])
    folder = tmp_path_factory.mktemp("typed")
    material = dataclasses.replace(fabricated, words=tuple(words))
    build.write(build.make(material, CONFIG), folder)
    return folder, words


class TestTypedAnswers:
    def test_a_session_is_typed_with_suggestions(self, browser, many):
        folder, words = many
        with hosted(folder / "public") as url, opened(browser) as open_page:
            page = open_page(f"{url}?participant=ida")
            go_on(page, "type")  # Practice.
            field = page.get_by_role("combobox")
            field.fill("BAB")
            options = page.get_by_role("option")
            assert options.all_inner_texts() == [w for w in words if w.startswith("bab")][:8]
            page.keyboard.press("Enter")
            assert page.get_by_text("Please choose a word from the list").is_visible()
            page.keyboard.press("ArrowDown")
            page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
            state_of(page, "message")
            for number in range(8):
                go_on(page, "type")
                assert page.evaluate("document.activeElement.id") == "word"
                page.keyboard.type("babe" if number else "babé")
                if number == 1:
                    options.first.click()
                else:
                    page.keyboard.press("Enter")
                wait_until(page, "!document.querySelector('#word')")
            go_on(page, "end")
            session = stored(page)
            assert [p for p in page.problems if "favicon" not in p] == []
        assert session["practice"][0]["response"] == words[1]
        assert {t["response"] for t in session["trials"]} == {"babé"}
        assert all(t["rt_ms"] > 0 for t in session["trials"])
        check(session, folder)

    @pytest.mark.slow
    def test_suggestions_come_at_once_on_a_slow_machine(self, browser, many):
        folder, _ = many
        with hosted(folder / "public") as url, opened(browser) as open_page:
            page = open_page(f"{url}?participant=jon")
            go_on(page, "type")
            page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
            took = page.evaluate(
                """() => {
                  const field = document.querySelector("#word");
                  return ["b", "ba", "bab", "a", "o"].map((text) => {
                    const began = performance.now();
                    field.value = text;
                    field.dispatchEvent(new Event("input", { bubbles: true }));
                    document.querySelector("#found").getBoundingClientRect(); // Laid out.
                    return performance.now() - began;
                  });
                }"""
            )
        assert sorted(took)[2] < 100


class TestInJatos:
    JATOS = """window.jatos = {
      urlQueryParameters: { PROLIFIC_PID: "emil" }, workerId: 5, studyResultId: 41, calls: [],
      onLoad(then) { window.addEventListener("load", then); },
      submitResultData(text) { this.calls.push(JSON.parse(text)); return Promise.resolve(); },
      endStudy() { this.calls.push("end"); },
      abortStudy() { this.calls.push("aborted"); return Promise.resolve(); },
    };"""

    def test_results_are_submitted_and_the_study_ended(self, browser, folder, tmp_path):
        with zipfile.ZipFile(folder / "study.jzip") as archive:
            archive.extractall(tmp_path)
        (study,) = [path for path in tmp_path.iterdir() if path.is_dir()]
        (study / "jatos.js").write_text(self.JATOS)
        with hosted(study) as url, opened(browser) as open_page:
            page = open_page(url)
            go_on(page, "end")
            wait_until(page, "window.jatos.calls.at(-1) === 'end'")
            calls = page.evaluate("window.jatos.calls")
            assert page.problems == [] and not any("/api/" in u for u in page.requests)
        assert [len(call["trials"]) for call in calls[:-1]] == [2, 4, 6, 8, 8, 8]
        assert calls[-2]["participant"] == "emil"
        check(calls[-2], folder, condition=2)  # 41 of two conditions.
