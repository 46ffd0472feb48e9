"""The texts of the demo: tasks, answers, and the arguments, results and errors of tools."""

from __future__ import annotations

SYSTEM = (
    "You are {agent}, an agent that works alone. Use the tools you have, say what you found, and stop when the task "
    "is done. Quote the lines that you rely on. Never guess a number that you could look up."
)

TASKS = {
    "planner": (
        "Plan the release of version 2.4: open issues, who does what, and what can wait",
        "Turn the notes of Monday's meeting into tickets with owners and dates",
        "Which of the open pull requests can be merged today, and in which order?",
        "Draft the agenda for the architecture review, with the three questions that block others",
    ),
    "scraper": (
        "Fetch the price lists of the twelve suppliers and report what changed since yesterday",
        "Collect the opening hours of all branches and find those that disagree with the map",
        "Check every link of the handbook and list the dead ones with the page they stand on",
    ),
    "researcher": (
        "Why did the p95 latency of the search service double on Thursday?",
        "Find the papers that compare log-structured storage on flash with that on disk, and sum them up",
        "Which of our dependencies have had a security fix that we do not have?",
    ),
    "writer": (
        "Write the quarterly report from the figures in the data room, in the voice of the last one",
        "Rewrite the installation guide so that somebody in a hurry gets it right",
        "Summarise the 140 interviews by theme, with a quotation for each",
    ),
}

THOUGHTS = (
    "The first result answers half of it; the other half needs the change log.",
    "Two sources disagree about the date. The one with the commit hash is the better witness.",
    "This is enough for a draft. I will look up the two numbers that are still missing.",
    "The tool timed out last time with a large page; a smaller one should do.",
    "Nothing in here contradicts the plan, so I go on with the next item.",
    "The pattern holds for all but one of them. That one deserves a closer look.",
)

FINDINGS = (
    "The index was rebuilt at 09:40, and from then on each query read twice as many blocks (deploy 3f9c, by ci).",
    "Eleven of the twelve lists came through; the twelfth answers 503 since this morning. 37 prices went up, 4 down.",
    "Three pull requests are ready: 812 first, since 809 and 815 touch the same migration.",
    "The guide never says that the service must be restarted; that is where most tickets come from.",
    "Costs are flat but for one item: storage of the raw images, up by 18 percent since the retention was raised.",
    "The theme that most people return to is waiting: for access, for reviews, for the nightly build.",
)

#: tool → its arguments and its result; `{n}` is a number that differs from call to call.
TOOLS: dict[str, tuple[dict[str, str | int], str]] = {
    "search": (
        {"query": "change log {n}", "limit": 10},
        "10 hits; the first: docs/changes.md line {n}: 'retention raised'",
    ),
    "read_file": (
        {"path": "docs/changes-{n}.md"},
        "# Changes {n}\n- index rebuilt\n- retention raised to 90 days\n- page size 500",
    ),
    "fetch": (
        {"url": "https://supplier-{n}.example/prices.csv"},
        "sku,price\nA-{n},12.40\nB-{n},7.95\nC-{n},103.00",
    ),
    "run_sql": (
        {"sql": "SELECT day, p95_ms FROM latency WHERE day > {n}"},
        "day | p95_ms\n{n} | 212\n{n} | 431",
    ),
    "write_file": ({"path": "out/report-{n}.md"}, "written, 4,120 bytes"),
}
#: tool → how it fails
ERRORS = {
    "fetch": ("TimeoutError", "no answer within 30 s from supplier-{n}.example"),
    "search": ("RateLimited", "429: 60 requests a minute; retry in 12 s"),
    "read_file": ("FileNotFoundError", "docs/changes-{n}.md"),
    "run_sql": ("QueryFailed", "column p95_ms does not exist"),
    "write_file": ("PermissionError", "out/report-{n}.md is read-only"),
}
