"""The registry: versions, evidence, approvals, aliases, and that each change and its event are one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from flyball.core.clock import SimulatedClock
from flyball.core.errors import ConflictError, FlyballError, InvalidInputError, NotFoundError, UnknownNameError
from flyball.domain.access.service import AccessService
from flyball.domain.access.users import RoleMissingError, UnknownUserError
from flyball.domain.journal.events import Event
from flyball.domain.journal.service import Journal
from flyball.domain.registry.aliases import NoEarlierVersionError
from flyball.domain.registry.evidence import Latency, MetricMissingError
from flyball.domain.registry.gates import ModelGates, latency, metric
from flyball.domain.registry.ledger import Findings, NewVersion
from flyball.domain.registry.service import RegistryService
from flyball.domain.registry.versions import (
    EvidenceChangedError,
    ModelVersion,
    NotApprovedError,
    Status,
    StatusForbidsError,
    UnknownVersionError,
)
from flyball.storage.db import Database

START = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)
AUTO = ModelGates(gates=(metric("auc") >= 0.7,))
OFFICER = ModelGates(gates=(metric("auc") >= 0.7,), approval="risk-officer")
USERS = {"ana": ["risk-officer"], "bob": ["engineer"]}


class Home:
    """A registry with its journal, clock and database."""

    def __init__(self, folder: Path) -> None:
        self.clock = SimulatedClock(START)
        self.db = Database(f"sqlite:///{folder / 'flyball.db'}")
        self.journal = Journal(self.db, self.clock)
        self.registry = RegistryService(self.db, self.journal, self.clock, AccessService(USERS), folder / "packages")

    def add(self, auc: float = 0.8, plan: ModelGates = AUTO, model: str = "credit") -> ModelVersion:
        new = NewVersion(model=model, package_digest=f"{auc:.6f}".ljust(64, "0"), metrics={"auc": auc}, run_id="r1")
        self.clock.advance(timedelta(hours=1))
        return self.registry.register(new, plan, actor="run/r1")

    def champion(self, ref: str) -> None:
        self.clock.advance(timedelta(hours=1))
        self.registry.set_alias(ref.partition("/")[0], "champion", ref, reason="test")

    def events(self, *kinds: str) -> list[Event]:
        return self.journal.list_events(kinds=kinds)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_version_that_passes_is_approved_and_the_journal_tells_each_step(home: Home) -> None:
    version = home.add(0.8)
    assert (version.ref, version.status, version.created_by) == ("credit/1", Status.APPROVED, "run/r1")
    events = home.events()
    assert [event.kind.removeprefix("registry.version.") for event in events] == ["created", "gated", "approved"]
    assert {event.subject for event in events} == {"version/credit/1"}
    assert events[0].data["metrics"] == {"auc": 0.8}
    assert events[1].data["passed"] is True
    assert events[2].data == {
        "model": "credit",
        "version": "credit/1",
        "evidence": version.evidence,
        "role": "auto",
        "user": None,
    }
    assert events[2].cause == events[1].seq


def test_a_version_that_fails_is_rejected_with_reasons(home: Home) -> None:
    version = home.add(0.6)
    assert version.status is Status.REJECTED
    (event,) = home.events("registry.version.rejected")
    assert event.data["reasons"] == ["auc is 0.6; it must be >= 0.7"]
    with pytest.raises(StatusForbidsError, match=r"Its gates say no: auc is 0\.6; it must be >= 0\.7"):
        home.registry.approve("credit/1", "ana")
    assert home.registry.list_reasons(version) == event.data["reasons"]


def test_the_newest_version_and_those_that_wait_are_found_without_the_others(home: Home) -> None:
    assert home.registry.find_newest("credit") is None
    for _ in range(3):
        newest = home.add()
    assert home.registry.find_newest("credit") == newest
    assert home.registry.list_awaiting("credit") == []
    assert home.registry.list_reasons(newest) == []


def test_versions_are_counted_for_each_model(home: Home) -> None:
    assert [home.add().ref, home.add().ref, home.add(model="churn").ref] == ["credit/1", "credit/2", "churn/1"]
    assert home.registry.list_models() == ["churn", "credit"]
    assert [version.number for version in home.registry.list_versions("credit")] == [1, 2]


def test_unknown_models_and_versions_are_met_with_those_there_are(home: Home) -> None:
    home.add()
    with pytest.raises(UnknownNameError, match="did you mean 'credit'"):
        home.registry.get("credt/1")
    with pytest.raises(UnknownVersionError, match="its only version is 1"):
        home.registry.get("credit/7")
    with pytest.raises(UnknownNameError, match="no model is named 'churn'"):
        home.registry.previous_champion("churn")
    with pytest.raises(InvalidInputError, match="NAME/NUMBER"):
        home.registry.get("credit")


def test_a_gate_that_cannot_be_judged_leaves_no_version(home: Home) -> None:
    with pytest.raises(MetricMissingError, match="the metrics are auc"):
        home.add(0.8, ModelGates(gates=(metric("f1") >= 0.5,)))
    assert home.registry.list_models() == []
    assert home.events() == []


# Approval


def test_a_role_approves_and_signs_the_evidence(home: Home) -> None:
    version = home.add(0.8, OFFICER)
    assert version.status is Status.AWAITING_APPROVAL
    assert home.registry.list_awaiting(version.model) == [version]
    approved = home.registry.approve(version.ref, "ana", evidence=version.evidence, cause=3)
    assert approved.status is Status.APPROVED
    (approval,) = home.registry.approvals(version.ref)
    assert (approval.user, approval.role, approval.evidence) == ("ana", "risk-officer", version.evidence)
    (event,) = home.events("registry.version.approved")
    assert (event.actor, event.cause, event.data["evidence"]) == ("user/ana", 3, version.evidence)


def test_approval_without_the_role_or_by_a_stranger_is_refused_and_changes_nothing(home: Home) -> None:
    ref = home.add(0.8, OFFICER).ref
    before = home.journal.head()
    with pytest.raises(RoleMissingError, match=r"'bob'.*'risk-officer'; ana has it"):
        home.registry.approve(ref, "bob")
    with pytest.raises(UnknownUserError, match="'zoe'"):
        home.registry.approve(ref, "zoe")
    assert home.registry.get(ref).status is Status.AWAITING_APPROVAL
    assert home.journal.head() == before


def test_approving_twice_is_refused(home: Home) -> None:
    ref = home.add(0.8, OFFICER).ref
    home.registry.approve(ref, "ana")
    with pytest.raises(StatusForbidsError, match="'credit/1' is approved"):
        home.registry.approve(ref, "ana")


def test_a_person_may_say_no(home: Home) -> None:
    ref = home.add(0.8, OFFICER).ref
    with pytest.raises(RoleMissingError):
        home.registry.reject(ref, "bob", reason="no")
    assert home.registry.reject(ref, "ana", reason="unfair to the young").status is Status.REJECTED
    (event,) = home.events("registry.version.rejected")
    assert event.data["reasons"] == ["unfair to the young"]


def test_what_is_signed_is_what_was_looked_at(home: Home) -> None:
    version = home.add(0.8, OFFICER)
    home.registry.evaluate_gates(version.ref, ModelGates(gates=(metric("auc") >= 0.75,), approval="risk-officer"))
    with pytest.raises(EvidenceChangedError, match="not the one that was looked at"):
        home.registry.approve(version.ref, "ana", evidence=version.evidence)


def test_other_evidence_voids_an_approval_and_the_same_does_not(home: Home) -> None:
    ref = home.add(0.8, OFFICER).ref
    home.registry.approve(ref, "ana")
    home.registry.evaluate_gates(ref, OFFICER)
    assert home.registry.get(ref).status is Status.APPROVED
    home.registry.evaluate_gates(ref, ModelGates(gates=(metric("auc") >= 0.75,), approval="risk-officer"))
    assert home.registry.get(ref).status is Status.AWAITING_APPROVAL
    assert [approval.is_void for approval in home.registry.approvals(ref)] == [True]
    assert home.events("registry.version.gated")[-1].data["voided"] == 1


def test_evidence_holds_what_was_measured(home: Home) -> None:
    new = NewVersion(model="credit", package_digest="d" * 64, metrics={"auc": 0.8})
    found = Findings(latency=Latency(p50_s=0.001, p99_s=0.03, rows=200))
    version = home.registry.register(new, ModelGates(gates=(latency(p99="20ms"),)), found)
    evidence = home.registry.evidence(version.ref)
    assert evidence is not None
    assert (version.status, evidence.passed, evidence.latency) == (Status.REJECTED, False, found.latency)
    assert evidence.results[0].reason == "p99 of 200 single rows is 30 ms; the limit is 20 ms"


TAMPERINGS = {
    "its results": "UPDATE registry_evidence SET content = replace(content, '0.8', '0.9')",
    "all of it": "DELETE FROM registry_evidence",
    "its digest": f"UPDATE registry_version SET evidence = '{'0' * 64}'",
    "the metrics": """UPDATE registry_version SET metrics = '{"auc":0.99}'""",
    "the package": "UPDATE registry_version SET package_digest = 'another'",
}


@pytest.mark.parametrize("statement", TAMPERINGS.values(), ids=TAMPERINGS)
def test_tampered_evidence_voids_the_approval(home: Home, statement: str) -> None:
    ref = home.add(0.8, OFFICER).ref
    home.registry.approve(ref, "ana")
    with home.db.begin() as tx:
        tx.execute(statement)
    with pytest.raises(EvidenceChangedError, match="'credit/1' is void"):
        home.registry.set_alias("credit", "champion", ref, reason="go")
    assert home.registry.champion("credit") is None


def test_a_forged_status_does_not_go_live(home: Home) -> None:
    ref = home.add(0.8, OFFICER).ref
    with home.db.begin() as tx:
        tx.execute("UPDATE registry_version SET status = 'approved'")
    with pytest.raises(EvidenceChangedError, match="nobody signed"):
        home.registry.set_alias("credit", "champion", ref, reason="go")


def test_tampered_evidence_cannot_be_approved(home: Home) -> None:
    ref = home.add(0.8, OFFICER).ref
    with home.db.begin() as tx:
        tx.execute("UPDATE registry_evidence SET content = replace(content, '0.8', '0.9')")
    with pytest.raises(EvidenceChangedError):
        home.registry.approve(ref, "ana")


# Aliases


def test_an_alias_moves_with_its_event(home: Home) -> None:
    home.add()
    home.add(0.81)
    home.champion("credit/1")
    move = home.registry.set_alias("credit", "champion", "credit/2", reason="better", actor="loop", cause=4)
    assert move is not None
    assert (move.previous, move.number) == (1, 2)
    event = home.events("registry.alias.moved")[-1]
    assert (event.subject, event.actor, event.cause, event.seq) == ("model/credit", "loop", 4, move.event)
    assert event.data == {
        "model": "credit",
        "alias": "champion",
        "from": "credit/1",
        "to": "credit/2",
        "reason": "better",
    }


def test_moving_an_alias_to_where_it_is_changes_nothing(home: Home) -> None:
    home.add()
    home.champion("credit/1")
    before = home.journal.head()
    assert home.registry.set_alias("credit", "champion", "credit/1", reason="again") is None
    assert home.journal.head() == before


def test_an_alias_can_be_taken_away(home: Home) -> None:
    home.add()
    home.registry.set_alias("credit", "challenger", "credit/1", reason="try")
    home.registry.set_alias("credit", "challenger", None, reason="failed")
    assert home.registry.find_alias("credit", "challenger") is None
    assert [move.number for move in home.registry.history("credit", alias="challenger")] == [1, None]


def test_only_approved_versions_take_traffic(home: Home) -> None:
    waiting, rejected = home.add(0.8, OFFICER).ref, home.add(0.6).ref
    with pytest.raises(NotApprovedError, match="flyball approve credit/1"):
        home.registry.set_alias("credit", "champion", waiting, reason="go")
    with pytest.raises(NotApprovedError, match="is rejected, so it cannot become challenger"):
        home.registry.set_alias("credit", "challenger", rejected, reason="go")
    assert home.registry.set_alias("credit", "baseline", rejected, reason="to compare") is not None


def test_an_alias_of_one_model_never_means_another(home: Home) -> None:
    home.add()
    home.add(model="churn")
    with pytest.raises(InvalidInputError, match="no version of the model 'churn'"):
        home.registry.set_alias("churn", "champion", "credit/1", reason="oops")


def test_what_was_champion_at_an_instant_and_what_we_knew_of_it(home: Home) -> None:
    home.add()
    home.add(0.81)
    home.champion("credit/1")
    first = home.clock.now()
    home.clock.advance(timedelta(days=2))
    learned = home.clock.now()
    home.registry.set_alias("credit", "champion", "credit/2", reason="found out", event_time=first + timedelta(days=1))

    def at(held: datetime, known: datetime | None = None) -> int | None:
        found = home.registry.find_alias("credit", "champion", at=held, known_at=known)
        return found.number if found else None

    assert at(first - timedelta(seconds=1)) is None
    assert at(first) == 1
    assert at(first + timedelta(days=1)) == 2
    assert at(first + timedelta(days=1), known=learned - timedelta(seconds=1)) == 1
    assert [move.number for move in home.registry.history("credit", until=first)] == [1]
    with pytest.raises(InvalidInputError, match="in the future"):
        home.registry.set_alias("credit", "champion", "credit/1", reason="", event_time=learned + timedelta(days=1))


def test_a_rollback_has_a_target_or_says_there_is_none(home: Home) -> None:
    home.add()
    with pytest.raises(NoEarlierVersionError, match="it never had a champion"):
        home.registry.previous_champion("credit")
    home.champion("credit/1")
    with pytest.raises(NoEarlierVersionError, match="no earlier version to roll back to") as error:
        home.registry.previous_champion("credit")
    assert isinstance(error.value, ConflictError)
    home.add(0.81)
    home.champion("credit/2")
    assert home.registry.previous_champion("credit").ref == "credit/1"
    home.registry.archive("credit/1", reason="old")
    with pytest.raises(NoEarlierVersionError):
        home.registry.previous_champion("credit")


def test_what_an_alias_means_cannot_be_archived(home: Home) -> None:
    home.add()
    home.champion("credit/1")
    with pytest.raises(ConflictError, match="'credit/1' is champion, so it cannot be archived"):
        home.registry.archive("credit/1", reason="old")
    home.add(0.81)
    home.champion("credit/2")
    assert home.registry.archive("credit/1", reason="old").status is Status.ARCHIVED
    with pytest.raises(StatusForbidsError, match="archived"):
        home.registry.archive("credit/1", reason="again")
    with pytest.raises(StatusForbidsError):
        home.registry.evaluate_gates("credit/1", AUTO)


def test_a_change_whose_event_cannot_be_written_does_not_happen(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = home.add(0.8, OFFICER).ref

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the disk burns")

    monkeypatch.setattr(home.journal, "append", fail)
    changes: list[Callable[[], object]] = [
        lambda: home.registry.approve(ref, "ana"),
        lambda: home.registry.archive(ref, reason=""),
        lambda: home.registry.reject(ref, "ana", reason=""),
        lambda: home.registry.set_alias("credit", "mine", ref, reason=""),
        lambda: home.add(),
    ]
    for change in changes:
        with pytest.raises(RuntimeError):
            change()
    version = home.registry.get(ref)
    assert version.status is Status.AWAITING_APPROVAL
    assert home.registry.approvals(ref) == []
    assert home.registry.history("credit") == []
    assert len(home.registry.list_versions()) == 1


def test_an_unknown_package_is_told(home: Home) -> None:
    with pytest.raises(NotFoundError, match="there is no package"):
        home.registry.open(home.add().ref)


class RegistryMachine(RuleBasedStateMachine):
    """Whatever people and the loop do, only signed versions are live, and the journal tells all of it."""

    refs = Bundle("refs")

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self._folder = tempfile.TemporaryDirectory()
        self.home = Home(Path(self._folder.name))

    def teardown(self) -> None:
        self.home.db.close()
        self._folder.cleanup()

    @rule(target=refs, auc=st.sampled_from([0.6, 0.8, 0.9]), plan=st.sampled_from([AUTO, OFFICER]))
    def create(self, auc: float, plan: ModelGates) -> str:
        return self.home.add(auc, plan).ref

    @rule(ref=refs, limit=st.sampled_from([0.5, 0.7, 0.85]), plan=st.sampled_from([AUTO, OFFICER]))
    def judge(self, ref: str, limit: float, plan: ModelGates) -> None:
        gates = msgspec.structs.replace(plan, gates=(metric("auc") >= limit,))
        self._try(lambda: self.home.registry.evaluate_gates(ref, gates))

    @rule(ref=refs, user=st.sampled_from(["ana", "bob"]))
    def approve(self, ref: str, user: str) -> None:
        self._try(lambda: self.home.registry.approve(ref, user))

    @rule(ref=refs)
    def archive(self, ref: str) -> None:
        self._try(lambda: self.home.registry.archive(ref, reason="x"))

    @rule(ref=refs, alias=st.sampled_from(["champion", "challenger"]))
    def promote(self, ref: str, alias: str) -> None:
        status = self.home.registry.get(ref).status
        moved = self._try(lambda: self.home.registry.set_alias("credit", alias, ref, reason="x"))
        assert (moved is not None) == (status is Status.APPROVED)

    @rule()
    def roll_back(self) -> None:
        champion = self.home.registry.champion("credit")
        try:
            target = self.home.registry.previous_champion("credit")
        except (NoEarlierVersionError, UnknownNameError):
            return
        assert target.status is Status.APPROVED
        assert champion is None or target.number != champion.number
        self.home.registry.set_alias("credit", "champion", target.ref, reason="rollback")

    @invariant()
    def every_approved_version_is_signed(self) -> None:
        for version in self.home.registry.list_versions():
            signed = {
                approval.evidence for approval in self.home.registry.approvals(version.ref) if not approval.is_void
            }
            if version.status is Status.APPROVED:
                assert version.evidence in signed
            evidence = self.home.registry.evidence(version.ref)
            assert evidence is not None
            assert evidence.passed or version.status in (Status.REJECTED, Status.ARCHIVED)

    @invariant()
    def the_journal_tells_what_each_alias_means(self) -> None:
        told: dict[str, str | None] = {}
        for event in self.home.events("registry.alias.moved"):
            assert event.data["from"] == told.get(event.data["alias"])
            told[event.data["alias"]] = event.data["to"]
        for alias, ref in told.items():
            found = self.home.registry.find_alias("credit", alias)
            assert (found.ref if found else None) == ref

    def _try(self, change: Callable[[], object]) -> object | None:
        try:
            return change() or True
        except FlyballError:
            return None


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
