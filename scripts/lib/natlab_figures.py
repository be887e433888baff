"""What the tables and the picture of natlab-report are made of."""

import math

SAME_SITE = ("same", "same-hairpin")

# Types whose routers give a socket another port for each destination, or keep UDP in.
HARD = (
    "address-dependent",
    "symmetric-sequential",
    "symmetric-block",
    "symmetric",
    "cgn-random",
    "dual-stack",
    "udp-443",
    "udp-blocked",
)


def direct(run):
    return run["complete"] and run.get("path") in ("direct", "lan")


def relayed(run):
    return run["complete"] and not direct(run)


def failed(run):
    return not run["complete"]


def share(runs, what):
    """Percent of the runs that are that; none of none."""
    return 100 * sum(map(what, runs)) / len(runs) if runs else 0


def percentile(values, percent):
    """By nearest rank; nothing of nothing."""
    ordered = sorted(value for value in values if value is not None)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else None


def values(runs, name, factor=1):
    return [factor * run[name] for run in runs if run.get(name) is not None]


def shown(value):
    return "-" if value is None else f"{value:.0f}"


def level(runs):
    """Those in which the tracker's word reaches both sides at once."""
    return [run for run in runs if run["skew_ms"] == 0]


def cells(runs):
    """Runs by their pair of types, in the order of the first of each."""
    return grouped(runs, lambda run: (run["a"], run["b"]))


def grouped(runs, name):
    """What is called the same, in the order of the first of each."""
    found = {}
    for run in runs:
        found.setdefault(name(run), []).append(run)
    return found


def in_order(pairs, order):
    """Sides of the pairs, in the order of the types that natlab has."""
    return [[one for one in order if one in {pair[side] for pair in pairs}] for side in (0, 1)]
