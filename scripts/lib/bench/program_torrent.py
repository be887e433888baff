"""BitTorrent clients: one torrent with pieces of 1 MiB, a tracker at the bridge, and no DHT, local
discovery or port mapping. Otherwise as they come, unless a variant after a colon says so."""

import json
import os
import shutil
import subprocess
import sys

import torrent
from program import Program

HERE = os.path.dirname(os.path.abspath(__file__))


class Torrent(Program):
    def prepare(self):
        tracker = self.lab.spawn("tracker", sys.executable, f"{HERE}/torrent_tracker.py", self.lab.address, 6969)
        tracker.wait_for(lambda: "ready" in tracker.said())
        self.torrent = f"{self.lab.folder}/file.torrent"
        with open(self.torrent, "wb") as file:
            file.write(torrent.metainfo(self.source, f"http://{self.lab.address}:6969/announce"))
        self.asked = {}

    def received(self, peer):
        return f"{peer.folder}/files/{os.path.basename(self.source)}"

    def bytes_had(self, peer):
        """Blocks on the disk: files are sparse until they are whole."""
        try:
            return 512 * os.stat(self.received(peer)).st_blocks
        except OSError:
            return 0

    def hook(self, peer):
        """A script that notes that it was called."""
        path = f"{peer.folder}/hook"
        with open(path, "w") as file:
            file.write(f"#!/bin/sh\n: >{peer.folder}/complete\n")
        os.chmod(path, 0o755)
        return path

    def is_done(self, peer):
        if os.path.exists(f"{peer.folder}/complete"):
            return True
        if not self.asked[peer].is_running():
            raise RuntimeError(f"{self.name} of {peer.name} ended: {self.asked[peer].said()[-1000:]}")
        return False


class Aria2(Torrent):
    name = "aria2"

    @classmethod
    def missing(cls):
        return None if shutil.which("aria2c") else "there is no program aria2c"

    @classmethod
    def version_command(cls):
        return ["aria2c", "--version"]

    def seed(self, peer):
        process = self.start(peer, os.path.dirname(self.source), "--check-integrity=true", "--console-log-level=info")
        process.wait_for(lambda: "Verification finished successfully" in process.said())

    def ask(self, peer):
        self.asked[peer] = self.start(peer, f"{peer.folder}/files", f"--on-bt-download-complete={self.hook(peer)}")

    def start(self, peer, folder, *more):
        alone = ("--no-conf", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false")
        quiet = ("--summary-interval=0", "--show-console-readout=false", "--file-allocation=none")
        where = (f"--interface={peer.address}", f"--listen-port={peer.torrent_port}", f"--dir={folder}")
        return peer.spawn("aria2", "aria2c", *alone, *quiet, *where, "--seed-ratio=0.0", *more, self.torrent)


class Transmission(Torrent):
    name = "transmission"
    takes_loopback = False

    @classmethod
    def missing(cls):
        gone = [one for one in ("transmission-daemon", "transmission-remote") if not shutil.which(one)]
        return f"there is no program {gone[0]}" if gone else None

    @classmethod
    def version_command(cls):
        return ["transmission-daemon", "--version"]

    def seed(self, peer):
        process = self.start(peer, os.path.dirname(self.source))
        self.remote(peer, "-a", self.torrent)
        process.wait_for(lambda: "Percent Done: 100%" in self.remote(peer, "-t", "1", "-i"))

    def stand_by(self, peer):
        self.asked[peer] = self.start(peer, f"{peer.folder}/files")

    def ask(self, peer):
        self.remote(peer, "-a", self.torrent)

    def start(self, peer, folder):
        settings = {
            "bind-address-ipv4": peer.address,
            "dht-enabled": False,
            "download-dir": folder,
            "lpd-enabled": False,
            "peer-port": peer.torrent_port,
            "port-forwarding-enabled": False,
            "preallocation": 0,
            "rpc-bind-address": peer.address,
            "rpc-port": peer.torrent_control_port,
            "rpc-whitelist-enabled": False,
            "script-torrent-done-enabled": True,
            "script-torrent-done-filename": self.hook(peer),
        }
        with open(f"{peer.folder}/settings.json", "w") as file:
            json.dump(settings, file)
        process = peer.spawn("transmission", "transmission-daemon", "-f", "-g", peer.folder)
        process.wait_for(lambda: self.remote(peer, "-si"))
        return process

    def remote(self, peer, *command):
        ask = [*peer.within(), "transmission-remote", f"{peer.address}:{peer.torrent_control_port}", *command]
        return subprocess.run(ask, capture_output=True, text=True).stdout


class Libtorrent(Torrent):
    name = "libtorrent"
    variants = ()
    python = None
    # Where to look for one that has the module.
    pythons = [sys.executable, "/usr/bin/python3"]

    @classmethod
    def missing(cls):
        for python in cls.pythons:
            found = os.path.exists(python) and subprocess.run([python, "-c", "import libtorrent"], capture_output=True)
            if found and found.returncode == 0:
                cls.python = python
                return None
        return "no python3 has the module libtorrent"

    @classmethod
    def version_command(cls):
        return [cls.python, "-c", "import libtorrent; print(libtorrent.version)"]

    def seed(self, peer):
        process = self.start(peer, os.path.dirname(self.source))
        process.tell("add")
        process.wait_for(lambda: "complete" in process.said())

    def stand_by(self, peer):
        self.asked[peer] = self.start(peer, f"{peer.folder}/files")

    def start(self, peer, folder):
        where = (self.torrent, folder, f"{peer.address}:{peer.torrent_port}")
        process = peer.spawn("libtorrent", self.python, f"{HERE}/libtorrent_peer.py", *where, *self.variants)
        process.wait_for(lambda: "ready" in process.said())
        return process

    def ask(self, peer):
        self.asked[peer].tell("add")

    def is_done(self, peer):
        if "complete" in self.asked[peer].said():
            return True
        return super().is_done(peer)


class TunedLibtorrent(Libtorrent):
    name = "libtorrent:tuned"
    variants = ("tuned",)


class Rqbit(Torrent):
    name = "rqbit"

    @classmethod
    def missing(cls):
        return None if shutil.which("rqbit") else "there is no program rqbit"

    @classmethod
    def version_command(cls):
        return ["rqbit", "--version"]

    def seed(self, peer):
        process = self.start(peer, os.path.dirname(self.source))
        process.wait_for(lambda: "Initial check results" in process.said())

    def ask(self, peer):
        self.asked[peer] = self.start(peer, f"{peer.folder}/files")

    def start(self, peer, folder):
        alone = ("--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--ipv4-only")
        where = ("--listen-ip", "0.0.0.0", "--listen-port", peer.torrent_port, "-v", "info")
        what = ("download", "--disable-http-api", "--overwrite", "-o", folder, self.torrent)
        return peer.spawn("rqbit", "rqbit", *alone, *where, *what)

    def is_done(self, peer):
        return "torrent finished downloading" in self.asked[peer].said() or super().is_done(peer)


ALL = (Aria2, Transmission, Libtorrent, TunedLibtorrent, Rqbit)
