"""The language in which clients filter and order what they search: read here, turned into SQL by each room's store.

::

    filter     = [condition {"AND" condition}]
    condition  = identifier ("=" | "!=" | "<" | "<=" | ">" | ">=" | "LIKE" | "ILIKE") value
               | identifier ["NOT"] "IN" "(" text {"," text} ")"
               | identifier "IS" ["NOT"] "NULL"
    identifier = [entity "."] key          a key with other signs than letters, digits and _ - . / : stands in ` or "
    order      = identifier ["ASC" | "DESC"]

Values are never part of any SQL: a `Condition` carries them to the parameters of a query.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError

NUMBER_OPERATORS = frozenset({"=", "!=", "<", "<=", ">", ">="})
TEXT_OPERATORS = frozenset({"=", "!=", "LIKE", "ILIKE", "IN", "NOT IN"})
KEYED_OPERATORS = frozenset({"=", "!=", "LIKE", "ILIKE", "IS NULL", "IS NOT NULL"})
_MAX_LENGTH = 100_000
# What databases take in one statement: terms of an expression, joined tables, parameters, signs of a pattern.
_MAX_CONDITIONS = 200
_MAX_ORDERS = 20
_MAX_LISTED = 10_000
_MAX_PATTERN = 10_000
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.`"]))
      | (?P<operator><=|>=|!=|<>|==|=|<|>)
      | (?P<mark>[(),])
      | (?P<text>'(?:[^']|'')*')
      | (?P<word>(?:[^\W\d][\w\-]*\.)?(?:`[^`]*`|"(?:[^"]|"")*")|[^\W\d][\w\-./:]*)
      | (?P<end>;?\s*$)
    )""",
    re.VERBOSE,
)


class FilterError(InvalidInputError):
    """A filter or an order of a search cannot be read, or asks what cannot be asked."""

    code = "tracking/filter-unreadable"


class Kind(Enum):
    """What is compared with what."""

    NUMBER = "a number"
    TEXT = "a quoted text"


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """Something with keys that can be searched by, such as metrics.

    Attributes:
        operators: Those that fit; the same for every key.
        keys: The keys that there are, by every spelling; None where any key may be.
        numbers: Keys whose values are numbers although the entity's are texts.
        lists: Keys that may be compared with a list; None for all.
    """

    name: str
    kind: Kind
    operators: frozenset[str]
    keys: Mapping[str, str] | None = None
    numbers: frozenset[str] = frozenset()
    lists: frozenset[str] | None = None


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """What a search may speak of.

    Attributes:
        entities: By every spelling, such as ``param``, ``params`` and ``parameters``.
        default: The entity of a key without one.
        orderable: Keys of the default entity that results can be ordered by.
    """

    entities: Mapping[str, Entity]
    default: Entity
    orderable: frozenset[str]


class Condition(msgspec.Struct, frozen=True):
    """One comparison.

    Attributes:
        entity: The entity's name.
        operator: In capitals.
        value: A number, a text, texts, or None for ``IS NULL``.
    """

    entity: str
    key: str
    operator: str
    value: Any = None


class Order(msgspec.Struct, frozen=True):
    """One key to order by."""

    entity: str
    key: str
    is_ascending: bool = True


class _Token(msgspec.Struct, frozen=True):
    kind: str
    text: str


def parse_filter(text: str, vocabulary: Vocabulary) -> list[Condition]:
    """Return a filter's conditions, all of which must hold.

    Raises:
        FilterError: The text does not follow the grammar, names an unknown key, or compares what cannot be compared.
    """
    reader = _Reader(text)
    conditions: list[Condition] = []
    if reader.is_at_end:
        return conditions
    conditions.append(_read_condition(reader, vocabulary))
    while not reader.is_at_end:
        if len(conditions) == _MAX_CONDITIONS:
            raise FilterError(f"a filter has at most {_MAX_CONDITIONS} conditions", hint="Compare with a list by IN.")
        reader.take_word("AND")
        conditions.append(_read_condition(reader, vocabulary))
    listed = sum(len(condition.value) for condition in conditions if isinstance(condition.value, tuple))
    if listed > _MAX_LISTED:
        raise FilterError(f"the filter's lists have {listed:,} values; at most {_MAX_LISTED:,} are compared at once")
    return conditions


