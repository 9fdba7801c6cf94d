"""The arrows of ARCHITECTURE.md, read off every import in the tree."""

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT, MODEL, KERNELS = (
    ROOT / "mercury_lsp",
    ROOT / "model" / "mercury_model",
    ROOT / "kernels" / "mercury_kernels",
)
PURE = {
    *("collections", "contextlib", "dataclasses", "enum", "functools", "importlib", "itertools"),
    *("pathlib", "re", "typing", "unicodedata", "urllib"),  # pure paths, unquoting
    *("cachetools", "mercury_lsp", "tree_sitter"),
}
NETWORK = {"huggingface_hub", "httpx", "requests", "socket", "ssl", "http", "ftplib"}
IMPORTS_ORT = re.compile(r"^\s*(import|from)\s+onnxruntime\b", re.MULTILINE)
"""Also in a script that a test has in quotes."""

TORCH_FREE = (
    *("noise", "decoding.unmasking", "decoding.infiller", "decoding.call_generator"),
    *("decoding.middle", "decoding.sampler", "decoding.prefix_cache", "spec.tokenizer"),
    *("weights.registry", "serving", "serving.batcher", "serving.engine"),
)


def modules(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports(path: Path) -> set[str]:
    """The dotted names that a module imports, anywhere in it."""
    return names(ast.walk(tree(path)))


def names(nodes: Iterable[ast.AST]) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def imported_first(path: Path) -> set[str]:
    """The dotted names that a module imports when it is imported itself."""
    top = [node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return names(top)


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def offenders(folder: Path, forbidden: set[str], *allowed: str) -> list[str]:
    return [
        f"{shown(path)}: {name}"
        for path in modules(folder)
        for name in sorted(roots(path) & forbidden)
        if not any(shown(path).startswith(prefix) for prefix in allowed)
    ]


def test_the_core_is_pure() -> None:
    for path in modules(PRODUCT / "core"):
        assert roots(path) <= PURE, shown(path)
        inner = {name for name in imports(path) if name.startswith("mercury_lsp")}
        assert all(name.startswith("mercury_lsp.core") for name in inner), shown(path)
        called = {node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
        named = {function.id for function in called if isinstance(function, ast.Name)}
        assert named.isdisjoint({"open", "print", "input", "exec", "eval", "Path"}), shown(path)


def test_only_syntax_imports_tree_sitter() -> None:
    parsers = {name for path in modules(PRODUCT) for name in roots(path) if "tree_sitter" in name}
    assert "tree_sitter" in parsers
    assert offenders(PRODUCT, parsers, "mercury_lsp/core/syntax.py") == []


def test_only_the_server_knows_the_protocol() -> None:
    assert offenders(PRODUCT, {"pygls", "lsprotocol"}, "mercury_lsp/lsp/") == []


def test_the_model_knows_nothing_of_the_product_and_the_kernels_of_neither() -> None:
    assert offenders(MODEL, {"mercury_lsp"}) == []
    assert offenders(KERNELS, {"mercury_lsp", "mercury_model"}) == []


@pytest.mark.parametrize("folder", [PRODUCT, MODEL, KERNELS], ids=lambda path: path.name)
def test_only_kernels_import_triton_when_they_are_imported(folder: Path) -> None:
    for path in modules(folder):
        if path.name in ("kernel.py", "tile.py"):
            continue
        assert not any(name.split(".")[0] == "triton" for name in imported_first(path)), shown(path)


@pytest.mark.parametrize("name", TORCH_FREE)
def test_sampling_speaks_numpy_and_so_does_all_that_it_imports(name: str) -> None:
    pending, seen = {f"mercury_model.{name}"}, set()
    while pending:
        module = pending.pop()
        seen.add(module)
        path = MODEL.parent / f"{module.replace('.', '/')}.py"
        path = path if path.exists() else path.with_suffix("") / "__init__.py"
        assert "torch" not in {other.split(".")[0] for other in imported_first(path)}, shown(path)
        pending |= {n for n in imported_first(path) if n.startswith("mercury_model")} - seen


def test_only_sources_and_training_reach_for_the_network() -> None:
    allowed = ("model/mercury_model/weights/hub.py", "model/mercury_model/training/")
    assert offenders(MODEL, NETWORK, *allowed) == []
    assert offenders(PRODUCT, NETWORK) == []
    for folder in (PRODUCT, MODEL):
        for path in modules(folder):
            if not shown(path).startswith(allowed):
                assert "urllib.request" not in imports(path), shown(path)


def test_no_import_runs_in_a_circle_scripts_included() -> None:
    """All imports count: those inside of functions, and those of scripts by their bare names."""
    sources = (ROOT, MODEL.parent, KERNELS.parent, ROOT / "model/tools", ROOT / "kernels/tools")
    known = {}
    for folder in (PRODUCT, MODEL, KERNELS, ROOT / "model" / "tools", ROOT / "kernels" / "tools"):
        source = next(
            s
            for s in (*sources[3:], *sources[:3])
            if folder.is_relative_to(s) and (s == folder or s == folder.parent)
        )
        for path in modules(folder):
            dotted = ".".join(path.relative_to(source).with_suffix("").parts)
            known[dotted.removesuffix(".__init__")] = path
    graph = {name: modules_of(path, known) - {name} for name, path in known.items()}
    assert circle(graph) == []


def modules_of(path: Path, known: Collection[str]) -> set[str]:
    """The modules of ours that a module imports, a package's own names taken as its modules."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(known)
            if not inner <= set(known):
                found.add(node.module)
    return found & set(known)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle, or none."""
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return trail[trail.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := walk(other, [*trail, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


def test_nothing_reads_pickles() -> None:
    for folder in (PRODUCT, MODEL, KERNELS):
        assert offenders(folder, {"pickle", "dill", "joblib", "shelve", "marshal"}) == []
        for path in modules(folder):
            assert "torch.load" not in path.read_text("utf-8"), shown(path)


def test_the_top_level_folders_are_no_packages() -> None:
    for folder in ("model", "kernels"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_only_ort_imports_onnx_runtime_scripts_and_tests_included() -> None:
    importing = [
        shown(path)
        for folder in ("mercury_lsp", "model", "kernels", "editors", "tests")
        for path in modules(ROOT / folder)
        if "node_modules" not in path.parts and IMPORTS_ORT.search(path.read_text("utf-8"))
    ]
    assert importing == ["model/mercury_model/runtime/onnx/ort.py"]


def test_only_config_reads_the_environment_and_only_dependencies_and_children_pass_it_on() -> None:
    passing = ("model/mercury_model/dependencies.py", "model/mercury_model/children.py")
    for folder in (PRODUCT, MODEL):
        for path in modules(folder):
            if shown(path) not in ("mercury_lsp/config.py", *passing):
                assert "os.environ" not in path.read_text("utf-8"), shown(path)


def test_the_server_file_stays_small() -> None:
    assert len((PRODUCT / "lsp" / "server.py").read_text("utf-8").splitlines()) <= 200
