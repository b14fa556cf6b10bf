"""The public names of each language as a set: `Client.close`, `Client.close(timeout)`, `Standing=live`.

The names are read from the C header, doxygen's view of discover.hpp, the imported Python modules, the TypeScript
declarations, and the public items of the Rust crate.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import typing
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Literal

import libdiscover
from languages import ROOT
from libdiscover import _types, aio, scalingo

# Parameters that only C has: for results, and for callbacks.
C_ONLY_PARAMETERS = {"out", "error", "user_data", "destroy"}

# A public type or an inherent impl in the layout of rustfmt: kind, name and body.
RUST_ITEM = r"^(impl|pub (?:struct|enum|trait)) ?(?:<[^>]*> )?(\w+)[^\n]*\{\n(.*?)^\}"


def c() -> set[str]:
    header = re.sub(r"/\*.*?\*/", "", (ROOT / "include/discover.h").read_text(), flags=re.DOTALL)
    names = set(re.findall(r"^#define (DISCOVER_\w+) ", header, re.MULTILINE))
    names |= set(re.findall(r"^typedef .*?\(?\*?(discover_\w+)(?:\)\(.*\))?;$", header, re.MULTILINE))
    for name, declared in re.findall(r"^\w[\w *]*?\b(discover_\w+)\(([^;]*)\);", header, re.MULTILINE):
        names.add(name)
        parameters = [re.split(r"[ *]", each.strip())[-1] for each in declared.split(",")]
        # The first parameter is the object of a method.
        first = re.match(r"(const )?discover_\w+ \*\w", declared.strip())
        options = parameters[1:] if first and "**" not in declared.split(",")[0] else parameters
        names |= {f"{name}({each})" for each in options if each not in C_ONLY_PARAMETERS | {"void"}}
    return names


def cpp(scratch: Path) -> set[str]:
    """Returns the names that doxygen finds, without the namespace `detail`."""
    environment = {**os.environ, "VERSION": "0", "OUT": str(scratch), "XML": "YES"}
    for manual in ("c", "cpp"):
        config = f"tools/docs/{manual}.doxyfile"
        subprocess.run(["doxygen", config], cwd=ROOT, env=environment, check=True)
    names = set()
    for file in scratch.glob("xml/*discover_1_1*.xml"):
        compound = xml.parse(file).getroot().find("compounddef")
        assert compound is not None
        if compound.get("prot") == "private" or compound.get("kind") == "namespace":
            continue
        owner = str(compound.findtext("compoundname")).removeprefix("discover::")
        names |= {owner, *cpp_members(f"{owner}::", compound)}
    (namespace,) = scratch.glob("xml/namespacediscover.xml")
    return names | set(cpp_members("", xml.parse(namespace).getroot()))


def cpp_members(owner: str, compound: xml.Element) -> Iterator[str]:
    for member in compound.iter("memberdef"):
        name = str(member.findtext("name"))
        is_constructor = name.lstrip("~") == owner.removesuffix("::").rsplit("::")[-1]
        if member.get("prot") != "public" or name.startswith("operator"):
            continue
        if not is_constructor:
            yield owner + name
        # A constructor from the C type is not part of the C++ interface.
        takes_c_type = "discover_" in str(member.findtext("argsstring"))
        if member.get("kind") == "function" and not (is_constructor and takes_c_type):
            for parameter in member.iter("param"):
                # A parameter with a short name belongs to a setter, whose own name is enough.
                declared = parameter.findtext("declname")
                if declared and len(declared) > 1:
                    yield f"{owner}{name}({declared})"


def python() -> set[str]:
    # A DiscoverError has its fields from its construction, not from its class.
    fields = {"DiscoverError.code", "DiscoverError.retriable"}
    return python_names(libdiscover) | fields | {f"scalingo.{name}" for name in python_names(scalingo)}


def python_names(module: ModuleType) -> set[str]:
    names = set()
    for name in module.__all__:
        value = getattr(module, name)
        if name.startswith("__"):
            continue
        names.add(name)
        if inspect.isclass(value):
            errors = issubclass(value, libdiscover.DiscoverError)
            # Fields without a default are not in dir().
            fields = getattr(value, "__dataclass_fields__", {})
            for member in [] if errors else [each for each in {*dir(value), *fields} if each[0] != "_"]:
                names.add(f"{name}.{member}")
                names |= python_parameters(f"{name}.{member}", inspect.getattr_static(value, member, None))
        else:
            names |= python_parameters(name, value)
    return names


def python_parameters(name: str, value: object) -> set[str]:
    if not callable(value):
        return set()
    signature = inspect.signature(value)
    return {f"{name}({each})" for each in signature.parameters if each not in ("self", "named")}


def python_values() -> set[str]:
    literals = {name: value for name, value in vars(_types).items() if typing.get_origin(value) is Literal}
    return {f"{name}={one}" for name, value in literals.items() for one in typing.get_args(value)}


def python_aio() -> set[str]:
    return python_names(aio)


def node() -> set[str]:
    program = [str(ROOT / "tests/parity/surface.mjs"), str(ROOT / "bindings/node")]
    return set(subprocess.run(["node", *program], capture_output=True, text=True, check=True).stdout.split())


# Public modules of the Rust crate whose items are public; `embed` is what the other languages are built on.
RUST_MODULES = ["scalingo"]


def rust() -> set[str]:
    """Returns the items that lib.rs and its public modules export, with their members. Relies on the layout of rustfmt."""
    core = ROOT / "core/src"
    found = rust_exports(core / "lib.rs", core, "")
    for module in RUST_MODULES:
        found |= rust_exports(core / module / "mod.rs", core / module, f"{module}::")
    # The error kinds are rows of a macro.
    kinds = re.findall(r"^    (\w+) += \d+, ", (core / "error.rs").read_text(), re.MULTILINE)
    return found | {f"ErrorKind::{kind}" for kind in kinds}


def rust_exports(exports: Path, folder: Path, prefix: str) -> set[str]:
    listed = re.findall(r"^pub use \w+::(?:\{(.*?)\}|(\w+));", exports.read_text(), re.MULTILINE | re.DOTALL)
    names = {name for several, one in listed for name in re.findall(r"\w+", several or one)}
    found = set(names)
    for source in (path for path in folder.rglob("*.rs") if path.stem != "tests"):
        text = re.split(r"#\[cfg\(test\)\]\nmod \w+ \{", source.read_text())[0]
        for kind, name, body in re.findall(RUST_ITEM, text, re.MULTILINE | re.DOTALL):
            if name in names:
                found |= {f"{name}::{member}" for member in rust_members(kind, body)}
    return {f"{prefix}{name}" for name in found}


def rust_members(kind: str, body: str) -> Iterator[str]:
    if kind.endswith("enum"):
        yield from re.findall(r"^    (\w+)[,({ ]", body, re.MULTILINE)
    elif kind.endswith("struct"):
        yield from re.findall(r"^    pub (\w+):", body, re.MULTILINE)
    public = "" if kind.endswith("trait") else "pub "
    functions = rf"^    {public}(?:const )?(?:async )?fn (\w+)(?:<[^(]*>)?\((.*?)\)(?: ->|[;{{]| \{{|\n    where)"
    for name, declared in re.findall(functions, body, re.MULTILINE | re.DOTALL):
        yield name
        for parameter in re.findall(r"(?:^|[,(\n] *)(?:mut )?(\w+): ", declared):
            yield f"{name}({parameter})"
