"""Pages in a real browser, over the demo and over hostile events: what they say is what the read store says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from importlib import resources
from typing import Any, NamedTuple

import pytest

from eventlog.config import Config
from eventlog.queries.store import ReadStore
from eventlog.queries.text import units
from eventlog.record.recorder import Recorder
from tests.server.browser import chromium
from tests.server.running import Running, serving

_MARKUP = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
_HOSTILE = [_MARKUP, "\u202eevil\u202c", "a\u0000b", "x" * 100_000, "'\"&lt;", "../../etc/passwd", "%2e%2e/%00?#"]
#: Pages by what leads there; `{run}` and `{session}` stand for ids of the demo.
PAGES = (
    "/", "/runs", "/runs?agent=scraper&status=error", "/sessions", "/runs/{run}", "/runs/{run}?view=waterfall",
    "/runs/{run}?view=waterfall&sort=cost", "/runs/{run}?view=insights", "/sessions/{session}", "/cost",
    "/cost?by=agent&since=365d", "/search?q=retention", "/search", "/health", "/alerts", "/live",
    "/diff?a={run}&b={run}", "/diff", "/sql", "/sql?query=SELECT+event_type,+count(*)+AS+n+FROM+events+GROUP+BY+ALL",
)  # fmt: skip


class Site(NamedTuple):
    """A server over the demo and some hostile events, an open browser that has logged in, and its store."""

    server: Running
    store: ReadStore
    context: Any
    run: str
    session: str

    def path(self, page: str) -> str:
        """Return an address of this server."""
        return self.server.url + page.format(run=self.run, session=self.session)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One browser for all tests of this module."""
    root = tmp_path_factory.mktemp("pages") / "root"
    subprocess.run([sys.executable, "-m", "eventlog", "demo", "--root", str(root)], check=True, capture_output=True)
    recorder = Recorder(Config(root=str(root), strict=True))
    for number, text in enumerate(_HOSTILE):
        fields = {"run_id": f"hostile-{number}-{text[:200]}", "session_id": text[:300], "agent": text[:300]}
        recorder.emit("run_started", {"name": text, "task": text}, **fields)
        recorder.emit("llm_call", {"request_model": text, "output_tokens": 1, "error_type": text[:100]}, **fields)
        recorder.emit("message", {"role": "user", "content": text}, **fields)
        recorder.emit("tool_call", {"tool_name": text, "arguments": {"a": text}, "result": text}, **fields)
    recorder.shutdown()
    with serving(root) as server, chromium() as browser:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.login)
        page.wait_for_url(lambda url: "/login" not in url)
        store = ReadStore(root)
        run = next(run.run_id for run in store.runs.list(agent="researcher") if run.llm_calls)
        yield Site(server, store, context, run, store.sessions.list(agent="scraper")[0].session_id)


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_quiet_and_stays_at_home(path: str, site: Site) -> None:
    """No error in the console, no request to elsewhere, a heading, and the policy on every answer."""
    page = site.context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(site.path(path))
    page.wait_for_load_state("networkidle" if "live" not in path and path != "/" else "load")
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert page.locator("h1").count() == 1
    assert page.title() != "owned"
    assert said == []
    assert not [url for url in asked if not url.startswith((site.server.url, site.server.url.replace("http", "ws")))]
    page.close()


def test_the_costs_are_those_of_the_store(site: Site) -> None:
    page = site.context.new_page()
    page.goto(site.path("/cost?by=model&since=365d"))
    rows = page.locator("tbody tr:has(td.name):has(b)").all()
    shown = {row.locator("td").first.inner_text(): row.locator("b").inner_text() for row in rows}
    made_up = [row for row in site.store.cost.report(None, by="model").rows if row.group not in _HOSTILE]
    assert len(made_up) > 3
    for row in made_up:
        assert shown[row.group or "(none)"] == units.spent(row.cost_usd, row.unpriced_calls)
    page.close()


def test_a_run_is_what_the_store_says(site: Site) -> None:
    page = site.context.new_page()
    page.goto(site.path("/runs/{run}?view=waterfall"))
    tree = site.store.runs.tree(site.run)
    assert page.locator("table.waterfall tbody tr").count() == min(len(tree.nodes), 500)
    talk = site.store.runs.conversation(site.run)
    assert talk is not None
    facts = page.locator("dl.facts").inner_text()
    assert units.spent(talk.totals.cost_usd, talk.totals.unpriced) in facts
    page.goto(site.path("/runs/{run}?view=waterfall&sort=cost"))
    costs = [Decimal(text.removeprefix("$")) for text in page.locator("tbody td:last-child").all_inner_texts() if text]
    assert costs == sorted(costs, reverse=True)
    page.goto(site.path("/runs/{run}"))
    assert page.locator("section.turn").count() == len(talk.turns)
    page.close()


