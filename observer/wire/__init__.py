"""Protobuf at the edge: records and extras become flow.Flow and back; nobody else builds or reads one.

encoder.py writes the wire format by hand from cached parts (story.py, layer7.py, parts.py), summary.py composes the
texts of Flow.Summary, decoder.py turns a flow.Flow of a real Hubble server or a file into a record that gives it back
as it was.
"""

from observer.wire.decoder import FlowDecoder
from observer.wire.encoder import FlowEncoder
from observer.wire.story import FlowSource

__all__ = ["FlowDecoder", "FlowEncoder", "FlowSource"]
