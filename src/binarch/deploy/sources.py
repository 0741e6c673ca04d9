"""What a person may name where a packed network is asked for."""

from pathlib import Path

from binarch.deploy.pack import pack_run
from binarch.deploy.random import random_program
from binarch.errors import UserError
from binarch.models import MODELS, NetworkConfig, find_architecture
from binarch.networks import find, shipped
from binarch.runs import RunFolder
from binarch.runtime.program import Program
from binarch.spaces import Genotype, find_genotype


def open_program(source: str) -> Program:
    """The program of a network that comes with the package, in a file, or of a run folder, packed on the spot."""
    if source not in shipped() and Path(source).is_dir():
        return pack_run(RunFolder(source))
    return Program.load(find(source))


def genotype_of(source: str) -> Genotype:
    """What :func:`~binarch.spaces.find_genotype` finds; of a packed network (name or file) the cells its card tells."""
    if source not in shipped() and Path(source).suffix != ".safetensors":
        return find_genotype(source)
    card = open_program(source).card
    if "genotype" not in card:
        raise UserError(f"{source}: is a network without cells; nothing can be drawn")
    return Genotype.from_dict(card["genotype"])


def find_program(source: str, config: NetworkConfig, *, classes: int, image_size: int) -> Program:
    """As :func:`open_program`; an architecture (name, genotype file, folder of a search) gets random weights."""
    path = Path(source)
    if path.suffix == ".safetensors" and not path.exists():
        raise UserError(f"{path}: no such file; give a file that binarch pack wrote")
    packed = path.is_file() and path.suffix != ".json"
    if source in shipped() or (source not in MODELS and (packed or RunFolder(path).has("network.safetensors"))):
        if config != NetworkConfig():
            raise UserError(f"{source}: has a shape of its own; leave out --cells, --width and their like")
        return open_program(source)
    try:
        find_architecture(source)
    except UserError as error:
        raise UserError(f"{error}; networks that come with binarch: {', '.join(shipped())}") from None
    return random_program(source, config, classes=classes, image_size=image_size)
