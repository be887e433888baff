"""A daemon with thousands of shares: how soon it answers, and is back after it was killed."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

from programs import until

# Registers under way at once.
AT_ONCE = 8

# A press of the key after this much of a name, which the names of 100 shares begin with, the last of them
# that of share 499.
TYPED = "share-0004"
FEWEST = 500


def many_shares(programs, goals, options):
    programs.start_tracker()
    daemon = programs.start_daemon(1)
    programs.start_daemon(2)
    for idx in (1, 2):
        until(f"daemon {idx} is ready", lambda: programs.is_connected(idx))
    had = 0
    for count in sorted(options.shares):
        register(programs, range(had, count))
        had = count
        asked(programs, goals, options, count)
        daemon = restarted(programs, goals, daemon, count)


def register(programs, numbers):
    os.makedirs(f"{programs.folder}/shares", exist_ok=True)

    def one(number):
        path = f"{programs.folder}/shares/share-{number:06}.txt"
        with open(path, "w") as file:
            file.write(f"share {number}\n" * 100)
        said = programs.ask(1, "POST", "register", {"path": path})
        if '"registered"' not in said:
            raise RuntimeError(said)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, numbers))


def asked(programs, goals, options, count):
    last = f"share-{count - 1:06}.txt"
    said = f"{count:,} shares"
    for command in ("status", "list"):
        took = programs.median_ms(options.runs, command, 1, expected=last)
        goals.at_most(f"`client {command}` with {said}", 50, took, "ms")
    # As the script of bash asks: which word it is, and all words.
    bash = {"WARREN_COMPLETE": "bash", "_CLAP_COMPLETE_INDEX": "2", "_CLAP_COMPLETE_COMP_TYPE": "9", "_CLAP_IFS": "\n"}
    typed = ("--", "client", "pause", TYPED)
    took = programs.median_ms(options.runs, *typed, expected=f"{TYPED}99.txt", environment=bash)
    goals.at_most(f"completion of a name among {said}", 50, took, "ms")


def restarted(programs, goals, daemon, count):
    """Killed, and started again: until another daemon has all of a share that it asks for meanwhile."""
    wanted = {count // 2, count - 1}
    manifests = [f"{programs.folder}/downloads/daemon-1/share-{number:06}.p2p" for number in wanted]
    programs.kill(daemon)
    began = time.monotonic()
    daemon = programs.start_daemon(1)
    until("the daemon answers", lambda: programs.ask(1, "GET", "limits") is not None)
    answers_s = time.monotonic() - began
    for manifest in manifests:
        programs.client("download", manifest, 2)
    serves_s = time.monotonic() - began
    until("all is shared again", lambda: all_seeding(programs, count))
    all_s = time.monotonic() - began
    print(f"  answers after {answers_s:.3f} s, all shares seeding after {all_s:.3f} s")
    goals.at_most(f"killed with {count:,} shares and started again, until others have fetched some", 1, serves_s, "s")
    return daemon


def all_seeding(programs, count):
    shares = json.loads(programs.ask(1, "GET", "shares") or "[]")
    return sum(share["state"] == "seeding" for share in shares) == count
