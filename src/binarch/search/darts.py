"""DARTS, first order (Liu, Simonyan and Yang, ICLR 2019): the gradient search with a plain softmax.

The alphas follow the gradient of the validation loss at the current weights; the second-order term, which accounts for
how the weights would answer, is left out.
"""

from binarch.search.differentiable import propose
from binarch.search.strategy import Strategy

DARTS = Strategy("darts", "first-order gradient search, plain softmax (DARTS, 2019)", propose)
