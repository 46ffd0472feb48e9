"""Telling channels: each firing once, again where it failed, and never a secret in the log."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from eventlog.errors import QueryFailed
from eventlog.format import builtin
from eventlog.queries.alerts import changes, channels, delivery
from eventlog.queries.alerts.check import Checked
from eventlog.queries.store import ReadStore
from tests.conftest import lines_of
from tests.queries.alerts.support import NOW, Channel, add, checked, emit, rule

SECRET = "s3cr3t-t0ken"


def fire(root: Path, *channels: str, name: str = "spend") -> None:
    """A rule, and what makes it fire at NOW."""
    add(root, rule(name, "cost", "5", severity="critical", channels=list(channels)))
    emit(root, (-60, builtin.LlmCall(request_model="m", cost_usd=Decimal("7.25")), {}))


def attempts(done: Checked) -> list[tuple[int, bool]]:
    return [(each.attempt, each.ok) for each in done.deliveries]


def test_a_firing_is_delivered_once_and_says_all_that_there_is_to_say(root: Path, channel: Channel) -> None:
    """Rule, value, threshold, severity, when; and no check after that tells it again."""
    fire(root, channel.url)
    done = checked(root)
    assert attempts(done) == [(1, True)]
    for seconds in (1, 3600, 7200):
        assert attempts(checked(root, seconds)) == []
    (message,) = channel.received
    assert message["title"] == "[critical] spend: $7.25; cost over $5.00 in 1h"
    assert message["type"] == "failure"
    assert channel.facts() == {
        "rule": "spend",
        "severity": "critical",
        "kind": "cost",
        "value": "$7.25",
        "threshold": "5",
        "window": "1h",
        "samples": "1",
        "fired": "2026-03-01T12:00:00.000000Z",
        "state": "open",
        "firing": done.fired[0].firing_id,
    }
    (firing,) = ReadStore(root).alerts()
    assert (len(firing.delivered), firing.pending, firing.dead) == (1, [], [])


def test_each_channel_is_told_once_though_one_of_them_fails(root: Path, channel: Channel) -> None:
    """The one that took it is not attempts again."""
    channel.answers = [200, 500, 200]
    fire(root, channel.url, channel.url + "/b")
    assert attempts(checked(root)) == [(1, True), (1, False)]
    assert attempts(checked(root, 29)) == []
    assert attempts(checked(root, 30)) == [(2, True)]
    assert attempts(checked(root, 9999)) == []
    assert len(channel.received) == 3


def test_a_channel_that_fails_is_tried_less_and_less_often_and_then_given_up(root: Path, channel: Channel) -> None:
    """After 30 s, then twice as long each time; after 8 attempts it is a dead letter, which can be tried again."""
    channel.answers = [503] * 8
    fire(root, channel.url)
    moment, waits = 0.0, []
    while True:
        (tried,) = checked(root, moment).deliveries
        assert not tried.ok
        assert tried.reason == "it answered 503 Service Unavailable"
        if tried.retry_at is None:
            break
        waits.append((tried.retry_at - NOW).total_seconds() - moment)
        assert attempts(checked(root, moment + waits[-1] - 1)) == []
        moment += waits[-1]
    assert waits == [30, 60, 120, 240, 480, 960, 1920]
    assert attempts(checked(root, 99999)) == []
    store = ReadStore(root)
    (dead,) = [each for each in store.alert_deliveries() if each.state == "dead"]
    assert (dead.failures, dead.last_error) == (
        8,
        "it answered 503 Service Unavailable",
    )
    assert store.sql("SELECT name, failures FROM alert_dead_letters").rows == [("spend", 8)]
    assert changes.retry(root, "other") == 0
    assert changes.retry(root, "spend", now=NOW) == 1
    assert changes.retry(root, "spend", now=NOW) == 0
    assert attempts(checked(root, 99999)) == [(1, True)]
    assert store.sql("FROM alert_dead_letters").rows == []
    (delivered,) = store.alert_deliveries()
    assert (delivered.state, delivered.failures) == ("delivered", 8)
    assert len(channel.received) == 9


def test_backoff_has_a_bound() -> None:
    """An hour at most, and an end."""
    assert [delivery.backoff_s(n) for n in (1, 2, 7, 8)] == [30, 60, 1920, None]


def test_a_channel_that_does_not_answer_is_waited_for_once(root: Path, channel: Channel) -> None:
    """Three firings for one that hangs: the first attempt is given up in time, the others wait for the next check."""
    channel.delay_s = 3
    for name in ("a", "b", "c"):
        fire(root, channel.url, name=name)
    done = checked(root, delivery_timeout_s=0.3)
    assert attempts(done) == [(1, False)]
    assert done.undelivered == 2
    assert "it did not finish within 0.3 s" in (done.deliveries[0].reason or "")
    assert done.elapsed_s < 20
    channel.delay_s = 0
    assert sorted(attempts(checked(root, 60))) == [(1, True), (1, True), (2, True)]


def test_a_channel_in_the_environment(root: Path, channel: Channel) -> None:
    """`$NAME` is `env:NAME`; the log has the name, and never what it stands for."""
    root.mkdir()
    with_secret = f"{channel.url}/{SECRET}"
    changes.add(root, rule("spend", "cost", "5", channels=["$HOOK", "env:HOOK"]), now=NOW)
    emit(root, (-60, builtin.LlmCall(request_model="m", cost_usd=Decimal(6)), {}))
    (missing,) = checked(root, 1, environ={}).deliveries
    assert (missing.channel, missing.reason) == ("env:HOOK", "the environment has no HOOK")
    channel.answers = [500]
    assert attempts(checked(root, 60, environ={"HOOK": with_secret})) == [(2, False)]
    assert attempts(checked(root, 600, environ={"HOOK": with_secret})) == [(3, True)]
    assert len(channel.received) == 2
    for path in root.rglob("*.jsonl"):
        assert SECRET not in path.read_text()


SECRETIVE = [
    f"json://user:{SECRET}@127.0.0.1:1/hook",
    f"json://127.0.0.1:1/{SECRET}",
    f"json://127.0.0.1:1/hook?token={SECRET}",
    f"slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#{SECRET}",
    f"tgram://123456789:{SECRET}abcdefghijklmnop/1",
    f"nosuch://{SECRET}",
]


@pytest.mark.parametrize("url", SECRETIVE)
def test_what_is_logged_of_a_delivery_has_no_secret(root: Path, url: str) -> None:
    """Only the rule has the URL: not the firing, not the failure, not what is shown."""
    assert SECRET not in channels.label(url)
    assert channels.label(url) == channels.label(url) != channels.label(url + "x")
    assert channels.may_hold_secret(url) or url.endswith(f"1/{SECRET}")
    if url.startswith(("slack", "tgram")):
        return  # they would go out to the network
    fire(root, url)
    done = checked(root)
    assert attempts(done) == [(1, False)]
    assert SECRET not in str(done)
    for event_type in ("alert_fired", "alert_delivery_failed"):
        (line,) = lines_of(root, event_type)
        assert SECRET.encode() not in line
    store = ReadStore(root)
    assert SECRET not in str(store.alerts()) + str(store.alert_deliveries()) + str(store.alert_rules())


def test_secrets_are_taken_out_of_reasons() -> None:
    """Also where a channel repeats its URL, or parts of it."""
    url = f"json://user:{SECRET}@host.example/T0KEN123?key=K3Y99"
    text = channels.redacted(f"{url} refused {SECRET} for T0KEN123 at host.example with K3Y99", url)
    assert text == f"{channels.label(url)} refused … for … at host.example with …"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("json://127.0.0.1:8080/hook", True),
        ("form://host/a/b", True),
        ("json://user:pass@host/", False),
        ("jsons://host/?token=x", False),
        ("jsons://host/0123456789abcdef", False),
        ("mailto://user:pass@gmail.com", False),
        ("env:HOOK", True),
    ],
)
def test_which_urls_are_warned_of(url: str, public: bool) -> None:
    """All but plain webhooks."""
    assert channels.may_hold_secret(url) != public


@pytest.mark.parametrize("channel", ["", "slack", "env:", "env:A B", "$", "json:/host", "json://a\nb"])
def test_what_is_no_channel_is_refused(channel: str) -> None:
    """Before it is in the log."""
    with pytest.raises(QueryFailed, match="is not a channel"):
        channels.normal(channel)


def test_what_is_of_a_rule_that_is_gone_is_not_delivered(root: Path, channel: Channel) -> None:
    """Removed or changed: where to is no longer what its owner wants."""
    channel.answers = [500, 500]
    fire(root, channel.url, name="gone")
    fire(root, channel.url + "/b", name="changed")
    assert attempts(checked(root)) == [(1, False), (1, False)]
    changes.remove(root, "gone", now=NOW)
    changes.add(root, rule("changed", "cost", "99"), now=NOW)
    assert attempts(checked(root, 600)) == []
    assert [each.state for each in ReadStore(root).alert_deliveries()] == ["dropped", "dropped"]
    assert len(channel.received) == 2


def test_a_plain_webhook_needs_no_apprise(root: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent by the standard library."""
    fire(root, channel.url)
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert attempts(checked(root)) == [(1, True)]
    assert len(channel.received) == 1


def test_without_apprise_rules_fire_and_what_is_due_waits(
    root: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt is counted; it is said what to install."""
    fire(root, channel.url + "?method=POST")  # an option: this is one for Apprise
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "apprise", None)
        done = checked(root)
    assert (len(done.fired), done.deliveries, done.undelivered, done.is_quiet) == (1, [], 1, False)
    assert "pip install 'agent-eventlog[alerts]'" in (done.note or "")
    assert attempts(checked(root, 1)) == [(1, True)]
    assert json.loads(lines_of(root, "alert_delivered")[0])["payload"]["attempt"] == 1
