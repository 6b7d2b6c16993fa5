"""Digests of the code that a step runs: its entry modules and all of ours that they import, found without importing.

A module's imports are read from its source, those inside functions too, and followed into our packages and into the
package of the entry module, which may be a third party's. Beside a module, the data files of its folder count. What is
imported only for type checkers does not run and does not count.

What is imported by a name that is made up at run time cannot be read. So a module that does so counts with all modules
of its folder, and a `PartFolder` with all of its parts; except the folders in `CHOSEN`, of which a step uses one part,
and names it as an entry itself.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType

import fastserve
import fastserve_converters
import fastserve_device_tests
import fastserve_runtime

CHOSEN = frozenset(
    {
        "fastserve.devices",
        "fastserve.search.planners",
        "fastserve_converters.formats",
        "fastserve_converters.lowerings",
        "fastserve_converters.models.sources",
        "fastserve_converters.passes",
        "fastserve_converters.tasks",
        "fastserve_device_tests.intermediates",
        "fastserve_device_tests.targets",
        "fastserve_runtime.engines",
        "fastserve_runtime.pipelines",
    }
)
"""Folders of parts that each step chooses one of."""

_OURS = (fastserve, fastserve_converters, fastserve_device_tests, fastserve_runtime)
_PART_FOLDER = "PartFolder"
_BY_NAME = "import_module"
_LAZY = "__getattr__"
"""PEP 562: hands on names of other modules when they are asked for, and each user of one names it."""
_OF_COMMANDS = frozenset({"add_run_flags", "run_arguments", "served"})
"""What only the command `run` or the server calls of a pipeline's module."""


@dataclass(frozen=True)
class _Imports:
    """What one module imports.

    Attributes:
        names: modules, or names in modules, in full.
        has_made_up: whether it also imports by names that are made up at run time.
        folders: packages whose modules are parts.
    """

    names: tuple[str, ...]
    has_made_up: bool
    folders: tuple[str, ...]


@dataclass
class CodeDigests:
    """Finds and digests code; every file is read once.

    Attributes:
        roots: top-level package → its folder, or its file where it is a single module.
    """

    roots: dict[str, Path]
    _imports: dict[tuple[str, bool], _Imports] = field(default_factory=dict)
    _closures: dict[tuple[str, ...], str] = field(default_factory=dict)
    _files: dict[Path, str] = field(default_factory=dict)

    def digest(self, *entries: str) -> str:
        """Return one digest of all files that entry modules rest on."""
        if entries not in self._closures:
            sha = hashlib.sha256()
            for place, file in sorted(self.files(entries).items()):
                sha.update(place.encode() + b"\0" + self._sha256(file).encode() + b"\0")
            self._closures[entries] = sha.hexdigest()
        return self._closures[entries]

    def files(self, entries: Sequence[str]) -> dict[str, Path]:
        """Return the files that entry modules rest on, by their places under the roots."""
        found: dict[str, Path] = {}
        for module in self.modules(entries):
            file = self._file(module)
            assert file is not None
            top = module.partition(".")[0]
            for each in (file, *_data_beside(file)) if file != self.roots[top] else (file,):
                found[f"{top}/{each.relative_to(self._folder(top)).as_posix()}"] = each
        return found

    def modules(self, entries: Iterable[str]) -> set[str]:
        """Return entry modules and what they import of the roots, with the packages that they lie in.

        Of a package that is entered on the way to its modules and not used itself, no function runs.
        """
        whole: set[str] = set()
        entered: set[str] = set()
        waiting = [(name, True) for name in entries]
        while waiting:
            asked, is_used = waiting.pop()
            name = self._known(asked)
            if name is None or name in whole or (name in entered and not is_used):
                continue
            (whole if is_used else entered).add(name)
            if "." in name:
                waiting.append((name.rpartition(".")[0], False))
            imports = self._imports_of(name, is_used=is_used)
            found = list(imports.names)
            if imports.has_made_up and name not in CHOSEN:
                found += self._in_folder(name)
            for folder in imports.folders:
                if folder not in CHOSEN:
                    found += self._in_folder(folder)
            waiting += [(each, True) for each in found]
        return whole | entered

    def _known(self, name: str) -> str | None:
        """Return the module of the roots that a dotted name is, or is in."""
        while name:
            if self._file(name) is not None:
                return name
            name = name.rpartition(".")[0]
        return None

    def _file(self, name: str) -> Path | None:
        top, _, rest = name.partition(".")
        if top not in self.roots:
            return None
        root = self.roots[top]
        if root.is_file():
            return root if not rest else None
        base = root.joinpath(*rest.split(".")) if rest else root
        for file in (base / "__init__.py", base.with_suffix(".py")):
            if file.is_file() and (rest or file.parent == root):
                return file
        return None

    def _folder(self, top: str) -> Path:
        return self.roots[top].parent if self.roots[top].is_file() else self.roots[top]

    def _in_folder(self, name: str) -> Iterator[str]:
        """Yield the modules in a package's folder, or beside a module."""
        file = self._file(name)
        assert file is not None
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for each in sorted(file.parent.iterdir()):
            if each.suffix == ".py" and each.name != "__init__.py":
                yield f"{package}.{each.stem}"
            elif (each / "__init__.py").is_file():
                yield f"{package}.{each.name}"

    def _imports_of(self, name: str, *, is_used: bool) -> _Imports:
        if (name, is_used) not in self._imports:
            file = self._file(name)
            assert file is not None
            tree = ast.parse(file.read_bytes(), str(file))
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            self._imports[name, is_used] = _read(tree, package, with_functions=is_used)
        return self._imports[name, is_used]

    def _sha256(self, file: Path) -> str:
        if file not in self._files:
            self._files[file] = hashlib.sha256(file.read_bytes()).hexdigest()
        return self._files[file]


