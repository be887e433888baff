"""One run: one program gives one file to one swarm, and what that took."""

import os
import time
from collections import Counter
from dataclasses import asdict, dataclass

import bound
from lab import Lab, clear
from process import machine_busy_s
from source import sha256

POLL_S = 0.02

SAMPLE_S = 1.0

# Of the rate of an uplink: what carries less than this in a second was idle.
IDLE_SHARE = 0.2

# A run in which nothing has come to anybody for so long has come to its end.
STALLED_S = 30.0

# Of all processors: above it the machine decided, and not the links.
CPU_BOUND_SHARE = 0.85

# How many times the limit a run may take before it is given up, and how long at least.
PATIENCE = 6.0
PATIENCE_S = 60.0


@dataclass
class Sample:
    """How far everybody is, at a time since the clock began to run."""

    at: float
    # Bytes of the file that each leecher had.
    had: list
    # Bytes that each peer has sent and received, seeds first.
    sent: list
    received: list


class Run:
    def __init__(self, lab, program, scenario):
        self.lab, self.program, self.scenario = lab, program, scenario
        self.seeds, self.leechers = lab.peers[: scenario.seeds], lab.peers[scenario.seeds :]
        self.finished, self.asked, self.left, self.samples = {}, set(), False, []

    def prepare(self):
        self.program.prepare()
        for peer in self.seeds:
            self.program.seed(peer)
        for peer in self.leechers:
            self.program.stand_by(peer)

    def measure(self):
        """Runs the clock until everybody is done, or patience ends."""
        cpu, busy, wire = self.cpu_s(), machine_busy_s(), self.wire()
        self.counted, self.before = self.lab.counters(), self.payload()
        self.began = time.monotonic()
        patience = max(PATIENCE_S, PATIENCE * bound.limit(self.scenario))
        while len(self.finished) < len(self.leechers) and self.elapsed() < patience and not self.stalled():
            self.step()
            time.sleep(POLL_S)
        self.took = self.elapsed()
        self.cpu, self.busy = self.cpu_s() - cpu, machine_busy_s() - busy
        self.sample()
        here = [peer for peer in self.lab.peers if not (self.left and peer.is_seed)]
        self.paths = sum((Counter(self.program.paths(peer)) for peer in here), Counter())
        self.wire_sent = [now - then for now, then in zip(self.wire(), wire)]

    def step(self):
        now = self.elapsed()
        for peer, join in zip(self.leechers, self.scenario.joins()):
            if peer not in self.asked and now >= join:
                self.program.ask(peer)
                self.asked.add(peer)
            elif peer in self.asked and peer not in self.finished and self.program.is_done(peer):
                self.finished[peer] = self.elapsed()
        if now >= SAMPLE_S * len(self.samples):
            self.sample()
        if self.scenario.seed_leaves and not self.left:
            self.leave_when_enough()

    def stalled(self):
        """Since the last of the late ones was asked."""
        now = self.elapsed()
        some = [one for one in self.samples if one.at >= now - STALLED_S]
        waited = now - max(self.scenario.joins())
        return waited > STALLED_S and all(one.had == some[0].had for one in some)

    def sample(self):
        counts = [tuple(now - then for now, then in zip(*pair)) for pair in zip(self.lab.counters(), self.counted)]
        had = [self.program.bytes_had(peer) if peer in self.asked else 0 for peer in self.leechers]
        self.seed_payload = self.payload()
        self.samples.append(Sample(self.elapsed(), had, [one[0] for one in counts], [one[1] for one in counts]))

    def leave_when_enough(self):
        """By what has left their interfaces, of every program alike."""
        sent = sum(one[0] for one in self.lab.counters()[: len(self.seeds)])
        if sent >= self.scenario.seed_leaves * self.scenario.bytes:
            self.sample()
            for peer in self.seeds:
                self.program.leave(peer)
            self.left = self.elapsed()

    def payload(self):
        """Of all seeds, when the program tells; of a seed that has left, what it last told."""
        if self.left:
            return self.seed_payload
        sent = [self.program.payload_sent(peer) for peer in self.seeds]
        return None if None in sent else sum(sent)

    def elapsed(self):
        return time.monotonic() - self.began

    def cpu_s(self):
        return sum(process.cpu_s() for process in self.lab.all_processes())

    def wire(self):
        return [self.lab.wire_bytes(peer) for peer in self.lab.peers]

    def result(self, digest):
        """What was measured, as JSON has it. The clock has stopped: now what came is looked at."""
        scenario, size = self.scenario, self.scenario.bytes
        limit, cores = bound.limit(scenario), os.cpu_count()
        times = [self.finished.get(peer) for peer in self.leechers]
        last = max(times) if None not in times else None
        mean = sum(times) / len(times) if last else None
        seed_sent = sum(self.wire_sent[: len(self.seeds)])
        payload = None if self.seed_payload is None else self.seed_payload - self.before
        counted = sum(self.samples[-1].sent[: len(self.seeds)])
        busy, switched = min(1.0, self.busy / cores / self.took), self.lab.switch_figures()
        return {
            "program": self.program.name,
            "complete": last is not None,
            "intact": last is not None and all(sha256(self.program.received(peer)) == digest for peer in self.leechers),
            "finished_s": [rounded(one) for one in times],
            "last_s": rounded(last),
            "mean_s": rounded(mean),
            "limit_s": rounded(limit),
            "limits_s": {name: rounded(value) for name, value in bound.limits(scenario).items()},
            "last_over_limit": rounded(last and last / limit),
            "mean_over_limit": rounded(mean and mean / limit),
            "goodput_over_seeds": rounded(last and 8 * size / last / (scenario.seeds * scenario.seed_up * 1e6)),
            "seed_payload_over_f": rounded((counted if payload is None else payload) / size),
            "seed_payload_from": self.program.payload_from,
            "seed_wire_over_f": rounded(seed_sent / size),
            "wire_over_nf": rounded(sum(self.wire_sent) / size / scenario.leechers),
            "seed_left_s": rounded(self.left) if self.left else None,
            "cpu_s": rounded(self.cpu),
            "cpu_limit_s": rounded(self.cpu / cores),
            "busy_share": rounded(busy),
            "others_cpu_s": rounded(max(0.0, self.busy - self.cpu - (switched["switch_cpu_s"] or 0.0))),
            "cpu_bound": busy > CPU_BOUND_SHARE,
            "peak_rss_mib": rounded(max(self.peaks()) / 1024),
            **switched,
            "paths": dict(self.paths),
            "uplink_use": [rounded(one) for one in self.uplink_use()],
            "congestion": self.lab.congestion(),
            "idle": self.idle(),
            "samples": [rounded_sample(one) for one in self.samples],
        }

    def peaks(self):
        return [process.peak_rss_kib() for peer in self.lab.peers for process in peer.processes]

    def uplink_use(self):
        """What each peer has sent, of what its link could have carried while it was there."""
        ends = [self.left or self.took] * len(self.seeds) + [self.took] * len(self.leechers)
        joins = [0.0] * len(self.seeds) + self.scenario.joins()
        for peer, sent, join, end in zip(self.lab.peers, self.wire_sent, joins, ends):
            yield 8 * sent / (1e6 * peer.link.up * max(end - join, POLL_S))

    def idle(self):
        """For each peer the seconds in which its uplink carried next to nothing while somebody still
        lacked something."""
        found = []
        for number, peer in enumerate(self.lab.peers):
            pairs = [(asdict(a), asdict(b)) for a, b in zip(self.samples, self.samples[1:]) if b.at - a.at > SAMPLE_S / 2]
            found.append([int(a["at"]) for a, b in pairs if share(a, b, number, peer.link.up) < IDLE_SHARE])
        return found


def share(before, after, number, mbit):
    """Of an uplink, how much was used between two samples, as they are in a result."""
    seconds = max(after["at"] - before["at"], POLL_S)
    return 8 * (after["sent"][number] - before["sent"][number]) / (1e6 * mbit * seconds)


def run(kind, scenario, source, digest, setting):
    try:
        lab = Lab(setting)
        one = Run(lab, kind(lab, source), scenario)
        one.prepare()
        one.measure()
        result = one.result(digest)
        lab.close()
        return result
    finally:
        clear()


def rounded(value):
    return None if value is None else round(value, 3)


def rounded_sample(sample):
    return {**asdict(sample), "at": rounded(sample.at)}
