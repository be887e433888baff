"""`scripts/bench veth`: between two hosts with an MTU of 1500, as fast as the machine can or at a rate."""

from functools import partial

import comparison
import pair_run
import source
from comparison import COLUMNS, NOTES
from lab import Lab, Setting
from report import Goal, Report
from rounds import rounds
from scenario import Link

DESCRIPTION = """\
One peer gives one file to another, each in a network namespace of its own, with a veth pair each to a
bridge: an MTU of 1500, and no shaping unless there is a rate. Files are in memory.
"""

PROGRAMS = "warren,libtorrent:tuned,aria2,transmission,rqbit,sendme,iperf3"


def main(arguments):
    made = comparison.parser("veth", DESCRIPTION, PROGRAMS)
    made.add_argument("--size", type=int, default=1024, metavar="MIB", help="of the file [1024]")
    made.add_argument("--mbit", type=float, metavar="MBIT", help="rate of both links [as much as it can]")
    options = comparison.parsed(made, arguments)
    kinds = comparison.enter(options)
    name = f"veth at {options.mbit:g} Mbit/s" if options.mbit else "veth"
    report = Report(name, COLUMNS, NOTES, options.json)
    case = f"{options.size} MiB"
    setting = Setting([Link(options.mbit, options.mbit)] * 2, 1, congestion=options.congestion)
    task = pair_run.Task(source.random_file(options.size), lambda: Lab(setting))
    rounds(report, case, [(kind.name, partial(pair_run.run, kind, task)) for kind in kinds], options.runs)
    if options.mbit:
        report.limits[case] = (options.mbit / 8, "link")
    report.goals = shaped(report, case) if options.mbit else unshaped(report, case)
    comparison.finish(report, options)


def unshaped(report, case):
    return [
        Goal("ours over libtorrent:tuned", report.times(case, "libtorrent:tuned"), 0.75, 1.0),
        Goal("ours over sendme", report.times(case, "sendme"), 3.5, 5.0),
        Goal("ours over rqbit", report.times(case, "rqbit"), 1.5, 2.0),
        Goal("CPU s/GiB, both sides", report.median(case, "warren", "cpu_s_per_gib"), 6.0, 4.8, at_most=True),
    ]


def shaped(report, case):
    return [Goal("ours over iperf3, TCP", report.times(case, "iperf3"), 0.93, 0.97)]
