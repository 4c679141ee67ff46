"""The ``flyball`` command: finds the command's file, and turns every error into words and an exit status."""

import importlib
import keyword
import sys

import click

from flyball.core.errors import BackendUnavailableError, FlyballError
from flyball.version import __version__

# Name → (module, what it does): a command's module is imported only when it is called.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("projects", "Write a new project that runs at once."),
    "demo": ("projects", "Live through a year of a credit model in a minute."),
    "settings": ("projects", "Show every setting and where it comes from."),
    "run": ("runs", "Run a pipeline; what has not changed is not computed again."),
    "runs": ("tracking", "Look at runs, whoever made them, and send what programs could not send."),
    "up": ("serving", "Start the API, the endpoints and the loop."),
    "predict": ("serving", "Ask an endpoint for a prediction."),
    "label": ("serving", "Say how a prediction turned out."),
    "rollback": ("models", "Go back to the model that was live before."),
    "trial": ("trials", "Show how an A/B test or a bandit stands."),
    "approve": ("models", "Sign a model version's evidence."),
    "status": ("status", "Show what is live, what is watched and what needs you."),
    "trace": ("lineage", "Show everything behind one prediction."),
    "history": ("lineage", "Show what was live at an instant."),
    "impact": ("lineage", "Show what a snapshot, run or version came from and reached."),
    "audit": ("lineage", "Check that the journal is whole."),
    "data": ("data", "Look at tables: what they hold, what changed, what could be expected, what leaks."),
    "features": ("features", "Write features into the online store, and look them up."),
    "snapshot": ("data", "Keep a table as it is now."),
    "test": ("testing", "Put requests to an endpoint's version before it goes live."),
    "score": ("scoring", "Predict the rows of a table."),
    "export": ("porting", "Write everything as Parquet, JSON and plain files."),
    "import": ("porting", "Bring in what another store, or an archive, holds."),
    "gc": ("collecting", "Remove for good what was deleted, and bytes that nothing needs."),
    "replay": ("replays", "Live through the project's past under one or more policies."),
}
TRY_AGAIN = 75


class LazyGroup(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group.list_commands`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group.get_command`."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"flyball.cli.{COMMANDS[cmd_name][0]}")
        # A word of Python, such as import, names no function.
        command: click.Command = getattr(module, f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flyball")
def cli() -> None:
    """Flyball: from raw data to a model that keeps itself right."""


def main() -> None:
    """Run the command line and exit: 0 done, 1 refused, 2 wrong usage, 75 try again, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    try:
        status = cli.main(arguments, prog_name="flyball", standalone_mode=False)
    except FlyballError as error:
        return _tell(error)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was complete is kept", err=True)
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        from flyball.core.files import find_refusal

        refusal = find_refusal(error)
        return _tell_of_a_bug(error) if refusal is None else _tell(refusal)
    except Exception as error:  # noqa: BLE001  the process's edge: no traceback reaches a user
        return _tell_of_a_bug(error)
    return status if isinstance(status, int) else 0


def _tell(error: FlyballError) -> int:
    click.echo(f"error[{error.code}]: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    return TRY_AGAIN if isinstance(error, BackendUnavailableError) else 1


def _tell_of_a_bug(error: Exception) -> int:
    import tempfile
    import traceback

    details = "".join(traceback.format_exception(error))
    click.echo(f"error[flyball/internal]: {type(error).__name__}: {error}", err=True)
    try:
        # A name of its own: a file of another user, or a link that somebody laid there, must not be in the way.
        with tempfile.NamedTemporaryFile(
            "w", prefix="flyball-crash-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(details)
        report = file.name
    except OSError:
        click.echo(details, err=True)
        report = "the lines above"
    click.echo(f"hint: This is a bug in Flyball. The details are in {report}; please report them.", err=True)
    return 1


if __name__ == "__main__":
    main()
