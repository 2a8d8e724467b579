"""The domain: pure decisions over plain data; no clock, no I/O, no await."""
