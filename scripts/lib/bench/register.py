"""`scripts/bench register`: hashing, beside b3sum; and how soon a daemon goes on after a restart."""

import re
import shutil
import subprocess
import time

import comparison
import lab
import source
from comparison import PROGRAM, RATE, SECONDS
from loopback_lab import LoopbackLab
from medians import number, ratio
from process import Process, disturbance, machine_busy_s
from program_warren import Warren
from report import OURS, Goal, Report
from restart import RESUME, restarted
from rounds import rounds

DESCRIPTION = """\
Registers a file that is in the page cache, beside b3sum on the same file, both on all processors. Then a
daemon is stopped that has begun to fetch a large sparse file, and started again: how long until more of it
comes. Downloads take their room on the disk at once, so the files are on a disk, or in a tmpfs that is large enough.
"""

NOTES = """\
Medians. MB/s: of the file over the time from the command until it has ended; the daemon runs by then. CPU: of
the command and the daemon. The restart counts from the start of the daemon until it has received content."""

CPU = ("CPU s/GiB", 9, lambda row: number(row, "cpu_s_per_gib", 2))
HAD = ("had MiB", 9, lambda row: number(row, "had_mib", 0))

B3SUM = "b3sum"

POLL_S = 0.002


def main(arguments):
    made = comparison.parser("register", DESCRIPTION, OURS)
    made.add_argument("--size", type=int, default=1024, metavar="MIB", help="of the file [1024]")
    made.add_argument("--partial", type=int, default=20, metavar="GIB", help="of the sparse file, 0 for none [20]")
    comparison.add_disk(made)
    options = comparison.parsed(made, arguments)
    comparison.enter(options, options.disk or comparison.target())
    report = Report("register", [PROGRAM, SECONDS, RATE, CPU, HAD], NOTES, options.json)
    hashing(report, options)
    if options.partial:
        resuming(report, options)
    comparison.finish(report, options, {B3SUM: version()})


def hashing(report, options):
    given = source.random_file(options.size)
    entries = [(OURS, lambda: registered(given))]
    if shutil.which(B3SUM):
        entries.append((B3SUM, lambda: summed(given)))
    else:
        report.remark(f"left out: {B3SUM}, for there is no such program")
    case = f"register {options.size} MiB"
    rounds(report, case, entries, options.runs)
    given.remove()
    share = ratio(report.median(case, OURS), report.median(case, B3SUM))
    report.goals.append(Goal(f"{case}: ours over {B3SUM}", share, 0.9, 1.0))


def resuming(report, options):
    given = source.sparse_file(options.partial << 10)
    case = f"{RESUME} with {options.partial} GiB"
    rounds(report, case, [(OURS, lambda: restarted(given))], options.runs)
    given.remove()
    seconds = report.median(case, OURS, "s")
    report.goals.append(Goal(f"{case}: s until content comes", seconds, 2.0, 0.5, at_most=True))


def registered(given):
    try:
        built = LoopbackLab()
        program = Warren(built, given.path)
        program.prepare()
        seed = built.peers[0]
        program.stand_by(seed)
        warm(given)
        command = (seed, "register", given.path, 1, "-o", f"{seed.folder}/file.p2p", "--json")
        found = timed(given, lambda: program.client(*command), built.all_processes)
        built.close()
        return found
    finally:
        lab.clear()


def summed(given):
    warm(given)
    started = []

    def start():
        started.append(Process([B3SUM, given.path], f"{lab.FOLDER}/{B3SUM}"))
        return started[0]

    return timed(given, start, lambda: started)


def warm(given):
    """Has all of it in the page cache."""
    with open(given.path, "rb") as file:
        while file.read(1 << 20):
            pass


def timed(given, start, processes):
    cpu, busy, own, began = cpu_s(processes()), machine_busy_s(), time.process_time(), time.monotonic()
    process = start()
    while process.is_running():
        time.sleep(POLL_S)
    took = time.monotonic() - began
    cpu = cpu_s(processes()) - cpu
    others_s = machine_busy_s() - busy - cpu - (time.process_time() - own)
    if process.code:
        raise RuntimeError(f"{process.command[0]} ended with code {process.code}: {process.said()[-1000:]}")
    return {
        "complete": True,
        "intact": True,
        "s": round(took, 4),
        "mb_per_s": round(given.bytes / took / 1e6, 1),
        "cpu_s_per_gib": round(cpu / given.bytes * (1 << 30), 3),
        **disturbance(others_s, took),
    }


def cpu_s(processes):
    return sum(process.cpu_s() for process in processes)


def version():
    if not shutil.which(B3SUM):
        return None
    said = subprocess.run([B3SUM, "--version"], capture_output=True, text=True).stdout
    return re.search(r"\d+(\.\d+)+", said)[0]
