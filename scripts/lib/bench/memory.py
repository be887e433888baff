"""`scripts/bench memory`: what both sides hold, when they are idle and at most."""

from functools import partial

import comparison
import pair_run
import source
from comparison import NOTES, PROGRAM, RATE, SECONDS
from loopback_lab import LoopbackLab, takers
from medians import number
from report import OURS, Goal, Report
from rounds import rounds

DESCRIPTION = """\
One peer gives files of several sizes to another over loopback, from memory (and holes) to memory. Prints
the most that each side has held (VmHWM), and what a leech holds a second after it was started, before
somebody asks it for anything, where it is started before.
"""

PROGRAMS = "warren,libtorrent:tuned,aria2,rqbit,sendme"

COLUMNS = [
    PROGRAM,
    SECONDS,
    RATE,
    ("seed MiB", 8, lambda row: number(row, "seed_peak_rss_mib", 1)),
    ("leech MiB", 9, lambda row: number(row, "leech_peak_rss_mib", 1)),
    ("idle MiB", 8, lambda row: number(row, "idle_rss_mib", 1)),
]


def main(arguments):
    made = comparison.parser("memory", DESCRIPTION, PROGRAMS)
    made.add_argument("--sizes", type=comparison.sizes, default=[1024, 8192], metavar="MIB,..", help="of the file [1024,8192]")
    comparison.add_disk(made)
    options = comparison.parsed(made, arguments)
    kinds = takers(comparison.enter(options, options.disk))
    report = Report("memory", COLUMNS, NOTES, options.json, "peak_rss_mib", "MiB")
    for mib in options.sizes:
        measure(report, options, kinds, mib)
    comparison.finish(report, options)


def measure(report, options, kinds, mib):
    given = source.sparse_file(mib)
    task = pair_run.Task(given, LoopbackLab, wants_idle=True)
    case = f"{mib} MiB"
    rounds(report, case, [(kind.name, partial(run, kind, task)) for kind in kinds], options.runs)
    given.remove()
    peak, idle = report.median(case, OURS), report.median(case, OURS, "idle_rss_mib")
    report.goals += [
        Goal(f"{case}: MiB that a daemon holds at most", peak, 256, 128, at_most=True),
        Goal(f"{case}: MiB that an idle daemon holds", idle, 60, 25, at_most=True),
    ]


def run(kind, task):
    found = pair_run.run(kind, task)
    return found | {"peak_rss_mib": max(found["seed_peak_rss_mib"], found["leech_peak_rss_mib"])}
