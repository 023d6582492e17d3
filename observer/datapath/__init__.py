"""The user-space half of the eBPF tier: objects are loaded and attached here, and their rings are read."""
