"""Describes a Feast repository as JSON; run by an interpreter that has Feast, never imported by Flyball.

Usage: python feast_reader.py REPOSITORY
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def describe(root: Path) -> dict[str, Any]:
    """Return what the repository's Python declares, without applying it."""
    from feast.repo_config import load_repo_config
    from feast.repo_operations import parse_repo

    config = load_repo_config(root, root / "feature_store.yaml")
    contents = parse_repo(root)
    others = ("permissions", "label_views", "projects")
    return {
        "project": config.project,
        "online_store": _plain(getattr(config, "online_store", None)),
        "entities": {entity.name: [entity.join_key] for entity in contents.entities},
        "views": [_view(view, "feature view") for view in contents.feature_views]
        + [_view(view, "stream feature view") for view in contents.stream_feature_views],
        "on_demand": [
            {"name": view.name, "code": getattr(view.feature_transformation, "udf_string", "")}
            for view in contents.on_demand_feature_views
        ],
        "services": [_service(service) for service in contents.feature_services],
        "others": [
            f"{kind.removesuffix('s').replace('_', ' ')} {getattr(one, 'name', '')}"
            for kind in others
            for one in getattr(contents, kind, [])
            if kind != "projects"
        ],
    }


def _view(view: Any, kind: str) -> dict[str, Any]:
    transformation = getattr(view, "feature_transformation", None)
    return {
        "name": view.name,
        "kind": kind,
        "entities": [name for name in view.entities if name != "__dummy"],
        "ttl_s": view.ttl.total_seconds() if view.ttl else None,
        "features": {field.name: str(field.dtype) for field in view.features},
        "source": _source(view.batch_source),
        "push_source": view.stream_source.name if view.stream_source is not None else None,
        "stream": type(view.stream_source).__name__ if view.stream_source is not None else None,
        "code": getattr(transformation, "udf_string", None) if transformation is not None else None,
        "aggregations": [str(one) for one in getattr(view, "aggregations", None) or []],
        "is_online": bool(getattr(view, "online", True)),
    }


def _source(source: Any) -> dict[str, Any] | None:
    if source is None:
        return None
    return {
        "name": source.name,
        "kind": type(source).__name__,
        "path": getattr(source, "path", None),
        "time": source.timestamp_field,
        "known": source.created_timestamp_column,
        "renamed": dict(source.field_mapping or {}),
        "is_delta": "Delta" in type(getattr(source, "file_format", None)).__name__,
    }


def _service(service: Any) -> dict[str, Any]:
    return {
        "name": service.name,
        "views": [
            {
                "name": projection.name,
                "alias": projection.name_alias,
                "features": [field.name for field in projection.features],
            }
            for projection in service.feature_view_projections
        ],
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    return json.loads(json.dumps(value, default=str))


if __name__ == "__main__":
    repository = Path(sys.argv[1]).resolve()
    os.chdir(repository)
    sys.path[0] = str(repository)  # instead of this file's folder, whose modules are Flyball's
    # The repository's own code may print; what is read here is the last line.
    with contextlib.redirect_stdout(sys.stderr):
        described = describe(repository)
    print(json.dumps(described))
