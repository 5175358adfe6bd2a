"""`docs/design/dependencies.md` has one sentence for each direct dependency, and no more."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGE = REPOSITORY / "docs" / "design" / "dependencies.md"


def sentences(heading: str) -> dict[str, str]:
    """Name to sentence of the table under `## heading`."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, re.MULTILINE))


def package(requirement: str) -> str:
    """The bare name of a PEP 508 requirement."""
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower()


def crates() -> set[str]:
    """What the workspace members depend on, ours left out."""
    found: set[str] = set()
    for manifest in REPOSITORY.glob("rust/*/Cargo.toml"):
        if manifest.parent.name == "fuzz":
            continue
        members = tomllib.loads(manifest.read_text(encoding="utf-8"))
        for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
            found |= set(members.get(kind, {}))
    return {name for name in found if not name.startswith("mdg-")}


def test_each_crate_has_its_sentence() -> None:
    workspace = tomllib.loads((REPOSITORY / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["dependencies"]
    declared = {name for name in workspace if not name.startswith("mdg-")}
    assert crates() <= declared, "a version belongs into the workspace's Cargo.toml"
    assert set(sentences("Rust")) == declared


def test_each_package_has_its_sentence() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    extras = chain.from_iterable(project["project"]["optional-dependencies"].values())
    to_run = {package(line) for line in (*project["project"]["dependencies"], *extras)} - {"mdg"}
    assert set(sentences("Python, to run")) == to_run
    to_test = {package(line) for line in project["dependency-groups"]["dev"]}
    assert set(sentences("Python, to build and test")) == to_test - to_run


def test_each_crate_is_used() -> None:
    idle = []
    for manifest in REPOSITORY.glob("rust/*/Cargo.toml"):
        sources = "".join(path.read_text(encoding="utf-8") for path in manifest.parent.rglob("*.rs"))
        sources += "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "benches").rglob("*.rs"))
        content = tomllib.loads(manifest.read_text(encoding="utf-8"))
        named = {*content.get("dependencies", {}), *content.get("dev-dependencies", {})}
        unused = [name for name in named if not re.search(rf"\b{name.replace('-', '_')}\b", sources)]
        idle += [f"{manifest.parent.name}: {name}" for name in sorted(unused)]
    assert idle == []


# Found by name at run time, so no import shows them: drivers, what SQLAlchemy's async engine runs on, zone data.
UNSEEN = {"aiosqlite", "greenlet", "tzdata"}
MODULES = {"pillow": "PIL"}


def test_each_package_is_used() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "python").rglob("*.py"))
    names = set(sentences("Python, to run")) - UNSEEN
    modules = {name: MODULES.get(name, name.replace("-", "_")) for name in names}
    idle = [name for name, module in modules.items() if not re.search(rf"(from|import) {module}\b", sources)]
    assert idle == []


def test_sentences_end_as_sentences_do() -> None:
    for heading in ("Rust", "Python, to run", "Python, to build and test"):
        for name, sentence in sentences(heading).items():
            assert sentence.endswith("."), name
