"""Telling a log that a crash has torn from one that was damaged since: SQLite takes both for the end of the log.

SQLite's write-ahead log is a header and frames, a page each. Every frame has a checksum that goes on from the one
before it, and SQLite reads up to the first that is wrong. A crash leaves such a frame where the last transaction was
not synced yet. But a commit is synced before anything is written behind it: so if behind the first wrong frame there is
a commit, and behind that a frame that goes on from it, then what is wrong had been synced, and acknowledged.

    header    magic, version, page size, checkpoint, salt (2), checksum (2)    8 x uint32 BE
    frame     page, pages after the commit (0 if this is none), salt (2), checksum (2), and the page's bytes

Damage of the last commit, of the checksum of the last but one, or of the header cannot be told from a crash.

The checksum is two sums of words, a += word + b and b += word + a in turn, modulo 2**32. They are linear, so that those
of all frames are found together, as products with the numbers by which each word counts.
"""

from __future__ import annotations

import os
import struct
from functools import cache
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24

_HEADER = struct.Struct(">8I")
_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683
_SUMMED_OF_HEADER_BYTES = 8
_FRAMES_AT_ONCE = 64
_Words = npt.NDArray[np.uint32]


def is_damaged(path: str) -> bool:
    """Say whether a log has lost something that had been synced. A log that is not there has not."""
    while True:
        try:
            with open(path, "rb") as file:
                header = file.read(HEADER_BYTES)
                has_lost = _has_lost(header, file)
                # A writer that begins the log anew meanwhile writes the header first.
                if os.pread(file.fileno(), HEADER_BYTES, 0) == header:
                    return has_lost
        except FileNotFoundError:
            return False


def _has_lost(header: bytes, file: BinaryIO) -> bool:
    if len(header) < HEADER_BYTES:
        return False
    magic, _, page_bytes, _, *salt_and_sums = _HEADER.unpack(header)
    if magic not in (_MAGIC_LITTLE, _MAGIC_BIG) or not 512 <= page_bytes <= 65536 or page_bytes % 8:
        return False
    salt, sums = np.array(salt_and_sums, np.uint32).reshape(2, 2)
    order = "<u4" if magic == _MAGIC_LITTLE else ">u4"
    frame_bytes = FRAME_HEADER_BYTES + page_bytes
    is_broken = is_committed = False
    while len(part := file.read(_FRAMES_AT_ONCE * frame_bytes)) >= frame_bytes:
        count = len(part) // frame_bytes
        frames = np.frombuffer(part, np.uint8, count * frame_bytes).reshape(count, frame_bytes)
        numbers, words = _taken_apart(frames, order)
        stored = numbers[:, 4:6]
        is_of_log = (numbers[:, 2:4] == salt).all(axis=1)
        goes_on = (_sums(words, np.vstack([sums, stored[:-1]])) == stored).all(axis=1) & is_of_log
        for frame in range(count):
            if is_committed and goes_on[frame]:
                return True
            is_broken = is_broken or not goes_on[frame]
            is_committed = is_broken and bool(is_of_log[frame] and numbers[frame, 1])
        sums = stored[-1]
    return False


def _taken_apart(frames: npt.NDArray[np.uint8], order: str) -> tuple[_Words, _Words]:
    """Return the numbers of each frame's header, and the words that its checksum is of."""
    numbers = np.ascontiguousarray(frames[:, :FRAME_HEADER_BYTES]).view(">u4").astype(np.uint32)
    summed = np.hstack([frames[:, :_SUMMED_OF_HEADER_BYTES], frames[:, FRAME_HEADER_BYTES:]])
    return numbers, summed.view(order).astype(np.uint32)


def _sums(words: _Words, before: _Words) -> _Words:
    """Return the checksum of each row of words, going on from those before."""
    counted = np.hstack([before, words])
    return np.column_stack([counted @ _weights(words.shape[1], 1, 0), counted @ _weights(words.shape[1], 0, 1)])


@cache
def _weights(word_count: int, first: int, second: int) -> _Words:
    """Return by how much the sums before, and each word, count in one of the sums after the words.

    ``first`` and ``second`` are by how much the sums after the words do.
    """
    weights = []
    for _ in range(word_count // 2):
        # From the last pair of words to the first: a' = a + even + b, and b' = b + odd + a'.
        weights += [second, first + second]
        first, second = (first + second) % 2**32, (first + 2 * second) % 2**32
    weights += [second, first]
    return np.array(weights[::-1], np.uint64).astype(np.uint32)
