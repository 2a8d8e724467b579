"""Reading a mail server's refusal: whether the address is dead, or only this message is not wanted now.

An address that is taken for dead gets nothing more, so only what cannot mean anything else counts. A relay that is set
up wrongly refuses everybody with 5xx, too: its codes of policy (5.7), of routing (5.4) and of a full mailbox (5.2.2)
stop the message and not the address.
"""

from __future__ import annotations

import re
from typing import Literal

Stage = Literal["recipient", "content"]
"""What was refused: the address alone, or the whole message."""

_ENHANCED = re.compile(r"\s*5\.(\d{1,3})\.(\d{1,3})(?!\d)")
_DEAD = frozenset({(1, 1), (1, 2), (1, 3), (1, 4), (1, 6), (1, 10), (2, 1)})
"""Enhanced codes (RFC 3463, RFC 7505) of an address that does not exist, moved away, or was turned off."""
_DEAD_WITHOUT_MORE = frozenset({550, 551, 553, 556})


def address_is_dead(stage: Stage, code: int, text: str) -> bool:
    """Tell whether a refusal means that nothing can ever reach the address."""
    if not 500 <= code < 600:
        return False
    enhanced = _ENHANCED.match(text)
    if enhanced is not None:
        return (int(enhanced[1]), int(enhanced[2])) in _DEAD
    return stage == "recipient" and code in _DEAD_WITHOUT_MORE
