"""What the record says besides the matrix: one function for each section, which returns its text."""

import math

from natlab_figures import cells, grouped, percentile, share, shown, values
from natlab_markdown import machine, side_by_side, table, verdict

# Floors of what is measured here.
STALL_MS = 500
UPLINK_MS = 2000
SWARM_PERCENT, NINE_PERCENT = 15, 2

RELAY_COMPUTING_MS = 25


def times(found):
    """Median, 95th percentile and largest; what never came is later than all."""
    return [later(percentile(found, percent)) for percent in (50, 95, 100)]


def later(value):
    return "never" if value == math.inf else shown(value)


def head(title, jobs, what):
    return f"## {title}\n\nMeasured on {machine()}, {side_by_side(jobs)}: {what}\n\n"


def relayed(runs, trip, jobs):
    """First bytes that came by a relay, whatever came of the pair in the end."""
    first = [run for run in runs if run.get("first_path") == "relay"]
    limits = (5 * trip + RELAY_COMPUTING_MS, 5 * trip)
    columns = ("A", "B", "runs", "by relay", "p50", "p95", "max", *(f"within {it:g} %" for it in limits))
    rows = [relayed_row(*pair, some, limits) for pair, some in cells(runs).items()]
    found = values(first, "first_byte_s", 1000)
    floor = f"5 R_t + {RELAY_COMPUTING_MS}, {limits[0]:g} ms, at p95; the aim is 5 R_t, {limits[1]:g} ms"
    return (
        head(
            "The first byte by a relay",
            jobs,
            "time from typing the download to the first byte of content, in ms, of runs in which that came "
            f"by the relay, all pairs and then together. R_t {trip:g} ms.",
        )
        + table(columns, [*rows, relayed_row("all", "", runs, limits)])
        + "\n"
        + verdict(floor, bool(found) and percentile(found, 95) <= limits[0])
    )


def relayed_row(a, b, runs, limits):
    found = values([run for run in runs if run.get("first_path") == "relay"], "first_byte_s", 1000)
    within = [f"{100 * sum(it <= limit for it in found) / len(found):.1f}" if found else "-" for limit in limits]
    return (a, b, len(runs), len(found), *times(found), *within)


def stall(runs, _, jobs):
    columns = (
        "A", "B", "runs", "told", "direct after p50", "stall p50", "p95", "max", "relay left after p50", "p95",
        "relayed %",
    )
    rows = [stall_row(*pair, some) for pair, some in cells(runs).items()]
    found = values(runs, "stall_ms")
    return (
        head(
            "From the relay to a direct path",
            jobs,
            "a file that begins to come by a relay of limited rate while a port is guessed. The longest time "
            "in which no 20 ms bring 4 kB, from 1 s before there is a direct connection to 2 s after; how long "
            "after the first byte there is one; and from the proof of its path to the last that the tracker "
            "passes on; in ms. Runs tell nothing in which the direct path was first, or there was none. "
            "Relayed: which part of the file.",
        )
        + table(columns, [*rows, stall_row("all", "", runs)])
        + "\n"
        + verdict(f"{STALL_MS} ms at most", bool(found) and max(found) <= STALL_MS)
    )


def stall_row(a, b, runs):
    told = [run for run in runs if run.get("stall_ms") is not None]
    left = times(values(told, "proven_to_left_ms"))[:2]
    parts = [100 * run["relayed_bytes"] / (run["relayed_bytes"] + run["direct_bytes"]) for run in told]
    return (
        a, b, len(runs), len(told), times(values(told, "takeover_ms"))[0], *times(values(told, "stall_ms")),
        *left, shown(percentile(parts, 50)),
    )


def again(run):
    """After how many ms data flowed again; later than all when it did not do so for good, and nothing when the file
    was there too early."""
    if run.get("steady_again_ms") is None and not run["complete"]:
        return math.inf
    return run.get("flows_again_ms")


def event_rows(runs, name):
    rows = []
    for (a, b, event), some in grouped(runs, name).items():
        found = [again(run) for run in some if again(run) is not None]
        steady = times(values(some, "steady_again_ms"))[1]
        complete = sum(run["complete"] for run in some)
        rows.append((a, b, event, len(some), complete, len(found), *times(found), steady))
    return rows


