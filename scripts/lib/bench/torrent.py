"""Torrent files (BEP 3), as the BitTorrent clients need them."""

import functools
import hashlib
import os

from source import paths

PIECE_BYTES = 1 << 20


def metainfo(path, announce):
    """The bytes of a torrent of one file, or of a folder."""
    info = {"name": os.path.basename(path), "piece length": PIECE_BYTES, "pieces": piece_hashes(path)}
    if os.path.isdir(path):
        sizes = ((os.path.getsize(one), os.path.relpath(one, path)) for one in paths(path))
        info["files"] = [{"length": size, "path": name.split(os.sep)} for size, name in sizes]
    else:
        info["length"] = os.path.getsize(path)
    return bencode({"announce": announce, "info": info})


@functools.cache
def piece_hashes(path):
    """Once for all runs: what is given away does not change."""
    return b"".join(hashlib.sha1(piece).digest() for piece in pieces(path))


def pieces(path):
    """Of all files one after the other, as if they were one."""
    piece = b""
    for one in paths(path):
        with open(one, "rb") as file:
            while part := file.read(PIECE_BYTES - len(piece)):
                piece += part
                if len(piece) == PIECE_BYTES:
                    yield piece
                    piece = b""
    if piece:
        yield piece


def bencode(value):
    match value:
        case int():
            return b"i%de" % value
        case str():
            return bencode(value.encode())
        case bytes():
            return b"%d:%s" % (len(value), value)
        case list():
            return b"l" + b"".join(map(bencode, value)) + b"e"
        case dict():
            pairs = sorted((key.encode(), one) for key, one in value.items())
            return b"d" + b"".join(bencode(key) + bencode(one) for key, one in pairs) + b"e"
    raise TypeError(f"no such thing in a torrent: {value!r}")
