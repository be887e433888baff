"""What `scripts/bench swarm` says of its runs, to people."""

import dataclasses
import os
import statistics

import bound
from medians import median, number
from scenario import Scenario

# Name, width, what is shown of a run or of the median of several.
COLUMNS = (
    ("program", 17, lambda one: one["program"]),
    ("last s", 7, lambda one: number(one, "last_s", 1)),
    ("mean s", 7, lambda one: number(one, "mean_s", 1)),
    ("last/limit", 10, lambda one: number(one, "last_over_limit", 3)),
    ("mean/limit", 10, lambda one: number(one, "mean_over_limit", 3)),
    ("seed payload/F", 14, lambda one: number(one, "seed_payload_over_f", 3) + mark(one)),
    ("seed wire/F", 11, lambda one: number(one, "seed_wire_over_f", 3)),
    ("all wire/NF", 11, lambda one: number(one, "wire_over_nf", 3)),
    ("CPU s", 6, lambda one: number(one, "cpu_s", 1)),
    ("CPU limit s", 11, lambda one: number(one, "cpu_limit_s", 1)),
    ("busy %", 6, lambda one: number(one, "busy_share", 0, 100)),
    ("RSS MiB", 7, lambda one: number(one, "peak_rss_mib", 0)),
)

NOTES = """\
Times run from the moment the leechers are asked for the file; every daemon is running by then. The limit
counts all that a link carries, headers included. *: from the interface of the seed, headers included.
CPU limit: user and system time of all programs of the run over the number of processors. It is no part of the
limit, which is the same for every program: this is each program's own, and tells whether this machine was what
kept it from the links' limit."""


def heading(scenario):
    of = max(bound.limits(scenario).items(), key=lambda item: item[1])
    head = f"{scenario.words()}: limit {of[1]:.2f} s ({of[0]})\n{NOTES}\n"
    return head + " ".join(f"{name:>{width}}" for name, width, _ in COLUMNS)


def line(run):
    if "last_s" not in run:
        return f"{run['program']:>17} failed: {run['error']}"
    words = " ".join(f"{shown(run):>{width}}" for _, width, shown in COLUMNS)
    return "\n".join([words, *("  " + remark for remark in remarks(run))])


def remarks(run):
    """What the figures do not say."""
    if not run["complete"]:
        done = [one for one in run["finished_s"] if one is not None]
        yield f"INCOMPLETE: {len(done)} of {len(run['finished_s'])} were done in {run['samples'][-1]['at']:.0f} s"
    elif not run["intact"]:
        yield "WRONG: what came is not what was given"
    if run["cpu_bound"]:
        yield f"bound by the processors, which were {100 * run['busy_share']:.0f} % busy"
    if run["others_cpu_s"] > 0.15 * run["cpu_s"] + 2:
        yield f"{run['others_cpu_s']:.1f} s of the processors went to the kernel and to other programs"
    if run["switch_cpu_s"] is not None:
        missed = f", and missed {run['switch_missed']} frames" if run["switch_missed"] else ""
        yield f"the delay took {run['switch_cpu_s']:.1f} s of the processors{missed}"
    if run["paths"].get("relay"):
        yield f"{run['paths']['relay']} of {sum(run['paths'].values())} paths led through the tracker"
    if run["seed_left_s"]:
        yield f"the seed left after {run['seed_left_s']:.1f} s"
    if run["seeds"] > 1 and run["complete"]:
        yield f"the file came at {run['goodput_over_seeds']:.3f} of what the seeds may send in sum"
    yield "uplinks used: " + "; ".join(uplinks(run))


def uplinks(run):
    """Of the seeds, and of leechers with the same rate, how much was used, and when nothing was."""
    rates = [link.up for link in links(run)]
    use, idle = run["uplink_use"], run["idle"]
    for number in range(run["seeds"]):
        never = f", idle in seconds {spans(idle[number])}" if idle[number] else ""
        yield f"seed {number} {100 * use[number]:.0f} %{never}"
    for rate in dict.fromkeys(rates[run["seeds"] :]):
        some = [peer for peer in range(run["seeds"], len(rates)) if rates[peer] == rate]
        parts = sorted(100 * use[peer] for peer in some)
        seconds = sum(len(idle[peer]) for peer in some)
        of = len(some) * max(1, len(run["samples"]) - 1)
        words = f"{statistics.mean(parts):.0f} % ({parts[0]:.0f} to {parts[-1]:.0f})"
        yield f"leechers with {rate:g} Mbit/s {words}, idle in {100 * seconds / of:.0f} % of the seconds"


def links(run):
    names = [field.name for field in dataclasses.fields(Scenario)]
    return Scenario(**{name: run[name] for name in names}).links()


def spans(seconds):
    """1, 2, 3 and 7 as 1-3 and 7."""
    found = []
    for second in seconds:
        if found and found[-1][1] == second - 1:
            found[-1][1] = second
        else:
            found.append([second, second])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)


def summary(results):
    lines = ["medians:"]
    lines += [" ".join(f"{shown(one):>{width}}" for _, width, shown in COLUMNS) for one in medians(results)]
    return "\n".join(lines)


def medians(results):
    """One for each program, of the runs in which all went well; in the order of the first runs."""
    for program in dict.fromkeys(result["program"] for result in results):
        runs = [one for one in results if one["program"] == program]
        good = [one for one in runs if one["complete"] and one["intact"]]
        if good:
            yield {**good[0], **median(good), "good": len(good), "of": len(runs)}
        else:
            yield {**runs[0], "last_s": None, "good": 0, "of": len(runs)}


def record(scenario, results, versions):
    """A table in Markdown."""
    rows = [[*(shown(one) for _, _, shown in COLUMNS), f"{one['good']}/{one['of']}"] for one in medians(results)]
    names = [*(name for name, _, _ in COLUMNS), "runs"]
    lines = [
        f"### {results[0]['preset']}",
        "",
        f"{heading(scenario).splitlines()[0]}. {machine(results)}",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items() if number) + ".",
        "",
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        "Medians of the runs that were complete and intact. " + NOTES.replace("\n", " ").replace("*", "\\*"),
    ]
    return "\n".join(lines) + "\n\n"


def machine(results):
    """What else the figures depend on."""
    controls = sorted({one["congestion"] for one in results if "congestion" in one})
    kernel = ".".join(os.uname().release.split(".")[:2])
    return f"{os.cpu_count()} processors, Linux {kernel}; TCP goes by {' and '.join(controls)}."


def mark(run):
    return "*" if run.get("seed_payload_from") == "interface" else ""
