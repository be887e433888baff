"""Torrent files (BEP 3), as the BitTorrent clients need them."""

import hashlib
import os

PIECE_BYTES = 1 << 20


def metainfo(path, announce):
    """The bytes of a torrent of one file."""
    info = {
        "length": os.path.getsize(path),
        "name": os.path.basename(path),
        "piece length": PIECE_BYTES,
        "pieces": b"".join(piece_hashes(path)),
    }
    return bencode({"announce": announce, "info": info})


def piece_hashes(path):
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield hashlib.sha1(piece).digest()


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
