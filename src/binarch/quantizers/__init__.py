"""Real numbers to codes: one file per method, each with its forward formula and its gradient."""

from binarch.quantizers.base import Correction, Quantizer, StepQuantizer
from binarch.quantizers.binary_connect import BinaryConnect, StochasticBinaryConnect
from binarch.quantizers.bnn import ClosedSign, StochasticSign, ap2
from binarch.quantizers.cbcn import ORIENTATIONS, CirculantSign, PolynomialSign, circulate, stored_filters
from binarch.quantizers.ccnn import LongTailedStep, TrainedScale
from binarch.quantizers.ci_net import MOST_EDGES, Edge, Interaction, rounds
from binarch.quantizers.hwgq import HalfWave, HwgqWeight
from binarch.quantizers.identity import Identity
from binarch.quantizers.latent import Boxed, CentredBoxed, Free, GlorotBoxed, LatentRule
from binarch.quantizers.lq_net import LqActivation, LqWeight
from binarch.quantizers.sign import CentredSign, Sign, straight_through_sign
from binarch.quantizers.standardised import StandardisedSign
from binarch.quantizers.ttq import TrainedTernary
from binarch.quantizers.xnor_net import InputScale, XnorGradient, XnorWeight

__all__ = [
    "MOST_EDGES",
    "ORIENTATIONS",
    "BinaryConnect",
    "Boxed",
    "CentredBoxed",
    "CentredSign",
    "CirculantSign",
    "ClosedSign",
    "Correction",
    "Edge",
    "Free",
    "GlorotBoxed",
    "HalfWave",
    "HwgqWeight",
    "Identity",
    "InputScale",
    "Interaction",
    "LatentRule",
    "LongTailedStep",
    "LqActivation",
    "LqWeight",
    "PolynomialSign",
    "Quantizer",
    "Sign",
    "StandardisedSign",
    "StepQuantizer",
    "StochasticBinaryConnect",
    "StochasticSign",
    "TrainedScale",
    "TrainedTernary",
    "XnorGradient",
    "XnorWeight",
    "ap2",
    "circulate",
    "rounds",
    "stored_filters",
    "straight_through_sign",
]
