"""Sans-IO parsers, one file a protocol."""