EVENT_COLUMNS = ("A", "B", "event", "runs", "complete", "told", "p50", "p95", "max", "steadily p95")

EVENT_WORDS = (
    "in mid-transfer at 40 Mbit/s; after how many ms data flows again, 20 kB in 20 ms, and when it does so "
    "without a further gap that begins within a second. B downloads, and is dialled."
)


def uplink(runs, _, jobs):
    rows = event_rows(runs, lambda run: (run["a"], run["b"], run["event"]))
    found = [again(run) for run in runs if again(run) is not None]
    return (
        head("Another uplink", jobs, f"the router of a site forgets and gets another public address, {EVENT_WORDS}")
        + table(EVENT_COLUMNS, rows, 3)
        + "\n"
        + verdict(
            f"p95 {UPLINK_MS} ms in each",
            all(row[7].isdigit() and int(row[7]) <= UPLINK_MS for row in rows) and bool(found),
        )
        + f" All together: p50 {times(found)[0]}, p95 {times(found)[1]}, max {times(found)[2]} ms."
    )


def sleep(runs, *rest):
    def named(run):
        lasted = run.get("lasted_ms")
        return run["a"], run["b"], run["event"] + (f", {lasted / 1000:.0f} s" if lasted else "")

    jobs = rest[1]
    what = f"a host hears nothing and its daemon is stopped, for so long; then both go on; {EVENT_WORDS}"
    return head("Sleep", jobs, what) + table(EVENT_COLUMNS, event_rows(runs, named), 3)


def family(runs, _, jobs):
    what = f"a host loses all addresses of that version of IP by which the two talk; {EVENT_WORDS}"
    rows = event_rows(runs, lambda run: (run["a"], run["b"], run["event"]))
    return head("Another version of IP", jobs, what) + table(EVENT_COLUMNS, rows, 3)


def swarm(runs, trip, jobs):
    whole, nine = values(runs, "relayed_percent"), values(runs, "relayed_percent_unblocked")
    complete = sum(all(peer["complete"] for peer in run["peers"]) for run in runs)
    types = [runs[0]["seed"], *(peer["type"] for peer in runs[0]["peers"])] if runs else []
    floor = f"relayed at most {SWARM_PERCENT} % of all and {NINE_PERCENT} % of what the nine get, in each run"
    spread = [("of all", *percents(whole), share(whole, lambda it: it <= SWARM_PERCENT))]
    spread.append(("to the nine", *percents(nine), share(nine, lambda it: it <= NINE_PERCENT)))
    rows = [(name, *row[:-1], f"{row[-1]:.0f}") for name, *row in spread]
    return (
        head(
            "A swarm of ten",
            jobs,
            f"{len(runs)} runs, {complete} complete: the first of {', '.join(types)} shares a file, which all "
            f"others download at once; {trip / 2:g} ms one way. The nine are those whose UDP is not blocked. "
            "Which part of what was delivered came by relays, in percent:",
        )
        + table(("relayed %", "p50", "p95", "max", "runs within the floor %"), rows, 1)
        + "\n"
        + table(("type", "downloads", "relayed % p50", "p95", "max", "done s p50", "p95"), by_type(runs), 1)
        + "\n"
        + verdict(floor, bool(whole) and max(whole) <= SWARM_PERCENT and max(nine) <= NINE_PERCENT)
    )


def percents(found):
    return [f"{percentile(found, percent):.1f}" for percent in (50, 95, 100)]


def by_type(runs):
    peers = grouped([peer for run in runs for peer in run["peers"]], lambda peer: peer["type"])
    return [(kind, len(some), *percents(parts(some)), *done(some)) for kind, some in peers.items()]


def parts(peers):
    """Which part of what each got was relayed, in percent."""
    got = [(peer["relayed_bytes"], peer["relayed_bytes"] + peer["direct_bytes"]) for peer in peers]
    return [100 * relayed_bytes / all_bytes if all_bytes else 0 for relayed_bytes, all_bytes in got]


def done(peers):
    took = values(peers, "done_s")
    return [f"{percentile(took, percent):.1f}" if took else "-" for percent in (50, 95)]


SECTIONS = {
    "relayed": relayed,
    "stall": stall,
    "uplink": uplink,
    "sleep": sleep,
    "family": family,
    "swarm": swarm,
}
