"""The tools, by toolset; their order here is their order in every listing."""

from mcp_server.tools import (  # noqa: F401  each registers its tools
    agent_tasks,
    calls,
    dead_letters,
    deliveries,
    ending,
    explaining,
    merging,
    undoing,
)
from mcp_server.tools.approve import APPROVE
from mcp_server.tools.operate import OPERATE
from mcp_server.tools.read import READ
from mcp_server.tools.simulating import AUTHOR

TOOLSETS = (READ, OPERATE, AUTHOR, APPROVE)
"""Every toolset: look, act, write workflows, decide."""
