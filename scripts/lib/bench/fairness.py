"""What TCP keeps of its fair part beside our transfer: an iperf3 flow that has been there for a while, over
the same link of the leech. The link of the seed would not do: of what waits in its own queues the kernel
lets TCP have little."""

import re
import time

import lab
import source
import switch
from process import disturbance, machine_busy_s
from program_iperf3 import PORT, Iperf3
from program_warren import Warren
from report import Goal
from rounds import rounds
from scenario import Link

SHARED_MBIT = 100.0

# Far beyond it.
OPEN_MBIT = 1000.0

# So long TCP is alone before the transfer begins.
ALONE_S = 12

# A run takes as long as the whole link would for so many files.
PATIENCE = 6.0

# Payload of a segment over what it takes on the wire, Ethernet header included.
PAYLOAD_SHARE = 1448 / 1514

INTERVAL = re.compile(r"\s(\d+\.\d+)-\s*(\d+\.\d+)\s+sec\s.*\s([\d.]+) Kbits/sec")


def measure(report, options):
    missing = Iperf3.missing() or Warren.missing()
    if missing:
        return report.remark(f"left out: a transfer beside TCP, for {missing}")
    given = source.random_file(options.fair)
    case = f"beside TCP, {SHARED_MBIT:g} Mbit/s, {options.rtt:g} ms, {options.fair} MiB"
    rounds(report, case, [("warren", lambda: beside_tcp(options, given))], options.runs)
    given.remove()
    keeps = report.median(case, "warren", "tcp_keeps")
    takes = report.median(case, "warren", "mb_per_s")
    if keeps is not None:
        report.remark(
            f"{case}: TCP ({options.congestion}) keeps {keeps:.2f} of its fair part, while ours takes "
            f"{8 * takes / SHARED_MBIT:.2f} of the link."
        )
    report.goals.append(Goal(f"{case}: what TCP keeps of half of the link", keeps, 0.4))


def beside_tcp(options, given):
    links = [Link(OPEN_MBIT, OPEN_MBIT), Link(OPEN_MBIT, SHARED_MBIT)]
    setting = lab.Setting(links, 1, options.rtt, options.rtt, 0.0, options.congestion, options.switch, lab.FAR)
    try:
        pair = Pair(lab.Lab(setting), given)
        found = pair.measure(PATIENCE * 8 * given.bytes / SHARED_MBIT / 1e6)
        pair.lab.close()
        return found
    finally:
        lab.clear()


class Pair:
    def __init__(self, built, given):
        self.lab, self.given = built, given
        self.seed, self.leech = built.peers
        # A queue drops batches whole, and TCP's are the larger ones.
        for peer in built.peers:
            switch.send_no_batches(peer.namespace, "e0")
        self.program = Warren(built, given.path)
        self.program.prepare()
        self.program.seed(self.seed)
        self.program.stand_by(self.leech)
        self.flow = self.leech.spawn("iperf3", "iperf3", "-s", "-p", PORT, "-i", 1, "-f", "k", "--forceflush")
        self.flow.wait_for(lambda: "listening" in self.flow.said())

    def measure(self, patience_s):
        self.seed.spawn("iperf3-client", "iperf3", "-c", self.leech.address, "-p", PORT, "-t", 3600)
        self.flow.wait_for(lambda: len(self.tcp_mbit()) >= ALONE_S)
        cpu, busy, watched = self.cpu_s(), machine_busy_s(), self.watched_s()
        before, began = len(self.tcp_mbit()), time.monotonic()
        self.program.ask(self.leech)
        while not (done := self.program.is_done(self.leech)) and time.monotonic() - began < patience_s:
            time.sleep(0.02)
        took = time.monotonic() - began
        together = self.tcp_mbit()[before:]
        ours = self.cpu_s() - cpu
        others_s = machine_busy_s() - busy - ours - self.watched_s() + watched
        tcp = sum(together) / max(1, len(together))
        return {
            "complete": done,
            "intact": done and source.digest(self.program.received(self.leech)) == self.given.digest,
            "s": round(took, 3) if done else None,
            "mb_per_s": round(self.given.bytes / took / 1e6, 3) if done else None,
            "link_share": round(8 * self.given.bytes / took / 1e6 / SHARED_MBIT, 4) if done else None,
            "tcp_mbit": round(tcp, 2),
            "tcp_alone_mbit": round(sum(self.tcp_mbit()[before - 5 : before]) / 5, 2),
            "tcp_keeps": round(tcp / (SHARED_MBIT * PAYLOAD_SHARE / 2), 3),
            **disturbance(others_s, took),
        }

    def tcp_mbit(self):
        """What has come in each second so far."""
        return [float(match[3]) / 1e3 for match in map(INTERVAL.search, self.flow.said().splitlines()) if match]

    def cpu_s(self):
        return sum(process.cpu_s() for process in self.lab.all_processes())

    def watched_s(self):
        return time.process_time() + self.lab.switch.process.cpu_s()
