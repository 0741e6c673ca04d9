"""Which gradient stands for that of a sign, chosen apart from the method."""

from collections.abc import Callable
from typing import Literal

from binarch.errors import UserError
from binarch.quantizers import ClosedSign, PolynomialSign, Quantizer, Sign

#: ``scheme``: the method's own; ``window``: 1 where |x| < 1 (Courbariaux et al., 2016); ``polynomial``:
#: max(2 - 2 |x|, 0) (Bi-Real Net, Liu et al., 2018). Forward all are signs, +1 at 0.
SignGradient = Literal["scheme", "window", "polynomial"]


def with_gradient(make: Callable[[], Quantizer], gradient: SignGradient, scheme: str) -> Callable[[], Quantizer]:
    """What makes the signs that ``make`` of ``scheme`` makes, with that gradient.

    A :class:`UserError` says so where it makes none, or draws them at random.
    """
    if gradient == "scheme":
        return make
    if not isinstance(make(), Sign | ClosedSign | PolynomialSign):
        raise UserError(
            f"sign_gradient: {gradient} is not possible with {scheme}, whose activations are not plain signs; "
            "use --sign-gradient scheme"
        )
    return PolynomialSign if gradient == "polynomial" else Sign
