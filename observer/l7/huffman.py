"""The Huffman code of HPACK (RFC 7541, 5.2 and appendix B): coded octets in, octets out.

An automaton that takes four bits a step, made from the code's own regularity. It knows no strings' lengths and no
fields; what it decoded of short strings it remembers, because the same names, paths and values come again and again.
"""

from __future__ import annotations

from typing import Final

CACHED_STRINGS: Final = 4_096
CACHED_SIZE: Final = 64
"""How many strings of how many coded octets are remembered."""

# RFC 7541, appendix B. The code is canonical (codes of a length ascend with their symbols, and a longer code goes on
# where the shorter ones ended), so the symbols of each length are the whole table. 30 bits also holds EOS.
SYMBOLS_BY_LENGTH: Final[dict[int, bytes]] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf"
    b"\xc5\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"
    b"\x7f\xdc\xf9",
    30: b"\n\r\x16",
}
EOS: Final = 256


class HuffmanError(Exception):
    """Not the code of any string: EOS inside, or wrong padding."""


def huffman_codes() -> dict[tuple[int, int], int]:
    """(length in bits, code) to symbol, EOS included."""
    codes: dict[tuple[int, int], int] = {}
    code = previous = 0
    for length, symbols in SYMBOLS_BY_LENGTH.items():
        code <<= length - previous
        previous = length
        for symbol in [*symbols, EOS] if length == 30 else symbols:
            codes[length, code] = symbol
            code += 1
    return codes


def _automaton() -> tuple[list[tuple[int, bytes]], frozenset[int]]:
    """The decoder as states times nibbles to (next state, bytes given), and the states that may end a string.

    A state is an inner node of the code tree; state -1 is failure. A string may end where no more than seven bits, all
    of them ones, were read since the last symbol (RFC 7541, 5.2: the padding is the beginning of EOS).
    """
    codes = huffman_codes()
    prefixes = sorted({(0, 0)} | {(n, code >> (length - n)) for length, code in codes for n in range(1, length)})
    numbers = {prefix: number for number, prefix in enumerate(prefixes)}
    steps: list[tuple[int, bytes]] = []
    for prefix in prefixes:
        for nibble in range(16):
            length, code = prefix
            out = bytearray()
            for shift in (3, 2, 1, 0):
                length, code = length + 1, code << 1 | nibble >> shift & 1
                symbol = codes.get((length, code))
                if symbol == EOS:
                    length = -1
                    break
                if symbol is not None:
                    out.append(symbol)
                    length = code = 0
            steps.append((-1, b"") if length < 0 else (numbers[length, code] * 16, bytes(out)))
    ends = frozenset(number * 16 for (n, code), number in numbers.items() if n <= 7 and code == (1 << n) - 1)
    return steps, ends


_STEPS, _ENDS = _automaton()
_decoded: dict[bytes, bytes] = {}


def huffman_decode(data: bytes) -> bytes:
    """Decode a Huffman string; HuffmanError on EOS inside it or wrong padding."""
    known = _decoded.get(data)
    if known is not None:
        return known
    steps = _STEPS
    state = 0
    out = []
    for byte in data:
        state, part = steps[state + (byte >> 4)]
        if state < 0:
            raise HuffmanError("EOS in a Huffman string")
        if part:
            out.append(part)
        state, part = steps[state + (byte & 15)]
        if state < 0:
            raise HuffmanError("EOS in a Huffman string")
        if part:
            out.append(part)
    if state not in _ENDS:
        raise HuffmanError("wrong Huffman padding")
    text = b"".join(out)
    if len(data) <= CACHED_SIZE:
        if len(_decoded) >= CACHED_STRINGS:
            _decoded.clear()
        _decoded[data] = text
    return text
