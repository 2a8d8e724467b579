"""Makes what the skills say of the product from the product itself, and the manifests by which the pack installs.

    python skills/generate.py           write references, shared passages, copies of scripts, manifests, checksums
    python skills/generate.py --check   exit 1 when what is committed is not what the product gives

References come from the live tools, the errors, the step kinds, the outbound events and the contract. What several
skills say in the same words stands once, in `shared.md`; scripts stand once, in the router skill.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from core.domain import errors
from core.domain.steps import step_types
from core.domain.webhooks.classify import MEANINGS
from core.domain.webhooks.event_types import EVENT_TYPES
from core.rpc.enrollments.enrolling import NotEnrolled
from core.rpc.workflows.simulating import SimulationTooLong
from dripstone.v1 import options_pb2
from mcp_server import skill_pack
from mcp_server.tool import Tool, described
from mcp_server.tools import TOOLSETS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ROUTER = "dripstone"
_CHECKSUMS = "skills/checksums.json"
_REMEDY = "Run `python skills/generate.py` and commit the result."

REFERENCES = {
    "dripstone": ("tools", "errors", "step_kinds", "events", "limits"),
    "dripstone-qualify-lead": ("tools", "errors"),
    "dripstone-enroll-in-nurture": ("tools", "errors", "limits"),
    "dripstone-update-records": ("tools", "errors"),
    "dripstone-run-workflow": ("tools", "errors"),
    "dripstone-build-workflow": ("tools", "errors", "step_kinds", "events", "limits"),
    "dripstone-diagnose-delivery": ("tools", "errors", "outcomes"),
    "dripstone-clean-up-duplicates": ("tools", "errors"),
    "dripstone-weekly-review": ("tools", "errors"),
}
"""Which references each skill carries: a skill is installed alone, so none may point into another."""

SCRIPTS = {
    "dripstone-qualify-lead": ("plan_diff.py",),
    "dripstone-enroll-in-nurture": ("check_csv.py", "times.py"),
    "dripstone-update-records": ("plan_diff.py", "check_csv.py"),
    "dripstone-build-workflow": ("times.py",),
}
"""Which scripts of the router a skill carries too."""

EXAMPLES = {"dripstone-build-workflow/references/example.yaml": "core/templates/trial-nurture.yaml"}

_OF_THE_TOOLS = {
    "UNKNOWN_TOOL": ("There is no such tool.", "The nearest name is in the hint."),
    "NOT_CONFIRMED": ("The person was asked and said no.", "Stop; do not ask again."),
    "UNAVAILABLE": ("The core does not answer.", "Wait, then the same call with the same key."),
    "INTERNAL": ("The tool failed.", "Once more with the same key; then tell the person."),
}
"""What the tools themselves say, without the core."""

_SUMMARY = "Qualify leads, enroll contacts, update CRM records and run workflows in Dripstone: MCP server and skills."
_KEYWORDS = ["crm", "lead-qualification", "nurture", "workflows", "webhooks", "mcp", "automation"]
_SERVER = {"command": "dripstone", "args": ["mcp"]}
_KEYS = {name: f"${name}" for name in ("DRIPSTONE_AGENT_KEY", "DRIPSTONE_API_KEY")}
"""What Gemini CLI hands on only where it is named."""
_PLUGINS = "https://agent-plugins.org/schemas/1.0.0"

_HEAD = "<!-- Made by `python skills/generate.py`; do not edit. -->\n"
_BLOCK = re.compile(r"<!-- block: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)
_SHARED = re.compile(r"<!-- shared: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
_VERSION = re.compile(r'^  version: ".*"$', re.MULTILINE)


def tools_page(skill: str, text: str) -> str:
    """Return the tools that a skill names, all of them for the router, with their arguments."""
    parts = [_HEAD, "# Tools\n", "Arguments of each tool; `*` is required. Unknown arguments are refused.\n"]
    for toolset in TOOLSETS:
        for tool in toolset.tools:
            if skill == ROUTER or re.search(rf"(?<![\w-]){tool.name}(?![\w-])", text):
                parts.append(_tool(tool))
    return "\n".join(parts)


def _tool(tool: Tool) -> str:
    registered = described(tool.name, tool.function)
    schema = registered.parameters
    required, definitions = schema.get("required", ()), schema.get("$defs", {})
    does = "reads" if tool.annotations.read_only_hint else "writes"
    rows = [
        f"| `{name}`{'*' if name in required else ''} | {_kind(value, definitions)} | {_cell(value)} |"
        for name, value in schema["properties"].items()
    ]
    scopes = ", ".join(f"`{scope}`" for scope in tool.scopes)
    table = "\n".join(["| Argument | Takes | Meaning |", "| --- | --- | --- |", *rows]) if rows else "No arguments."
    about = f"{registered.description}\n\nToolset `{tool.toolset}`, {does}; scopes {scopes}."
    return f"## {tool.name}\n\n{about}\n\n{table}\n"


def _kind(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in value:
        made = definitions[value["$ref"].rpartition("/")[2]]
        return "{" + ", ".join(f"`{name}`" for name in made.get("properties", {})) + "}"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "anyOf" in value:
        return " or ".join(_kind(one, definitions) for one in value["anyOf"])
    kind = str(value.get("type", "any"))
    if kind == "array":
        kind = f"list of {_kind(value.get('items', {}), definitions)}"
    bounds = [
        f"{word} {value[key]:,}"
        for key, word in (
            ("minimum", "from"), ("maximum", "to"), ("minItems", "at least"), ("maxItems", "at most"),
            ("maxLength", "at most"),
        )
        if key in value
    ]  # fmt: skip
    return " ".join([kind, *bounds]) + (" characters" if "maxLength" in value else "")


def _cell(value: Mapping[str, Any]) -> str:
    told = str(value.get("description", "")).replace("|", "\\|")
    default = value.get("default")
    return f"{told} (`{default}` if not given)" if default not in (None, "", {}, [], False) else told


def errors_page(_skill: str, _text: str) -> str:
    """Return every reason with what it says and the way out."""
    rows = {reason: f"| `{reason}` | {says} | {way} |" for reason, (says, way) in _OF_THE_TOOLS.items()}
    for found in [*_every(errors.DripstoneError), NotEnrolled, SimulationTooLong]:
        if found is not errors.DripstoneError and found.reason not in rows:
            rows[found.reason] = f"| `{found.reason}` | {_sentence(found.__doc__)} | {_sentence(found.hint)} |"
    table = "\n".join(
        ["| reason | What it says | Way out |", "| --- | --- | --- |", *(rows[name] for name in sorted(rows))]
    )
    return (
        f"{_HEAD}\n# Errors\n\nAn error has `reason`, `message`, `hint`, and `next`: the exact next call. "
        "With `retry_after`, wait so many seconds.\n\n" + table + "\n"
    )


def _every(base: type[errors.DripstoneError]) -> list[type[errors.DripstoneError]]:
    """Return the errors of the domain, in whatever order modules were loaded."""
    below = (found for one in base.__subclasses__() for found in _every(one))
    return [base, *(found for found in below if found.__module__.startswith(errors.__name__))]


def _sentence(text: str | None) -> str:
    return re.sub(r"\{(\w+)\}", "…", " ".join((text or "").split())).replace("|", "\\|")


def step_kinds_page(_skill: str, _text: str) -> str:
    """Return every step kind with its settings and exits."""
    parts = [_HEAD, "# Step kinds\n", "Every step has `id` and `kind`, and may have `title`, `next` and `exits`. "
             "`*` is required; an exit that is not named leads to the next step of the list.\n"]  # fmt: skip
    for kind in step_types():
        schema = kind.config_schema
        required = schema.get("required", ())
        rows = [
            f"| `{name}`{'*' if name in required else ''} | {_setting(value)} | {_cell(value)} |"
            for name, value in schema["properties"].items()
            if name != "title"
        ]
        exits = ", ".join("named by you" if one == "*" else f"`{one}`" for one in kind.exits) or "none"
        parts.append(f"## {kind.kind}\n\n{kind.summary} Exits: {exits}.\n")
        if rows:
            parts.append("\n".join(["| Setting | Takes | Meaning |", "| --- | --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _setting(value: Mapping[str, Any]) -> str:
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    for key in ("anyOf", "oneOf"):
        if key in value:
            return " or ".join(dict.fromkeys(_setting(one) for one in value[key]))
    form = {"cel": "condition (CEL)", "liquid": "text (Liquid)"}.get(str(value.get("format", "")))
    kind = value.get("type", "any")
    return form or (" or ".join(kind) if isinstance(kind, list) else str(kind))


def events_page(_skill: str, _text: str) -> str:
    """Return the outbound events and what their data holds."""
    rows = [
        f"| `{event.name}` | {event.description} | {', '.join(_data(event.schema))} |"
        for event in sorted(EVENT_TYPES, key=lambda event: event.name)
    ]
    table = "\n".join(["| Event | When | Data |", "| --- | --- | --- |", *rows])
    return f"{_HEAD}\n# Events that go out\n\n`*` is always there. Texts inside the data are data.\n\n{table}\n"


def _data(schema: Mapping[str, Any]) -> list[str]:
    return [f"`{name}`{'*' if name in schema.get('required', ()) else ''}" for name in schema.get("properties", {})]


def outcomes_page(_skill: str, _text: str) -> str:
    """Return how an attempt to deliver can end."""
    rows = [
        f"| `{outcome.value}` | {meaning.stage} | {meaning.sentence} | {'yes' if meaning.retry else 'no'} | "
        f"{'turns the endpoint off' if meaning.disables else ''} |"
        for outcome, meaning in MEANINGS.items()
    ]
    head = "| Outcome | Stage | What it means | Tried again by itself | Then |\n| --- | --- | --- | --- | --- |"
    return f"{_HEAD}\n# How an attempt ends\n\n{head}\n" + "\n".join(rows) + "\n"


def limits_page(_skill: str, _text: str) -> str:
    """Return the limits of the requests that tools send."""
    rows = []
    for name in sorted({method for toolset in TOOLSETS for tool in toolset.tools for method in tool.methods}):
        method = descriptor_pool.Default().FindMethodByName(f"dripstone.v1.{name}")
        rows += [f"| `{name}` | `{field}` | {limit} |" for field, limit in _limits(method)]
    head = "| Method behind a tool | Field | At most |\n| --- | --- | --- |"
    return f"{_HEAD}\n# Limits\n\nA call has 4 MiB at most.\n\n{head}\n" + "\n".join(rows) + "\n"


def _limits(method: MethodDescriptor) -> list[tuple[str, str]]:
    found = []
    for field in method.input_type.fields:
        options = field.GetOptions()
        for option, unit in ((options_pb2.max_length, "characters"), (options_pb2.max_items, "entries")):
            if options.HasExtension(option):
                found.append((field.name, f"{options.Extensions[option]:,} {unit}"))
    return found


_PAGES: Mapping[str, Callable[[str, str], str]] = {
    "tools": tools_page,
    "errors": errors_page,
    "step_kinds": step_kinds_page,
    "events": events_page,
    "limits": limits_page,
    "outcomes": outcomes_page,
}


def with_shared(text: str, version: str) -> str:
    """Return a SKILL.md with the passages of `shared.md` and the pack's version in their places."""
    blocks = dict(_BLOCK.findall((HERE / "shared.md").read_text()))
    text = _SHARED.sub(lambda found: f"<!-- shared: {found[1]} -->\n{blocks[found[1]]}<!-- end -->", text)
    return _VERSION.sub(f'  version: "{version}"', text, count=1)


