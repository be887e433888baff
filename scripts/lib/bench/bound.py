"""What theory allows: no way of giving a file to a swarm takes less time.

Kumar and Ross, "Peer-assisted file distribution: the minimum distribution time" (2006), for fluids;
Mundinger, Weber and Weiss, "Optimal scheduling of peer-to-peer file dissemination" (2008), for chunks.
Rates are those of the links: whatever is spent on headers counts as time above the limit.
"""

import math

# The least that a peer verifies and passes on.
GRAIN_BYTES = 64 << 10


def limits(scenario):
    """Seconds, by the name of what limits."""
    links, joins = scenario.links(), scenario.joins()
    seeds, leechers = links[: scenario.seeds], links[scenario.seeds :]
    bits, count = 8 * scenario.bytes, len(leechers)
    seeded, given = sum(map(up, seeds)), sum(map(up, leechers))
    # What leechers would have sent before they came.
    missed = sum(up(link) * join for link, join in zip(leechers, joins))
    found = {
        "seed": bits / seeded,
        "slowest downlink": max(join + bits / (1e6 * link.down) for link, join in zip(leechers, joins)),
        "sum of uplinks": (count * bits + missed) / (seeded + given),
    }
    if scenario.seed_leaves:
        sent = min(scenario.seed_leaves, count) * bits
        found["uplinks after the seed"] = (count * bits - sent + missed) / given
    if len({link.up for link in links}) == 1 and scenario.seeds == 1 and not scenario.late[0]:
        grains = max(1, scenario.bytes // GRAIN_BYTES)
        found["hops"] = bits / seeded * (1 + math.floor(math.log2(count)) / grains)
    return found


def limit(scenario):
    return max(limits(scenario).values())


def up(link):
    return 1e6 * link.up
