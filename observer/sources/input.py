"""A capture file as a window of bytes: plain, gzip (RFC 1952) or a pipe, read in chunks and never whole in memory.

Not mapped into memory: a mapped file that somebody shortens kills the process, and a pipe cannot be mapped at all.
Knows nothing of records. What ends too early or is damaged ends the input and leaves the reason in `failure`.
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Final

from observer.errors import CaptureError

CHUNK: Final = 2 << 20
"""Bytes asked for at a time: some thousand frames, so that a batch is worth its numpy calls."""
COMPRESSED_CHUNK: Final = 32 << 10
INFLATED_PIECE: Final = 256 << 10
"""Most that one call to zlib may give: a bomb is read piece by piece."""
GZIP_MAGIC: Final = b"\x1f\x8b"


class Input:
    """What is left of a file from `at` in `buffer`; `need` reads on and moves both."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises CaptureError when it cannot be opened, is a directory or is empty."""
        self.path = path
        self.buffer = b""
        self.at = 0
        self.position = 0
        """Bytes of the file read so far, compressed ones if it is compressed."""
        self.failure: str | None = None
        self._inflate: zlib._Decompress | None = None
        self._compressed = b""
        try:
            self._file = io.FileIO(path)
        except FileNotFoundError:
            raise CaptureError(f"{path}: no such file; name a pcap or pcapng capture") from None
        except IsADirectoryError:
            raise CaptureError(f"{path}: is a directory; name a pcap or pcapng file in it") from None
        except PermissionError:
            raise CaptureError(f"{path}: permission denied; make the file readable for this user") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise CaptureError(f"{path}: cannot be opened ({_cause(error)}); name a pcap or pcapng file") from None
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            """Bytes of the file; 0 of a pipe."""
            if self.need(2) and self.buffer[:2] == GZIP_MAGIC:
                self._compressed, self.buffer = self.buffer, b""
                self._inflate = zlib.decompressobj(wbits=31)
        except BaseException:
            self._file.close()
            raise

    def need(self, size: int) -> bool:
        """Whether `size` bytes stand at `at`, after reading on as far as that takes; a read replaces `buffer`."""
        while len(self.buffer) - self.at < size:
            piece = self._read() if self._inflate is None else self._read_gzip()
            if not piece:
                return False
            self.buffer = self.buffer[self.at :] + piece
            self.at = 0
        return True

    def skip(self, size: int) -> bool:
        """Pass over `size` bytes without holding them; whether there were as many."""
        while (held := len(self.buffer) - self.at) < size:
            size -= held
            self.at = len(self.buffer)
            if not self.need(1):
                return False
        self.at += size
        return True

    def close(self) -> None:
        """Close the file; buffers given out stay valid."""
        self._file.close()

    def _read(self, size: int = CHUNK) -> bytes:
        try:
            piece = self._file.read(size) or b""
        except OSError as error:
            raise CaptureError(f"{self.path}: cannot be read ({_cause(error)}); copy the file and try again") from None
        self.position += len(piece)
        return piece

    def _read_gzip(self) -> bytes:
        """Up to CHUNK inflated bytes, across members."""
        pieces = []
        room = CHUNK
        while room > 0 and self.failure is None:
            inflate = self._inflate
            assert inflate is not None
            if not self._compressed:
                self._compressed = self._read(COMPRESSED_CHUNK)
            if inflate.eof:  # the next member, or the padding that tapes add
                self._compressed = self._compressed.lstrip(b"\0")
                if self._compressed:
                    self._inflate = zlib.decompressobj(wbits=31)
                elif self.position == self.size or not (more := self._read(COMPRESSED_CHUNK)):
                    break
                else:
                    self._compressed = more
                continue
            fed = bool(self._compressed)
            before = inflate.copy()
            try:
                piece = inflate.decompress(self._compressed, min(room, INFLATED_PIECE))
            except zlib.error:
                self.failure = "damaged gzip"
                pieces.append(_salvage(before, self._compressed))
                break
            self._compressed = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if piece:
                pieces.append(piece)
                room -= len(piece)
            elif not fed and not inflate.eof:
                self.failure = "gzip cut short"
        return b"".join(pieces)


def _salvage(inflate: zlib._Decompress, compressed: bytes) -> bytes:
    """What `compressed` gives before its damage: zlib throws away what the failing call had already made."""
    pieces = []
    for at in range(len(compressed)):
        try:
            pieces.append(inflate.decompress(compressed[at : at + 1]))
        except zlib.error:
            break
    return b"".join(pieces)


def _cause(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
