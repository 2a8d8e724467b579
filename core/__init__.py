"""The core service: contract in, rows out; see ARCHITECTURE.md for the map."""
