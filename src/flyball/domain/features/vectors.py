"""Features of many entities at once, as columns: what a caller asks for by name, and what each value is worth."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.features.online import Looked, OnlineReader
from flyball.domain.features.rows import Layout
from flyball.domain.features.training_sets import ViewRef

if TYPE_CHECKING:
    import polars as pl

Status = Literal["present", "null", "not_found", "outdated", "unavailable", "key"]
"""What a value is: there, null in the entity's row, without a row, with one older than the ttl, not to be had."""
_STATUS: dict[str, Status] = {
    "found": "present",
    "unknown": "not_found",
    "outdated": "outdated",
    "unavailable": "unavailable",
}


class Vectors(msgspec.Struct, frozen=True):
    """Keys and features of entities, in columns.

    Attributes:
        names: Of the columns: the keys, then the features as they were asked.
        columns: The values of each, one an entity; None unless its status is ``present``.
        statuses: What each value is.
        event_times_us: When each value held, in microseconds; 0 where there is no row, and for keys.
    """

    names: list[str]
    columns: list[Sequence[Any]]
    statuses: list[Sequence[Status]]
    event_times_us: list[Sequence[int]]

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the values by name."""
        return {name: list(values) for name, values in zip(self.names, self.columns, strict=True)}

    def to_frame(self) -> "pl.DataFrame":
        """Return the values as a frame, one row an entity."""
        import polars as pl

        return pl.DataFrame(self.to_dict(), strict=False)


class Shape(NamedTuple):
    """The columns of an answer.

    Attributes:
        names: Keys and features.
        places: The features in their order: runs of one view, by its number, with their places among its columns.
    """

    names: tuple[str, ...]
    places: tuple[tuple[int, tuple[int, ...]], ...]


class VectorPlan:
    """What is read for one list of features. Safe to keep, and to use from several threads.

    Attributes:
        wanted: The views, each once.
        keys: The keys that a caller gives, each once.
        order: Pairs of a view's place in ``wanted`` and a feature's name; None stands for all features of the view.
        has_full_names: Whether features are called ``view__feature``.
    """

    def __init__(
        self, wanted: Sequence[ViewRef], order: Sequence[tuple[int, str | None]], *, has_full_names: bool
    ) -> None:
        self.wanted = tuple(wanted)
        self.keys = tuple(dict.fromkeys(key for view in wanted for key in view.keys))
        self.order = tuple(order)
        self.has_full_names = has_full_names
        self._shaped: tuple[list[Layout], Shape] | None = None

    def shape(self, layouts: list[Layout]) -> Shape:
        """Return the columns of the answer for views with these layouts.

        Raises:
            UnknownNameError: A view has no such feature.
            InvalidInputError: Two columns would have one name.
        """
        shaped = self._shaped
        if shaped is not None and all(known is layout for known, layout in zip(shaped[0], layouts, strict=True)):
            return shaped[1]
        names, places = list(self.keys), []
        for number, feature in self.order:
            view, known = self.wanted[number].name, layouts[number].places
            for name in [feature] if feature is not None else known:
                if name not in known:
                    raise UnknownNameError(f"feature of the view {view!r}", name, known)
                places.append((number, known[name]))
                names.append(f"{view}__{name}" if self.has_full_names else name)
        if len(set(names)) < len(names):
            _refuse_same_names(names)
        runs = groupby(places, key=itemgetter(0))
        shape = Shape(tuple(names), tuple((number, tuple(place for _, place in run)) for number, run in runs))
        self._shaped = (layouts, shape)
        return shape


def plan_vectors(features: Sequence[str], views: Mapping[str, ViewRef], *, has_full_names: bool = False) -> VectorPlan:
    """Read references to features.

    Args:
        features: ``view`` (all of it), ``view:feature`` or ``view@version:feature``.
        views: By name, in the version that counts where none is named.
        has_full_names: Whether to call features ``view__feature`` in the answer.

    Raises:
        InvalidInputError: No feature is asked, or a reference is none.
        UnknownNameError: There is no such view.
    """
    if not features:
        raise InvalidInputError("no feature is asked", hint='Name views or features, such as "payments:late_share".')
    wanted: list[ViewRef] = []
    order: list[tuple[int, str | None]] = []
    for reference in features:
        if not isinstance(reference, str):
            raise InvalidInputError(
                f"{reference!r} is no reference to a feature", hint="Write view, view:feature or view@version:feature."
            )
        name, colon, feature = reference.partition(":")
        name, at_sign, version = name.partition("@")
        if not name or (colon and not feature) or (at_sign and not version):
            raise InvalidInputError(
                f"{reference!r} is no reference to a feature", hint="Write view, view:feature or view@version:feature."
            )
        if name not in views:
            raise UnknownNameError("feature view", name, views)
        view = views[name]._replace(version=version) if version else views[name]
        if view not in wanted:
            wanted.append(view)
        order.append((wanted.index(view), feature or None))
    return VectorPlan(wanted, order, has_full_names=has_full_names)


def read_vectors(
    reader: OnlineReader, plan: VectorPlan, entities: Mapping[str, Sequence[Any]], at: datetime
) -> Vectors:
    """Look up the features of entities.

    An unknown entity has nulls and says so in its status; it fails nobody else.

    Args:
        reader: Reads the online store.
        plan: What is asked.
        entities: The values of each key, one an entity; a number may be given as text.
        at: The instant for which the features count.

    Raises:
        InvalidInputError: A key is missing, unknown or shorter than others; two features have one name.
        UnknownNameError: A view has no such feature.
        NotMaterialisedError: A view's version was never written to the online store.
        BackendUnavailableError: The store did not answer, and nothing says to go on without it.
    """
    height = _check_entities(plan, entities)
    found = [_look_up(reader, view, entities, at) for view in plan.wanted]
    shape = plan.shape([layout for _, layout in found])
    columns: list[Sequence[Any]] = [entities[key] for key in plan.keys]
    statuses: list[Sequence[Status]] = [["key"] * height] * len(plan.keys)
    times_us: list[Sequence[int]] = [(0,) * height] * len(plan.keys)
    views = [_Columns(looked, len(layout.places)) for looked, layout in found]
    for number, places in shape.places:
        view = views[number]
        columns += [view.columns[place] for place in places]
        statuses += view.told(places)
        times_us += [view.times_us] * len(places)
    return Vectors(list(shape.names), columns, statuses, times_us)


def _look_up(
    reader: OnlineReader, view: ViewRef, entities: Mapping[str, Sequence[Any]], at: datetime
) -> tuple[Looked, Layout]:
    keys = list(zip(*[entities[key] for key in view.keys], strict=True))
    return reader.look_up_with_layout(view.name, view.version, view.ttl, keys, at)


class _Columns:
    """What was found in one view, by column."""

    def __init__(self, looked: Looked, width: int) -> None:
        nothing = (None,) * width
        rows = looked.values if None not in looked.values else [row or nothing for row in looked.values]
        self.columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * width
        self.times_us = looked.event_times_us
        self._statuses: list[Status] = [_STATUS[outcome] for outcome in looked.outcomes]
        self._has_null = looked.has_null

    def told(self, places: Sequence[int]) -> list[Sequence[Status]]:
        """Return the statuses of columns: those of the view's rows, but for nulls in rows that are there."""
        if not self._has_null:
            return [self._statuses] * len(places)
        return [self._told(self.columns[place]) for place in places]

    def _told(self, values: Sequence[Any]) -> Sequence[Status]:
        if None not in values:
            return self._statuses
        return [
            "null" if value is None and status == "present" else status
            for value, status in zip(values, self._statuses, strict=True)
        ]


