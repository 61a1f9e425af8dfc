"""The diagram of the states, docs/states.svg, drawn from the tables in smtp_protocol.

    python docs/state_diagram.py

What stands in the tables is drawn; where each state has its place, and how its arrows are bent, is
written down here. An arrow that nobody has thought of is a KeyError.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from smtp_protocol import Quit, State
from smtp_protocol.state import (
    INTERMEDIATE_TRANSITIONS,
    REFUSED_TRANSITIONS,
    TRANSITIONS,
    Request,
)

__all__ = ["FILE", "draw"]

FILE = Path(__file__).with_name("states.svg")

Point = tuple[float, float]

# Where the middle of each state is.
_PLACES: Mapping[State, Point] = {
    State.CONNECTED: (90, 330),
    State.GREETED: (390, 330),
    State.READY: (670, 330),
    State.MAIL: (970, 330),
    State.RCPT: (1250, 330),
    State.DATA: (1530, 190),
    State.CHUNKS: (1530, 470),
    State.AUTH: (670, 560),
    State.TLS: (390, 100),
    State.UNTRUSTED: (90, 100),
    State.CLOSED: (90, 560),
}
# How far an arrow is bent to its left, and how far along it has its label.
_ROUTES: Mapping[tuple[State, State], tuple[float, float]] = {
    (State.CONNECTED, State.GREETED): (0, 0.5),
    (State.CONNECTED, State.CLOSED): (0, 0.5),
    (State.GREETED, State.READY): (60, 0.5),
    (State.READY, State.GREETED): (60, 0.5),
    (State.READY, State.MAIL): (0, 0.5),
    (State.READY, State.TLS): (0, 0.5),
    (State.READY, State.AUTH): (110, 0.5),
    (State.AUTH, State.READY): (110, 0.5),
    (State.MAIL, State.READY): (-140, 0.5),
    (State.MAIL, State.RCPT): (0, 0.5),
    (State.RCPT, State.READY): (-330, 0.36),
    (State.RCPT, State.DATA): (0, 0.5),
    (State.RCPT, State.CHUNKS): (0, 0.5),
    (State.DATA, State.READY): (-370, 0.3),
    (State.CHUNKS, State.READY): (250, 0.4),
    (State.TLS, State.GREETED): (0, 0.5),
    (State.TLS, State.UNTRUSTED): (0, 0.5),
}
_WIDTH, _HEIGHT = 1640, 690
_BOX = (154, 84)
_REPLIES = ("2yz", "3yz", "45yz")
_COLOURS = {"2yz": "#1a1a1a", "3yz": "#1456b8", "45yz": "#b3261e", "any": "#1a1a1a", "": "#5f6368"}


@dataclass
class _Arrow:
    """What leads from one state to another: the requests, by the kind of the reply."""

    requests: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reply: str, name: str) -> None:
        self.requests.setdefault(reply, []).append(name)


def _name(request: Request) -> str:
    return request.__name__


def _moves(state: State) -> Iterator[tuple[str, Request, State]]:
    """The moves from a state: the kind of the reply, what it answers, and where it leads."""
    tables = (TRANSITIONS, INTERMEDIATE_TRANSITIONS, REFUSED_TRANSITIONS)
    rows = [table.get(state, {}) for table in tables]
    for request in dict.fromkeys(request for row in rows for request in row):
        targets = [row.get(request) for row in rows]
        if targets[0] and len(set(targets)) == 1:
            yield "any", request, targets[0]
            continue
        for reply, target in zip(_REPLIES, targets, strict=True):
            if target:
                yield reply, request, target


def _arrows() -> dict[tuple[State, State], _Arrow]:
    arrows: dict[tuple[State, State], _Arrow] = {}
    for state in State:
        for reply, request, target in _moves(state):
            if target is not state and request is not Quit:
                arrows.setdefault((state, target), _Arrow()).add(reply, _name(request))
    # These are no replies, but calls.
    arrows[State.TLS, State.GREETED] = _Arrow({"": ["tls_started()"]})
    arrows[State.TLS, State.UNTRUSTED] = _Arrow({"": ["tls_refused()"]})
    return arrows


def draw() -> str:
    """Give the diagram as the text of an SVG file."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            'font-family="sans-serif" font-size="13">',
            "<title>The states of a session, and the replies that move it</title>",
            '<rect width="100%" height="100%" fill="white"/>',
            "<defs>",
            *(_head(reply) for reply in ("2yz", "3yz", "45yz", "")),
            "</defs>",
            *(_path(*ends, arrow) for ends, arrow in _arrows().items()),
            *map(_state, State),
            *(_label(*ends, arrow) for ends, arrow in _arrows().items()),
            *_legend(),
            "</svg>\n",
        ]
    )


def _head(reply: str) -> str:
    return (
        f'<marker id="head{reply}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
        'markerHeight="8" orient="auto">'
        f'<path d="M 0 1 L 9 5 L 0 9 z" fill="{_COLOURS[reply]}"/></marker>'
    )