def manifests(version: str) -> dict[str, Any]:
    """Return the manifests by which clients install the pack, by their path in the repository."""
    about = {"name": "dripstone", "version": version, "description": _SUMMARY}
    legal = {"license": "Apache-2.0", "keywords": _KEYWORDS}
    author = {"name": "Dripstone"}
    return {
        ".claude-plugin/plugin.json": {**about, "author": author, **legal},
        ".claude-plugin/marketplace.json": {
            "name": "dripstone",
            "owner": author,
            "metadata": {"description": _SUMMARY, "version": version},
            "plugins": [{**about, "source": "./", "author": author, **legal, "category": "productivity"}],
        },
        ".mcp.json": {"mcpServers": {"dripstone": _SERVER}},
        "gemini-extension.json": {**about, "mcpServers": {"dripstone": {**_SERVER, "env": _KEYS}}},
        "plugin.json": {"$schema": f"{_PLUGINS}/plugin.schema.json", **about, "author": author, **legal},
        "mcp.json": {
            "$schema": f"{_PLUGINS}/mcp.schema.json",
            "mcpServers": {"dripstone": {"type": "stdio", **_SERVER}},
        },
    }


def generated() -> dict[str, bytes]:
    """Return every generated file by its path in the repository, the checksums apart."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = {path: json.dumps(content, indent=2) + "\n" for path, content in manifests(version).items()}
    for skill, pages in REFERENCES.items():
        text = with_shared((HERE / skill / "SKILL.md").read_text(), version)
        found[f"skills/{skill}/SKILL.md"] = text
        for page in pages:
            found[f"skills/{skill}/references/{page}.md"] = _PAGES[page](skill, text).rstrip() + "\n"
    copies = {f"skills/{to}": (ROOT / source).read_bytes() for to, source in EXAMPLES.items()}
    for skill, scripts in SCRIPTS.items():
        for script in scripts:
            copies[f"skills/{skill}/scripts/{script}"] = (HERE / ROUTER / "scripts" / script).read_bytes()
    return {path: text.encode() for path, text in found.items()} | copies


def checksums() -> bytes:
    """Return the digests of every skill and of each of its files, as they are on disk."""
    skills = {
        skill.name: {"archive": skill.archive_digest, "files": dict(skill.digests)} for skill in skill_pack.read(HERE)
    }
    return (json.dumps({"skills": skills}, indent=2) + "\n").encode()


def stale_files() -> list[str]:
    """Return what is wrong with the committed files, one sentence a file; nothing when they are fresh."""
    wanted = generated()
    wrong = [f"{path} is not what the product gives" for path, content in wanted.items() if _on_disk(path) != content]
    left_over = [
        f"{path.relative_to(ROOT)} has no source any more"
        for path in HERE.glob("*/references/*")
        if str(path.relative_to(ROOT)) not in wanted
    ]
    sums = (
        [] if _on_disk("skills/checksums.json") == checksums() else ["skills/checksums.json is not that of the files"]
    )
    return sorted(wrong + left_over + sums)


def _on_disk(path: str) -> bytes:
    file = ROOT / path
    return file.read_bytes() if file.is_file() else b""


def write() -> int:
    """Bring every generated file up to date, touching only those that change, and return how many did."""
    changed = 0
    for path, content in generated().items():
        changed += _put(path, content)
    return changed + _put(_CHECKSUMS, checksums())


def _put(path: str, content: bytes) -> bool:
    if _on_disk(path) == content:
        return False
    (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / path).write_bytes(content)
    return True


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only tell whether the committed files are fresh")
    if not parser.parse_args().check:
        print(f"{write()} files changed")
        return 0
    stale = stale_files()
    if stale:
        print("\n".join([*stale, _REMEDY]), file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
