"""The curves of one trace as an SVG: replica-hours to the right, the share of requests over SLO upwards, in decades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10

WIDTH, HEIGHT, EDGE = 720.0, 420.0, 60.0
LEAST, MOST = 1e-5, 1.0
COLOURS = ("#555555", "#c2410c", "#0369a1", "#15803d", "#7e22ce", "#be185d", "#a16207", "#0f766e")


def draw(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Each curve is (hours, share) points; a share below LEAST is drawn at the bottom."""
    hours = [h for points in curves.values() for h, _ in points]
    low, high = 0.95 * min(hours), 1.05 * max(hours)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = EDGE + (point[0] - low) / (high - low) * (WIDTH - 2 * EDGE)
        depth = (log10(max(point[1], LEAST)) - log10(LEAST)) / (log10(MOST) - log10(LEAST))
        return x, HEIGHT - EDGE - depth * (HEIGHT - 2 * EDGE)

    marks = [_text(WIDTH / 2, 24.0, title, "middle"), _text(WIDTH / 2, HEIGHT - 16.0, "replica-hours", "middle")]
    for power in range(int(log10(LEAST)), int(log10(MOST)) + 1):
        _, y = place((low, 10.0**power))
        marks.append(f'<line x1="{EDGE}" y1="{y:.1f}" x2="{WIDTH - EDGE}" y2="{y:.1f}" stroke="#dddddd"/>')
        marks.append(_text(EDGE - 6.0, y + 4.0, f"{100.0 * 10.0**power:g}%", "end"))
    for share in range(5):
        value = low + share / 4 * (high - low)
        marks.append(_text(place((value, LEAST))[0], HEIGHT - EDGE + 16.0, f"{value:,.0f}", "middle"))
    for index, (name, points) in enumerate(curves.items()):
        colour, spots = COLOURS[index % len(COLOURS)], [place(p) for p in sorted(points)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        marks += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in spots]
        marks.append(_text(WIDTH - EDGE, EDGE + 18.0 * index, name, "end", colour))
    body = "\n".join(marks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#222222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'
