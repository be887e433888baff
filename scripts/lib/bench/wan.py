"""`scripts/bench wan`: over long links that lose packets, and beside a TCP flow."""

from dataclasses import dataclass
from functools import partial

import comparison
import fairness
import pair_run
import source
from comparison import COLUMNS, NOTES
from lab import FAR, Lab, Setting
from medians import number
from report import Goal, Report
from rounds import rounds
from scenario import Link

DESCRIPTION = """\
One peer gives one file to another over links of a rate both ways (tbf), behind a switch that delays every
frame and loses some, each way. A full link holds what it carries in one round trip. Then the same beside
a TCP flow over the one link that both go through (ours alone): of its fair part, which is half, what TCP
keeps. Addresses are those of no private network.
"""

PROGRAMS = "warren,libtorrent:tuned,rqbit,sendme,iperf3"

LINK = ("of link", 7, lambda row: number(row, "link_share", 3))

# What is measured unless something else is asked for.
MBIT, LOSS = [100.0, 200.0], [0.0, 0.1, 1.0]

# What a file takes at least, at the rates of the issue: five seconds at 100 Mbit/s, ten at 200.
SIZES_MIB = {100.0: 64, 200.0: 256}

# How many times what the link needs a run may take, and how long at least.
PATIENCE, PATIENCE_S = 3.0, 30.0


@dataclass(frozen=True)
class Path:
    mbit: float
    rtt_ms: float
    loss_percent: float
    mib: int

    def words(self):
        return f"{self.mbit:g} Mbit/s, {self.rtt_ms:g} ms, {self.loss_percent:g} % lost, {self.mib} MiB"

    def setting(self, options):
        link = Link(self.mbit, self.mbit)
        queue_ms, how = self.rtt_ms, (options.congestion, options.switch, FAR)
        return Setting([link] * 2, 1, queue_ms, self.rtt_ms, self.loss_percent, *how)


def main(arguments):
    options = parsed(arguments)
    options.switch = comparison.example(options, "switch", "a delay")
    kinds = comparison.enter(options)
    notes = f"{NOTES}\nA full link holds one round trip. Of what did not come to its end the rate is that of what had come."
    report = Report(name(options), [*COLUMNS, LINK], notes, options.json)
    for mbit in options.mbit:
        mib = options.size or SIZES_MIB.get(mbit, 64)
        given = source.random_file(mib)
        for loss in options.loss:
            measure(report, options, kinds, given, Path(mbit, options.rtt, loss, mib))
        given.remove()
    if options.fair:
        fairness.measure(report, options)
    comparison.finish(report, options)


def name(options):
    """Says what of it was measured when that was not all."""
    words = [f"at {listed(options.mbit)} Mbit/s"] if options.mbit != MBIT else []
    words += [f"{listed(options.loss)} % lost"] if options.loss != LOSS else []
    return " ".join(["wan", ", ".join(words)]).strip()


def listed(values):
    return " and ".join(f"{value:g}" for value in values)


def parsed(arguments):
    made = comparison.parser("wan", DESCRIPTION, PROGRAMS)
    add = made.add_argument
    add("--mbit", type=comparison.numbers, default=MBIT, metavar="MBIT,..", help="of the links [100,200]")
    add("--rtt", type=float, default=100.0, metavar="MS", help="round trip [100]")
    add("--loss", type=comparison.numbers, default=LOSS, metavar="PERCENT,..", help="each way [0,0.1,1]")
    add("--size", type=int, metavar="MIB", help="of the file [64; 256 at 200 Mbit/s]")
    add("--fair", type=int, default=256, metavar="MIB", help="of the file beside TCP, 0 for none [256]")
    return comparison.parsed(made, arguments)


def measure(report, options, kinds, given, path):
    least_s = 8 * given.bytes / path.mbit / 1e6
    task = pair_run.Task(given, lambda: Lab(path.setting(options)), max(PATIENCE_S, PATIENCE * least_s))

    def run(kind):
        found = pair_run.run(kind, task)
        return found | {"link_share": round(8 * found["mb_per_s"] / path.mbit, 4)}

    case = path.words()
    rounds(report, case, [(kind.name, partial(run, kind)) for kind in kinds], options.runs)
    report.limits[case] = (path.mbit / 8, "link")
    report.goals += goals(report, case, path)


def goals(report, case, path):
    """Those of the issue."""
    share = report.median(case, "warren", "link_share")
    if path.mbit >= 200:
        return [Goal(f"{case}: ours over the link", share, 0.80, 0.92)]
    if not path.loss_percent:
        return [Goal(f"{case}: ours over iperf3, TCP", report.times(case, "iperf3"), 0.93, 1.0)]
    if path.loss_percent < 1:
        return []
    return [
        Goal(f"{case}: ours over the link", share, 0.78, 0.90),
        Goal(f"{case}: ours over the best peer", report.times_best(case, but=("iperf3",)), 20.0),
    ]
