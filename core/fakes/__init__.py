"""Stand-ins for outside systems of record: they keep what they are sent, and fail as the real ones do.

For tests, and for whoever wants to try connections without credentials. Nothing of the product needs them.
"""
