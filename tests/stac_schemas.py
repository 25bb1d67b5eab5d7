"""Offline validation of STAC items: the core schemas come with pystac, nothing is fetched.

Extension schemas are checked too where `RESURVEY_STAC_SCHEMAS` names a folder that holds them
(any JSON files; each is known by its `$id`). Without it, tests assert the extensions' required
fields by hand.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def problems(item: dict[str, Any]) -> list[str]:
    """What the schemas say is wrong with a STAC item, one line each."""
    from jsonschema import Draft7Validator
    from pystac.validation.local_validator import get_local_schema_cache
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    schemas: dict[str, Any] = dict(get_local_schema_cache())
    folder = os.environ.get("RESURVEY_STAC_SCHEMAS")
    for path in sorted(Path(folder).glob("*.json")) if folder else []:
        schema = json.loads(path.read_text(encoding="utf-8"))
        schemas[schema["$id"].removesuffix("#")] = schema
    registry: Any = Registry().with_resources(
        (uri, Resource.from_contents(schema, default_specification=DRAFT7)) for uri, schema in schemas.items()
    )
    core = f"https://schemas.stacspec.org/v{item['stac_version']}/item-spec/json-schema/item.json"
    wanted = [core, *(uri for uri in item["stac_extensions"] if uri in schemas)]
    return [
        f"{uri}: {error.json_path}: {error.message[:300]}"
        for uri in wanted
        for error in Draft7Validator(schemas[uri], registry=registry).iter_errors(item)
    ]
