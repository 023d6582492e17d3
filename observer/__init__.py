"""flowscope's observer: packets in, flows with identity, L7 content and policy verdict out."""

__version__ = "0.1.0"
