"""The options of commands that serve, and the settings they amount to."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from core import logging_setup
from core.settings import ROLES, Settings
from mcp_server.views import TOOLSET_NAMES


def default_data_dir() -> Path:
    """Return where a core keeps its files unless told: `$DRIPSTONE_DATA_DIR`, else `.dripstone` here."""
    return Path(os.environ.get("DRIPSTONE_DATA_DIR") or ".dripstone")


class _Network(click.ParamType[IPv4Network | IPv6Network]):
    name = "cidr"

    def convert(self, value: Any, param: Any, ctx: Any) -> IPv4Network | IPv6Network:
        try:
            return ip_network(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is not a network such as 10.1.0.0/16: {error}", param, ctx)


def _toolsets(_ctx: Any, _param: Any, value: str) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    if unknown := sorted(set(named) - set(TOOLSET_NAMES)):
        raise click.BadParameter(f"unknown: {', '.join(unknown)}; there are {', '.join(TOOLSET_NAMES)}")
    return named


MCP_OPTIONS = (
    click.option(
        "--toolsets",
        "mcp_toolsets",
        envvar="DRIPSTONE_MCP_TOOLSETS",
        default="",
        callback=_toolsets,
        help=f"Only these toolsets of MCP, separated by commas: {', '.join(TOOLSET_NAMES)}. Default: all.",
    ),
    click.option(
        "--read-only",
        "mcp_read_only",
        envvar="DRIPSTONE_MCP_READ_ONLY",
        is_flag=True,
        help="MCP only reads, whatever address, key or header comes.",
    ),
)
"""What a process that serves MCP serves of it."""


def serving_options(command: Any) -> Any:
    """Add the options to a command."""
    for option in reversed(
        [
            click.option(
                "--db", "database_url", help="sqlite:///path or postgresql://…; default: a file in the data dir."
            ),
            click.option(
                "--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone"
            ),
            click.option(
                "--grpc-listen", default="127.0.0.1:7443", show_default=True, help="host:port; port 0 for any."
            ),
            click.option(
                "--http-listen", default="127.0.0.1:7480", show_default=True, help="host:port; port 0 for any."
            ),
            click.option(
                "--allow-destination",
                "allowed",
                multiple=True,
                type=_Network(),
                help="Network that webhooks may reach although it is not public. May be repeated.",
            ),
            click.option(
                "--allow-host",
                "hosts",
                multiple=True,
                help="Host header under which /mcp answers beside loopback's; * for any.",
            ),
            *MCP_OPTIONS,
            click.option(
                "--token-audience",
                "token_audiences",
                multiple=True,
                help="What tokens of an identity provider may be made for, to be taken at /mcp, beside its address. "
                "May be repeated.",
            ),
            click.option(
                "--tls-cert", type=click.Path(exists=True, path_type=Path), help="PEM chain for both listeners."
            ),
            click.option("--tls-key", type=click.Path(exists=True, path_type=Path), help="PEM key of --tls-cert."),
            click.option(
                "--smtp-url",
                envvar="DRIPSTONE_SMTP_URL",
                default="",
                help="Server that e-mail leaves by: smtp://user:password@host:587. Better set in $DRIPSTONE_SMTP_URL.",
            ),
            click.option(
                "--mail-from",
                envvar="DRIPSTONE_MAIL_FROM",
                default="",
                help="Sender of e-mail, such as 'Acme <hello@acme.example>'.",
            ),
            click.option(
                "--unsubscribe-address",
                envvar="DRIPSTONE_UNSUBSCRIBE_ADDRESS",
                default="",
                help="E-mail address to which people may write to unsubscribe, beside the link.",
            ),
            click.option(
                "--public-url",
                envvar="DRIPSTONE_PUBLIC_URL",
                default="",
                help="Under which people and clients of MCP reach this core, such as https://crm.acme.example. "
                "Default: where HTTP is listened on.",
            ),
            click.option(
                "--master-key-file",
                envvar="DRIPSTONE_MASTER_KEY_FILE",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Keys that credentials are encrypted under; or set $DRIPSTONE_MASTER_KEY. "
                "Default: master.key in the data directory.",
            ),
            _days("webhooks", 30, "webhooks and their attempts are"),
            _days("events", 90, "events are"),
            _days("traces", 365, "traces of ended enrollments are"),
            _days("audit", 0, "the audit log is"),
            click.option("--insecure", is_flag=True, help="Serve plaintext also to others (behind a TLS proxy)."),
            click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"])),
        ]
    ):
        command = option(command)
    return command


def _days(what: str, default: int, are: str) -> Callable[[Any], Any]:
    """Return the option that says how long something stays."""
    shown = f"{default}, 0 for ever" if default else "0, for ever"
    says = f"Days that {are} kept."
    return click.option(f"--keep-{what}-days", type=click.IntRange(0), default=default, show_default=shown, help=says)


def settings_of(roles: frozenset[str] = frozenset(ROLES), **given: Any) -> Settings:
    """Return the settings of the given options. Raises UsageError for options that do not go together."""
    data_dir: Path = given["data_dir"]
    if (given["tls_cert"] is None) != (given["tls_key"] is None):
        raise click.UsageError("--tls-cert and --tls-key go together.")
    if given["smtp_url"] and not given["mail_from"]:
        raise click.UsageError("--smtp-url needs --mail-from: who sends the e-mail?")
    public_url = urlsplit(given["public_url"])
    if given["public_url"] and (public_url.scheme not in ("http", "https") or not public_url.hostname):
        raise click.UsageError("--public-url is no address such as https://mail.acme.example.")
    logging_setup.configure(given["log_level"])
    return Settings(
        database_url=given["database_url"] or f"sqlite:///{data_dir / 'dripstone.db'}",
        data_dir=data_dir,
        roles=roles,
        grpc_listen=given["grpc_listen"],
        http_listen=given["http_listen"],
        allowed_destinations=tuple(given["allowed"]),
        allowed_hosts=tuple(given["hosts"]),
        mcp_toolsets=given["mcp_toolsets"],
        mcp_read_only=given["mcp_read_only"],
        token_audiences=tuple(given["token_audiences"]),
        tls_certificate=given["tls_cert"],
        tls_key=given["tls_key"],
        insecure=given["insecure"],
        smtp_url=given["smtp_url"],
        mail_from=given["mail_from"],
        unsubscribe_address=given["unsubscribe_address"],
        public_url=given["public_url"],
        master_key_file=given["master_key_file"],
        keep_webhooks_days=given["keep_webhooks_days"],
        keep_events_days=given["keep_events_days"],
        keep_traces_days=given["keep_traces_days"],
        keep_audit_days=given["keep_audit_days"],
    )
