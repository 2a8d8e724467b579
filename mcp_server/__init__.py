"""The MCP server: the tools through which AI agents use Dripstone; it knows the core only through `dripstone.v1`."""
