"""A daemon that is stopped in good order when it has some of a large file, and started again."""

import time

import lab
from loopback_lab import LoopbackLab
from program_warren import Warren

RESUME = "restart"

# What it has by then, at least.
HAD_BYTES = 64 << 20

PATIENCE_S = 60

POLL_S = 0.002


def restarted(given):
    try:
        built = LoopbackLab()
        found = Restart(built, given).measure()
        built.close()
        return found
    finally:
        lab.clear()


class Restart:
    def __init__(self, built, given):
        self.given, self.program = given, Warren(built, given.path)
        self.seed, self.leech = built.peers
        self.program.prepare()
        self.program.seed(self.seed)
        self.daemon = self.program.start(self.leech)
        self.daemon.wait_for(lambda: self.leech.control.trackers())
        self.program.ask(self.leech)
        self.daemon.wait_for(lambda: self.had() >= HAD_BYTES)

    def measure(self):
        self.stop()
        began = time.monotonic()
        daemon = self.program.start(self.leech)
        while not (has_come := self.come()) and time.monotonic() - began < PATIENCE_S and daemon.is_running():
            time.sleep(POLL_S)
        took = time.monotonic() - began
        return {
            "complete": has_come,
            "intact": has_come,
            "s": round(took, 4) if has_come else None,
            "gave_up_s": None if has_come else round(took, 1),
            "had_mib": round(self.had() / (1 << 20)),
        }

    def stop(self):
        self.program.client(self.leech, "stop", 1)
        deadline = time.monotonic() + PATIENCE_S
        while self.daemon.is_running():
            if time.monotonic() > deadline:
                raise RuntimeError("the daemon does not stop")
            time.sleep(POLL_S)

    def had(self):
        return self.program.bytes_had(self.leech)

    def come(self):
        """Whether content has come from another peer since the start."""
        return any(peer["down_bytes"] for peer in self.leech.control.events("peers"))
