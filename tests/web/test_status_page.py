"""The status page in a real browser: it moves, its buttons work, with a keyboard alone too, and it keeps to itself."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from status_visitor import TOKEN

from llm_guard import bounded, breaker, ramp_up, retry
from llm_guard.runtime.guarded import Guarded
from llm_guard.web.status import Site, mounted

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [pytest.mark.real, pytest.mark.once,
              pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with its driver here")]

#: Seconds within which whatever is waited for must come; it comes sooner.
LONG = 20.0
LONG_NAME = "summarize_every_document_of_the_archive_and_translate_it_into_all_of_the_languages_that_there_are"
SCRIPT = "<img src=x onerror=alert(1)>"
#: Runs before the page's own scripts: which timers are set, and which requests were made.
WATCH = """
window.timers = new Map(); window.asked = [];
const [set, clear, ask] = [window.setTimeout, window.clearTimeout, window.fetch];
window.setTimeout = (does, wait) => {
  const id = set(() => { window.timers.delete(id); does(); }, wait); window.timers.set(id, wait); return id; };
window.clearTimeout = (id) => { window.timers.delete(id); clear(id); };
window.fetch = (...what) => { window.asked.push(String(what[0])); return ask(...what); };
"""


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None: ...


class Functions:
    """One that is called all the time, one to be paused, one whose circuit is open, and some with odd names."""

    def __init__(self) -> None:
        self.over = threading.Event()

        @ramp_up
        @bounded(4)
        @retry
        def moving() -> None:
            self.over.wait(0.01)

        @ramp_up
        def nightly() -> str:
            return "answer"

        @breaker
        def broken() -> None: ...

        broken.guards[0].open()  # type: ignore[attr-defined]  # it is the breaker
        self.moving, self.nightly, self.broken = moving, nightly, broken
        self.odd = [self._named(LONG_NAME), self._named(SCRIPT)]
        for _ in range(2):
            threading.Thread(target=self._move, daemon=True).start()

    def _named(self, name: str) -> Guarded[[], None]:
        def odd() -> None: ...

        odd.__qualname__ = name
        return ramp_up(odd)

    def _move(self) -> None:
        while not self.over.is_set():
            self.moving()


class Turns:
    """Lets the site answer as if two processes took turns; `taking` says whether they do."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.taking = False
        self._asked = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        if not self.taking or path not in ("/status.json", "/act"):
            return self._site(environ, start_response)
        self._asked += 1
        if self._asked % 2:
            return self._site(environ, start_response)
        if path == "/act":
            start_response("409 Conflict", [("Content-Type", "application/json"), ("Content-Length", "2")])
            return [b"{}"]
        told: list[Any] = []
        whole = b"".join(self._site(environ, lambda status, headers: told.extend((status, headers))))
        status = json.loads(whole)
        whole = json.dumps(status | {"process": 1}).encode()
        start_response(told[0], [each for each in told[1] if each[0] != "Content-Length"])
        return [whole]


@pytest.fixture(scope="module")
def functions() -> Iterator[Functions]:
    made = Functions()
    yield made
    made.over.set()


@pytest.fixture(scope="module")
def turns(functions: Functions) -> Iterator[Turns]:
    site = Site(TOKEN, bin_seconds=0.2)
    yield Turns(site)
    site.close()


@pytest.fixture(scope="module")
def address(turns: Turns) -> Iterator[str]:
    def not_here(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
        start_response("404 Not Found", [])
        return []

    with make_server("127.0.0.1", 0, mounted(not_here, turns), Server, Quiet) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/guard/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    yield driver
    driver.quit()


class Page:
    """The page as a visitor has it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        self.address = address

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def soon(self, condition: Callable[[], Any]) -> Any:
        """What `condition` returns once it is true."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.wait import WebDriverWait

        wait = WebDriverWait(self.driver, LONG, 0.05, (StaleElementReferenceException,))
        return wait.until(lambda driver: condition())

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def card(self, label: str, selector: str = "h2") -> Any:
        return self.soon(lambda: self.run(
            "return [...document.querySelectorAll('.card')].find((card) => card.querySelector('h2').textContent === "
            "arguments[0])?.querySelector(arguments[1])", label, selector))

    def state(self, label: str) -> str:
        return str(self.card(label, ".chip").text)

    def size(self, width: int, height: int = 900) -> None:
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})

    def dark(self, on: bool) -> None:
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]})

    def asked(self) -> int:
        """How many requests it has made."""
        return int(self.run("return window.asked.length"))

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focus(self) -> Any:
        return self.driver.switch_to.active_element


