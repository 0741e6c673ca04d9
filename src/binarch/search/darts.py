"""DARTS (Liu, Simonyan and Yang, ICLR 2019): the gradient search with a plain softmax, of first and of second order.

First order: the alphas follow the gradient of the validation loss at the current weights. Second order: at the weights
after their next step, so that how the weights answer to the alphas counts too (see ``second_order``); 2.5 times the
passes.
"""

from binarch.search.differentiable import propose
from binarch.search.strategy import Strategy

DARTS = Strategy("darts", "first-order gradient search, plain softmax (DARTS, 2019)", propose)
DARTS_SECOND = Strategy("darts-second", "second-order gradient search, plain softmax (DARTS, 2019)", propose)
