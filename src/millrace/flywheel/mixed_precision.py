"""`mixed_precision`: on a GPU, products of a forward pass in bfloat16; on a CPU nothing changes, not a byte.

All trainings compute their networks within it. Losses are computed of float32 (``.float()``): a difference of large
numbers in bfloat16 is off by tenths. What is validated, calibrated and exported is computed without it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def mixed_precision(device: str) -> AbstractContextManager[object]:
    """Return what a forward pass is computed within.

    Parameters
    ----------
    device
        Where: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    """
    dtype = product_type(device)
    return nullcontext() if dtype is None else torch.autocast(torch.device(device).type, dtype=dtype)


def product_type(device: str) -> torch.dtype | None:
    """Return of which type products are on a device; None: of that of their factors.

    bfloat16 has the range of float32, so that no gradient vanishes and none needs to be scaled.
    """
    return torch.bfloat16 if torch.device(device).type == "cuda" else None
