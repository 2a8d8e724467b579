"""What others' suites say about the MCP server: fixtures for them, the run, and the report; see `make conformance`."""
