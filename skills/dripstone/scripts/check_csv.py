#!/usr/bin/env python3
"""Check a CSV of contacts before it is enrolled or imported, and give its good rows as contacts.

Prints one JSON object: rows, problems (line, column, reason, message), unknown columns, duplicates, and `contacts`
in the form that the tool `enroll` takes. Nothing is sent anywhere.
Exit code 0: no problems; 1: problems; 2: not readable.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys

KNOWN = ("email", "contact_id", "first_name", "last_name", "company_name", "lead_ref", "phone", "timezone", "key")
ALIASES = {
    "e_mail": "email",
    "mail": "email",
    "email_address": "email",
    "firstname": "first_name",
    "given_name": "first_name",
    "lastname": "last_name",
    "surname": "last_name",
    "family_name": "last_name",
    "company": "company_name",
    "organization": "company_name",
    "organisation": "company_name",
    "telephone": "phone",
    "time_zone": "timezone",
}
NAMES = ("email", "contact_id", "lead_ref")
MOST_ROWS = 1000
MOST_BYTES = 10_000_000
ADDRESS = re.compile(r"[^@\s,;<>\"()]+@[^@\s,;<>\"().]+(\.[^@\s,;<>\"().]+)+")


def column(title: str) -> str:
    """Return the field that a column's title names."""
    name = re.sub(r"[\s\-./]+", "_", title.strip().lower()).strip("_")
    return ALIASES.get(name, name)


def check(text: str, most: int = MOST_ROWS) -> dict[str, object]:
    """Return what is in a CSV and what is wrong with it."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t|", key=first.count))
    titles = next(reader, [])
    fields = [column(title) for title in titles]
    problems: list[dict[str, object]] = []
    if not set(NAMES) & set(fields):
        problems.append(_problem(1, "", "NO_IDENTITY", f"no column is one of {', '.join(NAMES)}"))
    for name in sorted({name for name in fields if name and fields.count(name) > 1}):
        problems.append(_problem(1, name, "COLUMN_TWICE", f"two columns are {name}"))
    seen: dict[str, int] = {}
    contacts, duplicates, rows = [], [], 0
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        rows += 1
        line = reader.line_num
        if len(row) != len(fields):
            problems.append(_problem(line, "", "WRONG_LENGTH", f"{len(row)} cells under {len(fields)} titles"))
            continue
        contact = {name: cell.strip() for name, cell in zip(fields, row, strict=True) if name in KNOWN and cell.strip()}
        identity = next((contact[name].lower() for name in NAMES if name in contact), "")
        if not identity:
            problems.append(_problem(line, "", "NO_IDENTITY", "the row names nobody"))
        elif "email" in contact and not ADDRESS.fullmatch(contact["email"]):
            problems.append(_problem(line, "email", "NOT_AN_ADDRESS", "is not an e-mail address"))
        elif identity in seen:
            duplicates.append({"line": line, "same_as_line": seen[identity]})
        else:
            seen[identity] = line
            contacts.append(contact)
    if rows > most:
        problems.append(_problem(0, "", "TOO_MANY_ROWS", f"{rows} rows; one call takes {most}"))
    return {
        "ok": not problems,
        "rows": rows,
        "usable": len(contacts),
        "problems": problems[:100],
        "problem_count": len(problems),
        "duplicates": duplicates[:100],
        "duplicate_count": len(duplicates),
        "unknown_columns": [title for title, name in zip(titles, fields, strict=True) if name not in KNOWN],
        "contacts": contacts[:most],
    }


def _problem(line: int, field: str, reason: str, message: str) -> dict[str, object]:
    return {"line": line, "column": field, "reason": reason, "message": message}


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="the CSV in UTF-8; - for standard input")
    parser.add_argument("--most", type=int, default=MOST_ROWS, help=f"most rows of one call (default {MOST_ROWS})")
    given = parser.parse_args()
    try:
        if given.file == "-":
            content = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with open(given.file, "rb") as file:
                content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        found = check(content.decode("utf-8-sig"), given.most)
    except (OSError, ValueError, csv.Error) as error:
        why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        print(json.dumps({"ok": False, "error": why}))
        return 2
    print(json.dumps(found, ensure_ascii=False, indent=2))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
