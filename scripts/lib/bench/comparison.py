"""What the benches that compare programs have in common: options, who takes part, how it ends."""

import argparse
import os
import shlex
import sys

import bars
import lab
import record
from medians import number
from options import target
from program_warren import Warren
from programs import PAIRS, available, look_in

# Options that name one of this machine.
PLACES = ("--record", "--picture", "--bin", "--peers-bin", "--disk")

EPILOG = """\
Exit codes: 0 ours was complete and intact every time and nothing came wrong, 1 otherwise, 2 usage, 77 not
possible on this machine. That another program did not come to its end is a result.
"""

PROGRAM = ("program", 17, lambda row: row["program"])
SECONDS = ("s", 8, lambda row: number(row, "s", 3))
RATE = ("MB/s", 8, lambda row: number(row, "mb_per_s", 1))
CPU = ("CPU s/GiB", 9, lambda row: number(row, "cpu_s_per_gib", 2))
BUSY = ("busy %", 6, lambda row: number(row, "busy_share", 0, 100))
RSS = ("RSS MiB", 8, lambda row: f"{number(row, 'seed_peak_rss_mib', 0)}/{number(row, 'leech_peak_rss_mib', 0)}")

COLUMNS = [PROGRAM, SECONDS, RATE, CPU, BUSY, RSS]

NOTES = """\
Medians. The clock runs from the command of the leech until the program says that it has all of it; seeds
are ready by then, and what came is compared with what was given away afterwards. CPU: user and system time
of all processes of both sides meanwhile. RSS: the most that the seed and the leech held. Disturbed runs, in
which others took more than 15 % of the machine, are repeated once and left out where there are others. ours/it: of
the figure that the bench is about, ours over that of the row."""


def parser(name, description, programs):
    made = argparse.ArgumentParser(
        prog=f"scripts/bench {name}",
        description=description,
        epilog=f"programs: {', '.join(PAIRS)}\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--programs", default=programs, metavar="LIST", help=f"which to run in turn, with commas [{programs}]")
    add("--runs", type=int, default=3, metavar="N", help="of each program [3]")
    where = "target/release"
    add("--bin", default=f"{target()}/release", metavar="DIR", help=f"where tracker, client and examples/ are [{where}]")
    add("--congestion", default="cubic", metavar="NAME", help="what TCP goes by [cubic]")
    add("--peers-bin", metavar="DIR", help="where to look for other programs first")
    add("--record", metavar="FILE.md", help="rewrites the section of this bench in it")
    add("--picture", metavar="FILE.svg", help="a bar for each program")
    add("--json", action="store_true", help="one JSON object a run")
    return made


def parsed(made, arguments):
    """The options, checked."""
    options = made.parse_args(arguments)
    options.bin = os.path.abspath(options.bin)
    options.names = options.programs.split(",")
    for name in options.names:
        if name not in PAIRS:
            made.error(f"there is no program {name}: {', '.join(PAIRS)}")
    for file in (options.record, options.picture):
        if file and not os.path.isdir(os.path.dirname(os.path.abspath(file))):
            made.error(f"there is no folder for {file}")
    if options.runs < 1:
        made.error("at least one run")
    return options


def sizes(text):
    """MiB, with commas."""
    found = [int(part) for part in text.split(",")]
    if not all(1 <= size <= 1 << 17 for size in found):
        raise ValueError(text)
    return found


def numbers(text):
    """With commas, none below 0."""
    found = [float(part) for part in text.split(",")]
    if min(found) < 0:
        raise ValueError(text)
    return found


def add_disk(made):
    where = f"{target()}"
    made.add_argument("--disk", nargs="?", const=where, metavar="DIR", help="files on a disk, in DIR [target]")


def enter(options, disk=None):
    """Goes into namespaces of our own; returns the programs that are here."""
    if disk and not os.path.isdir(disk):
        raise lab.Cannot(f"there is no folder {disk}", "Name one on the disk with --disk.")
    lab.enter(disk and os.path.abspath(disk))
    allow(options.congestion)
    Warren.bin = options.bin
    if options.peers_bin:
        look_in(os.path.abspath(options.peers_bin))
    kinds = available(options.names)
    if not kinds:
        raise lab.Cannot("none of the programs is here", "See the lines above.")
    return kinds


def allow(congestion):
    """Whether TCP may go by it here; in our own namespace it does from now on."""
    try:
        with open(lab.CONGESTION, "w") as file:
            file.write(congestion)
    except OSError as error:
        hint = 'As root: sysctl -w net.ipv4.tcp_allowed_congestion_control="reno bbr cubic", or --congestion.'
        raise lab.Cannot(f"TCP must not go by {congestion} in namespaces of one's own", hint) from error


def example(options, name, purpose):
    """Where a program of ours for measuring is."""
    program = f"{options.bin}/examples/{name}"
    if not os.access(program, os.X_OK):
        hint = f"cargo build --release --package warren-net --example {name}, or --bin."
        raise lab.Cannot(f"there is no program {program}, for {purpose}", hint)
    return program


def finish(report, options, more_versions=None):
    """Says the medians, writes what was asked for, and ends."""
    report.conclude()
    versions = {name: PAIRS[name].version() for name in options.names} | (more_versions or {})
    if options.record:
        command = f"scripts/bench {shlex.join(told(sys.argv[1:]))}"
        report.remark(f"TCP went by {options.congestion}.")
        record.write(options.record, report, command, versions)
    if options.picture:
        with open(options.picture, "w") as file:
            file.write(bars.picture(report))
    sys.exit(report.exit_code())


def told(arguments):
    """The command line without what names places of a machine."""
    kept, is_place = [], False
    for argument in arguments:
        name = argument.partition("=")[0]
        if argument.startswith("-"):
            is_place = argument in PLACES
            kept += [name] if name == "--disk" else [] if name in PLACES else [argument]
        elif not is_place:
            kept.append(argument)
        else:
            is_place = False
    return kept
