"""iperf3: what one TCP stream carries. No program that gives away files, but what they are held against."""

import os
import shutil

from program import Program

PORT = 5201


class Iperf3(Program):
    name = "iperf3"
    # Nothing comes that could be looked at.
    has_content = False

    @classmethod
    def missing(cls):
        return None if shutil.which("iperf3") else "there is no program iperf3"

    @classmethod
    def version_command(cls):
        return ["iperf3", "--version"]

    def prepare(self):
        self.asked = {}

    def seed(self, peer):
        self.server = peer.spawn("iperf3", "iperf3", "-s", "-B", peer.address, "-p", PORT, "--forceflush")
        self.server.wait_for(lambda: "listening" in self.server.said())
        self.server_address = peer.address

    def ask(self, peer):
        """Has the seed send, as it does for all the others."""
        where = ("-c", self.server_address, "-p", PORT, "-R")
        self.asked[peer] = peer.spawn("iperf3-client", "iperf3", *where, "-n", os.path.getsize(self.source))

    def is_done(self, peer):
        process = self.asked[peer]
        if not process.is_running() and process.code:
            raise RuntimeError(f"{self.name} of {peer.name} ended with code {process.code}: {process.said()[-1000:]}")
        return process.code == 0
