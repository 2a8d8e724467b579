"""Control, pure: what keys may do, and approvals by a second principal."""
