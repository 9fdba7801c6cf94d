"""The public names of `mercury_lsp`: the README's programs run with them alone."""

import ast
import asyncio
import re
from pathlib import Path

import pytest

import mercury_lsp
from mercury_lsp import (
    DynamicBatcher,
    EngineLimits,
    FimPrompt,
    InfillRequest,
    MercuryInferenceEngine,
    Overloaded,
    Priority,
    SamplingParams,
    load,
)

ROOT = Path(__file__).parents[1]
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def parsed(program: str) -> ast.Module:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile(program, "README.md", "exec", flags=flags)


def test_the_readme_shows_programs() -> None:
    assert len(PROGRAMS) >= 2


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_of_the_readme_runs_on_the_public_names(program: str) -> None:
    """With the model that is in the repository instead of the one that must be pulled."""
    assert '"mini"' in program
    names = [
        (node.module, alias.name)
        for node in ast.walk(parsed(program))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert {module for module, _ in names} == {"mercury_lsp"}
    assert {name for _, name in names} <= {*mercury_lsp.__all__}
    found: dict[str, object] = {}
    code = compile(
        program.replace('"mini"', '"tiny"'),
        "README.md",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )
    try:
        asyncio.run(eval(code, found))
    finally:
        for value in found.values():
            if isinstance(value, mercury_lsp.MercuryCoder | MercuryInferenceEngine):
                value.close()


def test_a_program_drives_the_engine_with_public_names_alone(tmp_path: Path) -> None:
    limits = EngineLimits(requests=1)
    sampling = SamplingParams(max_tokens=4)
    urgent = InfillRequest(FimPrompt("import ", "\n"), sampling, priority=Priority.KEYSTROKE)
    with DynamicBatcher(load("tiny", cache_dir=tmp_path), limits) as batcher:
        assert isinstance(batcher.submit(urgent).result().text, str)
    assert issubclass(Overloaded, mercury_lsp.ModelError)