@pytest.mark.parametrize("number", range(len(_HOSTILE)))
def test_hostile_names_are_text(number: int, site: Site) -> None:
    """In lists, in what was said, in a waterfall, and in links, which lead to the right place."""
    page = site.context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    run = next(run for run in site.store.runs.list(limit=100) if run.run_id.startswith(f"hostile-{number}-"))
    page.goto(site.path("/runs"))
    index = [link.get_attribute("href") for link in page.locator("td.name a").all()]
    page.locator("td.name a").nth(index.index(_href(run.run_id))).click()
    page.wait_for_load_state()
    assert page.locator("dl.facts code").inner_text() == run.run_id.replace("\0", "")  # which no parser of HTML keeps
    for view in ("conversation", "waterfall", "insights"):
        assert page.goto(f"{page.url.split('?')[0]}?view={view}").status == 200
        assert page.locator("main img").count() == 0
        assert page.locator("main script").count() == 0
        assert page.title() != "owned"
    assert said == []
    page.close()


def _href(run_id: str) -> str:
    from eventlog.server.web.templates import address, segment

    return address(f"/runs/{segment(run_id)}")


def test_an_event_is_shown_with_its_line(site: Site) -> None:
    event = site.store.events.list(["llm_call"], limit=1).events[0]
    found = site.store.event(event.event_id)
    assert found is not None
    assert found.line is not None
    page = site.context.new_page()
    page.goto(site.path(f"/events/{event.event_id}"))
    assert page.locator("pre.raw").inner_text().strip() == found.line.decode().strip()
    assert json.loads(page.locator("pre").first.inner_text()) == json.loads(found.line)["payload"]
    page.close()


def test_without_scripts_all_but_what_is_live_works(site: Site) -> None:
    """Filters are forms, links are links, and tables are tables."""
    cookies = site.context.cookies()
    context = site.context.browser.new_context(java_script_enabled=False)
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto(site.path("/runs"))
    page.get_by_label("Agent").fill("scraper")
    page.get_by_label("Outcome").select_option("error")
    page.get_by_role("button", name="Filter").click()
    assert "agent=scraper" in page.url
    names = page.locator("tbody td:nth-child(3)").all_inner_texts()
    assert names
    assert set(names) == {"scraper"}
    page.locator("td.name a").first.click()
    page.get_by_role("link", name="Waterfall").click()
    assert page.locator("table.waterfall rect").count() > 3
    page.get_by_label("Search events").fill("retention")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/search" in url)
    assert page.locator("ol.hits mark").count() > 0
    context.close()


def test_the_keyboard_reaches_everything(site: Site) -> None:
    """The first stop leads to the content; then come the pages, in their order."""
    page = site.context.new_page()
    page.goto(site.path("/runs"))
    stops = []
    for _ in range(11):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("() => document.activeElement.textContent.trim()"))
    pages = ["Now", "Sessions", "Runs", "Cost", "Health", "Alerts", "Compare", "SQL", "Live"]
    assert stops == ["Skip to the content", "eventlog", *pages]
    page.close()


@pytest.mark.parametrize("width", [360, 1280, 3840])
@pytest.mark.parametrize("path", ["/", "/runs/{run}", "/cost"])
def test_no_page_is_wider_than_its_window(path: str, width: int, site: Site) -> None:
    """Wide tables scroll within themselves."""
    page = site.context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(site.path(path))
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.close()


def test_events_appear_as_they_are_recorded(site: Site) -> None:
    """Of another process, within a second."""
    page = site.context.new_page()
    page.goto(site.path("/live"))
    page.get_by_text("live", exact=True).wait_for()
    event_id = subprocess.run(
        [sys.executable, "-m", "eventlog", "emit", "from.elsewhere", '{"n": 1}', "--root", str(site.server.root)],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    page.locator(f"ol.feed a[href='/events/{event_id}']").wait_for(timeout=3000)
    page.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [("/runs/nope", 404), ("/events/nope", 404), ("/cost?by=nope", 400), ("/runs?since=nope", 400), ("/nope", 404)],
)
def test_what_is_not_there_is_said_on_a_page(path: str, status: int, site: Site) -> None:
    page = site.context.new_page()
    answer = page.goto(site.path(path))
    assert answer.status == status
    if path != "/nope":
        assert page.locator("h1").inner_text() == str(status)
    page.close()


def test_who_has_not_logged_in_is_sent_there(site: Site) -> None:
    answer = site.server.get("/runs", key=None)
    assert (answer.status, answer.headers["location"]) == (303, "/login")


def test_a_key_of_a_workspace_shows_its_own(site: Site) -> None:
    """In every page, whatever the address asks for."""
    key = site.server.make_key("read", workspace="acme")
    time.sleep(1)
    headers = {"Authorization": f"Bearer {key}"}
    for page in ("/", "/runs", "/sessions", "/cost?by=workspace", "/health", "/alerts"):
        body = site.server.get(page, key=None, headers=headers).body.decode()
        assert "globex" not in body
    foreign = next(run.run_id for run in site.store.runs.list(limit=200) if run.workspace == "globex")
    assert site.server.get(f"/runs/{foreign}", key=None, headers=headers).status == 404
    assert site.server.get("/runs?workspace=globex", key=None, headers=headers).body.decode().count("globex") <= 1


@pytest.mark.parametrize("path", PAGES)
def test_nothing_keeps_anybody_out(path: str, site: Site) -> None:
    """axe-core, the usual checker of accessibility, finds nothing, in both themes."""
    script = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
    page = site.context.new_page()
    page.goto(site.path(path))
    page.evaluate(script)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("async () => (await axe.run()).violations.map(v => [v.id, v.nodes.map(n => n.html)])")
        assert found == []
    page.close()
