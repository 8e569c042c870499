"""Makes a page for each JSON Schema, which lists the fields of the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def format_schema_page(name: str, schema: Mapping[str, Any]) -> str:
    """Return a page that lists the fields of a schema.

    Args:
        name: Name of the schema, such as "manifest".
        schema: The schema.

    Returns:
        A page in Markdown, which links to the file of the schema.
    """
    lines = [f"# {schema['title']}", "", f"{schema['description']}", ""]
    lines += [f"The [JSON Schema]({name}.schema.json) states the same for programs.", ""]
    lines += _format_fields(schema)
    for title, definition in schema["$defs"].items():
        lines += ["", f"## {title}", "", definition["description"], "", *_format_fields(definition)]
    return "\n".join(lines) + "\n"


def _format_fields(schema: Mapping[str, Any]) -> list[str]:
    """Return the fields of an object as a list."""
    lines: list[str] = []
    for name, field in schema["properties"].items():
        presence = "" if name in schema["required"] else ", optional"
        lines += [f"- `{name}` ({_name_type(field)}{presence})", ""]
        lines += [f"    {field['description']}", ""]
    return lines[:-1]


def _name_type(field: Mapping[str, Any]) -> str:
    """Return the type of a field in words."""
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_name_type(alternative) for alternative in field["anyOf"])
    if "const" in field:
        return json.dumps(field["const"])
    if "enum" in field:
        return " or ".join(json.dumps(value) for value in field["enum"])
    if field["type"] == "array":
        items = field.get("items") or field.get("prefixItems", [{"type": "object"}])[0]
        return f"array of {_name_type(items)}"
    if isinstance(field["type"], list):
        return " or ".join(field["type"])
    return str(field["type"])
