"""The SQL of registered models and versions as clients see them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from flyball.domain.registry.models import PROMPT_TAG, ClientVersion, RegisteredModel, Stage
from flyball.domain.registry.store import VERSION_COLUMNS, read_version
from flyball.domain.tracking.filters import Condition, Order, compare_number, compare_text
from flyball.storage.db import Row, Transaction
from flyball.storage.paging import SortKey, read_page

_PART = 300
Compare = Callable[[Condition], tuple[str, list[Any]]]
"""An expression, whether upwards, and its type."""

_MODEL_KEYS: dict[str, tuple[str, type]] = {
    "name": ("m.name", str),
    "created": ("m.created_at_us", int),
    "updated": ("m.updated_at_us", int),
}
_VERSION_KEYS: dict[str, tuple[str, type]] = {
    "name": ("v.model", str),
    "version_number": ("v.number", int),
    "created": ("v.created_at_us", int),
    "updated": ("v.updated_at_us", int),
    "run_id": ("v.run_id", str),
    "source_path": ("CASE WHEN v.source = '' THEN v.location ELSE v.source END", str),
    "model_id": ("v.logged_model", str),
}


# Models


def insert_model(tx: Transaction, name: str, description: str, at_us: int) -> None:
    """Register a model."""
    tx.send(
        "INSERT INTO registry_model (name, description, created_at_us, updated_at_us) VALUES (?, ?, ?, ?)",
        (name, description, at_us, at_us),
    )


def find_model(tx: Transaction, name: str) -> RegisteredModel | None:
    """Return a model with all that belongs to it."""
    row = tx.row("SELECT name, description, created_at_us, updated_at_us FROM registry_model WHERE name = ?", (name,))
    return None if row is None else _read_models(tx, [row])[0]


def update_model(tx: Transaction, name: str, at_us: int, *, description: str | None = None) -> None:
    """Note that a model changed, and perhaps what is said of it."""
    tx.send(
        "UPDATE registry_model SET description = coalesce(?, description), updated_at_us = ? WHERE name = ?",
        (description, at_us, name),
    )


def rename_model(tx: Transaction, name: str, new_name: str, at_us: int) -> None:
    """Give a model, and all that belongs to it, another name."""
    tx.send("UPDATE registry_model SET name = ?, updated_at_us = ? WHERE name = ?", (new_name, at_us, name))
    tx.send("UPDATE registry_version SET updated_at_us = ? WHERE model = ?", (at_us, name))
    for table in (
        "registry_model_tag",
        "registry_version",
        "registry_version_tag",
        "registry_alias",
        "registry_alias_now",
        "registry_evidence",
        "registry_approval",
    ):
        tx.send(f"UPDATE {table} SET model = ? WHERE model = ?", (new_name, name))


def delete_model(tx: Transaction, name: str, at_us: int) -> None:
    """Take a model away with its tags and versions; what versions it had stays to be looked back at."""
    tx.send("DELETE FROM registry_model_tag WHERE model = ?", (name,))
    tx.send("DELETE FROM registry_version_tag WHERE model = ?", (name,))
    tx.send("DELETE FROM registry_model WHERE name = ?", (name,))
    tx.send("UPDATE registry_version SET deleted_at_us = ? WHERE model = ? AND deleted_at_us IS NULL", (at_us, name))


def list_locations(tx: Transaction, name: str) -> list[str]:
    """Return where the files of a model's versions are that are kept here."""
    sql = "SELECT location FROM registry_version WHERE model = ? AND content_digest <> '' AND deleted_at_us IS NULL"
    return [row["location"] for row in tx.rows(sql, (name,))]


def put_model_tags(tx: Transaction, name: str, tags: Mapping[str, str]) -> None:
    """Keep tags; a key that is there is replaced."""
    tx.execute_many(
        "INSERT INTO registry_model_tag (model, name, value) VALUES (?, ?, ?)"
        " ON CONFLICT (model, name) DO UPDATE SET value = excluded.value",
        [(name, key, value) for key, value in tags.items()],
    )


