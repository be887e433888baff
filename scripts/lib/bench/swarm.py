"""`scripts/bench swarm`: one seed and many leechers behind shaped links, and how near to the least
time that theory allows the last of them is done."""

import argparse
import dataclasses
import json
import os
import sys

import lab
import rate_limit
import scenario as scenarios
import source
import swarm_picture
import swarm_report
import swarm_run
from options import add_network, network, target
from program_warren import Warren
from programs import PROGRAMS, available
from scenario import PRESETS, RATE_LIMIT

SOURCE = f"{source.SOURCES}/random.bin"

DESCRIPTION = """\
One seed and many leechers, each in a network namespace of its own around a bridge, behind links that
are shaped both ways. Prints how long the last and the mean leecher took, and what the least time is that
theory allows. Needs no root; everything ends with it.

The limit is that of the links alone, the same for every program. What the processors of this machine allow
is a column of its own, CPU limit, as it depends on what each program costs: where it comes near to the time
taken, the machine was measured and not the program.
"""

MORE = "presets:\n" + "\n".join(f"  {name:<12} {one.words()}" for name, one in PRESETS.items())
MORE += f"\n  {RATE_LIMIT:<12} whether the wire keeps to limits (--up RATES), and TCP beside a background transfer\n\nprograms: {', '.join(PROGRAMS)}\n"
MORE += "\nExit codes: 0 all complete and intact, 1 some not, 2 usage, 77 not possible on this machine."


def main(arguments):
    options = parsed(arguments)
    lab.enter()
    Warren.bin = options.bin
    if options.preset == RATE_LIMIT:
        return limits(options)
    scenario = chosen(options)
    setting = network(options, scenario.links(), scenario.seeds, scenario.rtt_ms, scenario.loss_percent)
    kinds = available(options.programs.split(","))
    if not kinds:
        raise lab.Cannot("none of the programs is here", "See the lines above.")
    digest = make_source(scenario.bytes)
    if not options.json:
        print(swarm_report.heading(scenario), flush=True)
    results = []
    # In turn, that what else the machine does befalls all of them.
    for number in range(options.runs):
        for kind in kinds:
            result = measured(kind, scenario, digest, setting)
            results.append({"preset": options.preset, "run": number, **dataclasses.asdict(scenario), **result})
            print(json.dumps(results[-1]) if options.json else swarm_report.line(results[-1]), flush=True)
    conclude(scenario, results, options)
    sys.exit(0 if all(result["complete"] and result["intact"] for result in results) else 1)


def limits(options):
    if why := Warren.missing():
        raise lab.Cannot(why, "Build it, or name where it is with --bin.")
    rate_limit.main(options, make_source)


def measured(kind, scenario, digest, setting):
    try:
        return swarm_run.run(kind, scenario, SOURCE, digest, setting)
    except (RuntimeError, OSError) as error:
        print(f"{kind.name}: {error}", file=sys.stderr)
        return {"program": kind.name, "complete": False, "intact": False, "error": str(error)}


def conclude(scenario, results, options):
    if options.runs > 1 and not options.json:
        print(swarm_report.summary(results))
    if options.record:
        with open(options.record, "a") as file:
            versions = {name: PROGRAMS[name].version() for name in options.programs.split(",")}
            file.write(swarm_report.record(scenario, results, versions))
    if options.picture:
        with open(options.picture, "w") as file:
            file.write(swarm_picture.picture(scenario, results))


def make_source(size):
    """Writes the file that is given away; returns its hash."""
    source.write_random(SOURCE, size)
    return source.sha256(SOURCE)


def parsed(arguments):
    parser = argparse.ArgumentParser(
        prog="scripts/bench swarm",
        description=DESCRIPTION,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--preset", default="eight", metavar="NAME", help="where all else begins from [eight]")
    add("--programs", default="warren", metavar="LIST", help="which to run in turn, with commas [warren]")
    add("--runs", type=int, default=1, metavar="N", help="of each program [1]")
    add("--size", type=int, metavar="MIB", help="of the file")
    add("--seeds", type=int, metavar="N")
    add("--leechers", type=int, metavar="N")
    add("--up", type=scenarios.rates, metavar="MBIT,..", help="of leechers; each of an equal share of them")
    add("--down", type=scenarios.rates, metavar="MBIT,..", help="the same; seeds have the fastest of it")
    add("--seed-up", type=float, metavar="MBIT", help="of each seed")
    add("--late", type=scenarios.late, metavar="N,SECONDS", help="so many leechers come so late")
    add("--seed-leaves", type=float, metavar="F", help="seeds end after so many times the file")
    add("--bin", default=f"{target()}/release", metavar="DIR", help="where tracker and client are [target/release]")
    add("--record", metavar="FILE.md", help="adds a table to it")
    add("--picture", metavar="FILE.svg", help="bytes had over time, and which uplinks were busy")
    add("--json", action="store_true", help="one JSON object a run")
    add_network(parser)
    options = parser.parse_args(arguments)
    options.bin = os.path.abspath(options.bin)
    for problem in problems(options):
        parser.error(problem)
    return options


def problems(options):
    if options.preset == RATE_LIMIT:
        if options.programs != Warren.name:
            yield f"{RATE_LIMIT} is for {Warren.name} alone"
    elif options.preset not in PRESETS:
        yield f"there is no preset {options.preset}: {', '.join(PRESETS)}, {RATE_LIMIT}"
    else:
        scenario = chosen(options)
        if not (1 <= scenario.leechers <= 200 and 1 <= scenario.seeds <= 20 and 1 <= scenario.size_mib <= 4096):
            yield "1 to 200 leechers, 1 to 20 seeds, 1 to 4096 MiB"
        if scenario.late[0] > scenario.leechers:
            yield "more come late than there are leechers"
    for name in options.programs.split(","):
        if name not in PROGRAMS:
            yield f"there is no program {name}: {', '.join(PROGRAMS)}"
    for file in (options.record, options.picture):
        if file and not os.path.isdir(os.path.dirname(os.path.abspath(file))):
            yield f"there is no folder for {file}"


def chosen(options):
    """The preset, and what differs from it."""
    names = ("seeds", "leechers", "up", "down", "seed_up", "rtt_ms", "loss_percent", "late", "seed_leaves")
    given = {"size_mib": options.size, **{name: getattr(options, name) for name in names}}
    given = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(PRESETS[options.preset], **given)
