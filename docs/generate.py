"""Writes the reference pages that the code itself can tell: `python docs/generate.py`.

cli.md, errors.md, mlflow.md, project-file.md and settings.md; a test fails when one of them lacks a name. events.md is
written by hand, and checked the same way.
"""

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import flyball
from flyball.cli.main import COMMANDS, cli
from flyball.core.errors import FlyballError, InvalidInputError
from flyball.core.settings import Settings
from flyball.domain.data.rules import Rule
from flyball.server.mlflow.areas import ROUTES
from flyball.server.mlflow.errors import list_codes

REFERENCE = Path(__file__).parent / "reference"
_SECTIONS = ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:")
PARTS = {
    "Data": ["Entity", "Table", "column", "expression", "unique_together", "rows_at_least", "rows_at_most"],
    "Features": ["features", "request_features", "training_set", "split", "TrainingSet"],
    "Pipelines": ["step", "pipeline", "candidate"],
    "Runs of a program's own": ["run", "log_metric", "log_artifact", "set_tag"],
    "Production": ["Endpoint", "shadow", "canary", "ab_test", "bandit"],
    "Gates": ["metric", "not_worse_than_champion", "no_leaks", "latency", "service_test"],
    "Monitors": [
        "drift",
        "prediction_drift",
        "attribution_drift",
        "performance",
        "prediction_mean",
        "quality",
        "service",
    ],
    "Triggers": ["every", "schedule", "new_data", "drifted", "degraded"],
}


def import_everything() -> None:
    """Import every module, so that every error class is known; what needs a missing extra is passed over."""
    for module in pkgutil.walk_packages(flyball.__path__, "flyball."):
        if ".template" in module.name or ".examples" in module.name:
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("flyball"):
                raise
        except InvalidInputError as error:  # a module that tells in its own words which extra it needs
            if not isinstance(error.__cause__, ImportError):
                raise


def list_errors() -> dict[str, list[type[FlyballError]]]:
    """Return the error classes by code, in order of the codes."""
    import_everything()
    found: dict[str, list[type[FlyballError]]] = {}
    for error in _subclasses(FlyballError):
        if error.__module__.startswith("flyball.") and "code" in vars(error):
            found.setdefault(error.code, []).append(error)
    return dict(sorted(found.items()))


def list_commands() -> Iterator[tuple[str, click.Command]]:
    """Yield each command with its full name, such as ``audit verify``."""
    context = click.Context(cli, info_name="flyball")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield from _walk(name, command)


def _walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for below, inner in command.commands.items():
            yield from _walk(f"{name} {below}", inner)
    else:
        yield name, command


