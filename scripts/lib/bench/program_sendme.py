"""sendme: QUIC between two of iroh's endpoints, with tickets that name addresses, and no relay."""

import os
import re
import shutil

from program import Program

ALONE = ("--no-progress", "--relay", "disabled")


class Sendme(Program):
    name = "sendme"

    @classmethod
    def missing(cls):
        return None if shutil.which("sendme") else "there is no program sendme"

    @classmethod
    def version_command(cls):
        return ["sendme", "--version"]

    def prepare(self):
        self.asked = {}

    def seed(self, peer):
        process = peer.spawn("send", "sendme", "send", *ALONE, "--ticket-type", "addresses", self.source)
        process.wait_for(lambda: re.search(r"sendme receive \S+\s", process.said()))
        self.ticket = re.search(r"sendme receive (\S+)", process.said())[1]

    def ask(self, peer):
        """It writes to the folder it runs in, which is that of its log."""
        self.asked[peer] = peer.spawn("receive", "sendme", "receive", *ALONE, self.ticket)

    def is_done(self, peer):
        process = self.asked[peer]
        if not process.is_running() and process.code:
            raise RuntimeError(f"{self.name} of {peer.name} ended with code {process.code}: {process.said()[-1000:]}")
        return process.code == 0

    def received(self, peer):
        return f"{peer.folder}/{os.path.basename(self.source)}"
