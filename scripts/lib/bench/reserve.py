"""Memory that the machine already has, for the files of a run.

What a virtual machine has not touched for some seconds its host takes back, and has to find again: writing to
such memory is twenty times slower than to what is at hand. Whoever comes first would pay for all, and who is
fast would seem as slow as the host. So as much as the files will take is held, and let go as they grow.
"""

import mmap

# How much is free beyond what was free before, for what is written between two looks.
AHEAD_BYTES = 256 << 20

STEP_BYTES = 1 << 20


class Reserve:
    def __init__(self, bytes):
        self.left = -(-(bytes + AHEAD_BYTES) // STEP_BYTES) * STEP_BYTES
        self.held = mmap.mmap(-1, self.left, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        part = b"\x01" * STEP_BYTES
        for _ in range(0, self.left, STEP_BYTES):
            self.held.write(part)
        self.level = 0

    def begin(self):
        self.let_go(AHEAD_BYTES)
        self.level = free_bytes()

    def replace(self):
        """Lets go as much as has been taken since."""
        taken = self.level - free_bytes()
        if taken > STEP_BYTES:
            self.let_go(taken)

    def let_go(self, bytes):
        bytes = min(bytes // STEP_BYTES * STEP_BYTES, self.left)
        if bytes:
            self.left -= bytes
            self.held.madvise(mmap.MADV_DONTNEED, self.left, bytes)

    def close(self):
        self.held.close()


def free_bytes():
    with open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith("MemFree:"):
                return int(line.split()[1]) << 10
    return 0
