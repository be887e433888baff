"""A BitTorrent tracker for one swarm (BEP 3, BEP 23): tells every peer of all the others.

    torrent_tracker.py ADDRESS PORT
"""

import http.server
import socket
import struct
import sys
import urllib.parse

from torrent import bencode

# A second announce would come after the run.
INTERVAL_S = 1800

peers = {}


class Announce(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        ours = socket.inet_aton(self.client_address[0]) + struct.pack(">H", int(asked["port"][0]))
        others = b"".join(peer for peer in peers if peer != ours)
        if asked.get("event") == ["stopped"]:
            peers.pop(ours, None)
        else:
            peers[ours] = True
        seen = {"complete": 1, "incomplete": len(peers) - 1, "interval": INTERVAL_S, "peers": others}
        answer = bencode(seen)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Announce)
    print("ready", flush=True)
    server.serve_forever()
