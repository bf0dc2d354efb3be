"""The published schema of audit.json; `python -m oubliette.audit.schema > src/oubliette/audit/schema.json`
makes it anew.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from oubliette.audit.result import FORMAT, Audit

__all__ = ["make_schema", "schema"]


def make_schema() -> dict[str, Any]:
    """The JSON schema of audit.json (draft 2020-12)."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    schema = TypeAdapter(Audit).json_schema()
    del schema["properties"]["samples"]
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"https://oubliette.invalid/{FORMAT}.json",
        **schema,
    }


def schema() -> dict[str, Any]:
    """The published schema, as it ships."""
    loaded: dict[str, Any] = json.loads((files("oubliette.audit") / "schema.json").read_text("utf-8"))
    return loaded


if __name__ == "__main__":
    print(json.dumps(make_schema(), indent=1))
