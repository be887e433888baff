"""Network namespaces of our own, without root: peers, each behind links of its own.

    peer 0   peer 1   peer 2 ..       10.77.0.1, .2, .3: one namespace each, with `e0`
       |        |        |            `e0` is shaped to what the peer may send
      p0       p1       p2            shaped to what the peer may receive
       '--------+--------'
              core                    a bridge, or the switch that takes its time
                |
               us                     10.77.255.254: where trackers are, and this program

All of it, processes and data included, ends with the program that made it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import switch
from process import Process
from source import SOURCES

FOLDER = "/run/bench"

# What addresses of hosts begin with that are to be far from each other: unlike 10.77, of no private
# network, and given to nobody (RFC 2544, appendix C.2.2).
FAR = "198.18"

CORE = "core"

# What there is inside, beyond the variables of whoever called.
INSIDE = "BENCH_INSIDE"

# Of all memory: what files and logs may take.
MEMORY_PERCENT = 85

# At which BitTorrent clients of one machine listen, the first of them.
TORRENT_PORT, TORRENT_CONTROL_PORT = 6881, 9091

# What TCP goes by.
CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"

NEEDED = ("unshare", "nsenter", "ip", "tc", "mount")

# What a link holds back before it drops, at least: a batch of the largest frame.
BURST_BYTES = 64 << 10


class Cannot(Exception):
    """This machine does not allow it, or lacks something; the second argument says what to do."""


def enter(disk=None):
    """Returns in namespaces of our own; the caller's own process waits for that one, and ends as it. All
    files are in memory, or in a folder of their own within `disk`, which is removed at the end."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if INSIDE in os.environ:
        return settle(os.environ[INSIDE])
    for program in NEEDED:
        if not shutil.which(program):
            raise Cannot(f"there is no program {program}", "On Debian and Ubuntu: apt install util-linux iproute2")
    probe()
    if disk is None:
        sys.exit(inside(""))
    with tempfile.TemporaryDirectory(prefix="bench-", dir=disk) as folder:
        sys.exit(inside(folder))


def inside(folder):
    """Runs this program again, in namespaces of its own; returns the code with which it ends."""
    command = ["unshare", "-Urnmpf", "--kill-child", sys.executable, *sys.argv]
    child = subprocess.Popen(command, env={**os.environ, INSIDE: folder})

    def end(number, _):
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        return child.wait()
    finally:
        # While unshare waits it heeds no signal that could be passed on.
        child.kill()
        child.wait()


def probe():
    """Whether the kernel lets us."""
    tries = (
        "mount -t tmpfs lab /run && mount -t proc proc /proc && ip link add lab type bridge && "
        "ip link add one type veth peer name two && tc qdisc add dev one root tbf rate 1mbit burst 64kb latency 50ms"
    )
    done = subprocess.run(["unshare", "-Urnmpf", "sh", "-c", tries], capture_output=True, text=True)
    if done.returncode:
        raise Cannot(
            f"this kernel does not allow shaped links in namespaces of one's own: {done.stderr.strip()}",
            "It needs user namespaces, veth, bridge and sch_tbf: try unshare -Urnmpf, see "
            "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns.",
        )


def settle(folder):
    if folder:
        run("mount", "--bind", folder, "/run")
    else:
        run("mount", "-t", "tmpfs", "-o", f"size={MEMORY_PERCENT}%", "lab", "/run")
    run("mount", "-t", "proc", "proc", "/proc")
    for made in ("/run/netns", FOLDER, SOURCES):
        os.makedirs(made)


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Setting:
    """What a lab is to be. Each link has `up` and `down`, in Mbit/s, or nothing where it is not shaped;
    those of the seeds come first."""

    links: list
    seeds: int
    # What a full link holds before it drops.
    queue_ms: float = 50.0
    rtt_ms: float = 0.0
    loss_percent: float = 0.0
    # Of TCP, where it is not to be what the kernel begins with.
    congestion: str | None = None
    # The program of proto/net/examples/switch.rs, for rtt_ms and loss_percent.
    switch: str | None = None
    # What addresses begin with.
    network: str = "10.77"


