"""Where flows come from, one `Source` for every face: a server, or a capture replayed in this process.

source.py says what a source is, server.py speaks to a server (gRPC), capture.py runs a capture through the pipeline,
subscription.py fills a store of the caller's in the background. Importing this package imports neither gRPC nor numpy.
"""

from observer.client.source import Source, State, Status, Subscription, open_capture_source, open_server

__all__ = ["Source", "State", "Status", "Subscription", "open_capture_source", "open_server"]
