"""The terminal UI; knows flows only through observer.client."""
