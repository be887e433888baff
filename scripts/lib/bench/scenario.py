"""What is measured: how many peers, how fast their links, who comes late, who leaves."""

import dataclasses
import re

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Link:
    """What a peer may send and receive, in Mbit/s of Ethernet."""

    up: float
    down: float


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Rates in Mbit/s. Of rates with commas each is that of an equal share of the leechers, in order."""

    size_mib: int = 256
    seeds: int = 1
    leechers: int = 8
    up: tuple = (50.0,)
    down: tuple = (200.0,)
    seed_up: float = 50.0
    rtt_ms: float = 0.0
    loss_percent: float = 0.0
    # The last so many of the leechers come after so many seconds.
    late: tuple = (0, 0.0)
    # The seeds end once they have sent so many times the file.
    seed_leaves: float = 0.0

    @property
    def bytes(self):
        return self.size_mib * MIB

    def links(self):
        """Of the seeds, then of the leechers."""
        seeds = [Link(self.seed_up, max(self.down))] * self.seeds
        count = self.leechers
        ups = (self.up[number * len(self.up) // count] for number in range(count))
        downs = (self.down[number * len(self.down) // count] for number in range(count))
        return seeds + [Link(up, down) for up, down in zip(ups, downs)]

    def joins(self):
        """When each leecher comes, in seconds."""
        late, seconds = self.late
        return [0.0] * (self.leechers - late) + [seconds] * late

    def words(self):
        ups, downs = ("/".join(f"{rate:g}" for rate in rates) for rates in (self.up, self.down))
        words = (
            f"{plural(self.seeds, 'seed')} {self.seed_up:g} Mbit/s up, {plural(self.leechers, 'leecher')} "
            f"{ups} up {downs} down, {self.size_mib} MiB"
        )
        words += f", RTT {self.rtt_ms:g} ms" if self.rtt_ms else ""
        words += f", {self.loss_percent:g} % lost" if self.loss_percent else ""
        words += f", {self.late[0]} of them after {self.late[1]:g} s" if self.late[0] else ""
        return words + (f", seed leaves after {self.seed_leaves:g} F" if self.seed_leaves else "")


PRESETS = {
    "eight": Scenario(),
    "twenty": Scenario(size_mib=128, leechers=20, up=(20.0,), down=(100.0,), seed_up=20.0, rtt_ms=40.0),
    "uneven": Scenario(up=(10.0, 100.0), seed_up=100.0),
    "late": Scenario(late=(4, 20.0)),
    "seed-leaves": Scenario(seed_leaves=1.1),
    "four-seeds": Scenario(seeds=4, leechers=1, down=(400.0,)),
}

# Measures other things: see rate_limit.py.
RATE_LIMIT = "rate-limit"


def plural(count, noun):
    return f"{count} {noun}{'' if count == 1 else 's'}"


def rates(text):
    found = tuple(float(part) for part in text.split(","))
    if not all(0.1 <= rate <= 100_000 for rate in found):
        raise ValueError(text)
    return found


def late(text):
    count, seconds = re.fullmatch(r"(\d+),(\d+(?:\.\d+)?)", text).groups()
    return int(count), float(seconds)
