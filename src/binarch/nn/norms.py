"""What a scheme puts in the place of batch norms."""

from typing import Any, final

import torch
from torch import Tensor, nn

from binarch.quantizers import ap2

#: The two batch norms that a scheme may replace.
BatchNorm = nn.BatchNorm2d | nn.BatchNorm1d


def without_affine(norm: BatchNorm) -> nn.Module:
    """The same norm without scale and shift: HWGQ's activations need an output of mean 0 and variance 1."""
    made = type(norm)(norm.num_features, norm.eps, norm.momentum, False, norm.track_running_stats)
    if norm.running_mean is not None:
        made.to(norm.running_mean)
    made.load_state_dict({key: value for key, value in norm.state_dict().items() if key in made.state_dict()})
    return made


def shift_based(norm: BatchNorm) -> nn.Module:
    """A fresh :class:`ShiftBatchNorm` for as many channels."""
    made = ShiftBatchNorm(norm.num_features)
    return made.to(norm.weight) if norm.weight is not None else made


@final
class _ShiftNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = (1, -1, *[1] * (x.dim() - 2))
        mean = x.mean(axes)
        centred = x - mean.view(shape)
        inverse = ((centred * ap2(centred)).mean(axes) + eps).rsqrt()
        ctx.save_for_backward(centred, inverse, weight)
        ctx.mark_non_differentiable(mean, inverse)
        y = centred * (ap2(inverse) * ap2(weight)).view(shape) + bias.view(shape)
        return y, mean, inverse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        grad = grads[0]
        centred, inverse, weight = ctx.saved_tensors
        axes = [axis for axis in range(grad.dim()) if axis != 1]
        shape = (1, -1, *[1] * (grad.dim() - 2))
        r, shifted = ap2(inverse).view(shape), ap2(centred)
        along = (grad * shifted).mean(axes).view(shape)
        inner = grad - grad.mean(axes).view(shape) - shifted * r.square() * along
        of_weight = (grad * ap2(centred * r)).sum(axes)
        return ap2(weight).view(shape) * r * inner, of_weight, grad.sum(axes), None


@final
class ShiftBatchNorm(nn.Module):
    r"""Batch norm whose multiplications are shifts: the norm of BNN's Torch7 version.

    With AP2 the nearest power of two (:func:`ap2`), per channel of (N, C, ...):
    :math:`c = x - \bar x`, :math:`r = \operatorname{AP2}\bigl((\operatorname{mean}(c \operatorname{AP2}(c)) +
    \epsilon)^{-1/2}\bigr)`, :math:`y = c\,r \operatorname{AP2}(\gamma) + \beta`. Backward, as in that code:
    :math:`\partial x = \operatorname{AP2}(\gamma)\,r\,[g - \bar g - \operatorname{AP2}(c)\,r^2 \operatorname{mean}(g
    \operatorname{AP2}(c))]`, :math:`\partial \gamma = \sum g \operatorname{AP2}(c r)`, :math:`\partial \beta = \sum g`.

    In evaluation the running mean, and AP2 of the running inverse deviation (momentum 0.125), in double, rounded once.
    """

    running_mean: Tensor
    running_inverse: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.125) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_inverse", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, ...)."""
        if self.training:
            y, mean, inverse = _ShiftNorm.apply(x, self.weight, self.bias, self.eps)
            self.running_mean.lerp_(mean.detach().to(self.running_mean), self.momentum)
            self.running_inverse.lerp_(inverse.detach().to(self.running_inverse), self.momentum)
            return y
        scale, shift = (values.view(1, -1, *[1] * (x.dim() - 2)).double() for values in self.affine())
        return (x.double() * scale + shift).to(x.dtype)

    def affine(self) -> tuple[Tensor, Tensor]:
        """The scale and shift that it amounts to in evaluation, float32 per channel."""
        scale = ap2(self.running_inverse) * ap2(self.weight.detach())
        return scale, (self.bias.detach().double() - self.running_mean.double() * scale.double()).float()


#: What gathers running statistics in training: each batch moves them by ``momentum`` of the way.
NORMS = (nn.BatchNorm2d, nn.BatchNorm1d, ShiftBatchNorm)
