"""Options that are written once are each command's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.grouping import grouped

Number = Annotated[int, typer.Option(min=1, help="A number.")]


@dataclass(frozen=True)
class Base:
    name: Annotated[str, typer.Option(help="A name.")]
    number: Number = 7


@dataclass(frozen=True)
class More(Base):
    loud: Annotated[bool, typer.Option("--loud")] = False


@pytest.fixture
def given() -> list[Any]:
    return []


@pytest.fixture
def app(given: list[Any]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @grouped
    def command(file: Annotated[Path, typer.Argument()], extra: Number = 1, *, more: More) -> None:
        given.append((file, extra, more))

    return app


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["f", "--name", "n"], (Path("f"), 1, More("n"))),
        (["f", "--name", "n", "--number", "3", "--extra", "2", "--loud"], (Path("f"), 2, More("n", 3, loud=True))),
    ],
)
def test_a_command_is_given_its_group(
    arguments: list[str], made: tuple[Any, ...], app: typer.Typer, given: list[Any]
) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert given == [made]


@pytest.mark.parametrize("more", [[], ["--name", "n", "--number", "0"], ["--name", "n", "--more", "x"]])
def test_what_a_group_asks_for_is_asked_of_the_command(more: list[str], app: typer.Typer, given: list[Any]) -> None:
    assert CliRunner().invoke(app, ["f", *more]).exit_code == 2
    assert given == []


def test_help_tells_of_every_option(app: typer.Typer) -> None:
    told = CliRunner().invoke(app, ["--help"]).output
    assert all(option in told for option in ("--name", "--number", "--loud", "A name."))