@pytest.fixture
def stranger(browser: Any, address: str) -> Page:
    browser.get(address)
    browser.delete_all_cookies()
    browser.get(address)
    page = Page(browser, address)
    page.size(1280)
    page.dark(False)
    return page


@pytest.fixture
def page(browser: Any, address: str) -> Page:
    page = Page(browser, address)
    page.size(1280)
    page.dark(False)
    browser.get(address)
    if browser.find_elements("id", "token"):
        page.one("#token").send_keys(TOKEN)
        page.one("button").click()
        browser.get_log("browser")  # what came before is not this page's
    page.soon(lambda: page.run("return document.querySelector('.card') && "
                               "document.querySelector('#live').textContent === 'Live'"))
    return page


def test_a_wrong_token_sees_nothing_and_the_right_one_all(stranger: Page) -> None:
    for _ in range(2):
        assert "moving" not in stranger.driver.page_source
        assert stranger.run("return fetch('status.json').then((answer) => answer.status)") == 401
        stranger.one("#token").send_keys("a token that is long enough and wrong")
        stranger.one("button").click()
        assert stranger.soon(lambda: stranger.one("#wrong").text) == "That is not the token."
    stranger.one("#token").send_keys(TOKEN)
    stranger.one("button").click()
    assert stranger.card("moving").text == "moving"
    assert TOKEN not in stranger.driver.page_source
    assert TOKEN not in stranger.driver.current_url
    assert stranger.run("return document.cookie") == ""


def test_the_curves_move(page: Page) -> None:
    def drawn() -> list[str]:
        return [str(page.card("moving", f"path.{line}").get_attribute("d")) for line in ("answered", "latency")]

    before = drawn()
    assert page.soon(lambda: all(now and now != then for now, then in zip(drawn(), before, strict=True)))
    assert page.soon(lambda: float(page.card("moving", ".key.answered b").text) > 0)
    count = page.card("moving", "tbody:has(th) td").text
    assert page.soon(lambda: page.card("moving", ".tables > :last-child td").text != count)


@pytest.mark.parametrize(("pace", "words"), [
    ({"rate": None, "window": 4.9, "latency": None}, "4 in flight"),
    ({"rate": 9.87, "window": 30, "latency": 1.0}, "9.9/s"),
    ({"rate": 3427.0, "window": 13.2, "latency": 1.0}, "13 in flight"),
    ({"rate": 5.0, "window": 4.0, "latency": None}, "5/s")], ids=["no rate", "rate", "window", "not known"])
def test_it_tells_what_bounds_the_pace(page: Page, pace: dict[str, Any], words: str) -> None:
    said = page.run("return import('./card.js').then((card) => card.allowed(arguments[0]))", pace)
    assert said == words


def test_pause_pauses_and_resume_resumes(page: Page, functions: Functions) -> None:
    answers: list[str] = []
    page.card("nightly", "[data-action=pause]").click()
    assert page.soon(lambda: page.state("nightly") == "paused")
    assert page.soon(lambda: page.one("#news").get_attribute("textContent")).startswith("nightly: paused until ")
    assert "paused by hand" in page.card("nightly", ".why").text
    caller = threading.Thread(target=lambda: answers.append(functions.nightly()))
    caller.start()
    assert page.soon(lambda: page.card("nightly", ".figures > :nth-child(3) dd").text == "1")
    assert not answers
    page.card("nightly", "[data-action=resume]").click()
    caller.join(LONG)
    assert answers == ["answer"]
    assert page.soon(lambda: page.state("nightly") != "paused")


