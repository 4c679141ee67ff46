"""A Kafka topic as a table: its messages are taken into a Delta table, together with how far each partition was taken.

Both are one commit of the Delta log (the "transaction identifiers" of the Delta protocol), so each message is one row
however often the process that takes them is killed. Kafka keeps no offsets for us, so nobody else can move them.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from flyball.core.hashing import digest_value
from flyball.storage.tables.delta import open_delta
from flyball.storage.tables.messages import MessageReader
from flyball.storage.tables.port import Asked, DigestFiles, Found
from flyball.storage.tables.taken import TakenTable, holding_stream
from flyball.storage.tables.topics import Topic, TopicChangedError, parse_topic

_MESSAGES_AT_ONCE = 50_000
_log = logging.getLogger("flyball.tables")


class KafkaSource:
    """See `TableSource`.

    Args:
        asked: The declaration; ``types`` names the fields of messages that are columns.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._place = parse_topic(asked.source, asked.what)
        self._reader = MessageReader(asked.types, time_zone=asked.time_zone, what=asked.what)

    def fingerprint(self) -> str:
        """See `TableSource.fingerprint`. How far each partition goes."""
        with Topic.open(self._place, self._asked.what) as topic:
            return digest_value([self._asked.source, sorted(self._asked.types.items()), sorted(topic.ends().items())])

    def open(self, scratch: Path, digest_files: DigestFiles) -> Found:
        """See `TableSource.open`. Takes what has come since it was opened last."""
        with holding_stream(self._asked.keep):
            self.take()
            rows = TakenTable(self._asked.keep / "rows", self._reader.schema, self._asked.what)
            found = open_delta(rows.path, what=self._asked.what)
        return Found("delta", rows.path, found.files, self._reader.schema)

    def take(self) -> None:
        """Take all messages that the topic has now; the caller holds the table's lock."""
        what = self._asked.what
        rows = TakenTable(self._asked.keep / "rows", self._reader.schema, what)
        refused = TakenTable(self._asked.keep / "rejected", self._reader.rejected_schema, what)
        with Topic.open(self._place, what) as topic:
            ends = topic.ends()
            starts = self._starts(topic, rows, ends)
            taken = 0
            for messages, offsets in topic.read(starts, ends, at_once=_MESSAGES_AT_ONCE):
                batch = self._reader.read(messages)
                self._reader.require_some(batch, is_first=not rows.has_rows)
                if batch.rejected:
                    # First, and by its own offsets: a process that is killed between the two tells of none twice.
                    refused.append(batch.rejected, offsets)
                    _log.warning("%s: %d messages are no rows: %s", what, len(batch.rejected), batch.reason)
                rows.append(batch.rows, offsets)
                taken += len(batch.rows)
            if not rows.exists:
                rows.append([], starts)  # there is nothing yet: it goes on from here
        if taken:
            rows.tidy()

    def _starts(self, topic: Topic, rows: TakenTable, ends: Mapping[int, int]) -> dict[int, int]:
        """Return the offset at which each partition goes on."""
        beginnings = topic.beginnings()
        if not rows.exists:
            return dict(ends) if self._place.start == "latest" else beginnings
        starts = {}
        for partition, first in beginnings.items():
            next_one = rows.offset(partition)
            if next_one is None:  # the partition is new
                next_one = first
            if next_one > ends[partition]:
                raise TopicChangedError(self._asked.what, self._place.topic, partition, next_one, ends[partition])
            if next_one < first and self._place.on_gap == "stop":
                raise TopicChangedError(self._asked.what, self._place.topic, partition, next_one, first)
            starts[partition] = max(next_one, first)
        return starts
