"""A file of results in Markdown, with a section for each bench. One that is run again replaces its own."""

import os

HEAD = """\
# What `scripts/bench` has measured

Each section was written by the command that it names, and says on what kind of machine. Compare figures
within a section, not between machines.
"""


def write(path, report, command, versions):
    """Puts the section of a report into the file, which may not exist yet."""
    before = HEAD
    if os.path.exists(path):
        with open(path) as file:
            before = file.read()
    text = replaced(before, report.bench, section(report, command, versions))
    with open(path, "w") as file:
        file.write(text)


def replaced(text, title, new):
    """The text with a section of that title anew, where it was; otherwise at the end."""
    head, *sections = text.split("\n## ")
    titles = [one.partition("\n")[0] for one in sections]
    body = new.removeprefix("## ").strip()
    if title in titles:
        sections[titles.index(title)] = body
    else:
        sections.append(body)
    return "\n\n## ".join(part.strip() for part in (head, *sections)) + "\n"


def section(report, command, versions):
    lines = [f"## {report.bench}", "", f"`{command}` on {machine()}. {said(versions)}", ""]
    for case in report.cases():
        limit = report.limits.get(case)
        lines += [f"### {case}", ""]
        lines += [f"{limit[1]}: {limit[0]:.1f} {report.unit}.", ""] if limit else []
        names = [name for name, _, _ in report.shown()]
        lines += table(names, [[show(row).strip() for _, _, show in report.shown()] for row in report.rows(case)])
    if report.goals:
        lines += table(["goal", "value", "floor", "aim", ""], [goal.cells() for goal in report.goals])
    lines += [line for remark in report.remarks for line in (remark, "")]
    return "\n".join([*lines, report.notes.replace("\n", " ")])


def table(names, rows):
    return [
        f"| {' | '.join(names)} |",
        "|" + "---|" * len(names),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def machine():
    with open("/proc/meminfo") as file:
        kib = next(int(line.split()[1]) for line in file if line.startswith("MemTotal"))
    return f"{os.cpu_count()} cores, {kib / (1 << 20):.0f} GiB of memory"


def said(versions):
    known = [f"{name} {number}" for name, number in versions.items() if number]
    return f"Versions: {', '.join(known)}." if known else ""
