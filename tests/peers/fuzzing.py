"""Schemathesis, in its own environment: asks a server whatever a description of its interface allows, and more."""

import subprocess
from pathlib import Path

from tests.peers import peer_python


def check_no_fault(description: str | Path, *options: str, folder: Path, examples: int) -> None:
    """Fail with what it says where it finds a fault.

    Args:
        description: The address or file of the OpenAPI document.
        options: More of its options.
        folder: Where it keeps what it finds.
        examples: How many requests it makes up for each operation.
    """
    program = Path(peer_python("schemathesis")).with_name("schemathesis")
    command = [
        *(str(program), "run", str(description), *options),
        f"--max-examples={examples}",
        "--phases=examples,coverage,fuzzing",
        # That a shape fits its data cannot be said in a schema, so not all that fits the schema is accepted.
        "--exclude-checks=positive_data_acceptance",
        "--generation-deterministic",
        "--no-color",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout[-6_000:]
