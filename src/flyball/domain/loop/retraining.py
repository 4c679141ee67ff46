"""Sets retrainings in motion: once for each cause, one at a time for each endpoint."""

from collections.abc import Mapping
from datetime import datetime

from flyball.core.clock import Clock
from flyball.domain.journal.service import Journal
from flyball.domain.loop import store
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.loop.reactions import Call, Circumstances, FiringAlert, Reaction, ReactionState, find_call
from flyball.domain.loop.sources import TableReader
from flyball.domain.loop.training import Trainer, TrainingOutcome
from flyball.domain.loop.triggers import NewData
from flyball.domain.monitoring.service import MonitoringService
from flyball.domain.registry.service import RegistryService
from flyball.storage.db import Database

STARTED = "loop.retraining.started"
FINISHED = "loop.retraining.finished"
FAILED = "loop.retraining.failed"
DUE = "loop.trigger.due"


class Retrainer:
    """Judges the triggers of endpoints and keeps what they set in motion.

    Args:
        db: Keeps reactions.
        journal: Is told of their start and end.
        clock: The present.
        registry: Knows when the live model was trained.
        monitoring: Knows which alerts are raised.
        reader: Counts new rows.
        trainer: Runs the pipelines.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        clock: Clock,
        registry: RegistryService,
        monitoring: MonitoringService,
        reader: TableReader,
        trainer: Trainer,
    ) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._registry = registry
        self._monitoring = monitoring
        self._reader = reader
        self._trainer = trainer

    def collect(self) -> None:
        """Record which retrainings have ended."""
        for outcome in self._trainer.collect():
            self._finish(outcome)

    def resume(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Start again what a crash ended; a pipeline goes on from its last finished step."""
        with self._db.read() as tx:
            reactions = store.list_open_reactions(tx)
        for reaction in reactions:
            if self._trainer.is_running(reaction.endpoint):
                continue
            endpoint = endpoints.get(reaction.endpoint)
            if endpoint is None or endpoint.retrain is None:
                self._finish(
                    TrainingOutcome(
                        endpoint=reaction.endpoint,
                        cause=reaction.cause,
                        run_id=None,
                        error="the project no longer declares its pipeline",
                    )
                )
            else:
                self._trainer.start(reaction, endpoint.retrain)

    def react(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Start a retraining where a trigger calls for one and none is under way.

        An endpoint whose model was never trained waits for a person to run its pipeline first.
        """
        for name, endpoint in endpoints.items():
            if not endpoint.retrain_on or self._trainer.is_running(name):
                continue
            with self._db.read() as tx:
                last = store.last_reaction(tx, name)
            if last is not None and last.state is ReactionState.RUNNING:
                continue
            began = self._last_start(endpoint, last)
            if began is None:
                continue
            now = self._clock.now()
            call = find_call(endpoint.retrain_on, self._circumstances(name, endpoint, began, now))
            if call is not None:
                self._start(name, endpoint, call, now)

    def _last_start(self, endpoint: Endpoint, last: Reaction | None) -> datetime | None:
        if last is not None:
            return last.started_at
        newest = self._registry.find_newest(endpoint.model)
        return newest.created_at if newest is not None else None

    def _circumstances(self, name: str, endpoint: Endpoint, began: datetime, now: datetime) -> Circumstances:
        alerts = [
            FiringAlert(kind=alert.family, monitor=alert.monitor, raised_by=alert.raised_by or 0, message=alert.message)
            for alert in self._monitoring.alerts(name)
        ]
        new_rows = {
            trigger.table.required_name: self._reader.rows_known(trigger.table, began, now).height
            for trigger in endpoint.retrain_on
            if isinstance(trigger, NewData)
        }
        return Circumstances(now=now, last_started_at=began, alerts=alerts, new_rows=new_rows)

    def _start(self, name: str, endpoint: Endpoint, call: Call, now: datetime) -> None:
        pipeline = endpoint.retrain
        assert pipeline is not None  # an endpoint with triggers has one: `Endpoint` checks it
        with self._db.begin() as tx:
            cause = call.cause
            if cause is None or not store.is_new_cause(tx, name, cause):
                # Time and data are no events by themselves, and an alert that goes on firing has acted once:
                # the event that the reaction is keyed by is made here.
                data = {"endpoint": name, "reason": call.reason, "alert": cause}
                cause = self._journal.append(tx, DUE, f"endpoint/{name}", data, actor="loop", cause=cause).seq
            event = self._journal.append(
                tx,
                STARTED,
                f"endpoint/{name}",
                {"endpoint": name, "pipeline": pipeline.name, "reason": call.reason},
                actor="loop",
                cause=cause,
            )
            reaction = Reaction(
                cause=cause,
                endpoint=name,
                reason=call.reason,
                state=ReactionState.RUNNING,
                started_at=now,
                event_seq=event.seq,
            )
            store.insert_reaction(tx, reaction)
        self._trainer.start(reaction, pipeline)

    def _finish(self, outcome: TrainingOutcome) -> None:
        state = ReactionState.FINISHED if outcome.error is None else ReactionState.FAILED
        with self._db.begin() as tx:
            reaction = store.find_reaction(tx, outcome.endpoint, outcome.cause)
            if reaction is not None and reaction.state is not ReactionState.RUNNING:
                return
            self._journal.append(
                tx,
                FINISHED if outcome.error is None else FAILED,
                f"endpoint/{outcome.endpoint}",
                {"endpoint": outcome.endpoint, "run": outcome.run_id, "error": outcome.error},
                actor="loop",
                cause=reaction.event_seq if reaction else outcome.cause,
            )
            store.finish_reaction(
                tx, outcome.endpoint, outcome.cause, state, self._clock.now(), outcome.run_id, outcome.error
            )
