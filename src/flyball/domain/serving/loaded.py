"""A model version in memory, ready to answer, and who brings it there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec
import polars as pl

from flyball.core.errors import NotFoundError
from flyball.domain.data.requests import RequestSchema
from flyball.domain.data.row_checks import RowCheck
from flyball.domain.features.training_sets import ViewRef
from flyball.domain.features.views import RequestFeatures
from flyball.domain.predictions.records import ViewUse
from flyball.domain.registry.runtimes import Predictor
from flyball.domain.registry.signatures import Signature


class LoadedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a model version that answering needs.

    Attributes:
        ref: The version, such as ``credit-risk/3``.
        predictor: The model.
        signature: What it takes and gives.
        request: Tells what is wrong with a request's fields.
        check_row: Tells which expectations a row breaks.
        entity: Key columns of whom a row is about; who shares them gets the same variant.
        key: Key columns of the row itself, where its table declares some.
        time: The field that says when a row is about; absent or null it is now.
        views: Stored features that it uses.
        request_features: Functions that compute features from the request alone.
        profile: The distributions that its live traffic is compared with, if it has one.
    """

    ref: str
    predictor: Predictor
    signature: Signature
    request: RequestSchema
    check_row: RowCheck
    entity: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    time: str | None = None
    views: tuple[ViewRef, ...] = ()
    request_features: tuple[RequestFeatures, ...] = ()
    profile: Any = None

    @property
    def sticky_keys(self) -> tuple[str, ...]:
        """The fields by which traffic is divided."""
        return self.entity or self.key


class Loader(Protocol):
    """Brings versions into memory."""

    def load(self, ref: str) -> LoadedVersion:
        """Return a version ready to answer; slow, so that callers keep what they get.

        Raises:
            FlyballError: The version does not exist, its package is damaged, or its runtime is not installed.
        """
        ...


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """Rows with their stored features.

    Attributes:
        features: One column for each feature of the views, in the order of the rows; null where nothing is stored,
            or where it is too old.
        used: For each row, for each view, its version and the time of the features used.
    """

    features: pl.DataFrame
    used: list[dict[str, ViewUse]]


class OnlineFeatures(Protocol):
    """Looks up stored features."""

    def complete(self, rows: pl.DataFrame, views: Sequence[ViewRef], at: Sequence[datetime]) -> Completed:
        """Return the features of rows, as they stood at each row's time.

        Raises:
            BackendUnavailableError: The online store did not answer.
        """
        ...


class NoOnlineFeatures:
    """Implements `OnlineFeatures` where no model uses a feature view."""

    def complete(self, rows: pl.DataFrame, views: Sequence[ViewRef], at: Sequence[datetime]) -> Completed:
        """See `OnlineFeatures.complete`."""
        if views:
            raise NotFoundError(f"no online store is set up for the feature view {views[0].name!r}")
        return Completed(features=pl.DataFrame(), used=[{}] * rows.height)
