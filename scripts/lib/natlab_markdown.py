"""What the sections of the record are written with."""

import os
import platform
import time

MARK = "<!-- section: {} -->"

# All sections, in the order in which they stand in the file.
ORDER = ("matrix", "relayed", "stall", "uplink", "sleep", "family", "swarm")


def today():
    return time.strftime("%Y-%m-%d", time.gmtime())


def machine():
    kernel = ".".join(platform.release().split(".")[:2])
    return f"{today()}, Linux {kernel}, {os.cpu_count()} cores"


def side_by_side(jobs):
    return "one lab at a time" if jobs == 1 else f"{jobs} labs side by side"


def table(columns, rows, words=2):
    """A table of which the first columns, and what is called `by`, are words and the others numbers."""
    marks = ["---" if place < words or name == "by" else "---:" for place, name in enumerate(columns)]
    lines = [columns, marks, *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def verdict(floor, is_held):
    return f"Floor: {floor}: **{'held' if is_held else 'not held'}**."


def put(file, name, text):
    """Puts this text in place of that section of the file, and leaves the others."""
    sections = read(file)
    sections[name] = text.strip("\n")
    known = [one for one in ORDER if one in sections]
    whole = "\n\n".join(f"{MARK.format(one)}\n{sections[one]}" for one in known) + "\n"
    with open(f"{file}.new", "w") as new:
        new.write(whole)
    os.replace(f"{file}.new", file)


def read(file):
    """Sections by their names. What stands before the first mark is the matrix."""
    sections, name, lines = {}, "matrix", []
    if os.path.exists(file):
        with open(file) as text:
            lines = text.read().splitlines()
    for line in lines:
        found = next((one for one in ORDER if line == MARK.format(one)), None)
        name = found or name
        if not found and (line or name in sections):
            sections[name] = f"{sections[name]}\n{line}" if name in sections else line
    return {name: text.strip("\n") for name, text in sections.items()}