def _state(state: State) -> str:
    x, y = _PLACES[state]
    width, height = _BOX
    stays = [_name(request) for _, request, target in _moves(state) if target is state]
    lines = [" ".join(stays[n : n + 4]) for n in range(0, len(stays), 4)]
    if TRANSITIONS[state].get(Quit) is State.CLOSED:
        lines.append("Quit: CLOSED")
    top = y - height / 2 + (18 if lines else height / 2 + 5)
    texts = [
        f'<tspan x="{x:g}" y="{top + 15 + 13 * number:g}" font-size="10" fill="#5f6368">'
        f"{escape(line)}</tspan>"
        for number, line in enumerate(lines)
    ]
    return (
        f'<rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width}" height="{height}" '
        'rx="10" fill="#f1f5fb" stroke="#1a1a1a"/>'
        f'<text text-anchor="middle"><tspan x="{x:g}" y="{top:g}" font-weight="bold">'
        f"{state.name}</tspan>{''.join(texts)}</text>"
    )


def _kind(arrow: _Arrow) -> str:
    """The kind of reply that an arrow has the colour of."""
    return next(
        (reply for reply in ("2yz", "45yz", "3yz") if reply in arrow.requests),
        "2yz" if "any" in arrow.requests else "",
    )


def _curve(source: State, target: State) -> tuple[Point, Point, Point]:
    """Beginning, control point and end of the arrow."""
    (x1, y1), (x2, y2) = _PLACES[source], _PLACES[target]
    bend, _ = _ROUTES[source, target]
    length = math.hypot(x2 - x1, y2 - y1)
    control = (
        (x1 + x2) / 2 + bend * (y2 - y1) / length,
        (y1 + y2) / 2 - bend * (x2 - x1) / length,
    )
    return _edge((x1, y1), control), control, _edge((x2, y2), control)


def _edge(middle: Point, towards: Point) -> Point:
    """Where the line from the middle of a state leaves its box."""
    dx, dy = towards[0] - middle[0], towards[1] - middle[1]
    width, height = _BOX
    scale = 1 / max(abs(dx) / (width / 2 + 2), abs(dy) / (height / 2 + 2))
    return middle[0] + dx * scale, middle[1] + dy * scale


def _path(source: State, target: State, arrow: _Arrow) -> str:
    (x1, y1), (cx, cy), (x2, y2) = _curve(source, target)
    reply = _kind(arrow)
    dashes = ' stroke-dasharray="6 4"' if reply in ("45yz", "") else ""
    return (
        f'<path d="M {x1:.1f} {y1:.1f} Q {cx:.1f} {cy:.1f} {x2:.1f} {y2:.1f}" fill="none" '
        f'stroke="{_COLOURS[reply]}"{dashes} marker-end="url(#head{reply})"/>'
    )


def _label(source: State, target: State, arrow: _Arrow) -> str:
    start, control, end = _curve(source, target)
    _, at = _ROUTES[source, target]
    x, y = (
        (1 - at) ** 2 * a + 2 * at * (1 - at) * b + at**2 * c
        for a, b, c in zip(start, control, end, strict=True)
    )
    lines = []
    for reply, names in arrow.requests.items():
        kind = {"any": " any reply", "": ""}.get(reply, f" {reply}")
        lines.append((" ".join(names) + kind, _COLOURS[reply]))
    top = y - 15 * (len(lines) - 1) / 2 + 4
    texts = "".join(
        f'<tspan x="{x:.1f}" y="{top + 15 * number:.1f}" fill="{colour}">{escape(text)}</tspan>'
        for number, (text, colour) in enumerate(lines)
    )
    # Once in white around the letters, where the arrow is.
    return (
        '<text text-anchor="middle" stroke="white" stroke-width="6" stroke-linejoin="round">'
        f'{texts}</text><text text-anchor="middle">{texts}</text>'
    )


def _legend() -> Iterator[str]:
    lines = [
        ("2yz, or any reply", "2yz"),
        ("3yz: go on", "3yz"),
        ("45yz: 4yz or 5yz, refused", "45yz"),
        ("a call, not a reply", ""),
    ]
    for number, (text, reply) in enumerate(lines):
        y = 610 + 20 * number
        dashes = ' stroke-dasharray="6 4"' if reply in ("45yz", "") else ""
        yield (
            f'<path d="M 860 {y} H 910" stroke="{_COLOURS[reply]}"{dashes} '
            f'marker-end="url(#head{reply})"/>'
            f'<text x="922" y="{y + 4}" fill="{_COLOURS[reply]}">{escape(text)}</text>'
        )
    notes = [
        "In a box: what leaves the session where it is when it is accepted.",
        "What stands nowhere at a state is out of order there: 503.",
        "Refusals that have no arrow leave the session where it is.",
        "A reply of 421 leads to CLOSED from everywhere.",
    ]
    for number, note in enumerate(notes):
        yield f'<text x="1180" y="{614 + 20 * number}" fill="#5f6368">{escape(note)}</text>'


if __name__ == "__main__":
    FILE.write_text(draw(), "utf-8")
