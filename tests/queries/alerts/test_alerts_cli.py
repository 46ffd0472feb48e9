"""`eventlog alerts`, as one types it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from eventlog.config import Config
from eventlog.format import builtin
from eventlog.queries.store import ReadStore
from eventlog.record.recorder import Recorder
from tests.conftest import Run, lines_of
from tests.queries.alerts.support import Channel


def spend(root: Path, cost: str) -> None:
    recorder = Recorder(Config(root=str(root), strict=True))
    recorder.emit(builtin.LlmCall(request_model="m", cost_usd=Decimal(cost), latency_ms=2600.0, error_type="E"))
    recorder.shutdown()


def test_the_way_of_an_alert_on_the_command_line(run: Run, root: Path, channel: Channel) -> None:
    """Add, check, list, snooze, rm: each prints what it did."""
    added = run(
        "alerts", "add", "spend", "--kind", "cost", "--threshold", "5", "--window", "1h", "--severity", "critical",
        "--to", "env:HOOK", HOOK=channel.url,
    )  # fmt: skip
    assert (added.returncode, added.stdout, added.stderr) == (0, "spend: cost over $5.00 in 1h\n", "")
    quiet = run("alerts", "check")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "1 rule: 1 ok\n", "")
    spend(root, "7.25")
    fired = run("alerts", "check", HOOK=channel.url)
    assert (fired.returncode, fired.stderr) == (1, "")
    assert fired.stdout.splitlines() == [
        "fired     critical  spend: $7.25; cost over $5.00 in 1h",
        "delivered spend to env:HOOK",
        "1 rule: 1 firing",
    ]
    assert channel.facts()["value"] == "$7.25"
    answer = json.loads(run("alerts", "check", "--json").stdout)
    assert (answer["fired"], answer["deliveries"], answer["rules"][0]["value"]) == ([], [], "7.25")
    listed = run("alerts", "list")
    assert "firing" in listed.stdout
    assert "cost over $5.00 in 1h" in listed.stdout
    (past,) = json.loads(run("alerts", "list", "--history", "--json").stdout)
    assert (past["name"], past["state"], past["value"], past["delivered"]) == ("spend", "open", "7.25", ["env:HOOK"])
    assert run("alerts", "list", "--dead").stderr == "none\n"
    assert run("alerts", "ack", "spend", "--note", "the nightly run").stdout == "spend: acknowledged\n"
    assert "acknowledged" in run("alerts", "list").stdout
    (past,) = json.loads(run("alerts", "list", "--history", "--json").stdout)
    assert (past["state"], past["acknowledged_note"]) == ("open", "the nightly run")
    snoozed = run("alerts", "snooze", "spend", "--for", "2h")
    assert snoozed.stdout.startswith("spend: snoozed until 2")
    assert run("alerts", "check").returncode == 0
    assert run("alerts", "snooze", "spend", "--for", "0s").stdout == "spend: not snoozed\n"
    assert run("alerts", "check").returncode == 1
    assert run("alerts", "rm", "spend").stdout == "spend: removed\n"
    assert run("alerts", "check").stdout == "0 rules\n"
    unknown = run("alerts", "ack", "spend")
    assert (unknown.returncode, unknown.stderr) == (2, "error: there is no rule 'spend'; there is none\n")
    assert run("alerts", "list").stderr == "none\n"
    assert "removed" in run("alerts", "list", "--all").stdout
    history = run("alerts", "list", "--history", "--utc").stdout
    assert "spend: $7.25; cost over $5.00 in 1h" in history
    assert "removed" in history


def test_every_kind_can_be_added(run: Run, root: Path) -> None:
    """With its options; thresholds in the units that people use."""
    for arguments in (
        ["a", "--kind", "cost", "--threshold", "0.05", "--agent", "a", "--model", "m", "--cooldown", "15m"],
        ["b", "--kind", "budget", "--threshold", "100", "--at", "80%", "--window", "30d"],
        ["c", "--kind", "error_rate", "--threshold", "5%", "--of", "runs", "--min-samples", "20"],
        ["d", "--kind", "latency", "--threshold", "2.5s", "--percentile", "99"],
        ["e", "--kind", "heartbeat", "--window", "90s", "--agent", "a"],
        ["f", "--kind", "sql", "--sql", "FROM runs", "--timeout", "2s", "--note", "why"],
    ):
        done = run("alerts", "add", *arguments)
        assert done.returncode == 0, done.stderr
    made = [json.loads(line)["payload"] for line in lines_of(root, "alert_rule_set")]
    expected: list[dict[str, object]] = [
        {"name": "a", "kind": "cost", "threshold": "0.05", "agent": "a", "model": "m", "cooldown_s": 900.0},
        {"name": "b", "kind": "budget", "threshold": "100", "at_percent": "80", "window_s": 2592000.0},
        {"name": "c", "kind": "error_rate", "threshold": "0.05", "of": "runs", "min_samples": 20},
        {"name": "d", "kind": "latency", "threshold": "2500.0", "percentile": 99.0},
        {"name": "e", "kind": "heartbeat", "window_s": 90.0, "agent": "a"},
        {"name": "f", "kind": "sql", "sql": "FROM runs", "timeout_s": 2.0, "note": "why"},
    ]
    for each, fields in zip(sorted(made, key=lambda each: str(each["name"])), expected, strict=True):
        assert fields.items() <= each.items()
    again = run("alerts", "add", "e", "--kind", "heartbeat", "--window", "90s", "--agent", "a")
    assert again.stdout == "e: no heartbeat in 90s (agent a) (as before)\n"
    assert len(ReadStore(root).alert_rules()) == 6


def test_a_web_address_gets_messages_and_a_rule_shows_its_sql(run: Run, root: Path, channel: Channel) -> None:
    """As pasted, on the command line and in a variable."""
    address = "http" + channel.url.removeprefix("json")
    query = "SELECT 1 AS one"
    done = run("alerts", "add", "always", "--kind", "sql", "--sql", query, "--to", address, "--to", "env:HOOK")
    assert done.returncode == 0, done.stderr
    assert query in run("alerts", "list").stdout
    assert json.loads(run("alerts", "list", "--json").stdout)[0]["sql"] == query
    checked = run("alerts", "check", HOOK=address)
    assert [line.split(" to ")[0] for line in checked.stdout.splitlines()[1:3]] == ["delivered always"] * 2


WRONG = {
    "no threshold": (["add", "r", "--kind", "cost"], "error: a rule of kind cost needs a threshold\n"),
    "no number": (["add", "r", "--kind", "cost", "--threshold", "lots"], "error: --threshold 'lots' is not a number\n"),
    "no rule": (["rm", "r"], "error: there is no rule 'r'; there is none\n"),
    "no rule in w": (
        ["snooze", "r", "--for", "1h", "--workspace", "w"],
        "error: there is no rule 'r' in workspace 'w'; there is none\n",
    ),
    "no target": (["test", "r"], "error: 'r' is neither a rule nor a channel; try: eventlog alerts list\n"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_mistakes_are_explained(run: Run, root: Path, arguments: list[str], message: str) -> None:
    """In one line, with exit code 2."""
    spend(root, "1")
    run("index")
    done = run("alerts", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_a_secret_in_a_rule_is_warned_of(run: Run, root: Path) -> None:
    """And not repeated; nor is what Apprise does not know let pass in silence."""
    done = run("alerts", "add", "r", "--kind", "heartbeat", "--to", "jsons://me:hunter22@example.com/x")
    assert done.returncode == 0
    assert "hunter22" not in done.stderr
    assert done.stderr.startswith("warning: jsons://example.com/…#")
    assert "stands in the log as it is" in done.stderr
    done = run("alerts", "add", "r", "--kind", "heartbeat", "--to", "nosuch://hunter22")
    assert done.returncode == 2
    assert "nosuch:// is not a service that alerts can be delivered to; use one of json, jsons" in done.stderr
    assert "hunter22" not in done.stderr
    done = run("alerts", "add", "r", "--kind", "heartbeat", "--to", "slack://x", "--to", "env:MISSING")
    assert "Apprise knows no such URL" in done.stderr
    assert "warning: the environment has no MISSING" in done.stderr
    done = run("alerts", "add", "s", "--kind", "sql", "--sql", "SELECT nope")
    assert 'warning: as things stand it cannot be evaluated: Binder Error: Referenced column "nope"' in done.stderr


def test_a_test_message(run: Run, root: Path, channel: Channel) -> None:
    """To a URL, and to a rule's channels; nothing is logged."""
    spend(root, "1")
    done = run("alerts", "test", channel.url)
    assert done.returncode == 0
    assert done.stdout.endswith(": delivered\n")
    assert channel.received[0]["message"] == "eventlog: this is a test of a channel; nothing is wrong"
    run("alerts", "add", "r", "--kind", "heartbeat", "--to", "env:HOOK", HOOK=channel.url)
    assert run("alerts", "test", "r", HOOK=channel.url).stdout == "env:HOOK: delivered\n"
    channel.answers = [500]
    failed = run("alerts", "test", "r", HOOK=channel.url)
    assert (failed.returncode, len(channel.received)) == (1, 3)
    assert failed.stdout.startswith("env:HOOK: it answered 500")
    assert not (root / "log/alert_delivered").exists()
    assert not (root / "log/alert_delivery_failed").exists()


def test_dead_letters_are_listed_and_tried_again(run: Run, root: Path, channel: Channel) -> None:
    """On the command line, too."""
    from tests.queries.alerts.support import add, checked, emit, rule

    emit(root, (-1, builtin.LlmCall(request_model="m", cost_usd=Decimal(9)), {}))
    add(root, rule("r", "cost", "5", channels=["env:HOOK"]))
    for number in range(8):
        checked(root, number * 3601, environ={})
    (dead,) = json.loads(run("alerts", "list", "--dead", "--json").stdout)
    assert (dead["name"], dead["failures"], dead["last_error"]) == ("r", 8, "the environment has no HOOK")
    assert "env:HOOK" in run("alerts", "list", "--dead").stdout
    assert run("alerts", "retry").stdout == "1 message to be tried again by the next check\n"
    assert "delivered r to env:HOOK" in run("alerts", "check", HOOK=channel.url).stdout
    assert len(channel.received) == 1
