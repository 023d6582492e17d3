"""The trace id of a W3C traceparent field, from the header section of an HTTP message (Trace Context, 3.2).

Header lines in, the id as 32 hexadecimal digits out; empty where the field is absent, sent twice or not of the valid
form, because then its sender is to be ignored. It refuses to know tracestate, and other headers of tracers.
"""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = b"traceparent:"
_FIELD: Final = re.compile(rb"^traceparent:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_VALUE: Final = re.compile(  # 3.2.2: version ff is none, all zeros are no ids, 00 has nothing after its flags
    rb"(?:(00)|(?!00|ff)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:\Z|(?(1)(?!)|-))"
)


def trace_id_of(head: bytes) -> str:
    """The trace id that a header section carries, or nothing."""
    if head.lower().find(_NAME) < 0:  # `in` raises an error inside, and takes twice as long
        return ""
    values = _FIELD.findall(head)
    match = _VALUE.match(values[0]) if len(values) == 1 else None
    return match[2].decode() if match else ""
