"""Where flows come from, one `Source` for every face: a server, or a capture replayed in this process.

source.py says what a source is, server.py speaks to a server (gRPC), several.py merges servers, capture.py runs a
capture through the pipeline, subscription.py fills a store of the caller's in the background. Importing this package
imports neither gRPC nor numpy.
"""

from observer.client.source import (
    Node,
    Source,
    State,
    Status,
    Subscription,
    open_capture_source,
    open_server,
    open_servers,
)

__all__ = [
    "Node",
    "Source",
    "State",
    "Status",
    "Subscription",
    "open_capture_source",
    "open_server",
    "open_servers",
]
