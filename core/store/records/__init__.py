"""Records of every type: rows, fields, identifiers, finding them, their changes, and bringing files in."""
