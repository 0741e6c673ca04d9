"""The demo: from images to a searched, trained, drawn and packed 1-bit network, in one go."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from binarch.data import Dataset, load
from binarch.deploy import bench, pack_run
from binarch.recipes import RECIPES
from binarch.report import save_drawing, write_report
from binarch.runs import RunFolder, write_atomic
from binarch.runtime import Network
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
    packed = _pack(folder, dataset, display)
    return {
        "test_accuracy": result["test_accuracy"],
        "weights and activations": "1 bit each",
        "costs": result["costs"],
        "search_seconds": searched["search_seconds"],
        "train_seconds": result["train_seconds"],
        **packed,
        "drawing": str(drawing),
        "report": str(report),
    }


def _pack(folder: RunFolder, dataset: Dataset, display: Display) -> dict[str, Any]:
    """Pack the trained network, ask it about one test image, and race it against torch."""
    program = pack_run(folder.child("train"))
    file = folder / "network.packed.safetensors"
    write_atomic(file, program.encode())
    network = Network(program)
    network.warmup(display.say)
    image, label = dataset.test().pixels[0].permute(1, 2, 0).numpy(), int(dataset.test().labels[0])
    ((name, share),) = network.predict(image, top=1)[0]
    display.say(f"Packed: the first test image is a {dataset.classes[label]}; the answer is {name} ({share:.0%}).")
    ours, torch = bench(program, ["torch"], seconds=2.0).results
    times = torch.median_ms / ours.median_ms
    took = f"It takes {ours.median_ms:.2f} ms an image, torch {torch.median_ms:.2f} ms"
    display.say(f"{took}: {times:.0f} times longer, in one thread.")
    return {
        "packed": str(file),
        "packed_bytes": file.stat().st_size,
        "packed_ms": ours.median_ms,
        "torch_ms": torch.median_ms,
        "times_faster_than_torch": times,
    }
