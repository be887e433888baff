"""`scripts/bench loopback`: one machine, both peers, and how near to what its processors can do."""

import os
from functools import partial

import comparison
import costs
import lab
import pair_run
import source
from comparison import COLUMNS, NOTES
from loopback_lab import LoopbackLab, takers
from medians import number, ratio
from report import Goal, Report
from rounds import rounds

DESCRIPTION = """\
One peer gives one file to another over loopback, in a network namespace of their own, from memory to
memory (tmpfs). The roofline is what all cores could do if a byte took no more than to be carried by bare
quinn, hashed, read and written once each; all of it is measured in the same rounds.
"""

PROGRAMS = "warren,libtorrent:tuned,aria2,rqbit,sendme,iperf3"

# No larger files are needed to know what a byte costs.
ROOFLINE_MIB = 1024

ROOFLINE = "roofline"


def main(arguments):
    made = comparison.parser("loopback", DESCRIPTION, PROGRAMS)
    made.add_argument("--sizes", type=comparison.sizes, metavar="MIB,..", help="of the file [1024,4096; on disk 1024]")
    comparison.add_disk(made)
    options = comparison.parsed(made, arguments)
    kinds = takers(comparison.enter(options, options.disk))
    name = "loopback on disk" if options.disk else "loopback"
    report = Report(name, COLUMNS, NOTES, options.json)
    for mib in options.sizes or ([1024] if options.disk else [1024, 4096]):
        measure(report, options, kinds, mib)
    comparison.finish(report, options)


def measure(report, options, kinds, mib):
    given = source.random_file(mib)
    task = pair_run.Task(given, LoopbackLab)
    entries = [(kind.name, partial(pair_run.run, kind, task)) for kind in kinds]
    bare = f"{options.bin}/examples/bare"
    if os.access(bare, os.X_OK):
        lab.run("ip", "link", "set", "lo", "up")
        entries.append((ROOFLINE, partial(costs.measured, bare, lab.FOLDER, min(mib, ROOFLINE_MIB))))
    else:
        report.remark(f"left out: {ROOFLINE}, for there is no program examples/bare")
    case = f"{mib} MiB"
    rounds(report, case, entries, options.runs)
    given.remove()
    tell_roofline(report, case)
    report.goals += goals(report, case, is_best=mib > 1024 or options.disk)


def tell_roofline(report, case):
    row = next((row for row in report.rows(case) if row["program"] == ROOFLINE and row["used"]), None)
    if row is None:
        return
    parts = ", ".join(f"{part} {number(row, f'{part}_s_per_gib', 2)}" for part in costs.PARTS)
    report.limits[case] = (row["mb_per_s"], ROOFLINE)
    achieved = ratio(report.median(case, "warren"), row["mb_per_s"])
    words = f"ours reaches {achieved:.2f} of it" if achieved else "ours was not measured"
    report.remark(
        f"{case}: roofline {row['mb_per_s']:.0f} MB/s = {os.cpu_count()} cores / {row['cpu_s_per_gib']:.2f} CPU-s per "
        f"GiB ({parts}); {words}."
    )


def goals(report, case, is_best):
    if is_best:
        peers = report.times_best(case, but=(ROOFLINE, "iperf3"))
        return [Goal(f"{case}: ours over the best peer", peers, 1.3, 2.0)]
    limit = report.limits.get(case)
    return [
        Goal(f"{case}: ours over the roofline", limit and ratio(report.median(case, "warren"), limit[0]), 0.8),
        Goal(f"{case}: ours over libtorrent:tuned", report.times(case, "libtorrent:tuned"), 1.3, 1.8),
        Goal(f"{case}: ours over sendme", report.times(case, "sendme"), 4.5, 6.0),
        Goal(f"{case}: CPU s/GiB, both sides", report.median(case, "warren", "cpu_s_per_gib"), 3.6, 2.5, at_most=True),
    ]
