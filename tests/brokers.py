"""Kafka brokers for tests, in a process of their own: librdkafka's, which speak the protocol over TCP on loopback.

``python -m tests.brokers`` prints their addresses and serves until its standard input ends.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer


class Brokers:
    """Running brokers; a topic is made when something is sent to it, with four partitions."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._producer = Producer({"bootstrap.servers": address, "log_level": 0})

    def send(self, topic: str, values: Sequence[bytes | None], **options: Any) -> None:
        """Send messages and wait until the brokers have them; each key goes to one partition."""
        for number, value in enumerate(values):
            self._producer.produce(topic, value=value, **{"key": str(number % 7), **options})
            self._producer.poll(0)
        assert self._producer.flush(20) == 0


@contextmanager
def kafka() -> Iterator[Brokers]:
    """Run brokers for as long as the block does."""
    command = [sys.executable, "-m", "tests.brokers"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin and process.stdout
    try:
        yield Brokers(process.stdout.readline().decode().strip())
    finally:
        process.stdin.close()
        process.stdout.close()
        process.kill()
        process.wait()


def main() -> None:
    """Serve."""
    # Loopback addresses of these brokers replace the one that is named here.
    producer = Producer({"test.mock.num.brokers": 2, "bootstrap.servers": "replaced"})
    brokers = producer.list_topics(timeout=10).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
