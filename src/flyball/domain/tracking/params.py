"""How the value of a parameter is kept: as JSON text."""

import json
from typing import Any

LONGEST_PARAM = 2_000
"""Signs of a parameter that are kept; longer ones are cut, since they are data rather than settings."""


def param_text(value: Any) -> str:
    """Return a parameter's JSON; what is not JSON is kept as the text that ``str`` gives."""
    if not isinstance(value, str):
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            value = str(value)
        else:
            if len(text) <= LONGEST_PARAM:
                return text
            value = text
    return json.dumps(_storable(value if len(value) <= LONGEST_PARAM else value[: LONGEST_PARAM - 1] + "…"))


def _storable(text: str) -> str:
    """Replace what no database keeps: halves of signs, such as of file names that are not UTF-8, and NUL."""
    return text.encode(errors="replace").decode().replace("\0", "�")
