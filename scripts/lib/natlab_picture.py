"""The matrix of all pairs as a picture, in SVG."""

from html import escape

from natlab_figures import SAME_SITE, cells, direct, failed, level, percentile, relayed, share, shown, values

WIDTH, HEIGHT = 58, 34
LEFT, TOP, BESIDE, BELOW = 160, 190, 60, 70

# What came of the runs, its colour and its word.
KINDS = ((direct, "#8fd19e", "direct"), (relayed, "#ffd27a", "relayed"), (failed, "#f0868a", "failed"))

NONE = "#f0f0f0"


def picture(runs, order, title):
    """The text of the picture. Pairs that were measured one way round are shown both ways."""
    found = cells(runs)
    sites = [one for one in order if one not in SAME_SITE and any(one in pair for pair in found)]
    columns = sites + [one for one in SAME_SITE if any(pair[1] == one for pair in found)]
    right, bottom = LEFT + WIDTH * len(columns), TOP + HEIGHT * len(sites)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right + BESIDE}" height="{bottom + BELOW}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{right + BESIDE}" height="{bottom + BELOW}" fill="#fff"/>',
        text(16, 24, title, 'font-size="15"'),
    ]
    for number, column in enumerate(columns):
        x, y = LEFT + WIDTH * number + WIDTH / 2 + 4, TOP - 8
        lines.append(text(x, y, column, f'transform="rotate(-60 {x:g} {y:g})"'))
    for number, row in enumerate(sites):
        y = TOP + HEIGHT * number
        lines.append(text(LEFT - 8, y + HEIGHT / 2 + 4, row, 'text-anchor="end"'))
        for place, column in enumerate(columns):
            some = found.get((row, column)) or found.get((column, row))
            lines += cell(some, LEFT + WIDTH * place, y)
    lines += legend(bottom + 26)
    return "\n".join([*lines, "</svg>", ""])


def cell(runs, x, y):
    """The shares of what came of the runs from left to right, and the median to the first byte."""
    if not runs:
        return [box(x, y, WIDTH, NONE)]
    lines, start = [], x
    for what, colour, _ in KINDS:
        if width := WIDTH * share(runs, what) / 100:
            lines.append(box(start, y, width, colour))
            start += width
    middle = x + WIDTH / 2
    median = percentile(values(level(runs), "first_byte_s", 1000), 50)
    words = in_short(runs)
    lines.append(text(middle, y + (15 if words else 21), shown(median), 'text-anchor="middle"'))
    if words:
        lines.append(text(middle, y + 28, words, 'text-anchor="middle" font-size="9" fill="#555"'))
    lines.append(
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#fff" stroke-width="2"/>'
    )
    return lines


def in_short(runs):
    """What came of them, when it is not the same of all."""
    percents = [(share(runs, what), word) for what, _, word in KINDS]
    if any(percent == 100 for percent, _ in percents):
        return ""
    percent, word = next(entry for entry in percents if entry[0])
    return f"{percent:.0f} % {word}"


def legend(y):
    lines, x = [], LEFT
    for _, colour, word in KINDS:
        lines += [box(x, y, 16, colour, 16), text(x + 22, y + 13, word)]
        x += 90
    words = "number: median ms from typing the download to the first byte of content"
    return [*lines, text(LEFT, y + 36, words)]


def box(x, y, width, colour, height=HEIGHT):
    return f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{height}" fill="{colour}"/>'


def text(x, y, words, more=""):
    return f'<text x="{x:g}" y="{y:g}" {more}>{escape(words)}</text>'
