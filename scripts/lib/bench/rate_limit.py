"""`scripts/bench swarm --preset rate-limit`: whether what is on the wire keeps to the limits of a daemon,
and what a transfer in the background leaves to others."""

import json
import sys
import time

import lab
import switch
from options import network
from program_warren import Warren
from scenario import Link
from source import SOURCES

SOURCE = f"{SOURCES}/random.bin"

RATES_MBIT = (10.0, 50.0, 200.0)

# Far beyond any limit.
OPEN_MBIT = 1000.0

# The one link that a background transfer and others have in common.
SHARED_MBIT = 50.0

SAMPLE_S = 0.1
WINDOW_S = 2.0

# How long is measured, and how long the beginning is left out.
MEASURED_S = 10.0
BEGINNING_S = 2.0

ETHERNET_HEADER = 14

# Floors of the issue.
LEAST, MOST = 0.95, 1.03
TCP_KEEPS, LINK_TAKEN = 0.8, 0.85

SENDER = """
import socket, sys, time
sock = socket.create_connection((sys.argv[1], 5001))
end, part = time.monotonic() + float(sys.argv[2]), bytes(65536)
while time.monotonic() < end:
    sock.sendall(part)
"""

RECEIVER = """
import socket, sys, time
listening = socket.create_server(("", 5001))
print("listening", flush=True)
sock, count, first = listening.accept()[0], 0, None
leave_out = float(sys.argv[1])
while part := sock.recv(1 << 20):
    now = time.monotonic()
    first = first or now
    count += len(part) if now - first >= leave_out else 0
print(8 * count / (now - first - leave_out) / 1e6, flush=True)
"""


def main(options, make_source):
    rates = options.up or RATES_MBIT
    seconds = BEGINNING_S + MEASURED_S
    make_source(int(max(*rates, SHARED_MBIT) * seconds * 1.2e6 / 8))
    results = []
    for rate in rates:
        for direction in ("up", "down"):
            results.append(limited(options, rate, direction))
            show(results[-1], options)
    results.append(beside_tcp(options))
    show(results[-1], options)
    sys.exit(0 if all(result["well"] for result in results) else 1)


def show(result, options):
    if options.json:
        return print(json.dumps(result), flush=True)
    if "rate_mbit" in result:
        words = f"{result['direction']:>4} {result['rate_mbit']:g} Mbit/s: any 2 s carry {result['least']:.3f} to {result['most']:.3f} of it"
    else:
        words = (
            f"TCP beside a background transfer keeps {result['tcp_keeps']:.3f} of what it has alone "
            f"({result['tcp_keeps_beside_foreground']:.3f} beside one in the foreground); "
            f"the background transfer alone takes {result['link_taken']:.3f} of the link"
        )
    print(f"{words}{'' if result['well'] else '  MISSED'}", flush=True)


class Pair(lab.Lab):
    """A seed and a leech, each daemon with flags of its own."""

    def __init__(self, options, link, seed_flags, leech_flags):
        super().__init__(network(options, [link, link], 1))
        self.program = Warren(self, SOURCE)
        self.seed, self.leech = self.peers
        self.program.prepare()
        self.program.flags = {self.seed: seed_flags, self.leech: leech_flags}
        self.program.seed(self.seed)
        self.program.stand_by(self.leech)

    def wire(self, direction):
        """Bytes of IP that the link of the seed has let through, or that of the leech."""
        place = (self.seed.namespace, "e0") if direction == "up" else (lab.CORE, self.leech.port)
        words = lab.run("tc", "-n", place[0], "-s", "qdisc", "show", "dev", place[1]).split()
        at = words.index("Sent")
        return int(words[at + 1]) - ETHERNET_HEADER * int(words[at + 3])

    def samples(self, direction, seconds):
        """Seconds, and bytes by then, while the file is fetched."""
        begun, found = time.monotonic(), []
        while (before := time.monotonic()) - begun < seconds:
            carried, after = self.wire(direction), time.monotonic()
            # What took long to be read is of no certain time.
            if after - before < SAMPLE_S / 4:
                found.append(((before + after) / 2 - begun, carried))
            if self.program.is_done(self.leech):
                raise RuntimeError("the file came faster than the limit allows")
            time.sleep(max(0.0, SAMPLE_S - (time.monotonic() - before)))
        return found


def limited(options, rate, direction):
    flags = [f"--{direction}", f"{rate:g}M"]
    none = []
    pair = Pair(options, Link(OPEN_MBIT, OPEN_MBIT), *((flags, none) if direction == "up" else (none, flags)))
    try:
        pair.program.ask(pair.leech)
        samples = pair.samples(direction, BEGINNING_S + MEASURED_S)
    finally:
        pair.close()
    parts = [8 * carried / (1e6 * rate) for carried in windows(samples)]
    return {
        "rate_mbit": rate,
        "direction": direction,
        "least": round(min(parts), 4),
        "most": round(max(parts), 4),
        "well": min(parts) >= LEAST and max(parts) <= MOST,
    }


def windows(samples):
    """Bytes a second in each span of that length, the beginning left out."""
    steady = [one for one in samples if one[0] >= BEGINNING_S]
    for number, (at, carried) in enumerate(steady):
        later = next((one for one in steady[number:] if one[0] - at >= WINDOW_S), None)
        if later:
            yield (later[1] - carried) / (later[0] - at)


def beside_tcp(options):
    tcp_alone, _ = together(options, None)
    background = ["--background"]
    tcp, _ = together(options, background)
    foreground, _ = together(options, [])
    _, alone = together(options, background, with_tcp=False)
    return {
        "link_mbit": SHARED_MBIT,
        "tcp_alone_mbit": round(tcp_alone, 2),
        "tcp_keeps": round(tcp / tcp_alone, 3),
        "tcp_keeps_beside_foreground": round(foreground / tcp_alone, 3),
        "link_taken": round(alone, 3),
        "well": tcp / tcp_alone >= TCP_KEEPS and alone >= LINK_TAKEN,
    }


def together(options, flags, with_tcp=True):
    """What TCP carries over the link to the leech, in Mbit/s, and what of the link is used in all. Without
    flags there is no transfer beside it. The link of the seed would not do: of what waits in its own queues
    the kernel lets TCP have little. The flags are those of the leech, which asks the seed to yield."""
    pair = Pair(options, Link(OPEN_MBIT, SHARED_MBIT), [], flags or [])
    try:
        # A queue drops batches whole, and TCP's are the larger ones.
        for peer in pair.peers:
            switch.send_no_batches(peer.namespace, "e0")
        if flags is not None:
            pair.program.ask(pair.leech)
            time.sleep(BEGINNING_S)
        tcp = None
        if with_tcp:
            to = pair.leech.spawn("tcp-to", sys.executable, "-c", RECEIVER, BEGINNING_S)
            to.wait_for(lambda: "listening" in to.said())
            pair.seed.spawn("tcp-from", sys.executable, "-c", SENDER, pair.leech.address, BEGINNING_S + MEASURED_S)
        else:
            time.sleep(BEGINNING_S)
        before, since = pair.wire("down"), time.monotonic()
        time.sleep(MEASURED_S - 1)
        used = 8 * (pair.wire("down") - before) / (time.monotonic() - since) / 1e6 / SHARED_MBIT
        if with_tcp:
            while to.is_running():
                time.sleep(0.05)
            tcp = float(to.said().split()[-1])
        return tcp, used
    finally:
        pair.close()
