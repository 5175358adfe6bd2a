"""The modules of the Rust crates and what each of them uses, read from the source text.

A module is written as the crates' folders name it: `core::envelope::v1::pack` is `rust/core/src/envelope/v1/pack.rs`.
Comments, strings and `#[cfg(test)]` modules, which stand last in their file, do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

CRATES = ("crypto", "core", "local", "py")

Sources = Mapping[str, str]
"""The source text of each module."""


def read(rust: Path) -> dict[str, str]:
    """The modules of every crate below the folder `rust`."""
    return {
        "::".join([crate, *inside]): path.read_text(encoding="utf-8")
        for crate in CRATES
        for path in sorted((rust / crate / "src").rglob("*.rs"))
        if (inside := _module(path.relative_to(rust / crate / "src")))[-1:] != ["tests"]
    }


def _module(path: Path) -> list[str]:
    *folders, file = path.parts
    return folders if file in ("lib.rs", "mod.rs") else [*folders, file.removesuffix(".rs")]


def paths(rust: str) -> Iterator[str]:
    """Every path that the code of one module names: in `use` items, with their braces taken apart, and elsewhere."""
    code = _code(rust)
    for item in re.finditer(r"\buse\s+([^;]+);", code):
        yield from _leaves(re.sub(r"\s+as\s+\w+", "", item[1]))
    yield from re.findall(
        r"\b(?:crate|super|self|std|core|rayon|mdg_\w+)(?:::\w+)+", re.sub(r"\buse\s+[^;]+;", "", code)
    )


def _code(rust: str) -> str:
    code = re.sub(r"#\[cfg\(test\)\]\s*mod \w+ \{.*", "", rust, flags=re.DOTALL)
    code = re.sub(r'b?"(\\.|[^"\\])*"', '""', re.sub(r"//[^\n]*", "", code))
    return re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL)


def _leaves(tree: str) -> Iterator[str]:
    """`a::{b, c::{self, D}}` as `a::b`, `a::c` and `a::c::D`."""
    tree = tree.strip()
    before, brace, rest = tree.partition("{")
    if not brace:
        if tree:
            yield tree.removesuffix("::self").removesuffix("::*")
        return
    depth, part = 0, ""
    for sign in rest.rsplit("}", 1)[0] + ",":
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            for leaf in _leaves(part):
                yield (before.strip() + leaf).removesuffix("::self")
            part = ""
        else:
            part += sign


def uses(modules: Sources) -> dict[str, set[str]]:
    """The other modules that each module uses. An item that a crate's root only passes on is its own module's."""
    passed_on = {
        f"{crate}::{path.rsplit('::', 1)[-1]}": f"{crate}::{path.rsplit('::', 1)[0]}"
        for crate in CRATES
        for tree in re.findall(r"^pub use ([^;]+);", _code(modules.get(crate, "")), flags=re.MULTILINE)
        for path in _leaves(tree)
    }
    found: dict[str, set[str]] = {}
    for module, source in modules.items():
        if "::" not in module:
            continue  # the root of a crate says what is in it, and the functions that a binding registers
        found[module] = set()
        for path in paths(source):
            whole = _absolute(module, path, modules)
            while whole and whole not in modules and whole not in passed_on:
                whole = whole.rpartition("::")[0]
            other = passed_on.get(whole, whole)
            if other and other != module:
                found[module].add(other)
    return found


def _absolute(module: str, path: str, modules: Sources) -> str:
    """A path from the folders of the crates; empty for one that leads out of them."""
    first, _, rest = path.partition("::")
    if first == "crate":
        return f"{module.partition('::')[0]}::{rest}"
    if first.startswith("mdg_"):
        return f"{first.removeprefix('mdg_')}::{rest}".removesuffix("::")
    if first == "self":
        return f"{module}::{rest}"
    if first == "super":
        here = module.rpartition("::")[0]
        while rest.startswith("super::"):
            here, rest = here.rpartition("::")[0], rest.removeprefix("super::")
        return f"{here}::{rest}"
    return f"{module}::{path}" if f"{module}::{first}" in modules else ""


def circles(used: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Circles of modules, each once, from its first name on."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> Iterator[list[str]]:
        if module in way:
            yield way[way.index(module) :]
        elif module not in done:
            for other in sorted(used.get(module, ())):
                yield from walk(other, [*way, module])
            done.add(module)

    for module in sorted(used):
        yield from walk(module, [])
