"""Whether the matrix keeps the floors, and the cells that fall short of being direct, with what is known of
the cause."""

import math
from collections import Counter

from natlab_figures import cells, direct, failed, level, percentile, share, values
from natlab_markdown import table

BLOCKED = ("udp-443", "udp-blocked")

# Types of which two cannot meet, nor one and another that maps by destination: what is relayed there was
# to be expected.
WIDE = ("address-dependent", "symmetric", "cgn-random", "dual-stack")
NEAR = ("symmetric-sequential", "symmetric-block")

# Ports that a NAT picks from at random.
RANGES = {"symmetric": 64_512, "cgn-random": 64_512, "dual-stack": 64_512, "address-dependent": 4_000,
          "symmetric-block": 1_024}

# What a birthday opens at most and at least, and checks at most (proto/src/nat/guess/shots.rs).
OPENINGS, FEWEST_OPENINGS, PROBES = 384, 24, 880

# How often two sprays into blocks of 1,024 miss each other, and a crowd a run (plan.rs there).
SPRAYS_MISS, CROWD_MISSES = 0.02, 0.01

# Less likely than that is not by chance.
UNLIKELY = 0.01


def is_blocked(pair):
    return any(one in BLOCKED for one in pair)


def is_exempt(pair):
    """Whether the floor does not ask for a direct path."""
    if is_blocked(pair):
        return True
    hard = [one for one in pair if one in WIDE or one in NEAR]
    return len(hard) == 2 and any(one in WIDE for one in pair) and pair != ("dual-stack", "dual-stack")


def missed(pair, runs):
    """How often the guess of this pair misses by its formula, on average over its runs, and what it is;
    nothing where none is known."""
    sides = [side for side, one in zip("ab", pair) if one in RANGES]
    if pair == ("symmetric-block", "symmetric-block"):
        return SPRAYS_MISS, "two sprays of 2,200 packets into blocks of 1,024"
    if pair == ("symmetric-sequential", "symmetric-block"):
        return CROWD_MISSES, "a crowd of 1,100 sockets at a run of ports"
    if len(sides) != 1 or NEAR[0] in pair:
        return None
    sizes = Counter(range_of(run, sides[0]) for run in runs)
    chances = {size: birthday(size) for size in sizes}
    chance = sum(count * chances[size][0] for size, count in sizes.items()) / len(runs)
    hows = (f"{opened} of {size:,} ports opened and {checked} checked" for size, (_, opened, checked) in chances.items())
    return chance, " or ".join(hows)


def range_of(run, side):
    """Ports to guess among. All, when a download began before the range was known."""
    is_known = not str(run.get(f"nat_{side}")).startswith("address-dependent")
    return RANGES[run[side]] if is_known else RANGES["symmetric"]