class Peer:
    """One machine of the swarm."""

    def __init__(self, number, link, is_seed, network=Setting.network):
        self.number, self.link, self.is_seed = number, link, is_seed
        self.namespace, self.port = f"peer{number}", f"p{number}"
        self.name = f"{'seed' if is_seed else 'leech'} {number}"
        self.address = f"{network}.{number // 250}.{1 + number % 250}"
        self.torrent_port, self.torrent_control_port = TORRENT_PORT, TORRENT_CONTROL_PORT
        self.folder = f"{FOLDER}/{number}"
        self.processes = []
        os.makedirs(f"{self.folder}/files")

    def spawn(self, name, *command):
        process = Process(command, f"{self.folder}/{name}", self.namespace)
        self.processes.append(process)
        return process

    def within(self):
        """What a command begins with that is to run where the peer is."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]


class Lab:
    """The peers, what is between them, and the links."""

    def __init__(self, setting):
        self.setting = setting
        links = enumerate(setting.links)
        self.peers = [Peer(number, link, number < setting.seeds, setting.network) for number, link in links]
        # Where trackers are.
        self.address = f"{setting.network}.255.254"
        self.folder, self.processes = f"{FOLDER}/core", []
        os.makedirs(self.folder)
        run("ip", "netns", "add", CORE)
        run("ip", "link", "set", "lo", "up")
        join("us", CORE, "port-us")
        run("ip", "addr", "add", f"{self.address}/16", "dev", "us")
        for peer in self.peers:
            self.attach(peer)
        self.table = switch.within(CORE, lambda: open("/proc/thread-self/net/dev"))
        self.connect([peer.port for peer in self.peers] + ["port-us"])

    def attach(self, peer):
        run("ip", "netns", "add", peer.namespace)
        run("ip", "-n", peer.namespace, "link", "set", "lo", "up")
        join("e0", CORE, peer.port, peer.namespace)
        run("ip", "-n", peer.namespace, "addr", "add", f"{peer.address}/16", "dev", "e0")
        shape(peer.namespace, "e0", peer.link.up, self.setting.queue_ms)
        shape(CORE, peer.port, peer.link.down, self.setting.queue_ms)
        if self.setting.loss_percent:
            switch.send_no_batches(peer.namespace, "e0")
        if self.setting.congestion:
            run(*peer.within(), "sh", "-c", f"echo {self.setting.congestion} >{CONGESTION}")

    def connect(self, ports):
        """The kernel's bridge has no delay. Ours costs processor time, and is for what needs it."""
        if self.setting.rtt_ms or self.setting.loss_percent:
            # Between any two hosts a frame passes once each way.
            wanted = (self.setting.rtt_ms / 2, self.setting.loss_percent)
            self.switch = switch.Switch(self.setting.switch, f"{self.folder}/switch", CORE, ports, *wanted)
            return
        self.switch = None
        run("ip", "-n", CORE, "link", "add", "name", "bridge", "type", "bridge")
        for port in ports:
            run("ip", "-n", CORE, "link", "set", port, "master", "bridge")
        run("ip", "-n", CORE, "link", "set", "bridge", "up")

    def spawn(self, name, *command):
        """In our own namespace, where trackers are."""
        process = Process(command, f"{self.folder}/{name}")
        self.processes.append(process)
        return process

    def all_processes(self):
        """Of the program that is measured."""
        return self.processes + [process for peer in self.peers for process in peer.processes]

    def counters(self):
        """Bytes that each peer has sent and received so far. What was cut up for the network card, or
        put together by it, counts with one header."""
        self.table.seek(0)
        found = {}
        for line in self.table:
            name, _, numbers = line.partition(":")
            found[name.strip()] = numbers.split()
        return [(int(found[peer.port][0]), int(found[peer.port][8])) for peer in self.peers]

    def wire_bytes(self, peer):
        """What its uplink has carried, with all headers of Ethernet and above."""
        words = run("tc", "-n", peer.namespace, "-s", "qdisc", "show", "dev", "e0").split()
        return int(words[words.index("Sent") + 1])

    def switch_figures(self):
        """Processor time of what delays, which no program is to blame for, and frames that it missed."""
        if not self.switch:
            return {"switch_cpu_s": None, "switch_missed": None}
        return {"switch_cpu_s": round(self.switch.process.cpu_s(), 3), "switch_missed": self.switch.missed()}

    def congestion(self):
        """What TCP goes by here."""
        return run(*self.peers[0].within(), "cat", CONGESTION).strip()

    def close(self):
        Process.end_all()
        if self.switch:
            self.switch.close()
        self.table.close()
        clear()


def clear():
    """Takes away what there is of a lab, and of one that could not be made."""
    Process.end_all()
    for namespace in os.listdir("/run/netns"):
        run("ip", "netns", "del", namespace)
    # A device that goes with the namespace of its other end may take a moment.
    subprocess.run(["ip", "link", "del", "us"], capture_output=True)
    shutil.rmtree(FOLDER)
    os.makedirs(FOLDER)


def join(device, other_namespace, other, namespace=None):
    """A cable between two devices that are up."""
    ends = ("type", "veth", "peer", "name", other, "netns", other_namespace)
    ip = ("ip", "-n", namespace) if namespace else ("ip",)
    run(*ip, "link", "add", "name", device, *ends)
    run(*ip, "link", "set", device, "up")
    run("ip", "-n", other_namespace, "link", "set", other, "up")


def shape(namespace, device, mbit, queue_ms):
    if mbit is None:
        return
    # A millisecond of the rate, that a timer which is late costs nothing.
    burst = max(BURST_BYTES, mbit * 125)
    limits = ("rate", f"{mbit}mbit", "burst", f"{burst:.0f}", "latency", f"{queue_ms}ms")
    run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", *limits)
