"""The exception classes match the core's table of error kinds."""

from __future__ import annotations

import builtins

import pytest

import libdiscover
from libdiscover import _native

BUILTINS = {
    "invalid_argument": ValueError,
    "unsupported": NotImplementedError,
    "unavailable": ConnectionError,
    "timeout": TimeoutError,
    "permission_denied": PermissionError,
    "not_found": LookupError,
    "resource": OSError,
}


@pytest.mark.parametrize(("code", "number", "retriable", "meaning"), _native.ERROR_KINDS)
def test_each_kind_has_its_class(code: str, number: int, retriable: bool, meaning: str) -> None:
    name = "".join(word.capitalize() for word in code.split("_"))
    kind = getattr(libdiscover, name)
    assert name in libdiscover.__all__
    assert issubclass(kind, (libdiscover.DiscoverError, BUILTINS.get(code, RuntimeError)))
    assert (kind.code, kind.retriable, kind.__doc__) == (code, retriable, meaning)
    assert (kind.__module__, kind.__name__) == ("libdiscover", name)
    error = kind("what was wrong")
    assert (str(error), error.code, error.retriable) == ("what was wrong", code, retriable)
    assert isinstance(error, BUILTINS.get(code, RuntimeError))
    assert not hasattr(builtins, name), "the name must not shadow a builtin"


def test_every_class_has_a_kind() -> None:
    classes = {
        value
        for value in vars(libdiscover).values()
        if isinstance(value, type) and issubclass(value, libdiscover.DiscoverError)
    }
    assert len(classes) == len(_native.ERROR_KINDS) + 1
    assert all(number == index + 1 for index, (_, number, _, _) in enumerate(_native.ERROR_KINDS))


def test_all_lists_the_public_names() -> None:
    assert sorted(libdiscover.__all__) == sorted(set(libdiscover.__all__))
    assert all(hasattr(libdiscover, name) for name in libdiscover.__all__)
    assert libdiscover.__version__ == _native.VERSION
