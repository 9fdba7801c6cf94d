"""The imports between the repository's own modules, read from their source without running it.

An import anywhere in a module counts: at its top, in a function, or for type checkers only. An
import of `a.b.c` is also one of the packages `a` and `a.b`, unless the importing module is in them.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("mercury_lsp", "model/mercury_model", "kernels/mercury_kernels", "tests")
SCRIPTS = ("model/tools", "kernels/tools", "editors")


def files() -> Iterator[Path]:
    """Every Python file of the repository."""
    for folder in (*PACKAGES, *SCRIPTS):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {"__pycache__", "node_modules"} & {*path.parts}:
                yield path


def name(path: Path) -> str:
    """The dotted name of a file: as it is imported, or as its path for a script."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[:1] == ("tests",) or parts[1:2] in (("mercury_model",), ("mercury_kernels",)):
        parts = parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every `from module import name`; `import module` gives no name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def package(module: str) -> str | None:
    """The package below `mercury_lsp`, `mercury_model` or `mercury_kernels` that has the module."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0].startswith("mercury_") and len(parts) > 1 else None


def package_graph(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The packages that each package imports another module of."""
    found: dict[str, set[str]] = {}
    for module, others in graph.items():
        if (own := package(module)) is not None:
            packages = {package(other) for other in others} - {own, None}
            found.setdefault(own, set()).update(one for one in packages if one)
    return found


def import_graph() -> dict[str, set[str]]:
    """The repository's modules that each of them imports."""
    sources = {name(path): path for path in files()}
    graph: dict[str, set[str]] = {}
    for module, path in sources.items():
        found = set()
        for imports, member in imported(ast.parse(path.read_text("utf-8"))):
            inner = f"{imports}.{member}"
            found |= outer_packages(inner if inner in sources else imports, module)
        graph[module] = (found & sources.keys()) - {module}
    return graph


def outer_packages(imports: str, module: str) -> set[str]:
    """`imports` and the packages around it, without those around `module`."""
    parts = imports.split(".")
    prefixes = {".".join(parts[:end]) for end in range(1, len(parts))}
    return {imports} | {prefix for prefix in prefixes if not module.startswith(f"{prefix}.")}


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other (Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return found
