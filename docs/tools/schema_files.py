"""Writes the JSON Schemas of manifests, recipes and records.

    python docs/tools/schema_files.py            # writes docs/reference/schemas/*.schema.json
    python docs/tools/schema_files.py --check    # only says whether the files are up to date

The schemas are made from the dataclasses that read the files: the types of the fields, and the
descriptions in their docstrings. This needs tinyvit-edge[export], because recipes belong to
`tinyvit.quant`.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from generated_files import run_generator

FOLDER = Path(__file__).parents[1] / "reference" / "schemas"
"""Folder of the schema files."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
}
_ATTRIBUTE = re.compile(r"^(\w+): ")
_NONE = re.compile(r"\bNone\b")


class SchemaBuilder:
    """Collects the schemas of dataclasses.

    Attributes:
        definitions: Name of each dataclass -> its schema.
    """

    def __init__(self, required: Mapping[str, Sequence[str]]) -> None:
        """Create a builder without definitions.

        Args:
            required: Name of a dataclass -> fields that a file must contain although the dataclass
                has a default for them.
        """
        self.definitions: dict[str, dict[str, Any]] = {}
        self._required = required

    def describe_dataclass(self, dataclass_type: type) -> dict[str, Any]:
        """Return the schema of a dataclass as an object, without a reference.

        Args:
            dataclass_type: The dataclass.
        """
        descriptions: dict[str, str] = {}
        for base in reversed(dataclass_type.__mro__):
            descriptions |= read_attributes(inspect.cleandoc(base.__doc__ or ""))
        types = get_type_hints(dataclass_type)
        always = set(self._required.get(dataclass_type.__name__, ()))
        properties: dict[str, Any] = {}
        for field in fields(dataclass_type):
            # Python's None is null in JSON.
            description = _NONE.sub("null", descriptions.get(field.name, ""))
            properties[field.name] = {
                "description": description,
                **self._describe(types[field.name]),
            }
            if field.default is MISSING and field.default_factory is MISSING:
                always.add(field.name)
        return {
            "type": "object",
            "description": _read_summary(dataclass_type),
            "properties": properties,
            "required": [name for name in properties if name in always],
            "additionalProperties": False,
        }

    def refer_to(self, dataclass_type: type) -> dict[str, Any]:
        """Return a reference to the definition of a dataclass, which is added if it is new.

        Args:
            dataclass_type: The dataclass.
        """
        name = dataclass_type.__name__
        if name not in self.definitions:
            self.definitions[name] = {}  # a type that contains itself finds this entry
            self.definitions[name] = self.describe_dataclass(dataclass_type)
        return {"$ref": f"#/$defs/{name}"}

    def _describe(self, declared_type: Any) -> dict[str, Any]:
        """Return the schema of a type that `tinyvit.serialization.parse_dataclass` supports."""
        if declared_type in _SCALARS:
            return dict(_SCALARS[declared_type])
        if is_dataclass(declared_type) and isinstance(declared_type, type):
            return self.refer_to(declared_type)
        origin, arguments = get_origin(declared_type), get_args(declared_type)
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin is dict:
            return {"type": "object", "additionalProperties": self._describe(arguments[1])}
        if origin is tuple:
            return self._describe_tuple(arguments)
        return self._describe_union(arguments)

    def _describe_tuple(self, arguments: Sequence[Any]) -> dict[str, Any]:
        if arguments[-1] is ...:
            return {"type": "array", "items": self._describe(arguments[0])}
        items = [self._describe(argument) for argument in arguments]
        length = {"minItems": len(items), "maxItems": len(items)}
        return {"type": "array", "prefixItems": items, **length}

    def _describe_union(self, arguments: Sequence[Any]) -> dict[str, Any]:
        schemas = [self._describe(argument) for argument in arguments]
        if all(list(schema) == ["type"] for schema in schemas):
            return {"type": [schema["type"] for schema in schemas]}
        return {"anyOf": schemas}