def parse_orders(texts: Sequence[str], vocabulary: Vocabulary) -> list[Order]:
    """Return what results are ordered by.

    Raises:
        FilterError: A text does not follow the grammar, names what cannot be ordered by, or a key comes twice.
    """
    orders: list[Order] = []
    if len(texts) > _MAX_ORDERS:
        raise FilterError(f"results can be ordered by at most {_MAX_ORDERS} keys, but there are {len(texts):,}")
    for text in texts:
        reader = _Reader(text)
        # A key of several words, such as `Run Name`, may stand without quotes here.
        entity, key = _read_identifier(reader, vocabulary)
        if entity is vocabulary.default and key not in vocabulary.orderable:
            raise FilterError(
                f"nothing is ordered by {key!r} in {text[:200]!r}",
                hint=f"Keys to order by are {', '.join(sorted(vocabulary.orderable))}.",
            )
        direction = "" if reader.is_at_end else reader.take("word").upper()
        if direction not in ("", "ASC", "DESC") or not reader.is_at_end:
            raise FilterError(f"the order {text[:200]!r} must end after its key, ASC or DESC")
        if any((order.entity, order.key) == (entity.name, key) for order in orders):
            raise FilterError(f"the order contains duplicate fields: {entity.name}.{key}")
        orders.append(Order(entity.name, key, direction != "DESC"))
    return orders


def like_pattern(value: str, *, is_folded: bool) -> str:
    r"""Return a pattern for ``LIKE ? ESCAPE '\'``; a folded one has small letters (of ASCII) only."""
    pattern = value.replace("\\", "\\\\")
    return pattern.translate(_SMALL) if is_folded else pattern


_SMALL = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def compare_text(column: str, condition: Condition) -> tuple[str, list[Any]]:
    """Return the SQL that compares a text expression as a condition says, and its parameters."""
    value = condition.value
    match condition.operator:
        case "LIKE":
            return f"{column} LIKE ? ESCAPE '\\'", [like_pattern(value, is_folded=False)]
        case "ILIKE":
            return f"lower({column}) LIKE ? ESCAPE '\\'", [like_pattern(value, is_folded=True)]
        case "IN" | "NOT IN":
            return f"{column} {condition.operator} ({', '.join('?' * len(value))})", list(value)
        case operator:
            return f"{column} {_SQL[operator]} ?", [value]


def compare_number(column: str, condition: Condition) -> tuple[str, list[Any]]:
    """Return the SQL that compares a number, and its parameters."""
    return f"{column} {_SQL[condition.operator]} ?", [condition.value]


_SQL = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def _read_condition(reader: "_Reader", vocabulary: Vocabulary) -> Condition:
    entity, key = _read_identifier(reader, vocabulary)
    operator = _read_operator(reader)
    is_number = entity.kind is Kind.NUMBER or key in entity.numbers
    allowed = NUMBER_OPERATORS if key in entity.numbers else entity.operators
    if operator not in allowed:
        raise FilterError(
            f"Invalid comparator {operator!r} for {entity.name} {key!r} in {reader.shown}",
            hint=f"It can be compared by {', '.join(sorted(allowed))}.",
        )
    if operator in ("IS NULL", "IS NOT NULL"):
        return Condition(entity.name, key, operator)
    if operator in ("IN", "NOT IN"):
        if entity.lists is not None and key not in entity.lists:
            raise FilterError(
                f"{key!r} cannot be compared with a list", hint=f"Only {', '.join(sorted(entity.lists))} can."
            )
        return Condition(entity.name, key, operator, tuple(_read_list(reader)))
    if is_number:
        return Condition(
            entity.name, key, operator, _number(reader.take("number", f"{entity.name} {key!r}", "a number"))
        )
    text = reader.take_text(f"{entity.name} {key!r}")
    if operator in ("LIKE", "ILIKE") and len(text) > _MAX_PATTERN:
        raise FilterError(
            f"the pattern for {entity.name} {key!r} has {len(text):,} signs; at most {_MAX_PATTERN:,} fit"
        )
    return Condition(entity.name, key, operator, text)


