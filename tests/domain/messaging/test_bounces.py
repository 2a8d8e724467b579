"""A refusal takes an address for dead only where it cannot mean anything else."""

from __future__ import annotations

import pytest

from core.domain.messaging.bounces import Stage, address_is_dead


@pytest.mark.parametrize(
    ("stage", "code", "text", "dead"),
    [
        ("recipient", 550, "no such user", True),
        ("recipient", 550, "5.1.1 <ada@example.com>: Recipient address rejected: User unknown", True),
        ("recipient", 551, "user not local", True),
        ("recipient", 553, "mailbox name not allowed", True),
        ("recipient", 556, "5.1.10 recipient address has null MX", True),
        ("recipient", 550, "5.2.1 The email account that you tried to reach is disabled", True),
        ("content", 550, "5.1.1 user unknown", True),
        # Set up wrongly, we are refused for everybody: nobody is dead for that.
        ("recipient", 554, "5.7.1 <ada@example.com>: Relay access denied", False),
        ("recipient", 550, "5.7.1 Unable to relay", False),
        ("recipient", 550, "5.7.26 unauthenticated sender", False),
        ("recipient", 554, "relay access denied", False),
        ("recipient", 553, "5.1.8 bad sender's system address", False),
        ("recipient", 550, "5.1.7 bad sender address", False),
        ("recipient", 550, "5.4.1 no route to host", False),
        ("recipient", 552, "mailbox full", False),
        ("recipient", 552, "5.2.2 mailbox full", False),
        ("content", 550, "spam", False),
        ("content", 554, "5.6.0 message content rejected", False),
        ("recipient", 450, "4.1.1 try later", False),
        ("recipient", 550, "5.1.11 something newer", False),
        ("recipient", 550, "", True),
    ],
)
def test_an_address_is_dead_only_where_its_server_says_so(stage: Stage, code: int, text: str, dead: bool) -> None:
    assert address_is_dead(stage, code, text) is dead
