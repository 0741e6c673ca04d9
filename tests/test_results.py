"""The runs that lie under results/ stay readable, whatever is added to the settings."""

from dataclasses import replace
from pathlib import Path

import pytest

from binarch.runs import RunFolder, from_plain, to_plain
from binarch.search import SearchConfig
from binarch.training import TrainConfig
from binarch.training.trained import settings_of

RESULTS = Path(__file__).parents[1] / "results"
KINDS = {"train": TrainConfig, "search": SearchConfig}
#: What a search's config.json holds besides its settings.
BESIDE = ("verb", "found")
RUNS = [path.parent for path in sorted(RESULTS.rglob("config.json"))]


@pytest.mark.parametrize("verb", KINDS)
def test_settings_of_old_runs_are_read_and_can_be_continued(verb: str, tmp_path: Path) -> None:
    kind, found = KINDS[verb], 0
    for path in RUNS:
        plain = RunFolder(path).settings()
        if plain["verb"] != verb:
            continue
        found += 1
        settings = settings_of(plain) if verb == "train" else {k: v for k, v in plain.items() if k not in BESIDE}
        config = from_plain(settings, kind, path)
        copy = RunFolder(tmp_path / str(found))
        (copy.path).mkdir()
        (copy / "config.json").write_bytes((path / "config.json").read_bytes())
        here = replace(config, device="cpu")
        copy.claim(to_plain(here), resume=True, defaults=to_plain(kind()))
    assert found > 3