def delete_model_tag(tx: Transaction, name: str, key: str) -> bool:
    """Remove a tag and tell whether it was there."""
    return tx.execute("DELETE FROM registry_model_tag WHERE model = ? AND name = ?", (name, key)) > 0


def search_models(
    tx: Transaction,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    *,
    after: Sequence[Any] | None,
    limit: int,
) -> list[tuple[RegisteredModel, list[Any]]]:
    """Return models and their sort keys."""
    rows, keys = read_page(
        tx,
        "SELECT m.name, m.description, m.created_at_us, m.updated_at_us{keys} FROM registry_model AS m WHERE 1 = 1",
        [_compare_model(condition) for condition in conditions],
        model_keys(orders),
        after=after,
        limit=limit,
    )
    return list(zip(_read_models(tx, rows), keys, strict=True))


def model_keys(orders: Sequence[Order]) -> list[SortKey]:
    """Return what a search of models sorts by; by default their names."""
    keys = [(_MODEL_KEYS[order.key][0], order.is_ascending, _MODEL_KEYS[order.key][1]) for order in orders]
    return keys if any(order.key == "name" for order in orders) else [*keys, ("m.name", True, str)]


# Versions


def update_version(
    tx: Transaction, name: str, number: int, at_us: int, *, description: str | None = None, stage: str | None = None
) -> None:
    """Note that a version changed, and perhaps what is said of it or its stage."""
    tx.send(
        "UPDATE registry_version SET description = coalesce(?, description), stage = coalesce(?, stage),"
        " updated_at_us = ? WHERE model = ? AND number = ?",
        (description, stage, at_us, name, number),
    )


def archive_others(tx: Transaction, name: str, number: int, stage: str, at_us: int) -> list[int]:
    """Give the other versions of a stage the stage ``Archived``, and return their numbers."""
    sql = "SELECT number FROM registry_version WHERE model = ? AND stage = ? AND number <> ? AND deleted_at_us IS NULL"
    numbers = [row["number"] for row in tx.rows(sql, (name, stage, number))]
    for other in numbers:
        update_version(tx, name, other, at_us, stage=Stage.ARCHIVED.value)
    return numbers


def delete_version(tx: Transaction, name: str, number: int, at_us: int) -> None:
    """Mark a version as deleted and remove its tags."""
    tx.send("DELETE FROM registry_version_tag WHERE model = ? AND number = ?", (name, number))
    tx.send("UPDATE registry_version SET deleted_at_us = ? WHERE model = ? AND number = ?", (at_us, name, number))


def put_version_tags(tx: Transaction, name: str, number: int, tags: Mapping[str, str]) -> None:
    """Keep tags; a key that is there is replaced."""
    tx.execute_many(
        "INSERT INTO registry_version_tag (model, number, name, value) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (model, number, name) DO UPDATE SET value = excluded.value",
        [(name, number, key, value) for key, value in tags.items()],
    )


def delete_version_tag(tx: Transaction, name: str, number: int, key: str) -> bool:
    """Remove a tag and tell whether it was there."""
    sql = "DELETE FROM registry_version_tag WHERE model = ? AND number = ? AND name = ?"
    return tx.execute(sql, (name, number, key)) > 0


def find_version(tx: Transaction, name: str, number: int) -> ClientVersion | None:
    """Return a version with all that belongs to it, unless it is deleted."""
    row = tx.row(
        f"SELECT {VERSION_COLUMNS} FROM registry_version WHERE model = ? AND number = ? AND deleted_at_us IS NULL",
        (name, number),
    )
    return None if row is None else _read_versions(tx, [row])[0]