def _check_entities(plan: VectorPlan, entities: Mapping[str, Sequence[Any]]) -> int:
    """Return how many entities there are."""
    heights = {key: len(values) for key, values in entities.items()}
    if heights.keys() == set(plan.keys) and len(set(heights.values())) == 1:
        return next(iter(heights.values()))
    missing = [key for key in plan.keys if key not in entities]
    if missing:
        view = next(view for view in plan.wanted if missing[0] in view.keys)
        raise InvalidInputError(
            f"the key {missing[0]!r} is missing, which the feature view {view.name!r} is looked up by",
            hint=f"Give its values: {{{missing[0]!r}: [...]}}",
        )
    unknown = [key for key in entities if key not in plan.keys]
    if unknown:
        raise InvalidInputError(
            f"{unknown[0]!r} is no key of the views that are asked", hint=f"Their keys are: {', '.join(plan.keys)}."
        )
    told = ", ".join(f"{key} has {height:,}" for key, height in heights.items())
    raise InvalidInputError(f"each key needs one value for each entity, but {told}")


def _refuse_same_names(names: Sequence[str]) -> None:
    twice = next(name for name in names if names.count(name) > 1)
    raise InvalidInputError(
        f"two columns of the answer would be called {twice!r}",
        hint="Ask with full names (view__feature), or name one of them only.",
    )
