"""The tools, by toolset; their order here is their order in every listing."""

from mcp_server.tools.approve import APPROVE
from mcp_server.tools.operate import OPERATE
from mcp_server.tools.read import READ

TOOLSETS = (READ, OPERATE, APPROVE)
"""Every toolset: look, act, decide."""
