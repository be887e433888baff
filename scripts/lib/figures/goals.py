"""What is to be reached, what was, and the file that says so."""

import os

HEAD = """\
# What people wait for

Written by `{command}`, which says how each figure is measured in `scripts/lib/figures`: on {cores} cores with
{gib:.0f} GiB of memory, over loopback, with a release build.

| what | goal | measured | |
|---|---|---|---|
"""

TAIL = """
Of commands the median of {runs} runs counts, from the start of the process until it has ended, its output read.
"""


class Goals:
    def __init__(self, options):
        self.options, self.rows = options, []

    def at_most(self, what, most, value, unit):
        """A figure that is to be no more than that; `None` was not reached at all."""
        reached = value is not None and value <= most
        shown = "-" if value is None else f"{value:.3g} {unit}" if isinstance(value, float) else f"{value} {unit}"
        self.note(what, f"<= {most} {unit}", shown, reached)

    def equal(self, what, expected, value):
        self.note(what, expected, value, value == expected)

    def note(self, what, goal, shown, reached):
        self.rows.append((what, goal, shown, reached))
        print(f"{'reached' if reached else 'MISSED '}  {what}: {shown} ({goal})", flush=True)

    def all_reached(self):
        return all(reached for *_, reached in self.rows)

    def write(self, path):
        with open("/proc/meminfo") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("MemTotal"))
        with open(path, "w") as file:
            file.write(HEAD.format(command=self.options.command, cores=os.cpu_count(), gib=kib / (1 << 20)))
            for what, goal, shown, reached in self.rows:
                file.write(f"| {what} | {goal} | {shown} | {'reached' if reached else 'MISSED'} |\n")
            file.write(TAIL.format(runs=self.options.runs))
