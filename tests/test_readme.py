"""What README and docs say can be done: snippets parse or run, commands take their options, links lead on."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny_erasure
from oubliette.commands.app import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BASH = [
    (page.name, " ".join(line.split("#")[0].split()))
    for page in PAGES
    for language, text in FENCE.findall(page.read_text("utf-8"))
    if language == "bash"
    for line in text.replace("\\\n", " ").splitlines()
    if line.strip()
]


def snippets(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, text)
        for page in PAGES
        for found, text in FENCE.findall(page.read_text("utf-8"))
        if found == language
    ]


@pytest.mark.parametrize(("page", "line"), BASH)
def test_commands_take_their_options(page: str, line: str) -> None:
    words = shlex.split(line)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
        return
    if words[0].endswith("pre-commit") or words[0] == "openssl":
        return
    assert words[0] == "oubliette", f"{page} names another program: {line}"
    import typer

    command: Any = typer.main.get_command(app)
    arguments = words[1:]
    while hasattr(command, "commands"):
        name = arguments.pop(0)
        assert name in command.commands
        command = command.commands[name]
    command.make_context(command.name, arguments)


@pytest.mark.parametrize(("page", "code"), snippets("python"))
def test_python_parses_and_what_it_asks_of_the_package_is_there(page: str, code: str) -> None:
    import oubliette

    tree = ast.parse(code)
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ob"
    }
    assert all(hasattr(oubliette, name) for name in asked)


def test_commands_in_the_readme_are_all_there_is() -> None:
    import typer

    named = set(re.findall(r"^\| `oubliette (\w+)`", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE))
    assert named == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_recipes_in_the_docs_are_valid() -> None:
    from oubliette.recipe import build_recipe, validate

    found = [(page, yaml.safe_load(text)) for page, text in snippets("yaml")]
    recipes = [(page, content) for page, content in found if isinstance(content, dict)]
    assert recipes
    for page, content in recipes:
        validate(build_recipe(content, page))


def test_streams_in_the_docs_are_valid(tmp_path: Path) -> None:
    from oubliette.workflows.continual.requests import read_requests

    found = [text for _, text in snippets("yaml") if isinstance(yaml.safe_load(text), list)]
    assert found
    for text in found:
        (tmp_path / "requests.yaml").write_text(text)
        assert read_requests(tmp_path / "requests.yaml")


def test_every_method_and_preset_has_its_place_in_the_docs() -> None:
    from oubliette.erase import METHODS
    from oubliette.recipe import preset_names
    from oubliette.train import SCOPES, SMOOTHERS, SURGERIES

    text = (ROOT / "docs" / "methods.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for name in METHODS:
        assert sum(row.startswith(f"| `{name}` |") for row in rows) == 2
    for name in (*SCOPES, *SMOOTHERS, *SURGERIES):
        assert f"`{name}`" in text
    for name in preset_names():
        assert f"`{name}`" in text or f"`{name.removesuffix('-nano')}`" in text


def test_the_example_of_a_method_erases() -> None:
    from oubliette.train.config import TrainConfig

    code = next(code for page, code in snippets("python") if page == "adding-a-method.md")
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "example.py", "exec"), names)
    loop = tiny_erasure.loop(names["Nearest"], steps=2)
    assert isinstance(loop.config, TrainConfig)
    before = loop.weights.original
    loop.run()
    assert any((loop.weights.delta()[name] != 0).any() for name in before)
