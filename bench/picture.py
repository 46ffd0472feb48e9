"""The chart: one bar per figure, its length the share of its target; shorter is better.

Bars have a logarithmic scale, from a thirtieth of the target to three times the target. A target of "at least" is
inverted, so that left of the line always means met. Colours follow the reader's theme and can be told apart in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.case import Claim, Outcome
from bench.figures import digits, figure

WIDTH = 1000
_LABELS, _BARS = 490, 340
_ROW, _TOP, _BOTTOM = 22, 46, 14
_LEAST, _MOST = 1 / 30, 3.0
_TICKS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

_STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, sans-serif; font-size: 12px; fill: #1f2328 }
.quiet { fill: #59636e }
.head { font-weight: 600 }
.met { fill: #1a7f64 }
.missed { fill: #c4501b }
.grid { stroke: #8b949e; stroke-opacity: 0.3 }
.target { stroke: #59636e; stroke-width: 1.5; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .quiet { fill: #9198a1 }
  .met { fill: #3fb68b }
  .missed { fill: #f0883e }
  .target { stroke: #9198a1 }
}
"""


def share_of_target(claim: Claim, value: float) -> float:
    """Return the share of its target that a figure uses; up to 1 it is met."""
    used, allowed = (claim.limit, value) if claim.at_least else (value, claim.limit)
    if allowed:
        return used / allowed
    return math.inf if used else 0.0


def place(share: float) -> float:
    """Return the position of a share of the target on the scale, from 0 to 1."""
    inside = min(max(share, _LEAST), _MOST)
    return math.log(inside / _LEAST) / math.log(_MOST / _LEAST)


def draw(outcomes: Sequence[Outcome]) -> str:
    """Return the chart of all outcomes that have a figure, as SVG."""
    measured = [(outcome, outcome.value) for outcome in outcomes if outcome.value is not None]
    height = _TOP + _ROW * len(measured) + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-label="Benchmarks: each figure as a share of its target; shorter is better">',
        f"<style>{_STYLE}</style>",
        *_axis(height),
    ]
    for number, (outcome, value) in enumerate(measured):
        parts += _bar(outcome, value, _TOP + number * _ROW)
    return "\n".join([*parts, "</svg>\n"])


def _axis(height: int) -> list[str]:
    parts = [_text(8, 14, "eventlog beside its peers: each figure as a share of its target", "head")]
    for share in _TICKS:
        x = _LABELS + place(share) * _BARS
        kind = "target" if share == 1 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{height - _BOTTOM}"/>')
        parts.append(_text(x, _TOP - 13, "target" if share == 1 else f"{share:g}", "quiet", anchor="middle"))
    return parts


def _bar(outcome: Outcome, value: float, y: int) -> list[str]:
    claim = outcome.claim
    share = share_of_target(claim, value)
    length = max(2.0, place(share) * _BARS)
    label = f"{claim.what} | {claim.against}" if claim.against else claim.what
    sign = "≥" if claim.at_least else "≤"
    measured = f"{figure(value, claim.unit)} ({sign} {digits(claim.limit)})"
    middle = y + _ROW - 8
    return [
        _text(_LABELS - 10, middle, label if len(label) <= 72 else label[:71] + "…", anchor="end"),
        f'<rect class="{outcome.verdict}" x="{_LABELS}" y="{y + 3}" width="{length:.1f}" height="{_ROW - 8}" rx="2">'
        f"<title>{escape(label)}: {escape(measured)}, {outcome.verdict}</title></rect>",
        _text(_LABELS + _BARS + 10, middle, measured, "quiet" if outcome.verdict == "met" else "missed"),
    ]


def _text(x: float, y: float, words: str, kind: str = "", *, anchor: str = "start") -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
