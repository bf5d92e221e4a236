"""One picture: p99 over load by chooser, drawn by hand so that it needs no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from xml.sax.saxutils import escape

COLOURS = {
    "Trimtab": "#0a6",
    "Trimtab, 4 heartbeats/s": "#2c8",
    "Trimtab, 1 heartbeat/s": "#8a4",
    "Trimtab, no shared counts": "#6b8",
    "Prequal (free probes)": "#36c",
    "oracle (shortest delay)": "#888",
    "round robin": "#c33",
    "A58 weights": "#a5c",
    "least request P2C": "#c80",
    "peak EWMA P2C": "#b70",
    "1 / latency": "#966",
    "least mean latency": "#311",
}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 460, 70, 50, 240, 60


def picture(title: str, loads: Sequence[float], lines: Mapping[str, Sequence[float]]) -> str:
    """An SVG document. `lines`: by chooser, p99 in seconds for each load; the axis is logarithmic."""
    low, high = log10(2.0), log10(max(max(values) for values in lines.values()) * 1.2)
    across = (WIDTH - LEFT - RIGHT) / (loads[-1] - loads[0])

    def x(load: float) -> float:
        return LEFT + (load - loads[0]) * across

    def y(seconds: float) -> float:
        return HEIGHT - BOTTOM - (log10(max(seconds, 2.0)) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="16">{escape(title)}</text>',
    ]
    for seconds in (2, 5, 10, 20, 50, 100, 200, 500, 1000):
        if log10(seconds) > high:
            break
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(seconds):.1f}" y2="{y(seconds):.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{y(seconds) + 4:.1f}" text-anchor="end">{seconds} s</text>'
        )
    parts += [f'<text x="{x(v):.1f}" y="{HEIGHT - BOTTOM + 22}" text-anchor="middle">{v:g}</text>' for v in loads]
    parts.append(
        f'<text x="{LEFT}" y="{HEIGHT - 14}">load, share of the capacity; p99 of the response time, seconds</text>'
    )
    last = TOP - 16.0
    for name, values in sorted(lines.items(), key=lambda line: -line[1][-1]):
        colour, width = COLOURS.get(name, "#000"), 3.5 if name == "Trimtab" else 1.6
        points = " ".join(f"{x(load):.1f},{y(value):.1f}" for load, value in zip(loads, values, strict=True))
        last = max(y(values[-1]), last + 16.0)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{last + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
