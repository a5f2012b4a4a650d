#!/usr/bin/env bash
# Builds the rivals of the GPU benchmark that are others' libraries, on the machine with the GPU: CUB with nvcc, and PyTorch's
# C++ library with the compiler, against the PyTorch that `python3` has. `rivals.sh FOLDER` puts them there; the benchmark finds
# them through TIDELOCK_RIVALS=FOLDER. What cannot be built is left out, and said to be missing in the benchmark's tables.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?where to put the libraries}
mkdir -p "$out"

cub() {
    nvcc -O3 -std=c++17 -arch=native -shared -Xcompiler -fPIC -o "$out/librivals_cub.so" "$here/rivals_cub.cu"
}

torch() {
    local root cuda
    root=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))') || return 1
    cuda=$(dirname "$(dirname "$(realpath "$(command -v nvcc)")")")
    g++ -O2 -std=c++17 -shared -fPIC -o "$out/librivals_torch.so" "$here/rivals_torch.cpp" \
        -D_GLIBCXX_USE_CXX11_ABI="$(python3 -c 'import torch; print(int(torch.compiled_with_cxx11_abi()))')" \
        -I"$root/include" -I"$root/include/torch/csrc/api/include" -I"$cuda/include" -L"$root/lib" \
        -Wl,--no-as-needed -ltorch_cuda -ltorch_cpu -ltorch -lc10_cuda -lc10 -Wl,--disable-new-dtags,-rpath,"$root/lib"
}

cub &
torch || echo "PyTorch's library was not built"
wait $! || echo "CUB's library was not built"
ls -l "$out"