def birthday(size):
    """How often it misses, and how many ports of so many are opened and checked."""
    root = math.isqrt(size) + 1
    opened = min(max(root + -(-root // 2), FEWEST_OPENINGS), OPENINGS)
    checked = min(PROBES, size)
    # Different ports all: how many ways there are to check none of those that are open.
    return math.comb(size - opened, checked) / math.comb(size, checked), opened, checked


def at_least(count, runs, chance):
    """How likely that many or more are of so many, each with this chance."""
    return 1 - sum(math.comb(runs, it) * chance**it * (1 - chance) ** (runs - it) for it in range(count))


def falling_short(runs):
    """The section's text: causes that need no counting first, and then a line for each other cell."""
    found = {pair: some for pair, some in cells(runs).items() if share(some, direct) < 100}
    text = "\n## Cells that fall short, and why\n\n"
    if not found:
        return text + "None.\n"
    blocked = {pair: some for pair, some in found.items() if is_blocked(pair)}
    exempt = {pair: some for pair, some in found.items() if is_exempt(pair) and pair not in blocked}
    rows = [
        ("no UDP leaves one of the sites, or none but to ports 53 and 443, where peers are not", blocked),
        ("exempt: both map by destination, one of them into a range too large to guess in", exempt),
    ]
    lines = [(cause, listed(some), *outcome(some)) for cause, some in rows if some]
    for pair, some in found.items():
        if not is_exempt(pair):
            lines.append((cause_of(pair, some), listed({pair: some}), *outcome({pair: some})))
    return text + table(("cause", "cells", "runs", "direct %", "failed"), lines)


def listed(some):
    """Pairs by their first sides, with the direct share where it is not none."""
    by_first = {}
    for (a, b), runs in some.items():
        percent = share(runs, direct)
        by_first.setdefault(a, []).append(b + (f" ({percent:.1f} % direct)" if percent else ""))
    return "; ".join(f"{a} x {', '.join(others)}" for a, others in by_first.items())


def outcome(some):
    runs = [run for those in some.values() for run in those]
    return len(runs), f"{share(runs, direct):.1f}", sum(map(failed, runs))


def cause_of(pair, runs):
    """Whether chance explains it, and what the attempts said of themselves."""
    short = [run for run in runs if not direct(run)]
    said = Counter("+".join(run.get("outcomes") or ["no attempt"]) for run in short)
    checks = sorted(run.get("checks") or 0 for run in short)
    facts = ", ".join(f"{word} {count}" for word, count in said.most_common())
    facts = f"attempts: {facts}; checks {checks[0]} to {checks[-1]}"
    # A download does not wait for more than natlab-ready does.
    early = sum("unknown" in f"{run.get('nat_a')} {run.get('nat_b')}" for run in short)
    facts += f"; began before both NATs were known: {early}" if early else ""
    formula = missed(pair, runs)
    if formula is None:
        return f"not by a guess; {facts}"
    chance, how = formula
    likely = at_least(len(short), len(runs), chance)
    by = "the guess ran out by chance" if likely >= UNLIKELY else "more often than chance explains"
    return (
        f"{by}: {len(short)} of {len(runs)}, {how} misses {100 * chance:.2g} %, {chance * len(runs):.1f} expected, "
        f"so many or more in {100 * likely:.2g} % of such series; {facts}"
    )


SHUT = ("firewall4", "port-restricted", "port-changing", "clash", "short-timeouts", "double-nat")

# Lets in what comes from any port of an address that was sent to, so that nothing is guessed.
LAX = ("open", "full-cone", "address-restricted", "same", "same-hairpin")


def is_by_chance(pair, runs):
    """Whether a port is hit upon there, which no technique always does: such cells have floors of their own."""
    return missed(pair, runs) is not None and not any(one in LAX for one in pair)


def floors(runs):
    """The floors of the issue that a matrix can tell of."""
    found = cells(runs)
    wanted = {pair: some for pair, some in found.items() if not is_exempt(pair)}
    lucky = {pair: some for pair, some in wanted.items() if is_by_chance(pair, some)}
    sure = {pair: some for pair, some in wanted.items() if pair not in lucky}
    sprayed, rest = [run for run in runs if may_spray(run)], [run for run in runs if not may_spray(run)]
    lines = [
        row("every cell connects", "100 %", 100 - share(runs, failed), 100, "{:.2f} %"),
        everywhere("direct in every cell without chance", sure, 100),
        everywhere("direct in every cell with it, none exempt", lucky, 95),
        *guessed("sequential x endpoint-independent", found, SHUT, ("symmetric-sequential",), 98, 80, None),
        *guessed("random x port-restricted", found, ("port-restricted",), ("symmetric", "cgn-random"), 96, 1300, 3000),
        *guessed("sequential x sequential", found, NEAR[:1], NEAR[:1], 95, None, None),
        *guessed("block x block", found, NEAR[1:], NEAR[1:], 95, 2300, None),
        most("flows at a NAT, without block sprays", rest, 1300),
        most("flows at a NAT, with them", sprayed, 2300),
    ]
    columns = ("floor", "is", "measured", "held")
    return "\n## Floors\n\nWith chance: a port is hit upon among many, and misses by a formula, see below. Packets are those of both hosts together, p95; of block x block those of the host that sends more.\n\n" + table(columns, filter(None, lines), 4)


def may_spray(run):
    """Whether a block spray was, or may have been tried."""
    return run.get("technique") == "block-spray" or {run["a"], run["b"]} <= {*NEAR, "address-dependent"}


def everywhere(name, found, percent):
    """The floor that each of these cells has; nothing of none."""
    if not found:
        return None
    kept = sum(share(some, direct) >= percent for some in found.values())
    (a, b), least = min(found.items(), key=lambda entry: share(entry[1], direct))
    words = f"{kept} of {len(found)} cells; least {a} x {b}, {share(least, direct):.1f} %"
    return name, f"{percent} %", words, "yes" if kept == len(found) else "**no**"


def guessed(name, found, firsts, seconds, percent, packets, proven_ms):
    some = [run for (a, b), those in found.items() if a in firsts and b in seconds for run in those]
    if not some:
        return []
    good = [run for run in some if direct(run)]
    # A spray's limit is that of each host.
    together = max if seconds == NEAR[1:] else sum
    sent = [together((run["packets_a"], run["packets_b"])) for run in good]
    took = values(level(good), "proven_ms")
    lines = [row(f"{name}, direct", f"{percent} %", share(some, direct), percent, "{:.1f} %")]
    if packets and sent:
        lines.append(row(f"{name}, packets", packets, -percentile(sent, 95), -packets, "{:.0f}"))
    if proven_ms and took:
        lines.append(row(f"{name}, proven p95", f"{proven_ms} ms", -percentile(took, 95), -proven_ms, "{:.0f} ms"))
    return lines


def most(name, runs, limit):
    flows = [run[f"flows_{site}"] for run in runs for site in "ab" if run.get(f"flows_{site}") is not None]
    return row(name, limit, -max(flows), -limit, "{:.0f}") if flows else None


def row(name, floor, value, least, words):
    return name, floor, words.format(abs(value)), "yes" if value >= least else "**no**"
