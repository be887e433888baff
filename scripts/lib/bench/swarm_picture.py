"""How each leecher came along beside the limit, and which uplinks were busy when, in SVG."""

from html import escape

import bound
from swarm_run import share

WIDTH, HEIGHT = 640, 260
LEFT, TOP, BETWEEN, BELOW, ROW = 90, 46, 30, 60, 9

CURVE, LIMIT, LIGHT = "#3465a4", "#c00", "#ddd"


def picture(scenario, results):
    """The text of the picture: a panel for the first good run of each program."""
    first = {}
    for result in results:
        if result["complete"]:
            first.setdefault(result["program"], result)
    limit = bound.limit(scenario)
    longest = max([limit, *(one["last_s"] for one in first.values())]) * 1.03
    rows = scenario.seeds + scenario.leechers
    panel = TOP + HEIGHT + BETWEEN + ROW * rows + BELOW
    width, height = LEFT + WIDTH + 40, max(1, len(first)) * panel + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for place, run in enumerate(first.values()):
        lines += draw(scenario, run, limit, longest, place * panel + TOP)
    return "\n".join([*lines, "</svg>", ""])


def draw(scenario, run, limit, longest, top):
    def x(seconds):
        return LEFT + WIDTH * seconds / longest

    def y(part):
        return top + HEIGHT * (1 - part)

    title = f"{run['program']}: last {run['last_s']:.1f} s, {run['last_over_limit']:.3f} of the limit; {scenario.words()}"
    lines = [text(16, top - 18, title, 'font-size="14"')]
    for percent in (0, 50, 100):
        lines += [stroke([(LEFT, y(percent / 100)), (LEFT + WIDTH, y(percent / 100))], LIGHT, 1)]
        lines += [text(LEFT - 8, y(percent / 100) + 4, f"{percent} %", 'text-anchor="end"')]
    for seconds in range(0, int(longest) + 1, step(longest)):
        lines += [text(x(seconds), top + HEIGHT + 18, f"{seconds} s", 'text-anchor="middle"')]
    # Nobody can have the file before the limit, and all of them have by then as much as all links carry.
    lines += [stroke([(x(0), y(0)), (x(limit), y(1))], LIMIT, 2, 'stroke-dasharray="6 4"')]
    lines += [text(x(limit) - 6, y(1) - 4, f"limit {limit:.1f} s", f'fill="{LIMIT}" text-anchor="end"')]
    for leecher, done in enumerate(run["finished_s"]):
        points = [(one["at"], one["had"][leecher] / scenario.bytes) for one in run["samples"] if one["at"] < done]
        lines.append(stroke([(x(at), y(min(1, part))) for at, part in [*points, (done, 1)]], CURVE, 1))
    return lines + uplinks(scenario, run, x, top + HEIGHT + BETWEEN)


def uplinks(scenario, run, x, top):
    """A row for each peer, the darker the more of its uplink was used."""
    lines = []
    for number, link in enumerate(scenario.links()):
        name = f"{'seed' if number < scenario.seeds else 'leech'} {number}"
        lines.append(text(LEFT - 8, top + ROW * number + ROW - 1, name, 'text-anchor="end" font-size="9"'))
        for before, after in zip(run["samples"], run["samples"][1:]):
            part = min(1, share(before, after, number, link.up))
            start, end = x(before["at"]), x(after["at"])
            lines.append(
                f'<rect x="{start:.1f}" y="{top + ROW * number}" width="{end - start:.1f}" height="{ROW - 1}" '
                f'fill="{CURVE}" fill-opacity="{part:.2f}"/>'
            )
    below = top + ROW * len(scenario.links()) + 14
    return [*lines, text(LEFT, below, "uplinks: the darker, the more of it was used in that second")]


def step(longest):
    return next((one for one in (1, 5, 10, 20, 50, 100) if longest / one <= 12), 200)


def stroke(points, colour, width, more=""):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" {more}/>'


def text(x, y, words, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'
