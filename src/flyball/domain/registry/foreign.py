"""Models and versions as another store has them, to be brought over as they are; times are milliseconds."""

from collections.abc import Sequence

import msgspec

from flyball.domain.registry.logged_models import ModelStatus
from flyball.domain.registry.models import Stage


class ForeignLoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model."""

    id: str
    experiment_id: int
    name: str
    location: str
    created_ms: int
    updated_ms: int
    status: ModelStatus
    is_deleted: bool
    model_type: str
    run_id: str
    params: dict[str, str]
    tags: dict[str, str]


class ForeignVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a registered model; ``location`` is where its files are, ``source`` what its maker named."""

    number: int
    created_ms: int
    updated_ms: int
    description: str
    user: str
    stage: Stage
    source: str
    location: str
    run_id: str
    status: str
    run_link: str
    model_id: str
    tags: dict[str, str]


class ForeignModel(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model; aliases mean numbers of versions."""

    name: str
    description: str
    created_ms: int
    updated_ms: int
    tags: dict[str, str]
    aliases: dict[str, int]
    versions: Sequence[ForeignVersion]
