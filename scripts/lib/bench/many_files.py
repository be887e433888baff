"""`scripts/bench many-files`: a folder of small files, beside one large file."""

from functools import partial

import comparison
import pair_run
import source
from comparison import COLUMNS, NOTES
from lab import FAR, Lab, Setting
from loopback_lab import LoopbackLab, takers
from medians import number, ratio
from report import OURS, Goal, Report
from rounds import rounds
from scenario import Link

DESCRIPTION = """\
One peer gives a folder of many small files to another: over loopback, and over links of a rate with a long
round trip. In the same rounds ours gives one large file. All files are in memory.
"""

# rqbit ends connections over a folder of so many files.
PROGRAMS = "warren,libtorrent:tuned,sendme"

ONE_FILE = "warren, one file"

FILES = ("files/s", 8, lambda row: number(row, "files_per_s", 0))

RTT_MS = 100.0

# What a long link carries in ten seconds is enough to know its rate.
LONG_MIB = 256

# Above so many the floor is that of 100,000.
MANY = 50_000


def main(arguments):
    options = parsed(arguments)
    options.switch = comparison.example(options, "switch", "a delay") if options.mbit else None
    kinds = comparison.enter(options)
    name = f"many-files, {options.files:,} of {options.kib} KiB"
    report = Report(name, [*COLUMNS, FILES], NOTES, options.json)
    tree = source.tree(options.files, options.kib)
    measure(report, options, takers(kinds), "loopback", LoopbackLab, tree, options.size)
    if options.mbit:
        link = Link(options.mbit, options.mbit)
        setting = Setting([link] * 2, 1, RTT_MS, RTT_MS, 0.0, options.congestion, options.switch, FAR)
        case = f"{options.mbit:g} Mbit/s, {RTT_MS:g} ms"
        measure(report, options, kinds, case, lambda: Lab(setting), tree, min(options.size, LONG_MIB))
        report.limits[case] = (options.mbit / 8, "link")
    comparison.finish(report, options)


def parsed(arguments):
    made = comparison.parser("many-files", DESCRIPTION, PROGRAMS)
    add = made.add_argument
    add("--files", type=int, default=10_000, metavar="N", help="how many [10000]")
    add("--kib", type=int, default=10, metavar="KIB", help="of each [10]")
    add("--size", type=int, default=1024, metavar="MIB", help=f"of the one file; {LONG_MIB} at most on the link [1024]")
    add("--mbit", type=float, default=200.0, metavar="MBIT", help="of the long link, 0 for none [200]")
    return comparison.parsed(made, arguments)


def measure(report, options, kinds, case, lab, tree, mib):
    task = pair_run.Task(tree, lab)
    entries = [(kind.name, partial(pair_run.run, kind, task)) for kind in kinds]
    ours = next((kind for kind in kinds if kind.name == OURS), None)
    large = source.random_file(mib)
    if ours:
        entries.append((ONE_FILE, partial(one_file, ours, pair_run.Task(large, lab))))
    rounds(report, case, entries, options.runs)
    large.remove()
    report.goals += goals(report, case, options.files, options.kib)


def one_file(kind, task):
    return pair_run.run(kind, task) | {"program": ONE_FILE, "files_per_s": None}


def goals(report, case, files, kib):
    words = f"{files:,} files of {kib} KiB, {case}"
    share = ratio(report.median(case, OURS), report.median(case, ONE_FILE))
    floor, aim = (0.3, 0.5) if files > MANY else (0.4, 0.6)
    return [
        Goal(f"{words}: ours over ours with one file", share, floor, aim),
        Goal(f"{words}: ours over the best peer", report.times_best(case, but=(ONE_FILE,)), 1.0),
    ]
