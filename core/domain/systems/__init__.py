"""Outside systems of record. Pure: what corresponds to what, who wins, and how credentials are sealed."""
