"""The gRPC server: a store's flows over Hubble's Observer API, and over our own batch service.

answers.py makes the bytes of every answer and knows no gRPC; server.py listens, counts threads and maps errors to
status codes; mask.py cuts flows down to a field mask; address.py reads what users write for an address.
Importing this package imports none of them: the client needs only some.
"""
