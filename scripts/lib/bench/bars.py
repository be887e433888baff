"""A picture of a report, in SVG: a bar for each program, and a line for what there is at most."""

from html import escape

LEFT, WIDTH, RIGHT = 160, 460, 90
TITLE, ROW, BETWEEN = 34, 22, 22

OURS, OTHERS, LIMIT = "#3465a4", "#9ab", "#c00"


def picture(report):
    """The text of the picture: a panel for each case."""
    panels = [(case, [row for row in report.rows(case) if row.get(report.figure)]) for case in report.cases()]
    height = sum(TITLE + ROW * len(rows) + BETWEEN for _, rows in panels)
    width = LEFT + WIDTH + RIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    top = 0
    for case, rows in panels:
        lines += panel(report, case, rows, top)
        top += TITLE + ROW * len(rows) + BETWEEN
    return "\n".join([*lines, "</svg>", ""])


def panel(report, case, rows, top):
    limit = report.limits.get(case)
    values = [row[report.figure] for row in rows]
    most = max([*values, limit[0] if limit else 0.0, 1e-9])
    lines = [text(16, top + 22, f"{report.bench}, {case}: {report.unit}", 'font-size="14"')]
    for place, (row, value) in enumerate(zip(rows, values)):
        y, length = top + TITLE + ROW * place, WIDTH * value / most
        colour = OURS if row["program"] == "warren" else OTHERS
        lines += [
            text(LEFT - 8, y + 14, row["program"], 'text-anchor="end"'),
            f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{ROW - 5}" fill="{colour}"/>',
            text(LEFT + length + 6, y + 14, f"{value:.3g}" if value < 100 else f"{value:.0f}"),
        ]
    return lines + (line(limit, most, len(rows), top) if limit else [])


def line(limit, most, rows, top):
    x, bottom = LEFT + WIDTH * limit[0] / most, top + TITLE + ROW * rows
    return [
        f'<polyline points="{x:.1f},{top + TITLE - 4} {x:.1f},{bottom}" fill="none" stroke="{LIMIT}" '
        'stroke-width="2" stroke-dasharray="6 4"/>',
        text(x, bottom + 13, limit[1], f'fill="{LIMIT}" text-anchor="end"'),
    ]


def text(x, y, words, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'
