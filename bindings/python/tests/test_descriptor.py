"""Descriptors, tested with the table that all languages share."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import SECONDS
from libdiscover import Client, Descriptor, InvalidArgument

TABLE = Path(__file__).parents[3] / "tests/fixtures/descriptors.tsv"


def rows(kind: str) -> list[list[str]]:
    """Returns the rows of one kind, without the first column."""
    lines = (line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines())
    selected = [fields[1:] for fields in lines if fields[0] == kind]
    assert selected
    return selected


VARIABLES = {name: value for name, value, *_ in rows("variable") + rows("other")}
FOUND = {name: text for _, _, name, text in rows("variable")}


def texts(found: dict[str, Descriptor]) -> dict[str, str]:
    return {name: str(descriptor) for name, descriptor in found.items()}


@pytest.mark.parametrize(("text", "service", "path", "tags", "port", "protocol", "printed"), rows("good"))
def test_a_valid_descriptor_is_parsed_and_printed(
    text: str, service: str, path: str, tags: str, port: str, protocol: str, printed: str
) -> None:
    parsed = Descriptor.parse(text)
    assert (parsed.service, parsed.path) == (service, path or None)
    assert parsed.tags == tuple(tags.split(",") if tags else ())
    assert (str(parsed.port), parsed.protocol) == (port, protocol)
    assert str(parsed) == printed and repr(parsed) == f"<Descriptor {printed}>"


@pytest.mark.parametrize(("text", "message"), rows("bad"))
def test_a_malformed_descriptor_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        Descriptor.parse(text)
    assert str(raised.value) == message


def test_descriptors_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert texts(Descriptor.from_env("BACKEND_")) == FOUND
    assert list(Descriptor.from_env("BACKEND_")) == sorted(FOUND)
    assert Descriptor.from_pairs("BACKEND_", VARIABLES) == Descriptor.from_env("BACKEND_")
    assert Descriptor.from_env("FRONTEND_") == {}


@pytest.mark.parametrize(("variable", "value"), [(row[0], row[1]) for row in rows("wrong")])
def test_a_malformed_variable_is_skipped(variable: str, value: str) -> None:
    assert texts(Descriptor.from_pairs("BACKEND_", {**VARIABLES, variable: value})) == FOUND


def test_a_wrong_type_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="the prefix is empty"):
        Descriptor.from_env("")
    with pytest.raises(TypeError, match=r"pairs\['BACKEND_WEB'\] is 80; names and values must be strings"):
        Descriptor.from_pairs("BACKEND_", {"BACKEND_WEB": 80})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        Descriptor.parse(b"web;80")  # type: ignore[arg-type]


def test_a_descriptor_is_a_value() -> None:
    first, equal = Descriptor.parse("web;80"), Descriptor.parse("web;080/tcp")
    assert first == equal and hash(first) == hash(equal) and {first: 1}[equal] == 1
    assert first != Descriptor.parse("/web;80") and first != "web;80/tcp"
    with pytest.raises(AttributeError):
        setattr(first, "port", 2)


def test_a_descriptor_selects_the_instances_of_its_service_with_its_tags(client: Client) -> None:
    wanted = Descriptor.parse("/services/prod/web[prod,blue];80")
    with client.register("web", address="h:1", tags=["blue", "green", "prod"]):
        with client.register("web", address="h:2", tags=["prod"]):
            web = client.services(wanted.service)
            assert len(web.wait(2, timeout=SECONDS)) == 2
            assert [instance.port for instance in web.filter(tags=wanted.tags).online()] == [1]