class _InstalledCode:
    """The code of this process: our packages, and those of the parts that steps name."""

    @cached_property
    def _ours(self) -> CodeDigests:
        return CodeDigests({package.__name__: _place(package) for package in _OURS})

    def digest(self, *entries: str) -> str:
        """Return one digest of all code that entry modules rest on.

        Args:
            entries: modules; one that is not ours must have been imported.
        """
        for name in entries:
            top = name.partition(".")[0]
            if top not in self._ours.roots:
                self._ours.roots[top] = _place(sys.modules[name])
        return self._ours.digest(*entries)


_INSTALLED = _InstalledCode()


def code_digest(*entries: str | object) -> str:
    """Return one digest of the code that a step declares, as it was when this process first asked.

    Args:
        entries: names of modules; or parts, which are modules or any objects of one.
    """
    return _INSTALLED.digest(*sorted({e if isinstance(e, str) else module_of(e) for e in entries}))


def module_of(part: object) -> str:
    """Return the name of the module that a part is, or that its class or function stands in."""
    if isinstance(part, ModuleType):
        return part.__name__
    name: str = getattr(part, "__module__", None) or type(part).__module__
    return name


def _place(module: ModuleType) -> Path:
    """Return the folder of a module's top-level package, or the module's file where it is none's."""
    assert module.__file__ is not None
    file = Path(module.__file__)
    depth = module.__name__.count(".")
    if file.name == "__init__.py":
        return file.parents[depth]
    return file.parents[depth - 1] if depth else file


def _data_beside(file: Path) -> Iterator[Path]:
    """Yield the files beside a module that are no modules, also in folders that are no packages."""
    for each in sorted(file.parent.iterdir()):
        if each.name == "__pycache__" or each.suffix == ".py":
            continue
        if each.is_file():
            yield each
        elif each.is_dir() and not (each / "__init__.py").exists() and not any(each.rglob("*.py")):
            yield from (f for f in sorted(each.rglob("*")) if f.is_file())


def _read(tree: ast.Module, package: str, *, with_functions: bool) -> _Imports:
    names: list[str] = []
    folders: list[str] = []
    has_made_up = False
    for node in _running(tree, with_functions=with_functions):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            names += [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            literal = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
            if called == _PART_FOLDER and literal is not None:
                folders.append(literal)
            elif called == _BY_NAME:
                has_made_up = has_made_up or literal is None
                names += [] if literal is None else [literal]
    return _Imports(tuple(names), has_made_up, tuple(folders))


def _running(node: ast.AST, *, with_functions: bool) -> Iterator[ast.AST]:
    """Yield the nodes of code that may run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_for_type_checkers(child.test):
            for other in child.orelse:
                yield other
                yield from _running(other, with_functions=with_functions)
        elif not _is_left_out(child, with_functions=with_functions):
            yield child
            yield from _running(child, with_functions=with_functions)


def _is_left_out(node: ast.AST, *, with_functions: bool) -> bool:
    if isinstance(node, ast.ClassDef):
        return node.name == _PART_FOLDER  # it imports the parts that others name
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return is_function and (not with_functions or getattr(node, "name", "") in {_LAZY, *_OF_COMMANDS})


def _is_for_type_checkers(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in {getattr(test, "id", None), getattr(test, "attr", None)}


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - node.level + 1])
    return f"{base}.{node.module}" if node.module else base
