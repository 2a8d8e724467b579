"""The flagship story, played once through the MCP server while a newcomer watches, on a core that then serves on."""

from core.demo.play import play

__all__ = ["play"]
