"""The floors of docs/design/architecture.md, read from the imports themselves.

Arrows go down only and rooms on one floor do not import each other, except on the top floor, where things are wired.
`mdg._core` is for the rooms that the page names. Rust modules have floors too and no circles; the core has no files,
threads and sockets, and `unsafe` has two homes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import rust_modules

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "python" / "mdg"

FLOORS = {
    7: {"app", "cli", "config", "sandbox"},
    6: {"web"},
    5: {"exchange"},
    4: {"sources", "registry", "subscriptions"},
    3: {"access", "audit", "identity", "client", "jobs"},
    2: {"fhir", "envelope", "store", "keys", "outbound"},
    1: {"model", "errors"},
}
TOP = max(FLOORS)
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}

# Which rooms may use the Rust core.
CORE = {"envelope", "keys", "sources", "store"}

# A story knows no standard: doors render what it returns.
NEVER = {"exchange": {"fhir"}}

# `unsafe` in Rust: behind the safe wrappers of the ciphers, and the buffers that are lent to Python.
UNSAFE_HOMES = ("rust/crypto/src/", "rust/py/src/buffer.rs")


def imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, dotted name below `mdg`) of each import of ours; `package` is where the file stands, for relative ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            # `from mdg import x` names a room in its list, `from mdg.room import x` before it.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "mdg" else [base]
        else:
            continue
        yield from ((node.lineno, name.removeprefix("mdg.")) for name in names if name.startswith("mdg."))


def violations(room: str, tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """What the imports of one file of `room` break, in words."""
    for line, name in imported(tree, package):
        other = name.split(".")[0]
        if other == "_core":
            if room not in CORE:
                yield f"line {line}: {room} uses _core, which only {', '.join(sorted(CORE))} may"
        elif other in (room, "__version__"):
            continue
        elif other in NEVER.get(room, ()):
            yield f"line {line}: {room} never uses {other}"
        elif other not in FLOOR:
            yield f"line {line}: {other} is on no floor"
        elif FLOOR[other] > FLOOR[room]:
            yield f"line {line}: {room} (floor {FLOOR[room]}) looks up to {other} (floor {FLOOR[other]})"
        elif FLOOR[other] == FLOOR[room] != TOP:
            yield f"line {line}: {room} and {other} share floor {FLOOR[room]}"


def python_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    if room == "__main__":
        room = "cli"
    assert room in FLOOR, f"{room} is on no floor: add it to docs/design/architecture.md and to this table"
    package = ("mdg", *path.relative_to(PACKAGE).parts[:-1])
    found = list(violations(room, ast.parse(path.read_text(encoding="utf-8")), package))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("room", "source", "package", "said"),
    [
        ("store", "from mdg.exchange import release", ("mdg", "store"), "looks up to exchange"),
        ("store", "import mdg.web.fhir", ("mdg", "store"), "looks up to web"),
        ("fhir", "from mdg import store", ("mdg", "fhir"), "share floor 2"),
        ("access", "def late():\n    from mdg.audit import Audit", ("mdg", "access"), "share floor 3"),
        ("web", "from mdg import _core", ("mdg", "web"), "uses _core"),
        ("web", "from .._core import Recipe", ("mdg", "web"), "uses _core"),
        ("audit", "from ..identity import Identities", ("mdg", "audit"), "share floor 3"),
        ("access", "from ...exchange import retrieval", ("mdg", "access", "rules"), "looks up to exchange"),
        ("exchange", "from mdg.fhir.bundle import searchset", ("mdg", "exchange"), "never uses fhir"),
        ("cli", "from mdg.gadgets import thing", ("mdg", "cli"), "on no floor"),
    ],
)
def test_a_planted_import_is_found(room: str, source: str, package: tuple[str, ...], said: str) -> None:
    found = list(violations(room, ast.parse(source), package))
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("store", "from mdg import errors\nfrom mdg.model import identity\nfrom mdg._core import digest_file"),
        ("access", "from . import rules\nfrom .rules import purpose_known\nfrom ..keys import Keyring"),
        ("cli", "from mdg.app import create_public\nfrom mdg.sandbox import phantom"),
        ("web", "import mdg_extra.exchange\nimport os"),
    ],
)
def test_an_import_that_goes_down_is_not(room: str, source: str) -> None:
    assert list(violations(room, ast.parse(source), ("mdg", room))) == []


def test_the_page_and_this_table_name_the_same_floors() -> None:
    page = (REPOSITORY / "docs" / "design" / "architecture.md").read_text(encoding="utf-8")
    told = {
        int(floor): set(re.findall(r"`(\w+)`", rooms.split("—")[0]))
        for floor, rooms in re.findall(r"^\| (\d) \| (.*) \|$", page, re.MULTILINE)
    }
    assert told == FLOORS


# The floors of Rust, from the ground up. Modules of one floor may use each other, without a circle.
RUST = (
    {"crypto"},
    {"core::error", "core::limits", "core::bytes"},
    {"core::base64", "core::json", "core::digest", "core::dicom", "core::seal", "core::sign", "core::archive"},
    {"core::envelope", "core::recipe"},
    {"local"},
    {"py"},
)
RUST_FLOOR = {room: floor for floor, rooms in enumerate(RUST) for room in rooms}

# What the core leaves to its callers: files, threads, sockets, the clock, the machine.
NOT_IN_CORE = ("std::fs", "std::thread", "std::net", "std::process", "std::env", "std::time", "std::os", "rayon")


def rust_room(module: str) -> str:
    crate, _, inside = module.partition("::")
    return f"core::{inside.split('::')[0]}" if crate == "core" else crate


def rust_violations(modules: rust_modules.Sources) -> Iterator[str]:
    """What the imports of these modules break, in words."""
    used = rust_modules.uses(modules)
    for module, others in used.items():
        for other in sorted(others):
            if rust_room(other) not in RUST_FLOOR:
                yield f"{module}: {other} is on no floor"
            elif RUST_FLOOR[rust_room(other)] > RUST_FLOOR[rust_room(module)]:
                yield f"{module} looks up to {other}"
    yield from (f"a circle: {' -> '.join([*circle, circle[0]])}" for circle in rust_modules.circles(used))
    for module, source in modules.items():
        if module.startswith("core"):
            for path in rust_modules.paths(source):
                yield from (f"{module} uses {name}" for name in NOT_IN_CORE if f"{path}::".startswith(f"{name}::"))


def test_rust_modules_look_down_only_and_in_no_circle() -> None:
    modules = rust_modules.read(REPOSITORY / "rust")
    assert {rust_room(module) for module in modules if "::" in module} == set(RUST_FLOOR)
    assert list(rust_violations(modules)) == []


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("core::digest", "use crate::envelope::Progress;", "core::digest looks up to core::envelope"),
        ("core::digest", "use crate::{Error, recipe::Recipe};", "core::digest looks up to core::recipe"),
        ("core::error", "pub fn f() -> crate::json::Value {}", "core::error looks up to core::json"),
        ("core::seal::keys", "use super::super::envelope;", "core::seal::keys looks up to core::envelope"),
        ("crypto::gcm", "use mdg_core::Error;", "crypto::gcm looks up to core::error"),
        ("core::recipe", "use mdg_local::file::OpenFile;", "core::recipe looks up to local::file"),
        ("local::file", "use mdg_py::keys;", "local::file looks up to py::keys"),
        ("core::json", "use crate::gadgets::thing;", "core::json: core::gadgets is on no floor"),
        ("core::json", "use crate::{digest::{self, Digest}};", "a circle: core::digest -> core::json -> core::digest"),
        (
            "core::envelope::files",
            "use super::v1::{pack};",
            "a circle: core::envelope::files -> core::envelope::v1::pack -> core::envelope::files",
        ),
        ("core::digest", "use std::fs::File;", "core::digest uses std::fs"),
        ("core::digest", "use std::{collections::HashMap, thread};", "core::digest uses std::thread"),
        ("core::digest", "fn f() { std::net::lookup() }", "core::digest uses std::net"),
        ("core::digest", "use rayon::prelude::*;", "core::digest uses rayon"),
    ],
)
def test_a_planted_use_of_rust_is_found(module: str, source: str, said: str) -> None:
    modules = {
        "core": "pub use error::{Code, Error};",
        "core::error": "",
        "core::json": "use crate::Error;",
        "core::digest": "use crate::json;",
        "core::gadgets": "",
        "core::recipe": "",
        "core::envelope": "pub mod files;",
        "core::envelope::v1::pack": "use crate::envelope::files::write;",
        "core::envelope::v1::open": "use super::pack;",
        "local::file": "use mdg_core::{Error, recipe::Recipe};",
        "py::keys": "use mdg_local::file;",
        **{module: source},
    }
    assert said in list(rust_violations(modules))


def test_a_use_of_rust_that_goes_down_is_not() -> None:
    modules = {
        "core": "pub use error::{Code, Error};",
        "core::error": '// use crate::json;\nconst TEXT: &str = "crate::json::x";',
        "core::json": "use crate::{Code, Error};\n#[cfg(test)]\nmod tests {\n    use crate::envelope::Progress;\n}",
        "core::envelope": "use crate::json::{self, parse as read};\nuse std::sync::OnceLock;",
        "local::threads": "use std::thread;\nuse mdg_core::envelope::Progress;",
    }
    assert list(rust_violations(modules)) == []


def test_the_page_and_this_table_name_the_same_floors_of_rust() -> None:
    page = (REPOSITORY / "docs" / "design" / "architecture.md").read_text(encoding="utf-8")
    order = re.search(r"^In Rust: (.*?)\.$", page, re.MULTILINE)
    assert order is not None
    told = [set(re.findall(r"`(\w+)`", floor)) for floor in order[1].split(" <- ")]
    assert told == [{room.removeprefix("core::") for room in floor} for floor in RUST]


def code_lines(rust: str) -> Iterator[tuple[int, str]]:
    """Lines without comments and string contents, so that prose about `unsafe` does not count."""
    without_blocks = re.sub(r"/\*.*?\*/", lambda block: "\n" * block.group().count("\n"), rust, flags=re.DOTALL)
    for number, line in enumerate(without_blocks.splitlines(), 1):
        yield number, re.sub(r'"(\\.|[^"\\])*"', '""', line).split("//")[0]


def unsafe_lines(rust: str) -> list[int]:
    return [number for number, line in code_lines(rust) if re.search(r"\bunsafe\b", line)]


def test_unsafe_rust_has_two_homes() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in sorted((REPOSITORY / "rust").glob("*/src/**/*.rs"))
        if not str(path.relative_to(REPOSITORY)).startswith(UNSAFE_HOMES)
        for number in unsafe_lines(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("crate", ["core", "local"])
def test_a_crate_without_unsafe_forbids_it_itself(crate: str) -> None:
    root = (REPOSITORY / "rust" / crate / "src" / "lib.rs").read_text(encoding="utf-8")
    assert "#![forbid(unsafe_code)]" in [line.strip() for _, line in code_lines(root)]


@pytest.mark.parametrize(
    ("rust", "lines"),
    [
        ("let x = unsafe { y() };", [1]),
        ("// unsafe\n/* unsafe\n */ unsafe fn f() {}", [3]),
        ('let text = "unsafe \\" {";', []),
        ("#![forbid(unsafe_code)]", []),
    ],
)
def test_a_planted_unsafe_is_found(rust: str, lines: list[int]) -> None:
    assert unsafe_lines(rust) == lines
