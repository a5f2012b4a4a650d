#!/usr/bin/env python3
"""Writes small.safetensors with Python's own safetensors.

    pip install safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.5.4 && tests/files/small.py
"""
import pathlib

import ml_dtypes
import numpy
from safetensors.numpy import save_file

tensors = {
    # Two tokens; columns 0..4 are q, 4..8 are k, 8..12 are v.
    "qkv": numpy.arange(24, dtype=numpy.float32).reshape(2, 12) / 2,
    "norm.weight": numpy.array([1, -2.5, 3.140625, 1e30], dtype=ml_dtypes.bfloat16),
    "scales": numpy.array([[0.5, -448, 1.25]], dtype=ml_dtypes.float8_e4m3fn),
    "mask": numpy.array([True, False, True]),
    "ids": numpy.array([[-1, 2**40]], dtype=numpy.int64),
    "step": numpy.array(7, dtype=numpy.uint32),
    "empty": numpy.zeros((0, 4), dtype=numpy.float16),
}
path = pathlib.Path(__file__).with_name("small.safetensors")
save_file(tensors, path, metadata={"format": "np"})
