"""What a training minimises."""

from typing import Literal

from torch import Tensor
from torch.nn import functional

#: ``cross_entropy``; or ``squared_hinge``, with which BinaryConnect and BNN were trained.
Loss = Literal["cross_entropy", "squared_hinge"]


def squared_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Mean over images and classes of :math:`\max(0, 1 - t y)^2`, t = +1 for the right class and -1 for the others."""
    targets = functional.one_hot(labels, logits.shape[1]).to(logits.dtype) * 2 - 1
    return functional.relu(1 - targets * logits).square().mean()


def loss_of(kind: Loss, logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """The loss of a batch: logits (N, classes), labels (N,)."""
    if kind == "squared_hinge":
        return squared_hinge(logits, labels)
    return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def distillation(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    r"""Mean over images of :math:`T^2 \operatorname{KL}(p \Vert q)`, p the teacher's softmax of logits / T, q ours.

    Hinton et al., 2015. The factor keeps the gradient as large as that of a cross-entropy whatever T is:
    :math:`\partial / \partial z = T (q - p) / N` for our logits z (N, classes).
    """
    ours, theirs = ((values.float() / temperature).log_softmax(1) for values in (logits, taught))
    return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2