def has_judged_versions(tx: Transaction, name: str) -> bool:
    """Tell whether a user signed for a version of a model, or Flyball packaged one."""
    sql = (
        "SELECT 1 FROM registry_version WHERE model = ? AND package_digest <> '' UNION ALL"
        " SELECT 1 FROM registry_approval WHERE model = ? AND user_name IS NOT NULL LIMIT 1"
    )
    return tx.value(sql, (name, name)) is not None


def latest_versions(tx: Transaction, names: Sequence[str]) -> dict[str, list[ClientVersion]]:
    """Return the newest version of each stage of some models, by model, oldest first."""
    newest = ", ".join(
        "(SELECT max(v.number) FROM registry_version AS v"
        f" WHERE v.model = m.name AND v.stage = '{stage.value}' AND v.deleted_at_us IS NULL) AS s{place}"
        for place, stage in enumerate(Stage)
    )
    wanted: list[tuple[str, int]] = []
    for part in _parts(names):
        for found in tx.tuples(
            f"SELECT m.name, {newest} FROM registry_model AS m WHERE m.name IN ({_marks(part)})", part
        ):
            wanted += [(found[0], number) for number in found[1:] if number is not None]
    rows: list[Row] = []
    for pairs in _parts(wanted):
        where = " OR ".join(["(model = ? AND number = ?)"] * len(pairs))
        rows += tx.rows(
            f"SELECT {VERSION_COLUMNS} FROM registry_version WHERE {where} ORDER BY model, number",
            [value for pair in pairs for value in pair],
        )
    latest: dict[str, list[ClientVersion]] = {name: [] for name in names}
    for version in _read_versions(tx, rows):
        latest[version.version.model].append(version)
    return latest


def search_versions(
    tx: Transaction,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    *,
    after: Sequence[Any] | None,
    limit: int,
) -> list[tuple[ClientVersion, list[Any]]]:
    """Return versions and their sort keys."""
    rows, keys = read_page(
        tx,
        f"SELECT {VERSION_COLUMNS}{{keys}} FROM registry_version AS v WHERE v.deleted_at_us IS NULL",
        [_compare_version(condition) for condition in conditions],
        version_keys(orders),
        after=after,
        limit=limit,
    )
    return list(zip(_read_versions(tx, rows), keys, strict=True))


def version_keys(orders: Sequence[Order]) -> list[SortKey]:
    """Return what a search of versions sorts by; by default the one that changed last comes first."""
    keys = [(_VERSION_KEYS[order.key][0], order.is_ascending, _VERSION_KEYS[order.key][1]) for order in orders]
    present = {order.key for order in orders}
    further = [("updated", False), ("name", True), ("version_number", False)]
    return keys + [(_VERSION_KEYS[key][0], up, _VERSION_KEYS[key][1]) for key, up in further if key not in present]