def _read_identifier(reader: "_Reader", vocabulary: Vocabulary) -> tuple[Entity, str]:
    word = reader.take("word", "a condition", "a key such as metrics.loss")
    head, dot, rest = word.partition(".")
    if dot and head[:1] not in '`"':
        entity = vocabulary.entities.get(head)
        if entity is None:
            known = sorted({found.name for found in vocabulary.entities.values()})
            raise FilterError(
                f"Invalid entity type {head[:100]!r} in {reader.shown}", hint=f"There are {', '.join(known)}."
            )
        key = _unquote(rest)
    else:
        entity, key = vocabulary.default, _unquote(word)
    if not key:
        raise FilterError(f"{word[:100]!r} names no key in {reader.shown}")
    if entity.keys is not None:
        if key not in entity.keys:
            known = sorted(set(entity.keys.values()))
            raise FilterError(
                f"Invalid {entity.name} key {key[:100]!r} in {reader.shown}", hint=f"There are {', '.join(known)}."
            )
        key = entity.keys[key]
    return entity, key


def _read_operator(reader: "_Reader") -> str:
    token = reader.next()
    if token.kind == "operator":
        return {"<>": "!=", "==": "="}.get(token.text, token.text)
    word = token.text.upper() if token.kind == "word" else ""
    if word in ("LIKE", "ILIKE", "IN"):
        return word
    if word == "NOT":
        reader.take_word("IN")
        return "NOT IN"
    if word == "IS":
        following = reader.next().text.upper()
        if following == "NULL":
            return "IS NULL"
        if following == "NOT":
            reader.take_word("NULL")
            return "IS NOT NULL"
    raise FilterError(f"a comparator is expected before {token.text[:100]!r} in {reader.shown}")


def _read_list(reader: "_Reader") -> Iterator[str]:
    reader.take_mark("(")
    while True:
        yield reader.take_text("a list")
        if reader.take("mark", "a list", "a comma or a closing parenthesis") == ")":
            return


def _number(text: str) -> float | int:
    if re.fullmatch(r"[-+]?\d{1,18}", text):
        return int(text)
    return float(text)


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "`\"'":
        return text[1:-1].replace(text[0] * 2, text[0])
    return text


class _Reader:
    """Gives a text's tokens one by one."""

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_LENGTH:
            raise FilterError(f"the filter has {len(text):,} signs; at most {_MAX_LENGTH:,} are read")
        if "\0" in text:
            raise FilterError("the filter holds the sign NUL, which no name or value has")
        self._text = text
        self._place = 0
        self._following = self._scan()

    @property
    def shown(self) -> str:
        """The text as shown in messages."""
        return repr(self._text if len(self._text) <= 200 else self._text[:200] + "…")

    @property
    def is_at_end(self) -> bool:
        """Whether no token is left."""
        return self._following.kind == "end"

    def next(self) -> _Token:
        """Return the next token."""
        token = self._following
        if token.kind == "end":
            raise FilterError(f"{self.shown} ends where a condition goes on")
        self._following = self._scan()
        return token

    def take(self, kind: str, where: str = "an order", wanted: str = "a key") -> str:
        """Return the next token's text, which must be of one kind."""
        token = self.next()
        if token.kind != kind:
            raise FilterError(f"{where} needs {wanted}, but it has {token.text[:100]!r} in {self.shown}")
        return token.text

    def take_text(self, where: str) -> str:
        """Return the value of a quoted text."""
        token = self.next()
        if token.kind == "text" or (token.kind == "word" and token.text[0] == '"'):
            return _unquote(token.text)
        raise FilterError(
            f"{where} needs a quoted text such as 'value', but it has {token.text[:100]!r} in {self.shown}"
        )

    def take_word(self, word: str) -> None:
        """Pass over a word that must follow."""
        token = self.next()
        if token.kind != "word" or token.text.upper() != word:
            raise FilterError(f"{word} is expected before {token.text[:100]!r} in {self.shown}")

    def take_mark(self, mark: str) -> None:
        """Pass over a mark that must follow."""
        token = self.next()
        if token.text != mark:
            raise FilterError(f"{mark!r} is expected before {token.text[:100]!r} in {self.shown}")

    def _scan(self) -> _Token:
        match = _TOKEN.match(self._text, self._place)
        if match is None or match.lastgroup is None:
            rest = self._text[self._place :].strip()
            raise FilterError(f"Invalid clause(s) in filter string: {rest[:100]!r} cannot be read in {self.shown}")
        self._place = match.end()
        return _Token(match.lastgroup, match[match.lastgroup])
