"""`dripstone fake` serves a stand-in that people can look at, on this machine alone."""

from __future__ import annotations

import asyncio
import os
import re
import sys

import httpx2
import pytest

from tests import warm

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("system", "name"), [("hubspot", "contacts"), ("salesforce", "Lead")])
async def test_a_stand_in_is_served_with_people_and_faults(system: str, name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *warm.command(), "fake", system, "--port", "0", "--seed-data", "2", "--fault", "502",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            first = (await process.stdout.readline()).decode()
        address = re.match(r"http://127\.0\.0\.1:\d+", first)
        assert address is not None, first
        async with httpx2.AsyncClient(base_url=address[0]) as http:
            assert len((await http.get("/fake/records")).json()[name]) == 2
            assert (await http.get("/fake/faults")).json() == ["502@*1"]
            assert "ada.abbott.0@acme.example" in (await http.get("/")).text
    finally:
        process.terminate()
        await process.wait()
    assert process.returncode == 0
