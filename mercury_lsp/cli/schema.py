"""The settings as a JSON schema, derived from `config.Config`, for editors to show and check.

`editors/generate.py` writes it where editors look; a test fails when what is committed is stale.
"""

from dataclasses import fields
from typing import Any

from mercury_lsp.config import SECTION, Bounds, Config, camel


def settings() -> dict[str, dict[str, Any]]:
    """A JSON schema for each setting, by its name in an editor without the section."""
    return {
        camel(field.name): _schema(field.default, field.metadata["bounds"])
        for field in fields(Config)
    }


def schema() -> dict[str, Any]:
    """The whole section, for editors that check a JSON file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SECTION,
        "type": "object",
        "additionalProperties": False,
        "properties": settings(),
    }


def _schema(default: object, bounds: Bounds) -> dict[str, Any]:
    found: dict[str, Any] = {"description": bounds.purpose, "default": default}
    if isinstance(default, bool):
        found["type"] = "boolean"
    elif isinstance(default, int):
        found["type"] = "integer"
    elif isinstance(default, float):
        found["type"] = "number"
    elif isinstance(default, tuple):
        found |= {"type": "array", "items": {"type": "string"}, "default": list(default)}
    else:
        found["type"] = "string"
    if bounds.choices:
        found["enum"] = list(bounds.choices)
    if bounds.minimum is not None:
        found["minimum"] = bounds.minimum
    if bounds.maximum is not None:
        found["maximum"] = bounds.maximum
    return found
