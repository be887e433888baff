"""All programs that can be measured, and which of them are here."""

import os
import sys

import program_torrent
from program_iperf3 import Iperf3
from program_sendme import Sendme
from program_warren import Warren

# Those that make swarms.
PROGRAMS = {kind.name: kind for kind in (Warren, *program_torrent.ALL)}

# Those that one can give a file to another with.
PAIRS = PROGRAMS | {kind.name: kind for kind in (Sendme, Iperf3)}


def look_in(folder):
    """Finds programs in a folder before all others, and Python's modules in a `venv` beside it."""
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    program_torrent.Libtorrent.pythons.insert(0, os.path.abspath(f"{folder}/../venv/bin/python"))


def available(names):
    """The programs of these names, less those that are missing, of which a line says so."""
    kinds = []
    for name in names:
        why = PAIRS[name].missing()
        if why:
            print(f"left out: {name}, for {why}", file=sys.stderr)
        else:
            kinds.append(PAIRS[name])
    return kinds
