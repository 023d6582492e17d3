"""traceparent: the valid form and nothing else (W3C Trace Context, 3.2)."""

import pytest

from observer.l7.traceparent import trace_id_of

ID = "0af7651916cd43dd8448eb211c80319c"
VALID = f"00-{ID}-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("head", "trace_id"),
    [
        (f"traceparent: {VALID}\r\n", ID),
        (f"Host: h\r\nTraceParent:\t{VALID} \r\nX: y\r\n", ID),
        (f"host: h\ntraceparent:{VALID}", ID),
        (f"traceparent: cc-{ID}-b7ad6b7169203331-01-more\r\n", ID),  # a later version may say more
        (f"traceparent: cc-{ID}-b7ad6b7169203331-01\r\n", ID),
        (f"traceparent: {VALID}-more\r\n", ""),
        (f"traceparent: {VALID}.\r\n", ""),
        (f"traceparent: cc-{ID}-b7ad6b7169203331-01more\r\n", ""),
        (f"traceparent: ff-{ID}-b7ad6b7169203331-01\r\n", ""),
        (f"traceparent: 00-{ID.upper()}-b7ad6b7169203331-01\r\n", ""),
        (f"traceparent: 00-{'0' * 32}-b7ad6b7169203331-01\r\n", ""),
        (f"traceparent: 00-{ID}-{'0' * 16}-01\r\n", ""),
        (f"traceparent: 00-{ID}-b7ad6b7169203331\r\n", ""),
        (f"traceparent: {VALID}\r\ntraceparent: {VALID}\r\n", ""),  # twice
        (f"x-traceparent: {VALID}\r\n", ""),
        (f"x: traceparent:{VALID}\r\n", ""),
        ("traceparent:\r\n", ""),
        ("", ""),
    ],
)
def test_trace_id(head, trace_id):
    assert trace_id_of(head.encode()) == trace_id
