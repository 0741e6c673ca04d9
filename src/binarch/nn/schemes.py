"""The methods of the supplement's Table 1, and BATS' own, by name."""

from math import sqrt

from torch import Tensor

from binarch.errors import choose
from binarch.nn.norms import shift_based, without_affine
from binarch.nn.quant_layer import Shape2d
from binarch.nn.scheme import Scheme
from binarch.quantizers import (
    ORIENTATIONS,
    BinaryConnect,
    Boxed,
    CentredBoxed,
    CentredSign,
    CirculantSign,
    ClosedSign,
    Correction,
    GlorotBoxed,
    HalfWave,
    HwgqWeight,
    Identity,
    InputScale,
    Interaction,
    LongTailedStep,
    LqActivation,
    LqWeight,
    PolynomialSign,
    Sign,
    StandardisedSign,
    StochasticBinaryConnect,
    StochasticSign,
    TrainedScale,
    TrainedTernary,
    XnorGradient,
    XnorWeight,
    stored_filters,
)


def boxed_start(weight: Tensor) -> Tensor:
    """Latent weights as wide as U(-1, 1), inside of [-1, 1]: the signs stay. PyTorch's own start becomes U(-1, 1)."""
    spread = weight.square().mean().sqrt().clamp(min=1e-12)
    return (weight / (sqrt(3) * spread)).clamp(-1, 1)


def bats() -> Scheme:
    """The binarizers of BATS: centred signs times their mean absolute value."""
    return Scheme(
        "bats", "BATS (Bulat et al., 2020)", (1, 1), "nothing", "96.1 % (searched cells)",
        lambda weight: CentredSign(), Sign, nonlinearity="none",
    )  # fmt: skip


def binary_connect(stochastic: bool = False) -> Scheme:
    """BinaryConnect: signs for weights, real activations, all layers."""
    return Scheme(
        "bc-stochastic" if stochastic else "bc",
        "BinaryConnect (Courbariaux et al., 2015)" + ", stochastic" * stochastic,
        (1, 32), "nothing", f"{'91.7' if stochastic else '90.1'} % (vgg-small-fc)",
        lambda weight: StochasticBinaryConnect() if stochastic else BinaryConnect(), Identity, where="all",
        latent=boxed_start, latent_rule=GlorotBoxed(),
    )  # fmt: skip


def bnn() -> Scheme:
    """BNN: signs for weights and activations, all layers."""
    return Scheme(
        "bnn", "BNN (Courbariaux et al., 2016)", (1, 1), "nothing", "89.9 % (vgg-small-fc)",
        lambda weight: BinaryConnect(), ClosedSign, where="all", nonlinearity="hardtanh",
        latent=boxed_start, latent_rule=GlorotBoxed(),
    )  # fmt: skip


def bnn_shift() -> Scheme:
    """BNN as its Torch7 code has it: activations drawn at random in training, shift-based batch norms and steps."""
    return Scheme(
        "bnn-shift", "BNN, the Torch7 code (Courbariaux et al., 2016)", (1, 1), "nothing", "89.9 % (vgg-small-fc)",
        lambda weight: BinaryConnect(), StochasticSign, where="all", nonlinearity="hardtanh", norm=shift_based,
        latent=boxed_start, latent_rule=GlorotBoxed(shift=True),
    )  # fmt: skip


def xnor_net(gradient: XnorGradient = "exact", input_scale: bool = False) -> Scheme:
    """XNOR-Net; ``input_scale`` adds the paper's scale of the activations, which public codes leave out."""

    def scale(shape: Shape2d) -> Correction | None:
        return InputScale(*shape[1:]) if input_scale else None

    return Scheme(
        "xnor-net", "XNOR-Net (Rastegari et al., 2016)", (1, 1), "nothing", "89.8 % (vgg-small-fc)",
        lambda weight: XnorWeight(gradient), Sign, nonlinearity="none", latent_rule=CentredBoxed(), correction=scale,
    )  # fmt: skip


