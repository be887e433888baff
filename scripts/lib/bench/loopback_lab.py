"""Two peers and their tracker on one machine: everything passes over `lo` of a network namespace of our own."""

import os
import sys

import lab

ADDRESS = "127.0.0.1"


def takers(kinds):
    """The programs that can be measured over loopback; of others a line says so."""
    for kind in kinds:
        if not kind.takes_loopback:
            print(f"left out: {kind.name}, for it takes no peers at {ADDRESS}", file=sys.stderr)
    return [kind for kind in kinds if kind.takes_loopback]


class LoopbackPeer(lab.Peer):
    def __init__(self, number, is_seed):
        super().__init__(number, None, is_seed)
        self.namespace, self.address = None, ADDRESS
        self.torrent_port += number
        self.torrent_control_port += number

    def within(self):
        return []


class LoopbackLab(lab.Lab):
    address = ADDRESS

    def __init__(self):
        self.peers = [LoopbackPeer(0, True), LoopbackPeer(1, False)]
        self.folder, self.processes, self.switch = f"{lab.FOLDER}/core", [], None
        os.makedirs(self.folder)
        lab.run("ip", "link", "set", "lo", "up")

    def counters(self):
        """Nothing tells apart who has sent what."""
        return None

    def close(self):
        lab.clear()
