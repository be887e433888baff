"""A daemon's control socket, as the programs of the lab and the figures need it: state is asked for many times a
second, and what cannot be asked is nothing."""

import http.client
import json
import socket


class Socket(http.client.HTTPConnection):
    """HTTP by a Unix socket."""

    def __init__(self, path):
        super().__init__("warren", timeout=5)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Control:
    """The HTTP API of the daemon that has its state in HOME."""

    def __init__(self, home):
        self.connection = Socket(f"{home}/daemon-1/control.sock")

    def events(self, what):
        """What GET /v1/WHAT answers. Nothing when the daemon is not there, or has no such route."""
        try:
            return self.ask(what)
        except (OSError, ValueError, http.client.HTTPException):
            self.connection.close()
            return []

    def ask(self, what):
        self.connection.request("GET", f"/v1/{what}")
        answer = self.connection.getresponse()
        body = answer.read()
        return json.loads(body) if answer.status == 200 else []

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
