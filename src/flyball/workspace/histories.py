"""What was live on an endpoint, and what a model's aliases meant, at an instant."""

from datetime import datetime

import msgspec

from flyball.core.errors import UnknownNameError
from flyball.core.settings import has_project
from flyball.domain.registry.aliases import CHAMPION, AliasMove
from flyball.domain.registry.versions import Approval, ModelVersion, make_ref
from flyball.domain.serving.rollouts import state_at
from flyball.workspace.workspace import Workspace


class AliasThen(msgspec.Struct, frozen=True, kw_only=True):
    """What an alias meant at an instant.

    Attributes:
        version: The version's reference.
        since: From when on.
        reason: Why it was moved.
        actor: Who or what moved it.
    """

    version: str
    since: datetime
    reason: str
    actor: str


class HistoryMoment(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an endpoint at an instant.

    Attributes:
        name: The endpoint.
        model: Its model.
        at: The instant.
        live: The version that answered; None where there was none.
        since: From when on it was live, or nothing was; None before the first one went live.
        reason: Why.
        actor: Who or what took it live, or away.
        approvals: Who approved it.
        rollout_candidate: The version that was on its way to live.
        rollout_state: How far it had come.
        aliases: What every alias of the model meant, by name; champion is what was live.
        moves: How they came to mean that: every move of an alias until then, oldest first.
    """

    name: str
    model: str
    at: datetime
    live: ModelVersion | None
    since: datetime | None = None
    reason: str = ""
    actor: str = ""
    approvals: list[Approval] = []
    rollout_candidate: str | None = None
    rollout_state: str | None = None
    aliases: dict[str, AliasThen] = {}
    moves: list[AliasMove] = []


def read_history(workspace: Workspace, name: str, at: datetime) -> HistoryMoment:
    """Return what was live on an endpoint at an instant. A model's name is understood, too.

    Raises:
        UnknownNameError: Neither an endpoint nor a model has that name.
    """
    endpoints = workspace.project.endpoints if has_project(workspace.project_dir) else {}
    model = endpoints[name].model if name in endpoints else name
    # A model that a client deleted is no more among the models, but it has a past.
    ever = workspace.registry.history(model)
    everything = [move for move in ever if move.event_time <= at]
    if name not in endpoints and name not in workspace.registry.list_models() and not ever:
        raise UnknownNameError("endpoint or model", name, [*endpoints, *workspace.registry.list_models()])
    live = workspace.registry.find_alias(model, CHAMPION, at=at)
    moves = [move for move in everything if move.alias == CHAMPION]
    rollout = workspace.rollouts.find_at(name, at)
    state = state_at(rollout, at) if rollout is not None else None
    is_under_way = rollout is not None and (rollout.ended_at is None or at < rollout.ended_at)
    return HistoryMoment(
        name=name,
        model=model,
        at=at,
        live=live,
        since=moves[-1].event_time if moves else None,
        reason=moves[-1].reason if moves else "",
        actor=moves[-1].actor if moves else "",
        approvals=workspace.registry.approvals(live.ref) if live is not None else [],
        rollout_candidate=rollout.candidate if rollout is not None and is_under_way else None,
        rollout_state=state if is_under_way else None,
        aliases={
            move.alias: AliasThen(
                version=make_ref(model, move.number), since=move.event_time, reason=move.reason, actor=move.actor
            )
            for move in sorted({move.alias: move for move in everything}.values(), key=lambda move: move.alias)
            if move.number is not None
        },
        moves=everything,
    )
