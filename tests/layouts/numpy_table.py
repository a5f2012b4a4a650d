#!/usr/bin/env python3
"""Writes numpy_table.txt: what NumPy answers to operations on shapes and strides.

    pip install numpy==2.4.6 && tests/layouts/numpy_table.py

A line is `operation; shape; stride; arguments; answer`. Strides count elements. The answer is
`shape; stride; offset`, or `refused`.
"""
import pathlib
import random

import numpy
from numpy.lib.stride_tricks import as_strided

random.seed(20261201)
memory = numpy.zeros(1 << 20, dtype=numpy.int8)
base = memory.__array_interface__["data"][0]


def numbers(values):
    return ",".join(str(v) for v in values)


def make():
    """A layout by steps from a row-major one, as programs make them."""
    rank = random.randint(1, 4)
    a = memory[: 4096].reshape([4096])
    shape = [random.choice([1, 1, 2, 3, 4, 6]) for _ in range(rank)]
    wide = [e + random.choice([0, 0, 0, 1, 2]) for e in shape]
    size = int(numpy.prod(wide))
    a = memory[:size].reshape(wide)
    a = a[tuple(slice(0, e) for e in shape)]
    if random.random() < 0.3:
        a = a.transpose(random.sample(range(rank), rank))
    return a


def factors(n):
    shape = []
    while n > 1 and len(shape) < 5:
        divisors = [d for d in range(2, n + 1) if n % d == 0]
        d = random.choice(divisors)
        shape.append(d)
        n //= d
    shape.append(n) if n > 1 else None
    for _ in range(random.randint(0, 1)):
        shape.insert(random.randint(0, len(shape)), 1)
    return shape or [1]


def answer(view):
    offset = view.__array_interface__["data"][0] - base
    return f"{numbers(view.shape)}; {numbers(view.strides)}; {offset}"


lines = []
for _ in range(200):
    a = make()
    before = f"{numbers(a.shape)}; {numbers(a.strides)}"
    axis = random.randrange(a.ndim)
    start = random.randint(0, a.shape[axis] - 1)
    end = random.randint(start + 1, a.shape[axis])
    cut = [slice(None)] * a.ndim
    cut[axis] = slice(start, end)
    lines.append(f"slice; {before}; {axis},{start},{end}; {answer(a[tuple(cut)])}")
    lines.append(f"select; {before}; {axis},{start}; {answer(a[tuple(start if k == axis else slice(None) for k in range(a.ndim)) + (Ellipsis,)])}")
    order = random.sample(range(a.ndim), a.ndim)
    lines.append(f"permute; {before}; {numbers(order)}; {answer(a.transpose(order))}")
    shape = factors(a.size)
    view = as_strided(a, a.shape, a.strides)
    try:
        view.shape = shape
        lines.append(f"view; {before}; {numbers(shape)}; {answer(view)}")
    except AttributeError:
        lines.append(f"view; {before}; {numbers(shape)}; refused")
    contiguous = int(a.flags.c_contiguous)
    lines.append(f"contiguous; {before}; ; {contiguous}")

pathlib.Path(__file__).with_name("numpy_table.txt").write_text("\n".join(lines) + "\n")
