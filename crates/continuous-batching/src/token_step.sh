#!/bin/sh
# Makes token_step.ptx of token_step.cu, with the nvcc that is given, or the one on the PATH. One comes from PyPI too:
#
#     python3 -m venv VENV && VENV/bin/pip install nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime
#     ./token_step.sh VENV/lib/python3*/site-packages/nvidia/cu*/bin/nvcc
#
# nvcc names the newest version of PTX that it knows, which older drivers refuse. 7.0 has everything that the kernel uses
# (the first version for sm_80), and the assembler, where there is one beside nvcc, is asked whether that is so.
set -eu
nvcc=$(command -v "${1:-nvcc}")
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
"$nvcc" -arch=compute_80 -ptx -o "$work/all.ptx" token_step.cu
{
    echo "// Made of token_step.cu by token_step.sh; do not edit."
    echo "// Source: $(cksum <token_step.cu)"
    echo
    sed -e '/^\/\//d' -e '/^$/d' -e 's/^\.version .*/.version 7.0/' "$work/all.ptx"
} >"$work/token_step.ptx"
"$(dirname "$nvcc")/ptxas" -arch=sm_80 -v -o "$work/cubin" "$work/token_step.ptx"
cp "$work/token_step.ptx" token_step.ptx
