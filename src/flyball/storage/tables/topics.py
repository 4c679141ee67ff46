"""Where a topic is, how far it goes, and its messages, partition by partition."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import parse_qsl, unquote

import confluent_kafka as kafka

from flyball.core.clock import monotonic_s
from flyball.core.errors import BackendUnavailableError, ConflictError, InvalidInputError, NotFoundError
from flyball.storage.tables.urls import expand

_TIMEOUT_S = 5.0
_SILENCE_S = 30.0
"""For how long a broker that says there are more messages may send none."""
_POLL_S = 0.05
_OURS = {"bootstrap.servers", "group.id", "enable.auto.commit", "enable.partition.eof", "auto.offset.reset"}
_log = logging.getLogger("flyball.kafka")
_log.addHandler(logging.NullHandler())  # what the client says of each connection; errors are raised


class StreamUnreachableError(BackendUnavailableError):
    """The brokers of a table's topic do not answer."""

    code = "data/stream-unreachable"

    def __init__(self, what: str, brokers: str, reason: str) -> None:
        super().__init__(
            f"the {what} cannot be read: {brokers} does not answer ({reason})",
            hint="See that the brokers run and that the URL's hosts and options are right; then try again.",
        )


class TopicMissingError(NotFoundError):
    """The brokers know no such topic."""

    code = "data/topic-missing"

    def __init__(self, what: str, topic: str, known: list[str]) -> None:
        super().__init__(
            f"the {what} lies nowhere: the brokers have no topic {topic!r}, but {', '.join(known[:20]) or 'none'}",
            hint="Make the topic, or correct the table's source in the project file.",
        )


class TopicChangedError(ConflictError):
    """A topic does not go on where it was left: messages were removed before they were taken, or it was made anew."""

    code = "data/topic-changed"

    def __init__(self, what: str, topic: str, partition: int, left_at: int, found: int) -> None:
        if found > left_at:
            reason = f"messages {left_at} to {found - 1} were removed before they were taken"
            hint = "Add on_gap=skip to the source's URL to go on without them."
        else:
            reason = f"it ends at {found}, but {left_at} messages of it were taken: it was made anew"
            hint = "Give the table another name, under which the topic is read from its beginning."
        super().__init__(f"the {what} cannot go on: in partition {partition} of {topic!r} {reason}", hint=hint)


class Place(NamedTuple):
    """A topic and how to reach it.

    Attributes:
        brokers: Hosts and ports, joined by commas.
        topic: Its name.
        start: Where a table begins that has taken nothing so far.
        on_gap: What to do when messages were removed before they were taken.
        options: Settings of the client.
    """

    brokers: str
    topic: str
    start: Literal["earliest", "latest"]
    on_gap: Literal["stop", "skip"]
    options: dict[str, str]


class Message(NamedTuple):
    """One message as it came."""

    partition: int
    offset: int
    time_ms: int | None
    key: bytes | None
    value: bytes | None


def parse_topic(source: str, what: str) -> Place:
    """Read ``kafka://HOST:PORT,HOST:PORT/TOPIC?start=latest&security.protocol=SSL``.

    Raises:
        InvalidInputError: A part is missing or unknown.
    """
    address, _, query = source.partition("://")[2].partition("?")
    brokers, _, topic = address.partition("/")
    options = {name: expand(value, what) for name, value in parse_qsl(query, keep_blank_values=True)}
    chosen = {"start": options.pop("start", "earliest"), "on_gap": options.pop("on_gap", "stop")}
    wrong = [
        *(f"{name}={chosen[name]}" for name, known in _CHOICES.items() if chosen[name] not in known),
        *(name for name in options if "." not in name or name in _OURS),
    ]
    if not brokers or not topic or "/" in topic or wrong:
        found = f": {', '.join(wrong)} cannot be said there" if wrong else ", which needs brokers and one topic"
        raise InvalidInputError(
            f"the {what} has the source {source.partition('?')[0]!r}{found}",
            hint='Write it as "kafka://host:9092/topic?start=latest", with start=earliest|latest, on_gap=stop|skip and '
            "settings of librdkafka such as security.protocol=SASL_SSL.",
        )
    start = cast('Literal["earliest", "latest"]', chosen["start"])
    return Place(
        expand(brokers, what), unquote(topic), start, cast('Literal["stop", "skip"]', chosen["on_gap"]), options
    )


