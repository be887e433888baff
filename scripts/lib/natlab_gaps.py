"""When data flows into a host, and when it does not: samples of what has come in, and the gaps in them."""

import bisect
import math
import os
import sys
import time

from natlab_namespace import enter, enter_open

SAMPLE = 0.005
WINDOW = 0.020


class Meter:
    """Bytes that have come in by the first interface of a namespace that is not loopback, and a time,
    each time it was looked at."""

    def __init__(self, namespace):
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        enter(namespace)
        # An open file stays that of its namespace.
        self.table = open("/proc/thread-self/net/dev")
        enter_open(home, "our own namespace")
        os.close(home)
        self.samples = []
        self.look()

    def look(self):
        self.samples.append((time.time(), self.received()))
        return self.samples[-1]

    def received(self):
        self.table.seek(0)
        for line in self.table.readlines()[2:]:
            name, numbers = line.split(":")
            if name.strip() != "lo":
                return int(numbers.split()[0])
        sys.exit("this namespace has no interface")


def flowing_at(samples, enough):
    """When, of all samples, the window that ends there had so many bytes."""
    times = [moment for moment, _ in samples]
    found = []
    for moment, count in samples:
        start = bisect.bisect_left(times, moment - WINDOW)
        if count - samples[start][1] >= enough:
            found.append(moment)
    return found


def gaps(flowing, start, end):
    """Times between two moments of `flowing`, longer than hiccups, that begin from the last before
    `start` to `end`."""
    first = max(0, bisect.bisect_left(flowing, start) - 1)
    last = bisect.bisect_right(flowing, end)
    pairs = zip(flowing[first:last], flowing[first + 1 : last + 1])
    return [pair for pair in pairs if pair[1] - pair[0] >= 2 * WINDOW]


def longest(found):
    """Of these gaps, in ms; 0 when there is none."""
    return ms(max((end - start for start, end in found), default=0))


def ms(seconds):
    """Nothing for what has no end."""
    return round(1000 * seconds) if seconds < math.inf else None
