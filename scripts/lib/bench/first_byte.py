"""`scripts/bench first-byte`: how long a small file takes, in round trips."""

from functools import partial

import comparison
import pair_run
import source
from comparison import NOTES, PROGRAM, RSS, SECONDS
from lab import FAR, Lab, Setting
from medians import number
from report import OURS, Goal, Report
from rounds import rounds
from scenario import Link

DESCRIPTION = """\
One peer gives a small file to another while all that can run before does: over a switch that delays, and
links that are not shaped, so that next to nothing of the time is that of transmission. What the link takes
is counted as part of the round trips.
"""

PROGRAMS = "warren,libtorrent:tuned,rqbit,sendme"

RTTS = ("round trips", 11, lambda row: number(row, "rtts", 2))

# A fiftieth of a round trip.
POLL_S = 0.001


def main(arguments):
    made = comparison.parser("first-byte", DESCRIPTION, PROGRAMS)
    made.add_argument("--size", type=int, default=1, metavar="MIB", help="of the file [1]")
    made.add_argument("--rtt", type=float, default=50.0, metavar="MS", help="round trip between any two [50]")
    options = comparison.parsed(made, arguments)
    switch = comparison.example(options, "switch", "a delay")
    kinds = comparison.enter(options)
    columns = [PROGRAM, SECONDS, RTTS, RSS]
    report = Report("first-byte", columns, NOTES, options.json, "rtts", "round trips")
    how = {"rtt_ms": options.rtt, "congestion": options.congestion, "switch": switch, "network": FAR}
    setting = Setting([Link(None, None)] * 2, 1, **how)
    task = pair_run.Task(source.random_file(options.size), lambda: Lab(setting), poll_s=POLL_S)

    def run(kind):
        found = pair_run.run(kind, task)
        return found | {"rtts": found["s"] and round(1000 * found["s"] / options.rtt, 2)}

    case = f"{options.size} MiB, {options.rtt:g} ms"
    rounds(report, case, [(kind.name, partial(run, kind)) for kind in kinds], options.runs)
    rtts = report.median(case, OURS)
    report.goals = [Goal("round trips from the command to the verified file", rtts, 7.5, 5.5, at_most=True)]
    comparison.finish(report, options)
