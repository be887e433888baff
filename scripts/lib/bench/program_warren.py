"""Ours: a tracker, and daemons that are asked to share and to download."""

import json
import os

from natlab_daemon import Control
from program import Program

# How long a seed may take to take in what it is to give: at least, and a file's bytes a second.
PATIENCE_S, SLOWEST_BYTES_PER_S = 120, 1e8


class Warren(Program):
    name = "warren"
    payload_from = "status"
    # Where tracker and client are.
    bin = None

    @classmethod
    def missing(cls):
        for program in ("tracker", "client"):
            if not os.access(f"{cls.bin}/{program}", os.X_OK):
                return f"there is no program {cls.bin}/{program}: cargo build --release, or --bin"
        return None

    @classmethod
    def version_command(cls):
        return [f"{cls.bin}/client", "--version"]

    def prepare(self):
        listen = ("--listen", f"{self.lab.address}:59000", "--stun-listen", f"{self.lab.address}:59001")
        home = ("--home", f"{self.lab.folder}/home", "--json")
        self.tracker = self.lab.spawn("tracker", f"{self.bin}/tracker", *listen, *home)
        self.tracker.wait_for(lambda: '"address"' in self.tracker.said())
        key = json.loads(self.tracker.said().splitlines()[0])["key"]
        self.contact = f"{self.lab.address}:59000#{key}"
        self.manifest = f"{self.lab.folder}/file.p2p"
        self.asked, self.sent = {}, {}
        # What daemons are started with beside the rest.
        self.flags = {}

    def seed(self, peer):
        self.stand_by(peer)
        register = self.client(peer, "register", self.source, 1, "-o", f"{peer.folder}/file.p2p", "--json")
        patience = PATIENCE_S + os.path.getsize(self.source) / SLOWEST_BYTES_PER_S
        register.wait_for(lambda: '"registered"' in register.said(), patience)
        self.manifest = f"{peer.folder}/file.p2p"

    def stand_by(self, peer):
        daemon = self.start(peer)
        daemon.wait_for(lambda: connected(peer.control))

    def start(self, peer):
        """The daemon of a peer, which takes a moment to be there."""
        folder = f"{peer.folder}/files"
        flags = self.flags.get(peer, ())
        peer.control = Control(home(peer))
        return self.client(peer, "daemon", 1, self.contact, "--downloads", folder, *flags)

    def ask(self, peer):
        self.asked[peer] = self.client(peer, "download", self.manifest, 1, "--json")

    def is_done(self, peer):
        process = self.asked[peer]
        if process.is_running():
            return False
        if process.code != 0:
            raise RuntimeError(f"download of {peer.name}: {process.said()[-1000:]}")
        return True

    def received(self, peer):
        with open(f"{peer.folder}/download.out") as out:
            return json.loads(out.read().splitlines()[-1])["path"]

    def bytes_had(self, peer):
        shares = (event for event in peer.control.events("status") if event["type"] == "share")
        return sum(share["verified_bytes"] for share in shares)

    def payload_sent(self, peer):
        # Whoever has gone is in no list any more; what was sent to it stays sent.
        so_far = self.sent.setdefault(peer, {})
        for other in peer.control.events("peers"):
            count, before = so_far.get(other["peer"], (0, 0))
            count = count if other["up_bytes"] >= before else count + before
            so_far[other["peer"]] = count, other["up_bytes"]
        return sum(count + now for count, now in so_far.values())

    def paths(self, peer):
        """How the other peers are reached, and how many of them."""
        words = [other["path"] for other in peer.control.events("peers")]
        return {word: words.count(word) for word in sorted(set(words))}

    def client(self, peer, command, *arguments):
        return peer.spawn(command, f"{self.bin}/client", "--home", home(peer), command, *arguments)


def home(peer):
    return f"{peer.folder}/home"


def connected(control):
    """To the tracker, and knowing what its NAT does, as a daemon does that has run for a while."""
    trackers = control.trackers()
    return any(one["connected"] and one["mapping"] != "unknown" for one in trackers)
