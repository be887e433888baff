"""A tracker and daemons in a folder of their own, and commands that are timed."""

import json
import os
import signal
import statistics
import subprocess
import tempfile
import time

from natlab_daemon import Socket

PATIENCE_S = 120
POLL_S = 0.001

# What others know the tracker by; it is in links. Nothing is sent there.
PUBLIC = "tracker.example:59000"


class Programs:
    def __init__(self, binaries, folder):
        self.binaries = binaries
        self.folder = tempfile.mkdtemp(dir=folder)
        self.running = []
        self.contact = None

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WARREN_")}
        return kept | {"WARREN_HOME": f"{self.folder}/home", "WARREN_CONFIG": "/dev/null"}

    def start_tracker(self):
        listen = ("--listen", "127.0.0.1:0", "--stun-listen", "127.0.0.1:0", "--public", PUBLIC)
        out = f"{self.folder}/tracker.out"
        self.spawn(out, "tracker", *listen, "--json")
        said = until("the tracker is there", lambda: read_line(out))
        at = json.loads(said)
        self.contact = f"{at['listen'][0]}#{at['key']}"

    def start_daemon(self, idx):
        """Starts a daemon; returns at once."""
        command = ("daemon", idx, self.contact, "--listen", "127.0.0.1:0", "--no-port-mapping")
        return self.spawn(f"{self.folder}/daemon-{idx}.out", "client", *command)

    def spawn(self, out, program, *arguments):
        command = [f"{self.binaries}/{program}", *map(str, arguments)]
        with open(out, "wb") as to:
            child = subprocess.Popen(command, stdout=to, stderr=to, cwd=self.folder, env=self.environment())
        self.running.append(child)
        return child

    def client(self, *arguments):
        """What a command that succeeds prints."""
        command = [f"{self.binaries}/client", *map(str, arguments)]
        asked = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=self.environment())
        if asked.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {asked.stdout}{asked.stderr}")
        return asked.stdout

    def median_ms(self, runs, *arguments, expected=None, environment=None):
        """How long a command takes; `expected` must be in what it prints each time."""
        command = [f"{self.binaries}/client", *map(str, arguments)]
        environment = self.environment() | (environment or {})
        took = []
        for _ in range(runs):
            began = time.monotonic()
            asked = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment)
            took.append((time.monotonic() - began) * 1000)
            if asked.returncode != 0 or (expected and expected not in asked.stdout):
                print(f"  {' '.join(command)} did not print {expected}")
                return None
        return statistics.median(took)

    def ask(self, idx, method, route, body=None):
        """What the control API of a daemon answers; `None` while it does not."""
        connection = Socket(f"{self.folder}/home/daemon-{idx}/control.sock")
        try:
            connection.request(method, f"/v1/{route}", json.dumps(body) if body else None, JSON)
            return connection.getresponse().read().decode()
        except OSError:
            return None
        finally:
            connection.close()

    def is_connected(self, idx):
        told = self.ask(idx, "GET", "status")
        trackers = [event for event in json.loads(told or "[]") if event["type"] == "tracker"]
        return any(one["connected"] and one["mapping"] != "unknown" for one in trackers)

    def kill(self, child):
        child.kill()
        child.wait()
        self.running.remove(child)

    def end(self):
        for child in self.running:
            child.send_signal(signal.SIGTERM)
        for child in self.running:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


JSON = {"Host": "warren", "Content-Type": "application/json"}


def until(what, look):
    """The first answer that is one."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE_S} s until {what}")
        time.sleep(POLL_S)
    return found


def read_line(path):
    with open(path) as file:
        line = file.readline()
    return line if line.endswith("\n") else None
