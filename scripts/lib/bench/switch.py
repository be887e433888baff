"""Starts the switch of proto/net/examples/switch.rs, which delays and loses frames, on some ports."""

import array
import fcntl
import os
import socket
import struct
import subprocess

from natlab_namespace import enter, enter_open
from process import Process

ETH_P_ALL = 0x0003

# linux/if_packet.h
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23

# linux/sockios.h, linux/ethtool.h: what makes, and puts together, batches.
SIOCETHTOOL = 0x8946
ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO = 0x1F, 0x24, 0x2C

# For what comes while the switch is not scheduled, and for what is queued behind a port. The kernel
# gives what it allows.
BUFFER_BYTES = 16 << 20

PORTS_PER_MESSAGE = 64


class Switch:
    def __init__(self, program, log, namespace, ports, delay_ms, loss_percent=0.0):
        self.sockets = within(namespace, lambda: [open_port(port) for port in ports])
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line = ours
        self.process = Process([program, delay_ms, loss_percent], log, stdin=its)
        its.close()
        for start in range(0, len(ports), PORTS_PER_MESSAGE):
            part = self.sockets[start : start + PORTS_PER_MESSAGE]
            socket.send_fds(ours, [b"p"], [one.fileno() for one in part])
        ours.send(b"e")
        self.process.wait_for(lambda: "ready" in self.process.said())

    def missed(self):
        """Frames that came faster than they were read, since it was asked last."""
        return sum(struct.unpack("II", one.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1] for one in self.sockets)

    def close(self):
        self.line.close()
        for one in self.sockets:
            one.close()


def open_port(name):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    for ordinary, forced in ((socket.SO_RCVBUF, 33), (socket.SO_SNDBUF, 32)):
        try:
            port.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
        except PermissionError:
            port.setsockopt(socket.SOL_SOCKET, ordinary, BUFFER_BYTES)
    # From here on there are frames.
    port.bind((name, ETH_P_ALL))
    return port


def within(namespace, what):
    """What it returns in a network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    enter(namespace)
    try:
        return what()
    finally:
        enter_open(home, "our own namespace")
        os.close(home)


def send_no_batches(namespace, device):
    """Has a host send packet by packet, as long as what it is for loses packets."""

    def set_offloads():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for command in (ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO):
                value = array.array("B", struct.pack("II", command, 0))
                request = struct.pack("16sP16x", device.encode(), value.buffer_info()[0])
                fcntl.ioctl(sock, SIOCETHTOOL, request)

    within(namespace, set_offloads)
    # Those of UDP go by a switch of their own, and by this limit.
    subprocess.run(["ip", "-n", namespace, "link", "set", "dev", device, "gso_max_segs", "1"], check=True)
