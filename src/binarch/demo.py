"""The demo: from images to a searched, trained and drawn 1-bit network, in one go."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from binarch.data import load
from binarch.recipes import RECIPES
from binarch.report import save_drawing, write_report
from binarch.runs import RunFolder
from binarch.search import search
from binarch.training import Display, train
from binarch.training.device import Device


def run_demo(out: Path, device: Device, display: Display, *, resume: bool) -> dict[str, Any]:
    """Search and train on the digits recipe; return what was reached and where it lies."""
    recipe = RECIPES["digits"]
    folder = RunFolder(out)
    folder.claim({"verb": "demo", "space": recipe.search.space, "recipe": "digits"}, resume=resume)
    dataset = load(recipe.search.data)
    display.say(f"Searching cells on {len(dataset.train):,} images of {dataset.name} ...")
    found = search(replace(recipe.search, device=device), dataset, folder.child("search"), display, resume=True)
    display.say("Training the found cells: binary activations first, then binary weights too ...")
    config = replace(recipe.train, device=device)
    result = train(found, config, dataset, folder.child("train"), display, resume=True)
    folder.write_json("genotype.json", found.to_dict())
    searched = folder.child("search").read_json("result.json")
    folder.write_json("result.json", {**result, "search_seconds": searched["search_seconds"]})
    for child in ("search", "train"):
        write_report(folder / child)
    drawing = folder / "cells.svg"
    save_drawing(found, drawing, recipe.search.space)
    report = write_report(folder.path)
    return {
        "test_accuracy": result["test_accuracy"],
        "weights and activations": "1 bit each",
        "costs": result["costs"],
        "search_seconds": searched["search_seconds"],
        "train_seconds": result["train_seconds"],
        "drawing": str(drawing),
        "report": str(report),
    }
