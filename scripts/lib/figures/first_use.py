"""From nothing to a verified file on another machine, and what is said between the two."""

import hashlib
import os
import time

from programs import until

LINK_CHARS, CODE_WORDS = 120, 3


def first_use(programs, goals, options):
    """Five commands: a tracker, two daemons, register, download. The clock runs from the first until the last
    has ended, which is when every byte has been verified; who types is not counted."""
    source = random_file(f"{programs.folder}/film.mkv", options.mib)
    began = time.monotonic()
    programs.start_tracker()
    for idx in (1, 2):
        programs.start_daemon(idx)
    # A person who is that fast has them answer by then.
    for idx in (1, 2):
        until(f"daemon {idx} answers", lambda: programs.ask(idx, "GET", "status"))
    manifest = programs.client("register", source, 1).splitlines()[0]
    received = programs.client("download", manifest, 2).strip()
    took = time.monotonic() - began
    what = f"from an empty home to {options.mib} MiB registered, downloaded and verified, in five commands"
    goals.at_most(what, 10, took, "s")
    goals.equal("what came is what was shared", "the same", compared(source, received))


def texts(programs, goals, options):
    """What people say or send, of small and large things."""
    programs.start_tracker()
    programs.start_daemon(1)
    until("the daemon is ready", lambda: programs.is_connected(1))
    os.makedirs(f"{programs.folder}/photos")
    for number in range(1000):
        with open(f"{programs.folder}/photos/{number}.jpg", "w") as file:
            file.write(f"photo {number}")
    shared = {
        "a file of 6 bytes": small_file(f"{programs.folder}/note.txt"),
        "a folder of 1,000 files": f"{programs.folder}/photos",
        f"a file of {options.mib} MiB": random_file(f"{programs.folder}/film.mkv", options.mib),
    }
    for what, path in shared.items():
        _, link, code = programs.client("register", path, 1, "--code").splitlines()
        goals.at_most(f"the link of {what}", LINK_CHARS, len(link), "characters")
        goals.at_most(f"the code of {what}", CODE_WORDS, len(code.split("-")), "words")
    for command in ([], ["download"], ["daemon"]):
        took = programs.median_ms(options.runs, *command, "--help", expected="Usage:")
        goals.at_most(f"`{' '.join(['client', *command, '--help'])}`", 5, took, "ms")


def random_file(path, mib):
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    return path


def small_file(path):
    with open(path, "w") as file:
        file.write("a note")
    return path


def compared(one, other):
    return "the same" if digest(one) == digest(other) else "something else"


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
