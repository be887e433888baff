"""What a byte costs at least on this machine, by the program of proto/net/examples/bare.rs."""

import json
import os
import subprocess

GIB = 1 << 30

PARTS = ("quinn", "blake3", "read", "write")


def measured(program, folder, mib):
    """A result as runs of programs have it: the rate is what all cores reach at best when each byte is
    carried, hashed, read and written once."""
    done = subprocess.run([program, folder, str(mib)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    cpu_s = sum(found[part]["cpu_s_per_gib"] for part in PARTS)
    return {
        "complete": True,
        "intact": True,
        "mb_per_s": round(os.cpu_count() / cpu_s * GIB / 1e6, 1),
        "cpu_s_per_gib": round(cpu_s, 3),
        **{f"{part}_s_per_gib": found[part]["cpu_s_per_gib"] for part in PARTS},
    }
