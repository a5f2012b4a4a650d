#!/usr/bin/env python3
"""Takes tensors of an engine thread by DLPack, and gives it tensors: `exchange.py LIBRARY numpy`, or `torch` on a GPU.

LIBRARY is the shared library of this example: `cargo build --package tidelock-example-dlpack`.
"""
import ctypes
import sys

library = ctypes.CDLL(sys.argv[1])
for name, answer, arguments in [
    ("host_tensor", ctypes.c_void_p, [ctypes.c_size_t] * 2),
    ("host_sum", ctypes.c_double, [ctypes.c_void_p]),
    ("engine_open", ctypes.c_void_p, []),
    ("engine_stream", ctypes.c_size_t, [ctypes.c_void_p]),
    ("engine_tensor", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_ssize_t]),
    ("engine_sum", ctypes.c_double, [ctypes.c_void_p] * 2),
    ("engine_close", None, [ctypes.c_void_p]),
]:
    function = getattr(library, name)
    function.restype, function.argtypes = answer, arguments

new = ctypes.pythonapi.PyCapsule_New
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
pointer = ctypes.pythonapi.PyCapsule_GetPointer
pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
rename = ctypes.pythonapi.PyCapsule_SetName
rename.restype, rename.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
VERSIONED, USED = b"dltensor_versioned", b"used_dltensor_versioned"


class Ours:
    """What `from_dlpack` asks for a tensor; `make` gets the consumer's stream."""

    def __init__(self, make, device):
        self.make, self.device = make, device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream=None, **_):
        structure = self.make(stream)
        assert structure, "refused"
        return new(structure, VERSIONED, None)


def given_away(capsule):
    """The structure of a capsule, which is the engine's from here on."""
    structure = pointer(capsule, VERSIONED)
    rename(capsule, USED)
    return structure


def weighted(rows, columns):
    return sum(i * (1 + i % columns) for i in range(rows * columns))


def with_numpy():
    import numpy

    ours = numpy.from_dlpack(Ours(lambda _: library.host_tensor(3, 4), (1, 0)))
    assert ours.dtype == numpy.float32 and ours.tolist() == [[4 * i + j for j in range(4)] for i in range(3)]
    assert ours.T[1].tolist() == [1, 5, 9]
    for layout in [numpy.arange(12, dtype=numpy.float32).reshape(3, 4), numpy.asfortranarray(ours), ours]:
        theirs = layout.__dlpack__(max_version=(1, 1))
        assert library.host_sum(given_away(theirs)) == weighted(3, 4)
    # What is no tensor of two axes of f32, and what goes backwards, is refused, and deleted by its owner.
    for other in [numpy.arange(3.0), numpy.zeros((2, 2)), ours[::-1]]:
        assert numpy.isnan(library.host_sum(given_away(other.__dlpack__(max_version=(1, 1)))))
    return f"numpy {numpy.__version__}"


def with_torch():
    import torch

    engine = library.engine_open()
    assert engine, "no GPU"
    rows, columns = 30, 50
    stream = torch.cuda.Stream()
    # The first launch of a kernel loads it, which may wait for the device.
    (torch.zeros(rows, columns, device="cuda") * 2).cpu()
    for consumer in [torch.cuda.default_stream(), stream]:
        with torch.cuda.stream(consumer):
            # The engine writes the values behind a hundred milliseconds of work, which nothing waits for here.
            source = Ours(lambda s: library.engine_tensor(engine, rows, columns, 0 if s is None else s), (2, 0))
            ours = torch.from_dlpack(source)
            doubled = ours * 2
            was_early = not consumer.query()
            # Deleted while the kernel is still to run.
            del ours
        assert was_early, "the host has waited"
        consumer.synchronize()
        expected = torch.arange(rows * columns, dtype=torch.float32).reshape(rows, columns) * 2
        assert torch.equal(doubled.cpu(), expected), "the consumer's stream did not wait"
    raw = library.engine_stream(engine)
    for make in [lambda t: t, lambda t: t.t().contiguous().t()]:
        with torch.cuda.stream(stream):
            theirs = torch.zeros(rows, columns, device="cuda")
            # Slow work in front of the values, on the producer's stream.
            square = torch.ones(8192, 8192, device="cuda")
            for _ in range(20):
                square = square @ square * 0
            theirs += torch.arange(rows * columns, device="cuda", dtype=torch.float32).reshape(rows, columns)
            theirs = make(theirs)
            capsule = theirs.__dlpack__(stream=raw, max_version=(1, 1))
        before = torch.cuda.memory_allocated()
        total = library.engine_sum(engine, given_away(capsule))
        assert total == weighted(rows, columns), (total, weighted(rows, columns))
        del theirs, capsule
        assert torch.cuda.memory_allocated() < before, "the deleter was not called"
    library.engine_close(engine)
    return f"torch {torch.__version__}, {torch.cuda.get_device_name()}"


print("dlpack: both ways with", {"numpy": with_numpy, "torch": with_torch}[sys.argv[2]]())
