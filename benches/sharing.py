"""Draws what `benches/sharing.rs` measured.

    cargo bench --bench sharing -- --json benches/sharing.json
    python3 benches/sharing.py [benches/sharing.json [benches/sharing.svg]]

Left: tokens by shots, one pair of lines per number of choices: what the requests have together
(dashed) and what of it is distinct (solid). Right: the seconds of every cell, in its fastest round,
over its distinct tokens. If time grows with distinct tokens, the points lie on one line whatever their colour. The
drawing follows the reader's light or dark theme. Plain Python, no package.
"""

import json
import sys
from pathlib import Path

WIDTH, HEIGHT = 960, 460
LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT, GAP = 70, 60, 370, 310, 110

STYLE = """
  .ground { fill: #fff; }
  text { font: 13px system-ui, sans-serif; fill: #333; }
  .title { font-size: 15px; font-weight: 600; }
  .grid { stroke: #8884; stroke-width: 1; }
  .axis { stroke: #666; stroke-width: 1; }
  .fit { stroke: #888; stroke-width: 1.5; }
  .line { fill: none; stroke-width: 2; }
  .dashed { stroke-dasharray: 5 4; }
  .s0 { stroke: #0072b2; fill: #0072b2; } .s1 { stroke: #d55e00; fill: #d55e00; }
  .s2 { stroke: #009e73; fill: #009e73; } .s3 { stroke: #aa4499; fill: #aa4499; }
  .line.s0, .line.s1, .line.s2, .line.s3 { fill: none; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; } text { fill: #ddd; } .axis { stroke: #aaa; }
    .s0 { stroke: #56b4e9; fill: #56b4e9; } .s1 { stroke: #ff8a3d; fill: #ff8a3d; }
    .s2 { stroke: #3ddc9f; fill: #3ddc9f; } .s3 { stroke: #dd88cc; fill: #dd88cc; }
  }
"""


def ticks(most: float, n: int = 5) -> list[float]:
    """Round numbers from 0 to at least `most`, about `n` of them."""
    step = 1.0
    while most / step > n * 10:
        step *= 10
    while most / step < n / 2:
        step /= 10
    step = next(step * it for it in (1, 2, 5, 10, 20) if most / (step * it) <= n)
    count = 1
    while step * count < most:
        count += 1
    return [step * i for i in range(count + 1)]


class Panel:
    """One pair of axes from 0, with its place in the drawing."""

    def __init__(self, left: float, x_ticks: list[float], y_ticks: list[float]):
        self.left, self.x_ticks, self.y_ticks = left, x_ticks, y_ticks
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        return round(self.left + PANEL_WIDTH * value / self.x_ticks[-1], 1)

    def y(self, value: float) -> float:
        return round(TOP + PANEL_HEIGHT * (1 - value / self.y_ticks[-1]), 1)

    def axes(self, title: str, x_label: str, y_label: str) -> None:
        bottom, right = TOP + PANEL_HEIGHT, self.left + PANEL_WIDTH
        add = self.parts.append
        add(f'<text class="title" x="{self.left}" y="{TOP - 20}">{title}</text>')
        for tick in self.y_ticks:
            y = self.y(tick)
            add(f'<line class="grid" x1="{self.left}" y1="{y}" x2="{right}" y2="{y}"/>')
            add(f'<text x="{self.left - 8}" y="{y + 4}" text-anchor="end">{tick:,g}</text>')
        for tick in self.x_ticks:
            x = self.x(tick)
            add(f'<line class="axis" x1="{x}" y1="{bottom}" x2="{x}" y2="{bottom + 5}"/>')
            add(f'<text x="{x}" y="{bottom + 20}" text-anchor="middle">{tick:,g}</text>')
        add(f'<line class="axis" x1="{self.left}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
        middle = self.left + PANEL_WIDTH / 2
        add(f'<text x="{middle}" y="{bottom + 42}" text-anchor="middle">{x_label}</text>')
        x, y = self.left - 55, TOP + PANEL_HEIGHT / 2
        turned = f'x="{x}" y="{y}" text-anchor="middle" transform="rotate(-90 {x} {y})"'
        add(f"<text {turned}>{y_label}</text>")

    def line(self, points: list[tuple[float, float]], style: str) -> None:
        path = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in points)
        self.parts.append(f'<polyline class="line {style}" points="{path}"/>')

    def dot(self, x: float, y: float, style: str, title: str) -> None:
        circle = f'<circle class="{style}" cx="{self.x(x)}" cy="{self.y(y)}" r="3.5">'
        self.parts.append(f"{circle}<title>{title}</title></circle>")


