"""A daemon's control socket, as the programs of the lab need it: state is asked for many times a
second, and what cannot be asked is nothing."""

import json
import socket


class Control:
    """The HTTP API of the daemon that has its state in HOME."""

    def __init__(self, home):
        self.path = f"{home}/daemon-1/control.sock"
        self.stream = None

    def events(self, what):
        """What GET /v1/WHAT answers. Nothing when the daemon is not there, or has no such route."""
        try:
            return self.ask(what)
        except (OSError, ValueError):
            self.stream = None
            return []

    def ask(self, what):
        if self.stream is None:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(5)
            sock.connect(self.path)
            self.stream = sock.makefile("rwb")
        self.stream.write(f"GET /v1/{what} HTTP/1.1\r\nhost: warren\r\n\r\n".encode())
        self.stream.flush()
        status = self.stream.readline().split()
        length = 0
        while line := self.stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = self.stream.read(length)
        if not status:
            raise OSError("the daemon has gone")
        return json.loads(body) if status[1] == b"200" else []

    def trackers(self):
        return [event for event in self.events("status") if event.get("type") == "tracker"]

    def payload_bytes(self):
        """Bytes of content that have come, from all peers."""
        down = sum(peer["down_bytes"] for peer in self.events("peers"))
        # A peer that has gone is in no list; what it gave is.
        shares = (event for event in self.events("status") if event.get("type") == "share")
        return down or sum(share["verified_bytes"] for share in shares)


def attempts(homes):
    """What these daemons, which the peers on both sides are, tried to open paths, oldest first."""
    events = [event for home in homes for event in Control(home).events("attempts")]
    return sorted(events, key=lambda event: event["started_unix_ms"])
