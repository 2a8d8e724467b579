"""Records that are one and the same: finding, merging, taking merges back, conflicts of identity."""