def read_attributes(docstring: str) -> dict[str, str]:
    """Read the section "Attributes" of a Google-style docstring.

    Args:
        docstring: A docstring without its indentation.

    Returns:
        Name of each attribute -> its description, on one line.
    """
    _, _, section = docstring.partition("\nAttributes:\n")
    descriptions: dict[str, str] = {}
    name = ""
    for line in section.split("\n"):
        if line and not line.startswith(" "):
            break
        match = _ATTRIBUTE.match(line[4:])
        if match:
            name = match[1]
            descriptions[name] = line[4 + match.end() :].strip()
        elif name:
            descriptions[name] = f"{descriptions[name]} {line.strip()}".strip()
    return descriptions


def make_manifest_schema() -> dict[str, Any]:
    """Return the schema of the manifest in an artifact."""
    from tinyvit import manifest
    from tinyvit.preprocess import PREPROCESS_FIELDS

    builder = SchemaBuilder({"Manifest": manifest.REQUIRED_FIELDS, "Preprocess": PREPROCESS_FIELDS})
    schema = builder.describe_dataclass(manifest.Manifest)
    schema["properties"]["format"] = {**schema["properties"]["format"], "const": manifest.FORMAT}
    schema["required"] += ["format"]
    texts = {"type": "array", "items": {"type": "string"}}
    wnids = 'WordNet id of each class; "" for a class without one.'
    schema["properties"]["labels"] = {
        "description": schema["properties"]["labels"]["description"],
        "type": "object",
        "properties": {
            "names": {"description": "Name of each class.", **texts},
            "wnids": {"description": wnids, **texts},
        },
        "required": ["names", "wnids"],
        "additionalProperties": False,
    }
    builder.definitions.pop("Label")
    return _finish("Manifest of an artifact", schema, builder)


def make_recipe_schema() -> dict[str, Any]:
    """Return the schema of a recipe file."""
    from tinyvit.quant import recipe

    builder = SchemaBuilder({})
    schema = builder.describe_dataclass(recipe.Recipe)
    versions = list(recipe.FORMATS)
    version = {"description": "Version of the format.", "enum": versions}
    schema["properties"] = {"format": version, **schema["properties"]}
    schema["properties"]["weight_bits"]["enum"] = list(recipe.WEIGHT_BITS)
    scale = {"minimum": recipe.MIN_SCALE, "maximum": recipe.MAX_SCALE}
    schema["properties"]["scales"]["additionalProperties"].update(scale)
    schema["properties"]["scales"]["minProperties"] = 1
    schema["required"] = ["format", *schema["required"]]
    return _finish("Recipe of an int8 quantization", schema, builder)


def make_record_schema() -> dict[str, Any]:
    """Return the schema of a record of tinyvit-bench."""
    from tinyvit.bench.record import record

    builder = SchemaBuilder({})
    schema = builder.describe_dataclass(record.Record)
    properties = schema["properties"]
    kinds = get_args(record.RecordKind)
    results = {kind: properties.pop(kind) for kind in kinds}
    version = {"description": "Version of the format.", "const": record.SCHEMA}
    description = "The results, whose fields depend on the kind of the record."
    schema["properties"] = {"schema": version, **properties}
    schema["properties"]["results"] = {"description": description, "type": "array"}
    schema["required"] = ["schema", *schema["required"], "results"]
    schema["allOf"] = [
        {
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"properties": {"results": {"items": result["items"]}}},
        }
        for kind, result in results.items()
    ]
    return _finish("Record of a measurement", schema, builder)


SCHEMAS = {
    "manifest": make_manifest_schema,
    "recipe": make_recipe_schema,
    "record": make_record_schema,
}
"""Name of each schema -> the function that makes it."""


def _finish(title: str, schema: dict[str, Any], builder: SchemaBuilder) -> dict[str, Any]:
    """Add the dialect, the title and the definitions to a schema."""
    definitions = dict(sorted(builder.definitions.items()))
    return {"$schema": _DIALECT, "title": title, **schema, "$defs": definitions}


def _read_summary(documented: type) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def format_schema(schema: Mapping[str, Any]) -> str:
    """Return the text of a schema file.

    Args:
        schema: The schema.
    """
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def make_files() -> dict[Path, str]:
    """Make every schema file."""
    return {
        FOLDER / f"{name}.schema.json": format_schema(make_schema())
        for name, make_schema in SCHEMAS.items()
    }


if __name__ == "__main__":
    sys.exit(run_generator("Write the JSON Schemas of the documentation.", make_files))