_CHOICES = {"start": ("earliest", "latest"), "on_gap": ("stop", "skip")}


class Topic:
    """An open topic. Use `open`."""

    def __init__(self, consumer: Any, place: Place, what: str) -> None:
        self._consumer = consumer
        self._place = place
        self._what = what
        self._marks: dict[int, tuple[int, int]] = {}

    @classmethod
    @contextmanager
    def open(cls, place: Place, what: str) -> "Iterator[Topic]":
        """Connect.

        Raises:
            StreamUnreachableError: The brokers do not answer, or refuse.
            TopicMissingError: They know no such topic.
            InvalidInputError: The client knows no such option.
        """
        ours = {
            "bootstrap.servers": place.brokers,
            "group.id": "flyball",  # the client asks for one; nothing is kept under it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
        }
        try:
            consumer = kafka.Consumer({**ours, **place.options}, logger=_log)
        except kafka.KafkaException as error:
            raise InvalidInputError(
                f"the {what} has an option that Kafka's client refuses: {error.args[0].str()}",
                hint="See librdkafka's CONFIGURATION.md for what can be set.",
            ) from error
        try:
            topic = cls(consumer, place, what)
            topic._look()
            yield topic
        except kafka.KafkaException as error:
            raise StreamUnreachableError(what, place.brokers, error.args[0].str()) from error
        finally:
            consumer.close()

    def _look(self) -> None:
        found = self._consumer.list_topics(self._place.topic, timeout=_TIMEOUT_S).topics[self._place.topic]
        if found.error is not None:
            if found.error.code() != kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise kafka.KafkaException(found.error)
            known = [name for name in self._consumer.list_topics(timeout=_TIMEOUT_S).topics if not name.startswith("_")]
            raise TopicMissingError(self._what, self._place.topic, sorted(known))
        for partition in sorted(found.partitions):
            place = kafka.TopicPartition(self._place.topic, partition)
            self._marks[partition] = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)

    def beginnings(self) -> dict[int, int]:
        """Return the offset of the first message of each partition that is still there."""
        return {partition: low for partition, (low, _) in self._marks.items()}

    def ends(self) -> dict[int, int]:
        """Return the offset after the last message of each partition."""
        return {partition: high for partition, (_, high) in self._marks.items()}

    def read(
        self, starts: Mapping[int, int], ends: Mapping[int, int], *, at_once: int
    ) -> Iterator[tuple[list[Message], dict[int, int]]]:
        """Yield messages from some offsets up to others, and with them the offsets at which to go on.

        Raises:
            StreamUnreachableError: The brokers stopped sending.
        """
        nexts = {partition: start for partition, start in starts.items() if start < ends[partition]}
        open_ones = set(nexts)
        self._consumer.assign(
            [kafka.TopicPartition(self._place.topic, partition, nexts[partition]) for partition in open_ones]
        )
        while open_ones:
            messages: list[Message] = []
            heard_s = monotonic_s()
            while open_ones and len(messages) < at_once:
                came = self._consumer.consume(at_once - len(messages), timeout=_POLL_S)
                if came:
                    heard_s = monotonic_s()
                elif monotonic_s() - heard_s > _SILENCE_S:
                    raise StreamUnreachableError(self._what, self._place.brokers, f"no message in {_SILENCE_S:g} s")
                messages += self._sort_out(came, nexts, ends)
                open_ones = {partition for partition in open_ones if nexts[partition] < ends[partition]}
            yield messages, dict(nexts)

    def _sort_out(self, came: list[Any], nexts: dict[int, int], ends: Mapping[int, int]) -> Iterator[Message]:
        """Yield the messages up to the ends, and note how far each partition was read."""
        for one in came:
            error, partition, offset = one.error(), one.partition(), one.offset()
            if error is not None:
                if error.code() == kafka.KafkaError._PARTITION_EOF:
                    # Marks of transactions lie between the last message and the end.
                    nexts[partition] = max(nexts[partition], offset)
                elif not error.retriable():
                    raise kafka.KafkaException(error)
            elif nexts[partition] <= offset < ends[partition]:
                nexts[partition] = offset + 1
                kind, time_ms = one.timestamp()
                known = None if kind == kafka.TIMESTAMP_NOT_AVAILABLE else time_ms
                yield Message(partition, offset, known, one.key(), one.value())
            elif offset >= ends[partition]:
                nexts[partition] = ends[partition]  # it came after we looked: for the next time
