"""Numbers of bfloat16 in compiled loops: arrays of their bits, read and written as float32."""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

_FLOAT, _WORD, _HALF = ir.FloatType(), ir.IntType(32), ir.IntType(16)


def array_of(values: Tensor) -> NDArray[Any]:
    """A float32 tensor as it is, one of bfloat16 as its bits (uint16); both share the tensor's memory."""
    if values.dtype == torch.bfloat16:
        bits: NDArray[Any] = values.detach().view(torch.int16).numpy().view(np.uint16)
        return bits
    array: NDArray[Any] = values.detach().numpy()
    return array


def tensor_of(array: NDArray[Any]) -> Tensor:
    """The tensor of such an array."""
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array_type(dtype: torch.dtype) -> type[np.float32] | type[np.uint16]:
    """What arrays of a tensor's numbers hold."""
    return np.uint16 if dtype == torch.bfloat16 else np.float32


@intrinsic
def real(typingctx: Any, number: Any) -> Any:
    """An array's number as float32; bfloat16 is the upper half of one."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if signature.args[0] == types.float32:
            return args[0]
        return builder.bitcast(builder.shl(builder.zext(args[0], _WORD), _WORD(16)), _FLOAT)

    return types.float32(number), generate


@intrinsic
def stored(typingctx: Any, line: Any, value: Any) -> Any:
    """A float32 as the numbers of ``line`` are: the nearest of bfloat16, the even one of two; NaN stays NaN."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if signature.return_type == types.float32:
            return args[1]
        bits = builder.bitcast(args[1], _WORD)
        upper = builder.lshr(bits, _WORD(16))
        rounded = builder.lshr(builder.add(builder.add(bits, _WORD(0x7FFF)), builder.and_(upper, _WORD(1))), _WORD(16))
        is_none = builder.fcmp_unordered("uno", args[1], args[1])
        return builder.trunc(builder.select(is_none, builder.or_(upper, _WORD(0x40)), rounded), _HALF)

    return line.dtype(line, types.float32), generate