def tokens_panel(cells: list[dict], choices: list[int]) -> Panel:
    """Asked and distinct tokens by shots."""
    shots = sorted({it["shots"] for it in cells})
    panel = Panel(LEFT, [float(it) for it in shots], ticks(max(it["request_tokens"] for it in cells)))
    panel.axes("Tokens: of all requests (dashed), distinct (solid)", "shots", "tokens")
    for i, n in enumerate(choices):
        of_n = sorted((it for it in cells if it["choices"] == n), key=lambda it: it["shots"])
        panel.line([(it["shots"], it["request_tokens"]) for it in of_n], f"s{i} dashed")
        panel.line([(it["shots"], it["distinct_tokens"]) for it in of_n], f"s{i}")
    return panel


def seconds_panel(cells: list[dict], choices: list[int]) -> Panel:
    """Time over distinct tokens, with the line of least squares."""
    xs = [it["distinct_tokens"] for it in cells]
    ys = [min(it["seconds"]) for it in cells]
    panel = Panel(LEFT + PANEL_WIDTH + GAP, ticks(max(xs)), ticks(max(ys)))
    a, b, r2 = fit(xs, ys)
    panel.axes("Time of one call, all requests answered", "distinct tokens", "seconds")
    start = max(0, -a / b)  # Where the line enters the panel.
    panel.parts.append(
        f'<line class="fit" x1="{panel.x(start)}" y1="{panel.y(a + b * start)}" '
        f'x2="{panel.x(max(xs))}" y2="{panel.y(a + b * max(xs))}"/>'
    )
    for it, y in zip(cells, ys, strict=True):
        title = f"{it['choices']} choices, {it['shots']} shots, {it['requests']} requests: {y:.2f} s"
        style = f"s{choices.index(it['choices'])}"
        panel.dot(it["distinct_tokens"], y, style, title)
    label = f"{1000 * b:.2f} ms per distinct token, R² = {r2:.3f}"
    panel.parts.append(f'<text x="{panel.x(0) + 10}" y="{TOP + 16}">{label}</text>')
    return panel


def fit(xs: list[float], ys: list[float]) -> tuple[float, float, float]:
    """Intercept and slope of least squares, and the share of variance that they explain."""
    n = len(xs)
    x_mean, y_mean = sum(xs) / n, sum(ys) / n
    xx = sum((x - x_mean) ** 2 for x in xs)
    yy = sum((y - y_mean) ** 2 for y in ys)
    xy = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    slope = xy / xx
    return y_mean - slope * x_mean, slope, xy * xy / (xx * yy)


def draw(cells: list[dict]) -> str:
    choices = sorted({it["choices"] for it in cells})
    panels = [tokens_panel(cells, choices), seconds_panel(cells, choices)]
    legend = []
    for i, n in enumerate(choices):
        x, y = LEFT + 150 * i, HEIGHT - 20
        legend.append(f'<line class="line s{i}" x1="{x}" y1="{y - 4}" x2="{x + 26}" y2="{y - 4}"/>')
        legend.append(f'<text x="{x + 32}" y="{y}">{n} choice{"" if n == 1 else "s"}</text>')
    parts = [part for panel in panels for part in panel.parts] + legend
    ground = f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="Tokens and seconds by choices and shots">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", ground, *parts, "</svg>"]) + "\n"


def main() -> None:
    here = Path(__file__).resolve().parent
    source = Path(sys.argv[1]) if 1 < len(sys.argv) else here / "sharing.json"
    target = Path(sys.argv[2]) if 2 < len(sys.argv) else source.with_suffix(".svg")
    target.write_text(draw(json.loads(source.read_text())["cells"]), encoding="utf-8")


if __name__ == "__main__":
    main()
