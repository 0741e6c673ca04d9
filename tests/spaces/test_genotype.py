"""Genotypes: round trips, and every kind of damage named."""

import copy
import importlib.resources
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binarch.errors import UserError
from binarch.spaces import PUBLISHED, Cell, Edge, Genotype, find_genotype, published
from binarch.spaces.genotype import PRIMITIVES

SCHEMA = json.loads((importlib.resources.files("binarch.spaces") / "genotype.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    nodes = tuple(
        tuple(Edge(draw(st.sampled_from(PRIMITIVES)), draw(st.integers(0, state - 1))) for _ in range(2))
        for state in range(2, 2 + draw(st.integers(1, 6)))
    )
    states = st.integers(0, len(nodes) + 1)
    return Cell(nodes, tuple(draw(st.lists(states, min_size=1, unique=True))))


@settings(max_examples=100, deadline=None)
@given(genotype=st.builds(Genotype, cells(), cells()))
def test_json_round_trip(genotype: Genotype) -> None:
    value = json.loads(genotype.to_json())
    assert Genotype.from_dict(value) == genotype
    assert hash(Genotype.from_dict(value)) == hash(genotype)
    VALIDATOR.validate(value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_genotypes_fit_the_schema_and_load_from_disk(name: str, tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    path.write_text(published(name).to_json())
    VALIDATOR.validate(json.loads(path.read_text()))
    assert Genotype.load(path) == published(name)


def test_the_schema_is_one_and_knows_the_primitives() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert tuple(SCHEMA["$defs"]["primitive"]["enum"]) == PRIMITIVES


@pytest.mark.parametrize("version", [True, 1.0])
def test_the_version_is_an_integer(version: object) -> None:
    with pytest.raises(UserError, match="schema"):
        Genotype.from_dict(published("darts-v2").to_dict() | {"schema": version})


Damage = Callable[[dict[str, Any]], object]


def edge(*value: object) -> Damage:
    return lambda g: g["normal"]["nodes"][1].__setitem__(0, list(value))


def concat(*states: object) -> Damage:
    return lambda g: g["reduce"].__setitem__("concat", list(states))


#: What is done to a sound genotype, what the message must name, and whether the schema can see it too.
DAMAGES: dict[str, tuple[Damage, str, bool]] = {
    "no schema": (lambda g: g.pop("schema"), "schema None", True),
    "later schema": (lambda g: g.update(schema=2), "schema 2 is unknown", True),
    "schema as text": (lambda g: g.update(schema="1"), "schema '1'", True),
    "extra field": (lambda g: g.update(extra=1), "unknown field 'extra'", True),
    "no reduce": (lambda g: g.pop("reduce"), "'reduce'", True),
    "cell is a list": (lambda g: g.update(normal=[]), "'normal'", True),
    "no concat": (lambda g: g["normal"].pop("concat"), "'normal'", True),
    "extra field in a cell": (lambda g: g["reduce"].update(width=3), "'reduce'", True),
    "nodes is a number": (lambda g: g["normal"].update(nodes=4), "'normal': nodes", True),
    "nodes is text": (lambda g: g["normal"].update(nodes="sep"), "'normal': nodes", True),
    "no nodes": (lambda g: g["normal"].update(nodes=[]), "no nodes", True),
    "unknown primitive": (edge("sep_conv_9x9", 0), "node 3: 'sep_conv_9x9'", True),
    "primitive is null": (edge(None, 0), "'normal': nodes", True),
    "source is itself": (edge("none", 3), "node 3: source 3 is not in 0..2", False),
    "source below zero": (edge("none", -1), "node 3: source -1 is not in 0..2", True),
    "source is true": (edge("none", True), "'normal': nodes", True),
    "source is a fraction": (edge("none", 0.5), "'normal': nodes", True),
    "source is text": (edge("none", "0"), "'normal': nodes", True),
    "edge of one": (edge("none"), "'normal': nodes", True),
    "edge of three": (edge("none", 0, 1), "'normal': nodes", True),
    "one edge": (lambda g: g["normal"]["nodes"][1].pop(), "node 3 has 1 edges", True),
    "three edges": (lambda g: g["normal"]["nodes"][1].append(["none", 0]), "node 3 has 3 edges", True),
    "empty concat": (concat(), "concat", True),
    "concat out of range": (concat(2, 6), r"concat \[2, 6\] must name states in 0..5", False),
    "concat below zero": (concat(-1), r"concat \[-1\]", True),
    "concat twice": (concat(2, 3, 2), r"concat \[2, 3, 2\] names a state twice", True),
    "concat holds true": (concat(True), "'reduce': nodes", True),
    "concat is a number": (lambda g: g["reduce"].update(concat=2), "'reduce': nodes", True),
}


@pytest.mark.parametrize("damage, named, schema_sees_it", DAMAGES.values(), ids=list(DAMAGES))
def test_damage_is_named(damage: Damage, named: str, schema_sees_it: bool) -> None:
    value = copy.deepcopy(published("darts-v2").to_dict())
    damage(value)
    with pytest.raises(UserError, match=f"genotype: .*{named}"):
        Genotype.from_dict(value)
    assert VALIDATOR.is_valid(value) is not schema_sees_it


@pytest.mark.parametrize("value", [[], "genotype", None, 3])
def test_a_genotype_is_an_object(value: object) -> None:
    with pytest.raises(UserError, match="genotype: an object is expected"):
        Genotype.from_dict(value)
    assert not VALIDATOR.is_valid(value)


@pytest.mark.parametrize("text", ["", "{", "not json", '{"schema": 1', b"\xff\xfe\x00"])
def test_broken_json_names_the_file(text: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"cell\.json: not valid JSON"):
        Genotype.load(path)


def test_loading_names_the_file_of_a_damaged_genotype_and_of_a_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    with pytest.raises(UserError, match=r"cell\.json: no such file"):
        Genotype.load(path)
    path.write_text('{"schema": 7}')
    with pytest.raises(UserError, match=r"cell\.json: genotype: schema 7"):
        Genotype.load(path)


def test_depth_and_count() -> None:
    genotype = published("darts-v2")
    assert (genotype.normal.depth, genotype.reduce.depth) == (2, 2)
    assert [genotype.normal.count(p) for p in ("sep_conv", "skip", "dil", "sep_conv_5x5", "none")] == [5, 2, 1, 0, 0]
    assert [genotype.reduce.count(p) for p in ("max_pool", "skip", "sep")] == [5, 3, 0]
    assert len(genotype.normal.edges) == 8


def test_depth_is_the_longest_path_to_a_state_of_the_output() -> None:
    chain = tuple((Edge("sep_conv_3x3", state - 1), Edge("none", 0)) for state in range(2, 6))
    assert Cell(chain, (2, 3, 4, 5)).depth == 4
    assert Cell(chain, (3,)).depth == 2
    assert Cell(chain, (0,)).depth == 0


def test_find_genotype_by_name_file_and_folder(tmp_path: Path) -> None:
    genotype = published("pdarts")
    assert find_genotype("pdarts") == genotype
    path = tmp_path / "genotype.json"
    path.write_text(genotype.to_json())
    assert find_genotype(str(path)) == find_genotype(str(tmp_path)) == genotype


def test_find_genotype_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"arch: 'nowhere' is neither a published name .*darts-v2.* nor"):
        find_genotype("nowhere")
    with pytest.raises(UserError, match=r"genotype\.json: no such file"):
        find_genotype(str(tmp_path))
    with pytest.raises(UserError, match="arch: 'nowhere' is unknown; choose one of amoebanet"):
        published("nowhere")