def test_it_does_all_with_the_keyboard_and_keeps_the_focus(page: Page, functions: Functions) -> None:
    from selenium.webdriver.common.keys import Keys

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.press(Keys.TAB)
            if page.focus().accessible_name == name:
                return
        pytest.fail(f"{name!r} is not reached with the Tab key")

    tab_to("Pause for nightly")
    page.press(Keys.ARROW_DOWN)
    page.press(Keys.TAB)
    assert page.focus().accessible_name == "Pause nightly"
    outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    page.press(Keys.ENTER)
    assert outline == "solid"
    assert page.soon(lambda: page.state("nightly") == "paused")
    assert functions.nightly.statistics()["ramp_up"].pace.gate_in > 60  # the longer choice
    asked = page.asked()
    assert page.soon(lambda: page.asked() >= asked + 2)  # two updates later
    assert page.focus().accessible_name == "Pause nightly"
    tab_to("Resume nightly")
    page.press(Keys.SPACE)
    assert page.soon(lambda: page.state("nightly") != "paused")
    assert page.focus().accessible_name == "Resume nightly"
    assert page.focus().get_attribute("aria-disabled") in ("true", "false")
    page.run("document.activeElement.blur(); document.body.focus()")
    tab_to("Sign out")
    page.press(Keys.ENTER)
    assert page.soon(lambda: page.driver.find_elements("id", "token"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window_and_all_can_be_read(page: Page, width: int, dark: bool) -> None:
    page.size(width)
    page.dark(dark)
    page.card(LONG_NAME)
    wide = page.run("""
      const over = [...document.querySelectorAll('body *')].filter((element) => !element.closest('.unseen')
        && element.getBoundingClientRect().right > innerWidth + 0.5);
      return [document.documentElement.scrollWidth, over.map((element) => element.outerHTML.slice(0, 80))]""")
    assert wide[0] <= width
    assert wide[1] == []
    weak = page.run(CONTRASTS)
    assert weak["looked"] > 50
    assert weak["weak"] == []
    colors = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (colors == "rgb(18, 21, 26)") is dark


#: Text whose contrast is below 4.5, and lines and marks whose contrast is below 3 (WCAG 2.2, AA).
CONTRASTS = """
const rgb = (color) => (color.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
const light = (color) => rgb(color).slice(0, 3).map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92
  : ((part + 0.055) / 1.055) ** 2.4).reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if ((rgb(color)[3] ?? 1) > 0) return color;
  }
  return 'rgb(255, 255, 255)';
};
const contrast = (one, other) => {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const weak = []; let looked = 0;
for (const element of document.querySelectorAll('body *')) {
  if (!element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const has = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (has) {
    looked += 1;
    const found = contrast(style.color, ground(element));
    if (found < 4.5) weak.push([element.outerHTML.slice(0, 80), found]);
  }
  const edge = element.matches('path') ? style.stroke
    : element.matches('button, select, .chip') ? style.borderColor : '';
  const behind = ground(element.closest('.card') ?? document.body);
  if (edge && contrast(edge, behind) < 3) weak.push([element.outerHTML, edge]);
}
return {looked, weak};
"""


def test_all_has_a_name_and_a_place_for_who_hears_the_page(page: Page) -> None:
    page.card("nightly")
    assert page.one("html").get_attribute("lang") == "en"
    for element in page.driver.find_elements("css selector", "button, select, svg, article"):
        if element.is_displayed():
            assert element.accessible_name, element.get_attribute("outerHTML")
    roles = {element.aria_role for element in page.driver.find_elements("css selector", ".plot svg")}
    assert roles <= {"img", "image"}
    picture = page.card("moving", "svg").accessible_name
    assert picture.startswith("Calls/s of moving, last ")
    assert "answered " in picture
    found = page.run("""
      const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
      return {
        headings: [...document.querySelectorAll('h1, h2, h3')].map((element) => element.tagName),
        doubled: ids.filter((id, at) => ids.indexOf(id) !== at),
        bare: [...document.querySelectorAll('table')].filter((table) => !table.caption).length,
        unscoped: document.querySelectorAll('th:not([scope])').length,
        landmarks: ['header', 'main', 'footer'].map((name) => document.querySelectorAll(`body > ${name}`).length),
        live: document.querySelector('#news').getAttribute('aria-live'),
        charts: document.querySelectorAll('svg:not([role=img])').length,
      }""")
    assert found["headings"][0] == "H1"
    assert set(found["headings"][1:]) == {"H2"}
    assert (found["doubled"], found["bare"], found["unscoped"], found["charts"]) == ([], 0, 0, 0)
    assert (found["landmarks"], found["live"]) == ([1, 1, 1], "polite")


def test_names_are_text(page: Page) -> None:
    assert page.card(SCRIPT).text == SCRIPT
    assert page.run("return document.querySelectorAll('main img').length") == 0


def test_it_asks_nobody_else_and_has_no_errors(page: Page) -> None:
    page.driver.get_log("browser")
    page.driver.refresh()
    page.card("moving")
    page.soon(lambda: page.asked() >= 2)
    own = urlsplit(page.address).netloc
    asked = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {urlsplit(name).netloc for name in asked} == {own}
    assert {urlsplit(name).path.rpartition("/")[2] for name in asked} >= {"status.js", "status.css", "status.json"}
    assert [line for line in page.driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []


def test_it_rests_while_it_is_not_seen(page: Page) -> None:
    hide = ("Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))")
    waits = "return [...window.timers.values()].filter((wait) => wait === 2000).length"
    assert page.soon(lambda: page.run(waits) == 1)
    page.run(hide, True)
    assert page.run(waits) == 0
    # Longer than it rests between two questions: none comes.
    asked = page.run("window.asked = [];"
                     "return new Promise((done) => setTimeout(() => done(window.asked.length), 2500))")
    assert asked == 0
    page.run(hide, False)
    assert page.soon(lambda: page.asked() > asked)
    assert page.soon(lambda: page.run(waits) == 1)


def test_it_shows_one_process_where_several_answer_and_presses_its_buttons(page: Page, turns: Turns,
                                                                         functions: Functions) -> None:
    assert page.one("#process").text.startswith("Figures are those of process ")
    assert not page.one("#choose").is_displayed()
    own = page.run("return document.querySelector('#processes').value")
    turns.taking = True
    try:
        assert page.soon(lambda: page.one("#choose").is_displayed())
        assert page.one("#process").text == "Several processes answer here: figures and buttons are those of"
        options = page.run("return [...document.querySelector('#processes').options].map((each) => each.value)")
        assert options == ["1", own]
        assert page.run("return document.querySelector('#processes').value") == own
        for action, paused in (("pause", True), ("resume", False)):
            page.card("nightly", f"[data-action={action}]").click()
            assert page.soon(lambda paused=paused: (page.state("nightly") == "paused") is paused)
        page.run("document.querySelector('.card').dataset.before = 'here'")
        page.run("const choice = document.querySelector('#processes'); choice.value = '1';"
                 "choice.dispatchEvent(new Event('change'))")
        assert page.soon(lambda: page.run("return document.querySelector('.card:not([data-before])')"))
        assert page.one("#processes").get_property("value") == "1"
        card = page.card("moving")
        asked = page.asked()
        assert page.soon(lambda: page.asked() > asked + 2)
        assert page.run("return document.contains(arguments[0])", card)  # it did not change back and forth
    finally:
        turns.taking = False
        functions.nightly.guards[0].resume()  # type: ignore[attr-defined]  # it is the pace


def test_it_says_when_nobody_answers_and_goes_on_by_itself(page: Page, turns: Turns) -> None:
    site, turns._site = turns._site, lambda environ, start_response: start_response("500 Oh", []) or [b""]  # type: ignore[assignment]
    try:
        assert page.soon(lambda: page.one("#live").text == "No answer, trying again")
        assert page.card("moving").is_displayed()
    finally:
        turns._site = site
    assert page.soon(lambda: page.one("#live").text == "Live")


def test_it_says_when_the_session_is_over(page: Page) -> None:
    page.driver.delete_all_cookies()
    assert page.soon(lambda: page.one("#live").text == "Signed out: reload the page")


def test_a_card_comes_and_goes_with_its_function(page: Page) -> None:
    def short_lived() -> None: ...

    ask = ramp_up(short_lived)
    cards = "return [...document.querySelectorAll('.card h2')].map((each) => each.textContent)"
    assert page.soon(lambda: "short_lived" in page.run(cards))
    del ask
    assert page.soon(lambda: "short_lived" not in page.run(cards))


#: Connections that are kept alive, each with its process: another one is opened only while those before are busy.
PINNED = """
const done = arguments[arguments.length - 1];
const reply = (process, found, status = 200) => new Response(JSON.stringify({process, ...found}), {status});
let busy = 0;
window.fetch = async (what) => {
  const process = [7, 8, 9][Math.min(busy, 2)];
  busy += 1;
  await new Promise((soon) => setTimeout(soon, 10));
  busy -= 1;
  return what === "act" ? reply(process, {}, process === 9 ? 200 : 409) : reply(process, {bin: 1});
};
const meta = document.head.appendChild(document.createElement("meta"));
[meta.name, meta.content] = ["form-key", "key"];
import(arguments[0] + "processes.js").then(async ({Processes}) => {
  const processes = new Processes();
  await processes.poll();
  processes.choose(9);
  const status = await processes.poll();
  done([status && status.process, [...processes.seen.keys()].sort(), await processes.press("pause", "ask", 60)]);
}).catch((error) => done(String(error)));
"""


def test_a_process_is_reached_though_connections_stay_with_theirs(browser: Any, address: str) -> None:
    browser.get(f"{address}status.css")
    browser.set_script_timeout(LONG)
    assert browser.execute_async_script(PINNED, address) == [9, [7, 8, 9], ""]
