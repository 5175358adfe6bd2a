"""Each command, option, exit code, setting, address, error code and metric stands on its reference page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from mdg import errors
from mdg.cli import command_line
from mdg.config import Settings
from mdg.web.metrics import Metrics

REPOSITORY = Path(__file__).resolve().parent.parent.parent
REFERENCE = REPOSITORY / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def commands(group: object, path: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """`audit show` to its long options, for every command below `group`."""
    found: dict[str, list[str]] = {}
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            found |= commands(command, (*path, name))
        else:
            options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
            found[" ".join((*path, name))] = options
    return found


def test_each_command_and_option_is_described() -> None:
    text = page("commands.md")
    sections = dict(re.findall(r"^## `mdg ([^`]+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    there = commands(typer.main.get_command(command_line()))
    assert set(sections) == set(there)
    missing = [
        f"mdg {name} {option}"
        for name, options in there.items()
        for option in options
        if f"`{option}`" not in sections[name] and f"`{option} " not in sections[name] and option != "--json"
    ]
    assert missing == []


def test_each_exit_code_is_described() -> None:
    text = page("commands.md")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MdgError)]
    for code in {0, *(kind.exit_code for kind in kinds)}:
        assert re.search(rf"^\| {code} \| .+ \|$", text, re.MULTILINE), f"exit code {code}"


def test_each_error_code_is_described() -> None:
    source = (REPOSITORY / "rust" / "core" / "src" / "error.rs").read_text(encoding="utf-8")
    codes = re.findall(r'= "(E_[A-Z_]+)"', source)
    assert len(codes) > 30
    described = re.findall(r"^\| `(E_[A-Z_]+)` \|", page("error-codes.md"), re.MULTILINE)
    assert described == codes


@pytest.mark.parametrize(
    "problem",
    [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Problem)],
    ids=lambda kind: kind.__name__,
)
def test_each_status_is_described(problem: type[errors.Problem]) -> None:
    if problem is errors.Problem:
        return
    rows = dict(re.findall(r"^\| (\d{3}) \| ([^|]+) \|", page("error-codes.md"), re.MULTILINE))
    assert f"`{problem.issue}`" in rows[str(problem.status)]


def settings(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of all fields, those of tables included."""
    found = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found += settings(part, f"{prefix}{name}.")
    return found


def test_each_setting_is_described() -> None:
    described = re.findall(r"^\| `([a-z_.]+)` \|", page("settings.md"), re.MULTILINE)
    assert sorted(described) == sorted(settings(Settings))


def routes(source: Path) -> list[str]:
    """Paths of the routes that a module builds, as they stand in its calls."""
    calls = [node for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("Route", "locked")]
    return [call.args[0].value for call in named if isinstance(call.args[0], ast.Constant)]  # type: ignore[misc] # str


def test_each_endpoint_is_described() -> None:
    package = REPOSITORY / "python" / "mdg"
    there = {
        path for source in (package / "app" / "routes.py", *package.glob("sandbox/*.py")) for path in routes(source)
    }
    assert len(there) > 20
    described = set(re.findall(r"^\| `(/[^`]*)` \|", page("endpoints.md"), re.MULTILINE))
    assert described == there


def test_each_metric_is_described() -> None:
    there = set(re.findall(r"^# TYPE (\w+) (?!unknown)", Metrics().text().decode(), re.MULTILINE))
    described = set(re.findall(r"^\| `(\w+)` \|", page("metrics.md"), re.MULTILINE))
    assert described == {name for name in there if not name.endswith("_created")}