def _subclasses(kind: type[FlyballError]) -> Iterator[type[FlyballError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _subclasses(below)


def write_errors() -> str:
    """Return errors.md."""
    lines = [
        "# Error codes",
        "",
        "Every refusal carries a stable code, a message that names the thing, and a hint. The command line prints",
        "`error[CODE]: MESSAGE` and `hint: HINT` on standard error; HTTP answers with a problem document whose `type`",
        "holds the code. What a code is derived from says what the caller can do, and which statuses it has:",
        "",
        "| kind | means | HTTP | exit |",
        "|---|---|---|---|",
        "| invalid-input | the request must change | 422 | 1 |",
        "| not-found | the name or id does not exist | 404 | 1 |",
        "| conflict | it exists, but its state forbids this | 409 | 1 |",
        "| not-permitted | who asks may not do this | 403 | 1 |",
        "| backend | something outside Flyball failed | 502 | 1 |",
        "| backend-unavailable | the same, and trying again may help | 503 | 75 |",
        "| plugin | an installed plugin is missing or breaks | 500 | 1 |",
        "",
        "## Codes",
        "",
        "| code | kind | meaning |",
        "|---|---|---|",
    ]
    for code, errors in list_errors().items():
        kinds = [base.code for base in errors[0].__mro__[1:] if getattr(base, "code", "").startswith("flyball/")]
        kind = next((kind for kind in kinds if kind != FlyballError.code), "–")
        meaning = "; ".join(_first_line(error).rstrip(".") for error in errors)
        lines.append(f"| `{code}` | {kind.removeprefix('flyball/')} | {meaning}. |")
    lines.append("| `flyball/internal` | – | A bug: the command line met an exception that nobody expected. |")
    return "\n".join(lines) + "\n"


def write_cli() -> str:
    """Return cli.md."""
    lines = [
        "# Commands",
        "",
        "Results go to standard output, everything else to standard error. Exit status: 0 done, 1 refused, 2 wrong",
        "usage, 75 try again, 130 interrupted. `--project DIR` names the project's folder (this one by default),",
        "`--home DIR` where everything is kept (`.flyball` in the project by default), and `--json` prints one JSON",
        "object for other programs. `flyball --version` and `flyball --help` say the rest.",
    ]
    for name, command in list_commands():
        lines += ["", f"## flyball {name}", "", *_usage(name, command)]
    return "\n".join(lines) + "\n"


def _usage(name: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=f"flyball {name}")
    text = inspect.cleandoc(command.help or "").replace("\\b\n", "").replace("\b\n", "")
    about, _, example = text.partition("Example:")
    lines = ["```text", command.get_usage(context).removeprefix("Usage: "), "```", "", about.strip()]
    if example:
        lines += ["", "```bash", *(line.strip() for line in example.strip().splitlines()), "```"]
    options = [
        parameter for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    if options:
        lines += ["", "| option | meaning |", "|---|---|"]
    for option in options:
        value = "" if option.is_flag else f" {option.make_metavar(context)}"
        lines.append(f"| `{', '.join(option.opts)}{value}` | {_escape(option.help or '')} |")
    return lines


def write_settings() -> str:
    """Return settings.md."""
    meanings = _section_items(inspect.getdoc(Settings) or "", "Attributes:")
    lines = [
        "# Settings",
        "",
        "Set in `flyball.toml` beside the project file, or in the environment as `FLYBALL_` and the name in capitals;",
        "lists there are separated by commas. A command's argument wins over the environment, that over the file, and",
        "that over the default. An unknown setting is refused. `flyball settings` prints each value and where it",
        "came from.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    defaults = Settings()
    for name in Settings.__struct_fields__:
        lines.append(f"| `{name}` | `{_toml(getattr(defaults, name))}` | {_escape(meanings.get(name, ''))} |")
    lines += [
        "",
        "```toml",
        "# flyball.toml",
        "port = 4000",
        'notifiers = ["console", "webhook"]',
        'webhooks = ["http://localhost:9000/alerts"]',
        "",
        "[users]",
        'ana = ["risk-officer"]',
        "```",
    ]
    return "\n".join(lines) + "\n"


def write_project_file() -> str:
    """Return project-file.md."""
    lines = [
        "# The project file",
        "",
        "Every name that `import flyball as fb` offers. A name is loaded on its first use, so importing Flyball costs",
        "next to nothing. Durations are written like `20ms`, `1h`, `90d` or `1h 30m`; instants are UTC.",
    ]
    offered = set(flyball.__all__) - {"__version__"}
    placed = {name for names in PARTS.values() for name in names}
    for part, names in {**PARTS, "Other": sorted(offered - placed)}.items():
        names = [name for name in names if name in offered]
        if not names:
            continue
        lines += ["", f"## {part}"]
        for name in names:
            lines += ["", f"### fb.{name}", "", *_describe(name)]
    return "\n".join(lines) + "\n"


def _describe(name: str) -> list[str]:
    thing: Any = getattr(flyball, name)
    lines = ["```text", f"fb.{name}{_signature(thing, wrap=True)}", "```", "", *_prose(inspect.getdoc(thing) or "")]
    if inspect.isclass(thing):
        kind, methods = "Methods and properties", _members(thing)
    elif name == "column":
        kind, methods = "Rules, each returning the chain", _chained(type(thing("x")))
    else:
        return lines
    if methods:
        lines += ["", f"{kind}:", ""]
    for method, member in methods:
        signature = "" if isinstance(member, property) else _signature(member).replace("(self, ", "(")
        lines.append(f"- `.{method}{signature.replace('(self)', '()')}`: {_first_line(member)}")
    return lines


def _members(kind: type) -> list[tuple[str, Any]]:
    return [
        (name, member)
        for name, member in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    ]


def _chained(kind: type) -> list[tuple[str, Any]]:
    """Return the methods of a chain, also those that it inherits; its own first."""
    members = [member for base in kind.__mro__[:-1] for member in _members(base)]
    return [(name, member) for name, member in members if inspect.isfunction(member)]


def _signature(thing: Any, *, wrap: bool = False) -> str:
    text = str(inspect.signature(thing))
    text = text.replace(str(Rule), "Rule").replace(str(Rule).replace("flyball.domain.data.rules.", ""), "Rule")
    text = re.sub(r"\b(?:flyball|polars|collections|datetime|pathlib|typing)(?:\.\w+)*\.(\w+)", r"\1", text)
    if "Literal" not in text:
        # Annotations that are text, but no defaults.
        text = re.sub(r"(= )?'([^']*)'", lambda found: found[0] if found[1] else found[2], text)
    if inspect.isclass(thing):
        text = text.removesuffix(" -> None")
    if wrap and len(text) > 90:
        text = re.sub(r", (?=\*?\w+(?::|=|,|\)))", ",\n    ", text.replace("(", "(\n    ", 1))
        text = re.sub(r"\)(?= -> |$)", ",\n)", text, count=1)
    return text


def _prose(doc: str) -> list[str]:
    lines = []
    for line in doc.splitlines():
        if line in _SECTIONS:
            lines += [f"{line}", ""]
        elif re.match(r"    \w[\w.]*: ", line):
            name, _, text = line.strip().partition(": ")
            lines.append(f"- `{name}`: {text}")
        else:
            lines.append(re.sub(r"^    ( *)", r"  ", line) if line.startswith("        ") else line.strip())
    return [line.replace("``", "`") for line in lines]


def _section_items(doc: str, section: str) -> dict[str, str]:
    items: dict[str, str] = {}
    name = ""
    for line in doc.partition(section)[2].splitlines():
        found = re.match(r"    (\w+): (.*)", line)
        if found:
            name = found[1]
            items[name] = found[2]
        elif name and line.strip():
            items[name] += f" {line.strip()}"
    return items


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "`")


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return "{}" if value == {} else str(value).replace("_", "")


def write_mlflow() -> str:
    """Return mlflow.md."""
    lines = [
        "# The MLflow protocol",
        "",
        "What Flyball serves of MLflow's REST protocol, below the address of `flyball up`; see",
        "[how to use it](../how-to/mlflow.md). Every address below `/api/` is served below `/ajax-api/` too.",
        "Any other answers 404 with the code `ENDPOINT_NOT_FOUND`; nothing is silently accepted.",
        "",
        "| method | address | what it does |",
        "|---|---|---|",
    ]
    for route in sorted(ROUTES, key=lambda route: (route.path, route.method)):
        lines.append(f"| {route.method} | `{route.path}` | {_first_line(route.handler).rstrip('.')} |")
    lines += [
        "",
        'A refusal has the body `{"error_code": ..., "message": ...}`:',
        "",
        "| what happened | HTTP | `error_code` |",
        "|---|---|---|",
    ]
    lines += [f"| {what} | {status} | `{code}` |" for what, status, code in list_codes()]
    return "\n".join(lines) + "\n"


PAGES = {
    "cli.md": write_cli,
    "errors.md": write_errors,
    "mlflow.md": write_mlflow,
    "project-file.md": write_project_file,
    "settings.md": write_settings,
}


def main() -> None:
    """Write all pages, or those whose names are given."""
    for name in sys.argv[1:] or PAGES:
        (REFERENCE / name).write_text(PAGES[name](), encoding="utf-8")


if __name__ == "__main__":
    main()
