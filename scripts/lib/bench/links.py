"""`scripts/bench links`: what the links of a lab do, so that what is measured over them means something."""

import argparse
import json
import os
import shutil
import socket
import statistics
import time

import lab
import switch
from options import add_network, network
from process import machine_busy_s
from scenario import Link

DESCRIPTION = """\
Builds a lab and measures its links: the round trip of a small packet, and what TCP carries between pairs of
peers at once, one direction each. Unshaped, that is what this machine can carry; with --rate, what tbf lets
through. Needs iperf3.
"""

PINGS = 50

# How long a packet may take beyond the delay before it counts as lost.
PING_PATIENCE_S = 0.25

# No rate of tbf is lower than what the machine carries.
UNSHAPED_MBIT = 100_000.0


def main(arguments):
    options = parsed(arguments)
    lab.enter()
    if options.seconds and not shutil.which("iperf3"):
        raise lab.Cannot("there is no program iperf3", "On Debian and Ubuntu: apt install iperf3")
    rate = options.rate or UNSHAPED_MBIT
    built = lab.Lab(network(options, [Link(rate, rate)] * (2 * options.pairs), seeds=options.pairs))
    try:
        found = {"pairs": options.pairs, "rate_mbit": options.rate, **pings(built)}
        found |= flows(built, options.seconds) if options.seconds else {}
    finally:
        built.close()
    print(json.dumps(found) if options.json else words(found))


def parsed(arguments):
    parser = argparse.ArgumentParser(
        prog="scripts/bench links", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=4, metavar="N", help="of peers [4]")
    parser.add_argument("--rate", type=float, metavar="MBIT", help="of every link [as much as it can]")
    parser.add_argument("--seconds", type=int, default=5, metavar="S", help="for TCP, 0 for none [5]")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_network(parser)
    return parser.parse_args(arguments)


def pings(built):
    """Round trips between the first two peers, while nothing else is on the links."""
    one, other = built.peers[:2]
    patience = PING_PATIENCE_S + built.setting.rtt_ms / 1000
    asks, answers = (switch.within(peer.namespace, lambda: udp_socket(peer, patience)) for peer in (one, other))
    times, lost = [], 0
    for number in range(PINGS + 1):
        began = time.perf_counter()
        try:
            asks.sendto(b"ping", answers.getsockname())
            answers.sendto(*answers.recvfrom(64))
            asks.recv(64)
            times.append(1000 * (time.perf_counter() - began))
        except TimeoutError:
            lost += 1
    # The first one has asked for an address before.
    times = times[1:] or [0.0]
    return {
        "rtt_ms": round(statistics.median(times), 3),
        "rtt_min_ms": round(min(times), 3),
        "rtt_max_ms": round(max(times), 3),
        "pings_lost": lost,
    }


def udp_socket(peer, patience):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((peer.address, 0))
    sock.settimeout(patience)
    return sock


def flows(built, seconds):
    """TCP from the peers with an even number, each to the next one."""
    pairs = list(zip(built.peers[::2], built.peers[1::2]))
    servers = [to.spawn("iperf3", "iperf3", "-s", "-1", "--forceflush") for _, to in pairs]
    for server in servers:
        server.wait_for(lambda: "listening" in server.said())
    before, busy = [built.wire_bytes(peer) for peer, _ in pairs], machine_busy_s()
    began = time.monotonic()
    clients = [
        peer.spawn("iperf3", "iperf3", "-c", to.address, "-J", "-t", seconds, "-O", 1) for peer, to in pairs
    ]
    while any([client.is_running() for client in clients]):
        time.sleep(0.05)
    took = time.monotonic() - began
    wire = sum(built.wire_bytes(peer) for peer, _ in pairs) - sum(before)
    ends = [json.loads(client.said())["end"]["sum_received"] for client in clients]
    return {
        "mbit": [round(end["bits_per_second"] / 1e6, 2) for end in ends],
        "sum_mbit": round(sum(end["bits_per_second"] for end in ends) / 1e6, 1),
        "wire_mbit": round(8 * wire / took / 1e6, 1),
        "busy_share": round(min(1.0, (machine_busy_s() - busy) / took / os.cpu_count()), 3),
        **built.switch_figures(),
    }


def words(found):
    lines = [f"round trip {found['rtt_ms']:.2f} ms, at most {found['rtt_max_ms']:.2f} ms, {found['pings_lost']} lost"]
    if "mbit" not in found:
        return lines[0]
    lines += [
        f"TCP payload {found['sum_mbit']:.0f} Mbit/s over {found['pairs']} pairs: "
        + ", ".join(f"{mbit:.1f}" for mbit in found["mbit"]),
        f"processors {100 * found['busy_share']:.0f} % busy",
    ]
    if found["switch_cpu_s"] is not None:
        lines.append(f"the switch took {found['switch_cpu_s']:.1f} s and missed {found['switch_missed']} frames")
    return "\n".join(lines)