def ttq(threshold: float = 0.05) -> Scheme:
    """TTQ: ternary weights with two learned values per layer, real activations."""
    return Scheme(
        "ttq", "TTQ (Zhu et al., 2017)", (2, 32), "Wp and Wn per layer", "91.1 % (resnet20)",
        lambda weight: TrainedTernary(threshold), Identity,
    )  # fmt: skip


def hwgq(bits: int = 2) -> Scheme:
    """HWGQ with activations of 1 to 4 bits."""
    return Scheme(
        "hwgq", "HWGQ (Cai et al., 2017)", (1, bits), "nothing", "92.5 % (vgg-small)",
        lambda weight: HwgqWeight(), lambda: HalfWave(bits), norm=without_affine,
    )  # fmt: skip


def lq_net(weight_bits: int = 1, activation_bits: int = 2) -> Scheme:
    """LQ-Nets with weights and activations of 1 to 4 bits."""
    return Scheme(
        "lq-net", "LQ-Nets (Zhang et al., 2018)", (weight_bits, activation_bits),
        "a basis per filter and per layer's activations, by fitting", "93.4 % (vgg-small)",
        lambda weight: LqWeight(weight, weight_bits), lambda: LqActivation(activation_bits),
    )  # fmt: skip


def cbcn() -> Scheme:
    """CBCN: circulant filters; 3 x 3 convolutions only, so that 1 x 1 shortcuts stay real."""
    return Scheme(
        "cbcn", "CBCN (Liu et al., 2019)", (1, 1), "nothing", "91.6 % (resnet18-cbcn), 93.4 % (wrn40-cbcn)",
        lambda weight: CirculantSign(), PolynomialSign, nonlinearity="none", kernels=(3,), multiple=ORIENTATIONS,
        latent=stored_filters,
    )  # fmt: skip


def ccnn(decay: float = 1e-4) -> Scheme:
    """CCNN, a reconstruction: learned scales, codes 0 and 1 for activations."""
    return Scheme(
        "ccnn", "CCNN (Xu and Cheung, 2019), a reconstruction", (1, 1),
        "a scale per filter and per layer's activations", "92.3 % (vgg-small)",
        lambda weight: TrainedScale(weight, decay), LongTailedStep, nonlinearity="none", latent_rule=Boxed(),
    )  # fmt: skip


def ci_net() -> Scheme:
    """CI-BCNN: signs, and interactions between channels.

    The public thresholds (200, step 100) belong to layers of about 1440 inputs; counts of n signs grow with the root of
    n.
    """

    def interaction(shape: Shape2d) -> Correction:
        grown = sqrt(shape.inputs * shape.kernel[0] * shape.kernel[1] / 1440)
        return Interaction(max(2, round(200 * grown)), max(1, round(100 * grown)))

    return Scheme(
        "ci-net", "CI-BCNN (Wang et al., 2019)", (1, 1), "edges between channels, by policy gradient",
        "92.5 % (vgg-small)",
        lambda weight: ClosedSign(), ClosedSign, nonlinearity="hardtanh", correction=interaction,
    )  # fmt: skip


def standardised() -> Scheme:
    """Standardised signs for weights, after IR-Net; signs with Bi-Real Net's gradient for activations.

    ReActNet's learned shift before a sign is the bias of the batch norm that stands there already.
    """
    return Scheme(
        "standardised", "standardised signs, after IR-Net (Qin et al., 2020) and Bi-Real Net (Liu et al., 2018)",
        (1, 1), "nothing; in cells a factor per filter", "none: a mixture of our own",
        lambda weight: StandardisedSign(), PolynomialSign, nonlinearity="none",
    )  # fmt: skip


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        bats(), binary_connect(), binary_connect(stochastic=True), bnn(), bnn_shift(), xnor_net(), ttq(), hwgq(),
        lq_net(), cbcn(), ccnn(), ci_net(), standardised(),
    )
}  # fmt: skip


def find_scheme(name: str) -> Scheme:
    """The scheme of that name with its default settings."""
    return SCHEMES[choose("scheme", name, SCHEMES)]
