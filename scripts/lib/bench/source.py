"""What is given away: files and folders, and whether what came is the same."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cached_property

# Where what is given away is made.
SOURCES = "/run/source"

MIB = 1 << 20

PART_BYTES = 1 << 20

# Of a sparse file: what each MiB begins with, so that no two chunks are the same.
MARK_BYTES = 4096

FILES_PER_FOLDER = 100


@dataclass(frozen=True)
class Source:
    path: str
    bytes: int
    # One, unless it is a folder.
    files: int = 1

    @cached_property
    def digest(self):
        return digest(self.path)

    def remove(self):
        remove(self.path)


def remove(path):
    """A file, or a folder with all that is in it."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def random_file(mib):
    path = f"{SOURCES}/{mib}-mib.bin"
    write_random(path, mib * MIB)
    return Source(path, mib * MIB)


def sparse_file(mib):
    """All holes, save a page of each MiB: for what is not about reading the disk."""
    path = f"{SOURCES}/{mib}-mib-sparse.bin"
    with open(path, "wb") as file:
        for number in range(mib):
            os.pwrite(file.fileno(), number.to_bytes(MARK_BYTES, "little"), number * MIB)
        file.truncate(mib * MIB)
    return Source(path, mib * MIB)


def tree(count, kib):
    """A folder of small files of the same size."""
    path = f"{SOURCES}/{count}-files"
    for start in range(0, count, FILES_PER_FOLDER):
        folder = f"{path}/{start // FILES_PER_FOLDER:04}"
        os.makedirs(folder)
        for number in range(start, min(count, start + FILES_PER_FOLDER)):
            write_random(f"{folder}/{number:06}.bin", kib << 10)
    return Source(path, count * kib << 10, count)


def write_random(path, size):
    with open(path, "wb") as file:
        for start in range(0, size, PART_BYTES):
            file.write(os.urandom(min(PART_BYTES, size - start)))


def digest(path):
    """Of a file's bytes; of a folder's, with the names of its files."""
    if not os.path.isdir(path):
        return sha256(path)
    found = hashlib.sha256()
    for one in paths(path):
        found.update(f"{os.path.relpath(one, path)} {sha256(one)}\n".encode())
    return found.hexdigest()


def paths(path):
    """The file, or all files of the folder, sorted."""
    if not os.path.isdir(path):
        return [path]
    return sorted(f"{folder}/{name}" for folder, _, names in os.walk(path) for name in names)


def sha256(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(PART_BYTES):
            found.update(part)
    return found.hexdigest()
