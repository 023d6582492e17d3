"""Filters: exact (Hubble's semantics), and as a mask over the hot columns."""
