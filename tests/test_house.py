"""How the house is laid (DESIGN 4): no import goes up a floor, heavy packages come late, files stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "catalogs", "pipeline", "training", "flows")

FLOORS = {
    0: "errors settings",
    1: "grid events kernels drawing ground locate pieces ragged resample",
    2: "scene polygons store ledger raster working statistics footprints putback rigid buildings",
    3: "stage networks",
    4: "stages seams faces conflate job",
    5: "worker export report certificate verify heights",
    6: "prepare arrays tasks plan dispatch closing lost run upstream",
}
"""Floors of `pipeline`: what each module's name, up to a first underscore, stands on."""

MAY_IMPORT = {
    "models": {"models"},
    "catalogs": {"catalogs", "pipeline.errors", "pipeline.grid"},
    "pipeline": {"pipeline", "catalogs", "models"},
    "training": {"training", "models", "catalogs", "pipeline"},  # of the pipeline F0-F2 only: see below
    "flows": {"flows", "pipeline", "catalogs", "models", "training"},  # `evaluate` scores with training's metrics
}
"""Package -> what its modules may import of the project. `pipeline.errors` and `pipeline.grid` are F0 and F1:
everything stands on them."""

LATE = {"torch", "prefect", "rasterio", "geopandas", "dask", "distributed", "pandas", "zarr", "xarray", "numba", "rich"}
"""Not loaded by `import pipeline` or `resurvey --help`."""


def sources(*packages: str) -> list[Path]:
    """Python files of packages."""
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    """`pipeline/stages/align.py` -> `pipeline.stages.align`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, running: bool = True) -> Iterator[str]:
    """Modules that a file imports, also in functions; without those that only type checkers see if `running`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if running and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(child for statement in node.body for child in ast.walk(statement))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def floor_of(module: str) -> int | None:
    """Floor of a module of the pipeline; None for other packages and for the pipeline itself."""
    parts = module.split(".")
    if parts[0] != "pipeline" or len(parts) < 2:
        return None
    first = parts[1].split("_")[0]
    return next((floor for floor, names in FLOORS.items() if first in names.split()), None)


def test_every_module_has_a_floor() -> None:
    modules = [module_of(path) for path in sources("pipeline")]
    assert not [name for name in modules if name != "pipeline" and floor_of(name) is None]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_downwards(package: str) -> None:
    wrong = [
        f"{module_of(path)} imports {name}"
        for path in sources(package)
        for name in imports(path, running=False)
        if name.split(".")[0] in PACKAGES
        and not any(f"{name}.".startswith(f"{allowed}.") for allowed in MAY_IMPORT[package])
        and not any(f"{allowed}.".startswith(f"{name}.") for allowed in MAY_IMPORT[package])
    ]
    assert not wrong


def test_no_import_goes_up() -> None:
    wrong = [
        f"{module_of(path)} (F{floor}) imports {name} (F{above})"
        for path in sources("pipeline")
        if (floor := floor_of(module_of(path))) is not None
        for name in imports(path)
        if (above := floor_of(name)) is not None and above > floor
    ]
    assert not wrong


def test_pipeline_has_no_cycles() -> None:
    modules = {module_of(path): path for path in sources("pipeline")}
    edges = {name: {each for each in imports(path) if each in modules} for name, path in modules.items()}
    done: set[str] = set()

    def follow(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"cycle: {' → '.join([*above[above.index(name):], name])}"
        if name not in done:
            for each in sorted(edges[name] - {name}):
                follow(each, (*above, name))
            done.add(name)

    for name in sorted(modules):
        follow(name, ())


def test_training_stands_on_the_lower_floors_only() -> None:
    wrong = [
        f"{module_of(path)} imports {name} (F{floor})"
        for path in sources("training")
        for name in imports(path)
        if (floor := floor_of(name)) is not None and floor > 2
    ]
    assert not wrong


def test_only_flows_imports_prefect() -> None:
    wrong = [
        module_of(path)
        for path in sources("models", "catalogs", "pipeline", "training")
        if any(name.split(".")[0] == "prefect" for name in imports(path, running=False))
    ]
    assert not wrong


def test_networks_need_torch_alone() -> None:
    allowed = {"torch", "numpy", "models", "__future__", *sys.stdlib_module_names}
    wrong = [
        f"{module_of(path)} imports {name}"
        for path in sources("models")
        for name in imports(path)
        if name.split(".")[0] not in allowed
    ]
    assert not wrong


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*PACKAGES, "tests")}
    assert not {str(path.relative_to(ROOT)): count for path, count in lengths.items() if count > 300}


@pytest.mark.parametrize("statement", ["import pipeline", "import flows.cli", "import pipeline.errors, pipeline.grid"])
def test_start_is_light(statement: str) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not LATE & {name.split(".")[0] for name in loaded.stdout.split()}


def test_nothing_prints() -> None:
    wrong = [
        f"{module_of(path)}:{node.lineno}"
        for path in sources(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong
