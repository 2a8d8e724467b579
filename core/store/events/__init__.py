"""Events that come in: sources, dedup, mapping, quarantine, the inbox."""
