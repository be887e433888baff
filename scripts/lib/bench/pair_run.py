"""One run: one program gives one peer what another one asks for, and what that took."""

import os
import time
from dataclasses import dataclass

from lab import clear
from process import disturbance, machine_busy_s
from reserve import Reserve
from source import digest

# How often it is looked how much memory is held.
LOOK_S = 0.1

# How long what has been started is left alone before its memory counts as that of one that is idle.
IDLE_S = 1.0


@dataclass(frozen=True)
class Task:
    """What is to be given away, and where."""

    source: object
    # Makes a lab with two peers.
    lab: object
    # After which a run is given up.
    patience_s: float = 180.0
    # How often it is looked whether it is done.
    poll_s: float = 0.005
    # Whether what a program holds before anybody asks for something is of interest.
    wants_idle: bool = False


class PairRun:
    def __init__(self, lab, program, task):
        self.lab, self.program, self.task = lab, program, task
        self.seed, self.leech = lab.peers

    def prepare(self):
        """All that is there before somebody asks for it."""
        self.program.prepare()
        self.idle_kib = None
        self.program.stand_by(self.leech)
        if self.task.wants_idle and self.leech.processes:
            time.sleep(IDLE_S)
            self.idle_kib = sum(process.rss_kib() for process in self.leech.processes)
        began = time.monotonic()
        self.program.seed(self.seed)
        self.ready_s = time.monotonic() - began
        # What the last run has left is not to be written during this one.
        os.sync()
        self.reserve = Reserve(self.task.source.bytes)

    def measure(self):
        self.reserve.begin()
        cpu, busy, watched = self.cpu_s(), machine_busy_s(), self.watched_s()
        counted, self.look_at = self.lab.counters(), 0.0
        began = time.monotonic()
        self.program.ask(self.leech)
        while not (done := self.program.is_done(self.leech)) and time.monotonic() - began < self.task.patience_s:
            time.sleep(self.task.poll_s)
            self.reserve.replace()
            self.look_at_memory()
        self.took, self.complete = time.monotonic() - began, done
        self.cpu, self.busy = self.cpu_s() - cpu, machine_busy_s() - busy
        self.watched = self.watched_s() - watched
        self.reserve.close()
        self.came = self.lab.counters()[1][1] - counted[1][1] if counted else None

    def look_at_memory(self):
        """Now and then, that something is known of what ends."""
        if time.monotonic() >= self.look_at:
            self.look_at = time.monotonic() + LOOK_S
            for process in self.leech.processes:
                process.peak_rss_kib()

    def cpu_s(self):
        return sum(process.cpu_s() for process in self.lab.all_processes())

    def watched_s(self):
        """Processor time of what looks on, and of what delays: both are part of the bench."""
        return time.process_time() + (self.lab.switch.process.cpu_s() if self.lab.switch else 0.0)

    def result(self):
        """What was measured, as JSON has it. The clock has stopped: now what came is looked at."""
        size = self.task.source.bytes
        cores = os.cpu_count()
        # Of what was not done: what came to the interface until then, headers included.
        came = size if self.complete else self.came
        return {
            "program": self.program.name,
            "complete": self.complete,
            "intact": self.complete and self.is_intact(),
            "s": round(self.took, 4) if self.complete else None,
            "gave_up_s": None if self.complete else round(self.took, 1),
            "mb_per_s": None if came is None else round(came / self.took / 1e6, 3),
            "files_per_s": round(self.task.source.files / self.took, 1) if self.complete else None,
            "ready_s": round(self.ready_s, 3),
            "cpu_s": round(self.cpu, 2),
            "cpu_s_per_gib": round(self.cpu / size * (1 << 30), 2) if self.complete else None,
            "busy_share": round(min(1.0, self.busy / cores / self.took), 3),
            **disturbance(self.busy - self.cpu - self.watched, self.took),
            "seed_peak_rss_mib": peak_mib(self.seed),
            "leech_peak_rss_mib": peak_mib(self.leech),
            "idle_rss_mib": None if self.idle_kib is None else round(self.idle_kib / 1024, 1),
            **self.lab.switch_figures(),
        }

    def is_intact(self):
        if not self.program.has_content:
            return True
        return digest(self.program.received(self.leech)) == self.task.source.digest


def peak_mib(peer):
    return round(max((process.peak_rss_kib() for process in peer.processes), default=0) / 1024, 1)


def run(kind, task):
    try:
        lab = task.lab()
        one = PairRun(lab, kind(lab, task.source.path), task)
        one.prepare()
        one.measure()
        result = one.result()
        lab.close()
        return result
    finally:
        clear()
