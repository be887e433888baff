"""Network namespaces of our own, without root: peers around a bridge, each behind links of its own.

    peer 0   peer 1   peer 2 ..       10.77.0.1, .2, .3: one namespace each, with `e0`
       |        |        |            `e0` is shaped to what the peer may send
      p0       p1       p2            shaped to what the peer may receive
       '--------+--------'
              bridge                  10.77.255.254: where trackers are, and where we are

All of it, processes and data included, ends with the program that made it.
"""

import os
import shutil
import signal
import subprocess
import sys

from process import Process

FOLDER = "/run/bench"

BRIDGE_ADDRESS = "10.77.255.254"

# What there is inside, beyond the variables of whoever called.
INSIDE = "BENCH_INSIDE"

NEEDED = ("unshare", "nsenter", "ip", "tc", "mount")

# What a link holds back before it drops, at least: a batch of the largest frame.
BURST_BYTES = 64 << 10


class Cannot(Exception):
    """This machine does not allow it, or lacks something; the second argument says what to do."""


def enter():
    """Returns in namespaces of our own; the caller's own process waits for that one, and ends as it."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if INSIDE in os.environ:
        return settle()
    for program in NEEDED:
        if not shutil.which(program):
            raise Cannot(f"there is no program {program}", "On Debian and Ubuntu: apt install util-linux iproute2")
    probe()
    command = ["unshare", "-Urnmpf", "--kill-child", sys.executable, *sys.argv]
    inside = subprocess.Popen(command, env={**os.environ, INSIDE: "yes"})

    # While unshare waits it heeds no signal that could be passed on.
    def end(number, _):
        inside.kill()
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    sys.exit(inside.wait())


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


def settle():
    run("mount", "-t", "tmpfs", "lab", "/run")
    run("mount", "-t", "proc", "proc", "/proc")
    os.makedirs("/run/netns")
    os.makedirs(FOLDER)


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


class Peer:
    """One machine of the swarm."""

    def __init__(self, number, link, is_seed):
        self.number, self.link, self.is_seed = number, link, is_seed
        self.namespace, self.port = f"peer{number}", f"p{number}"
        self.name = f"{'seed' if is_seed else 'leech'} {number}"
        self.address = f"10.77.{number // 250}.{1 + number % 250}"
        self.folder = f"{FOLDER}/{number}"
        self.processes = []
        os.makedirs(f"{self.folder}/files")

    def spawn(self, name, *command):
        process = Process(command, f"{self.folder}/{name}", self.namespace)
        self.processes.append(process)
        return process


class Lab:
    """A bridge and the peers around it."""

    def __init__(self, links, seeds, queue_ms, congestion=None):
        """Takes what each peer may send and receive; the first of them are the seeds."""
        self.peers = [Peer(number, link, number < seeds) for number, link in enumerate(links)]
        self.folder = f"{FOLDER}/bridge"
        os.makedirs(self.folder)
        self.processes = []
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "name", "bridge", "type", "bridge")
        run("ip", "addr", "add", f"{BRIDGE_ADDRESS}/16", "dev", "bridge")
        run("ip", "link", "set", "bridge", "up")
        for peer in self.peers:
            self.attach(peer, queue_ms, congestion)

    def attach(self, peer, queue_ms, congestion):
        run("ip", "netns", "add", peer.namespace)
        ip = ("ip", "-n", peer.namespace)
        run("ip", "link", "add", peer.port, "type", "veth", "peer", "name", "e0", "netns", peer.namespace)
        run("ip", "link", "set", peer.port, "master", "bridge", "up")
        run(*ip, "addr", "add", f"{peer.address}/16", "dev", "e0")
        run(*ip, "link", "set", "lo", "up")
        run(*ip, "link", "set", "e0", "up")
        shape(("tc", "-n", peer.namespace), "e0", peer.link.up, queue_ms)
        shape(("tc",), peer.port, peer.link.down, queue_ms)
        if congestion:
            file = "/proc/sys/net/ipv4/tcp_congestion_control"
            run("nsenter", f"--net=/run/netns/{peer.namespace}", "sh", "-c", f"echo {congestion} > {file}")

    def spawn(self, name, *command):
        """Where the bridge is."""
        process = Process(command, f"{self.folder}/{name}")
        self.processes.append(process)
        return process

    def all_processes(self):
        return self.processes + [process for peer in self.peers for process in peer.processes]

    def counters(self):
        """Bytes that each peer has sent and received so far. What was cut up for the network card, or
        put together by it, counts with one header."""
        found = {}
        with open("/proc/self/net/dev") as table:
            for line in table:
                name, _, numbers = line.partition(":")
                numbers = numbers.split()
                found[name.strip()] = (int(numbers[0]), int(numbers[8])) if numbers else None
        return [found[peer.port] for peer in self.peers]

    def wire_bytes(self, peer):
        """What its uplink has carried, with all headers of Ethernet and above."""
        words = run("tc", "-n", peer.namespace, "-s", "qdisc", "show", "dev", "e0").split()
        return int(words[words.index("Sent") + 1])

    def congestion(self):
        """What TCP goes by here."""
        file = "/proc/sys/net/ipv4/tcp_congestion_control"
        return run("nsenter", f"--net=/run/netns/{self.peers[0].namespace}", "cat", file).strip()

    def close(self):
        Process.end_all()
        for namespace in os.listdir("/run/netns"):
            run("ip", "netns", "del", namespace)
        run("ip", "link", "del", "bridge")
        for entry in os.scandir(FOLDER):
            if entry.is_dir():
                shutil.rmtree(entry.path)


def shape(tc, device, mbit, queue_ms):
    # A millisecond of the rate, that a timer which is late costs nothing.
    burst = max(BURST_BYTES, mbit * 125)
    limits = ("rate", f"{mbit}mbit", "burst", f"{burst:.0f}", "latency", f"{queue_ms}ms")
    run(*tc, "qdisc", "add", "dev", device, "root", "tbf", *limits)
