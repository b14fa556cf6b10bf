"""Descriptors, as the table of all languages has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import SECONDS
from libdiscover import Client, Descriptor, InvalidArgument

TABLE = Path(__file__).parents[3] / "tests/fixtures/descriptors.tsv"


def rows(kind: str) -> list[list[str]]:
    """The rows of one kind, without that word."""
    lines = (line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines())
    mine = [fields[1:] for fields in lines if fields[0] == kind]
    assert mine
    return mine


VARIABLES = {name: value for name, value, *_ in rows("variable") + rows("other")}
FOUND = {name: text for _, _, name, text in rows("variable")}


def texts(found: dict[str, Descriptor]) -> dict[str, str]:
    return {name: str(one) for name, one in found.items()}


@pytest.mark.parametrize(("text", "service", "path", "tags", "port", "protocol", "printed"), rows("good"))
def test_good_ones_are_read_and_printed(
    text: str, service: str, path: str, tags: str, port: str, protocol: str, printed: str
) -> None:
    read = Descriptor.parse(text)
    assert (read.service, read.path) == (service, path or None)
    assert read.tags == tuple(tags.split(",") if tags else ())
    assert (str(read.port), read.protocol) == (port, protocol)
    assert str(read) == printed and repr(read) == f"<Descriptor {printed}>"


@pytest.mark.parametrize(("text", "message"), rows("bad"))
def test_bad_ones_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        Descriptor.parse(text)
    assert str(raised.value) == message


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert texts(Descriptor.from_env("BACKEND_")) == FOUND
    assert list(Descriptor.from_env("BACKEND_")) == sorted(FOUND)
    assert Descriptor.from_pairs("BACKEND_", VARIABLES) == Descriptor.from_env("BACKEND_")
    assert Descriptor.from_env("FRONTEND_") == {}


@pytest.mark.parametrize(("variable", "value"), [(row[0], row[1]) for row in rows("wrong")])
def test_a_bad_variable_is_passed_over(variable: str, value: str) -> None:
    assert texts(Descriptor.from_pairs("BACKEND_", {**VARIABLES, variable: value})) == FOUND


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="the prefix is empty"):
        Descriptor.from_env("")
    with pytest.raises(TypeError):
        Descriptor.from_pairs("BACKEND_", {"BACKEND_WEB": 80})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        Descriptor.parse(b"web;80")  # type: ignore[arg-type]


def test_a_descriptor_is_a_value() -> None:
    one, same = Descriptor.parse("web;80"), Descriptor.parse("web;080/tcp")
    assert one == same and hash(one) == hash(same) and {one: 1}[same] == 1
    assert one != Descriptor.parse("/web;80") and one != "web;80/tcp"
    with pytest.raises(AttributeError):
        setattr(one, "port", 2)


def test_it_finds_the_instances_of_its_service_that_have_its_tags(client: Client) -> None:
    wanted = Descriptor.parse("/services/prod/web[prod,blue];80")
    with client.register("web", address="h:1", tags=["blue", "green", "prod"]):
        with client.register("web", address="h:2", tags=["prod"]):
            web = client.services(wanted.service)
            assert len(web.wait(2, timeout=SECONDS)) == 2
            assert [one.port for one in web.filter(tags=wanted.tags).online()] == [1]
