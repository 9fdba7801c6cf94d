"""The layers of ARCHITECTURE.md, checked against every import in the repository."""

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from import_graph import ROOT, SCRIPTS, cycles, files, import_graph, outer_packages, package_graph

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
PICKLES = {"pickle", "dill", "joblib", "shelve", "marshal"}
IMPORTS_ORT = re.compile(r"^\s*(import|from)\s+onnxruntime\b", re.MULTILINE)
"""Also finds the import in a script that a test has as a string."""

CIRCULAR = {
    ("mercury_model.network.kv_cache", "mercury_model.runtime.limits"),
    ("mercury_model.runtime.cuda.bulk", "mercury_model.decoding.unmasking"),
}
"""The imports that still close a circle of packages. This list only shrinks."""

TORCH_FREE = (
    *("noise", "decoding.unmasking", "decoding.infiller", "decoding.call_generator"),
    *("decoding.middle", "decoding.sampler", "decoding.prefix_cache", "spec.tokenizer"),
    *("weights.registry", "serving", "serving.batcher", "serving.engine"),
)


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return import_graph()


def without(graph: dict[str, set[str]], edges: set[tuple[str, str]]) -> dict[str, set[str]]:
    """The graph less these imports and those of the packages around what they import."""
    made = {module: {*others} for module, others in graph.items()}
    for importing, imported in edges:
        made.get(importing, set()).difference_update(outer_packages(imported, importing))
    return made


def modules(folder: Path) -> Iterator[Path]:
    return (path for path in files() if folder in path.parents)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports(path: Path) -> set[str]:
    """The dotted names that a module imports, also in its functions."""
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
    """The dotted names that a module imports at its top level."""
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


def test_no_modules_import_each_other(
    graph: dict[str, set[str]],
) -> None:
    assert cycles(graph) == []


def test_no_packages_import_each_other(graph: dict[str, set[str]]) -> None:
    assert cycles(package_graph(without(graph, CIRCULAR))) == []


@pytest.mark.parametrize("edge", sorted(CIRCULAR), ids=" to ".join)
def test_every_import_listed_as_circular_still_closes_a_circle(
    graph: dict[str, set[str]], edge: tuple[str, str]
) -> None:
    importing, imported = edge
    assert imported in graph.get(importing, set())
    assert cycles(package_graph(without(graph, CIRCULAR - {edge})))


def test_the_graph_has_the_imports_inside_of_functions(graph: dict[str, set[str]]) -> None:
    assert "mercury_lsp.cli.doctor" not in imported_first(PRODUCT / "cli" / "main.py")
    assert "mercury_lsp.cli.doctor" in graph["mercury_lsp.cli.main"]


def test_a_circle_is_reported_with_all_of_its_modules() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": set()}
    assert cycles(graph) == [["a", "b", "c"]]


def test_nothing_imports_a_script() -> None:
    scripts = {path.stem for folder in SCRIPTS for path in modules(ROOT / folder)}
    importing = [shown(path) for path in files() if imports(path) & scripts]
    assert "profile_step" in scripts
    assert importing == []


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


def test_only_the_language_server_imports_the_protocol() -> None:
    assert offenders(PRODUCT, {"pygls", "lsprotocol"}, "mercury_lsp/lsp/") == []


def test_the_model_does_not_import_the_product_nor_the_kernels_either() -> None:
    assert offenders(MODEL, {"mercury_lsp"}) == []
    assert offenders(KERNELS, {"mercury_lsp", "mercury_model"}) == []


@pytest.mark.parametrize("folder", [PRODUCT, MODEL, KERNELS], ids=lambda path: path.name)
def test_only_kernels_import_triton_when_they_are_imported(folder: Path) -> None:
    for path in modules(folder):
        if path.name in ("kernel.py", "tile.py"):
            continue
        assert not any(name.split(".")[0] == "triton" for name in imported_first(path)), shown(path)


@pytest.mark.parametrize("name", TORCH_FREE)
def test_decoding_and_its_imports_use_numpy_without_torch(name: str) -> None:
    pending, seen = {f"mercury_model.{name}"}, set()
    while pending:
        module = pending.pop()
        seen.add(module)
        path = MODEL.parent / f"{module.replace('.', '/')}.py"
        path = path if path.exists() else path.with_suffix("") / "__init__.py"
        assert "torch" not in {other.split(".")[0] for other in imported_first(path)}, shown(path)
        pending |= {n for n in imported_first(path) if n.startswith("mercury_model")} - seen


def test_only_the_hub_and_training_use_the_network() -> None:
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
    for path in files():
        assert roots(path).isdisjoint({"pickle", "dill", "joblib", "shelve", "marshal"}), shown(
            path
        )
        if path != Path(__file__):
            assert "torch.load" not in path.read_text("utf-8"), shown(path)


def test_model_and_kernels_are_folders_and_no_packages() -> None:
    for folder in ("model", "kernels"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_only_ort_imports_onnx_runtime() -> None:
    importing = [shown(path) for path in files() if IMPORTS_ORT.search(path.read_text("utf-8"))]
    assert importing == ["model/mercury_model/runtime/onnx/ort.py"]


def test_only_config_reads_the_environment_and_two_modules_pass_it_on() -> None:
    passing_on = ("model/mercury_model/dependencies.py", "model/mercury_model/children.py")
    for folder in (PRODUCT, MODEL):
        for path in modules(folder):
            if shown(path) not in ("mercury_lsp/config.py", *passing_on):
                assert "os.environ" not in path.read_text("utf-8"), shown(path)


def test_the_server_file_stays_small() -> None:
    assert len((PRODUCT / "lsp" / "server.py").read_text("utf-8").splitlines()) <= 200