def list_models_of(tx: Transaction, model_ids: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    """Return the versions that logged models were registered as, by the models' ids."""
    found: dict[str, list[tuple[str, int]]] = {}
    for part in _parts(model_ids):
        for model_id, name, number in tx.tuples(
            "SELECT logged_model, model, number FROM registry_version"
            f" WHERE logged_model IN ({_marks(part)}) AND logged_model <> '' AND deleted_at_us IS NULL"
            " ORDER BY logged_model, model, number",
            part,
        ):
            found.setdefault(model_id, []).append((name, number))
    return found


def _compare_model(condition: Condition) -> tuple[str, list[Any]]:
    if condition.entity == "tag":
        table = "SELECT 1 FROM registry_model_tag AS t WHERE t.model = m.name AND t.name = ?"
        return compare_tag(table, condition)
    return _compare_key(_MODEL_KEYS[condition.key][0], condition, is_number=condition.key != "name")


def _compare_version(condition: Condition) -> tuple[str, list[Any]]:
    if condition.entity == "tag":
        table = "SELECT 1 FROM registry_version_tag AS t WHERE t.model = v.model AND t.number = v.number AND t.name = ?"
        return compare_tag(table, condition)
    expression, kind = _VERSION_KEYS[condition.key]
    return _compare_key(expression, condition, is_number=kind is int)


def compare_tag(select: str, condition: Condition) -> tuple[str, list[Any]]:
    """Return the SQL that compares a tag, and its parameters; what is no prompt has no tag that says so."""
    if condition.operator in ("IS NULL", "IS NOT NULL"):
        return f"{'NOT ' if condition.operator == 'IS NULL' else ''}EXISTS ({select})", [condition.key]
    sql, values = compare_text("t.value", condition)
    if condition.key == PROMPT_TAG and (condition.operator, condition.value) in (("!=", "true"), ("=", "false")):
        return f"NOT EXISTS ({select} AND t.value = 'true')", [condition.key]
    return f"EXISTS ({select} AND {sql})", [condition.key, *values]


def _compare_key(expression: str, condition: Condition, *, is_number: bool) -> tuple[str, list[Any]]:
    if not is_number:
        return compare_text(expression, condition)
    if expression.endswith("_us"):  # clients speak of milliseconds
        return compare_number(f"{expression} / 1000", condition)
    return compare_number(expression, condition)


def _read_models(tx: Transaction, rows: Sequence[Row]) -> list[RegisteredModel]:
    names = [row["name"] for row in rows]
    tags: dict[str, dict[str, str]] = {name: {} for name in names}
    aliases: dict[str, dict[str, int]] = {name: {} for name in names}
    for part in _parts(names):
        marks = _marks(part)
        sql = f"SELECT model, name, value FROM registry_model_tag WHERE model IN ({marks}) ORDER BY model, name"
        for model, key, value in tx.tuples(sql, part):
            tags[model][key] = value
        sql = f"SELECT model, alias, number FROM registry_alias_now WHERE model IN ({marks}) ORDER BY model, alias"
        for model, alias, number in tx.tuples(sql, part):
            aliases[model][alias] = number
    latest = latest_versions(tx, names)
    return [
        RegisteredModel(
            row["name"],
            row["description"],
            row["created_at_us"],
            row["updated_at_us"],
            tags[row["name"]],
            aliases[row["name"]],
            latest[row["name"]],
        )
        for row in rows
    ]


def _read_versions(tx: Transaction, rows: Sequence[Row]) -> list[ClientVersion]:
    pairs = [(row["model"], row["number"]) for row in rows]
    tags: dict[tuple[str, int], dict[str, str]] = {pair: {} for pair in pairs}
    aliases: dict[tuple[str, int], list[str]] = {pair: [] for pair in pairs}
    for model, numbers in _by_model(pairs).items():
        for part in _parts(numbers):
            where = f"model = ? AND number IN ({_marks(part)})"
            sql = f"SELECT number, name, value FROM registry_version_tag WHERE {where} ORDER BY number, name"
            for number, key, value in tx.tuples(sql, [model, *part]):
                tags[(model, number)][key] = value
            sql = f"SELECT number, alias FROM registry_alias_now WHERE {where} ORDER BY number, alias"
            for number, alias in tx.tuples(sql, [model, *part]):
                aliases[(model, number)].append(alias)
    params = _params_of(tx, [row["logged_model"] for row in rows if row["logged_model"]])
    return [
        ClientVersion(read_version(row), tags[pair], aliases[pair], params.get(row["logged_model"], {}))
        for row, pair in zip(rows, pairs, strict=True)
    ]


def _params_of(tx: Transaction, model_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for part in _parts(sorted(set(model_ids))):
        for model_id, key, value in tx.tuples(
            "SELECT m.id, p.name, p.value FROM registry_logged_model AS m"
            " JOIN registry_logged_param AS p ON p.model = m.number"
            f" WHERE m.id IN ({_marks(part)}) ORDER BY m.id, p.name",
            part,
        ):
            found.setdefault(model_id, {})[key] = value
    return found


def _by_model(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for model, number in pairs:
        found.setdefault(model, []).append(number)
    return found


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _PART):
        yield values[start : start + _PART]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
