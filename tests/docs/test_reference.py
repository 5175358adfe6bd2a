"""Each command, option, exit code, setting, address, error code, metric and log event stands on its reference page."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from mdg import errors
from mdg.cli import command_line
from mdg.cli.terminal import code_of
from mdg.config import Settings
from mdg.errors import InputOutput, MdgError, Misuse, Unsupported
from mdg.fhir.capability_statement import capability_statement
from mdg.fhir.search import SEARCHES
from mdg.identity.identities import WHAT_TO_DO
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
    table = page("error-codes.md").partition("## Codes of the index")[0]
    assert re.findall(r"^\| `(E_[A-Z_]+)` \|", table, re.MULTILINE) == codes


def test_each_code_of_the_index_and_of_commands_is_described() -> None:
    """The codes that Python and the extension module add to those of the profile."""
    profile = (REPOSITORY / "rust" / "core" / "src" / "error.rs").read_text(encoding="utf-8")
    sources = [*(REPOSITORY / "python" / "mdg").rglob("*.py"), *(REPOSITORY / "rust" / "py" / "src").glob("*.rs")]
    there = {code for path in sources for code in re.findall(r'"(E_[A-Z_]+)"', path.read_text(encoding="utf-8"))}
    there -= set(re.findall(r'= "(E_[A-Z_]+)"', profile))
    there |= set(WHAT_TO_DO)
    there |= {code_of(error) for error in (Unsupported("", ""), InputOutput("", ""), Misuse(), MdgError())}
    table = page("error-codes.md").partition("## Codes of the index")[2].partition("## Answers of the gateway")[0]
    described = re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)
    assert len(set(described)) == len(described)
    assert set(described) == there


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


@pytest.mark.parametrize("type_", SEARCHES)
def test_each_search_parameter_is_described_with_its_type(type_: str) -> None:
    section = page("endpoints.md").partition(f"#### {type_}\n")[2].partition("\n#")[0]
    described = re.findall(r"^\| `([a-zA-Z_:.]+)` \| (token|reference|date|special) \|", section, re.MULTILINE)
    assert described
    assert dict(described) == {name: parameter.type for name, parameter in SEARCHES[type_].parameters.items()}
    stated = capability_statement(
        [(f"/fhir/{type_}", frozenset({"GET"}))],
        fhir="https://mdg.example.org/fhir",
        canonical_base="https://w3id.org/mdg",
        version="1",
        published=datetime.now(UTC),
        issuers=[],
    )["rest"][0]["resource"][0]
    offered = {one["name"]: one["type"] for one in stated["searchParam"]}
    assert offered == {name: dict(described)[name] for name in offered}
    bases = {re.split("[.:]", name)[0] for name, type_ in described if type_ != "special"}
    assert bases == set(offered)
    assert all(f"`{one}`" in section for one in stated.get("searchInclude", ()))


def test_each_metric_is_described() -> None:
    there = set(re.findall(r"^# TYPE (\w+) (?!unknown)", Metrics().text().decode(), re.MULTILINE))
    described = set(re.findall(r"^\| `(\w+)` \|", page("metrics.md"), re.MULTILINE))
    assert described == {name for name in there if not name.endswith("_created")}


LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


def logged(source: Path) -> Iterator[tuple[str, str, set[str]]]:
    """(event, level, fields) of each line that a module logs by structlog. Where a function is given the event, the
    events are those of the calls of that function; a name that stands for a level counts as each that it may be."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    loggers = {ast.unparse(one.targets[0]) for one in assigned if "structlog.get_logger(" in ast.unparse(one.value)}
    spoken = {ast.unparse(one.targets[0]): levels(one.value, loggers) for one in assigned}
    for scope in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]:
        for call in [node for node in ast.walk(scope) if isinstance(node, ast.Call)]:
            found = spoken.get(call.func.id, set()) if isinstance(call.func, ast.Name) else levels(call.func, loggers)
            fields = {keyword.arg for keyword in call.keywords if keyword.arg}
            for level in found:
                if isinstance(call.args[0], ast.Constant):
                    yield str(call.args[0].value), level, fields
                else:
                    for event, more in given(tree, scope.name):
                        yield event, level, fields | more


def levels(expression: ast.expr, loggers: set[str]) -> set[str]:
    """The levels of a logger that stand in an expression, such as `log.info`."""
    named = [node for node in ast.walk(expression) if isinstance(node, ast.Attribute) and node.attr in LEVELS]
    return {node.attr for node in named if ast.unparse(node.value) in loggers}


def given(tree: ast.AST, function: str) -> Iterator[tuple[str, set[str]]]:
    """The first argument, and the named ones, of each call of a method of this name."""
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        if isinstance(call.func, ast.Attribute) and call.func.attr == function:
            assert isinstance(call.args[0], ast.Constant), f"line {call.lineno}: an event has a name in the code"
            yield str(call.args[0].value), {keyword.arg for keyword in call.keywords if keyword.arg}


def test_each_log_event_is_described_with_its_level_and_fields() -> None:
    there: dict[tuple[str, str], set[str]] = {}
    for source in (REPOSITORY / "python" / "mdg").rglob("*.py"):
        for event, level, fields in logged(source):
            there[event, level] = there.get((event, level), set()) | fields
    assert len(there) >= 10
    rows = re.findall(r"^\| `([^`]+)` \| `(\w+)` \| ([^|]+) \|", page("logs.md"), re.MULTILINE)
    described = {(event, level): set(re.findall(r"`(\w+)`", fields)) for event, level, fields in rows}
    assert set(described) == set(there)
    assert [event for event in there if not there[event] <= described[event]] == []


def test_a_line_has_the_fields_that_every_line_has_and_is_one_line() -> None:
    program = (
        "import structlog; from mdg.web.log import configure; configure(); "
        "structlog.get_logger('mdg.access').info('request', reason='a' + chr(10) + 'c' * 2000)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (line,) = ended.stderr.splitlines()
    said = json.loads(line)
    described = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", page("logs.md"), re.MULTILINE)
    assert set(said) - {"reason"} == set(described) - set(LEVELS)
    assert said["reason"].startswith("a\\x0ac")
    assert len(said["reason"]) == 1024 + len("\\x0a") - 1
