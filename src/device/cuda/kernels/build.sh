#!/usr/bin/env bash
# Makes the images of copy.cu and strided.cu, which are compiled as one source:
#   copy_smNN.fatbin        machine code of one architecture, compressed
#   copy_compute90.fatbin   PTX for the architectures that come later, compressed
#   images.rs               the images and their hashes, for the library
#   kernels.txt             the same with the kernels, each with the bytes of its parameter, for the stand-in
#
# `build.sh`              makes all of them: one minute, no GPU.
# `build.sh --check`      makes all of them in another folder, and compares every byte.
# `build.sh FILE.cu`      makes FILE.ptx of another source, for sm_80.
#
# The compilers are Python packages, in the versions and with the hashes below. They are kept in
# ~/.cache/tidelock-cuda.
# - NVRTC of CUDA 12.1 makes the PTX: its PTX ISA 8.1 is the oldest with launch parameters of more than 4 KB, and every
#   driver from CUDA 12.1 on loads it. It also makes the machine code for sm_80: nine runs of
#   NVRTC 12.9.86 gave six results (2026-12-01), with instructions of some kernels in another order.
# - NVRTC of CUDA 12.9 makes the other machine code: all drivers of CUDA 12 and later load it.
set -euo pipefail
other=
if [ $# -gt 0 ] && [ "$1" != --check ]; then
    other=$(realpath -- "$1")
fi
cd "$(dirname "$0")"

packages=${XDG_CACHE_HOME:-$HOME/.cache}/tidelock-cuda
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { # name, version, SHA-256 of the file for x86-64 Linux
    local folder=$packages/$1-$2
    if [ ! -d "$folder" ]; then
        mkdir -p "$packages"
        echo "$1==$2 --hash=sha256:$3" >"$work/requirements"
        python3 -m pip download --quiet --no-deps --only-binary :all: --platform manylinux_2_12_x86_64 \
            --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --require-hashes --dest "$work/$1-$2" -r "$work/requirements"
        python3 -m zipfile -e "$work/$1-$2"/*.whl "$work/$1-$2"
        mv "$work/$1-$2" "$folder"
    fi
}
fetch nvidia-cuda-nvrtc-cu12 12.1.105 339b385f50c309763ca65456ec75e17bbefcbbf2893f462cb8b90584cd27a1c2
fetch nvidia-cuda-nvrtc-cu12 12.9.86 210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4
fetch nvidia-nvfatbin-cu12 12.9.82 16cbfbd12287508212f22f42dff6ff51cf9b528b906f57f615b080da16dea1ea

# NVRTC reads its built-in functions from a file beside it, which the loader must find.
compile() { # version of NVRTC, source, architecture, output
    LD_LIBRARY_PATH=$packages/nvidia-cuda-nvrtc-cu12-$1/nvidia/cuda_nvrtc/lib python3 compile.py "$2" "$3" "$4"
}

if [ -n "$other" ]; then
    compile 12.1.105 "$other" compute_80 "${other%.cu}.ptx"
    exit 0
fi

cat copy.cu strided.cu >"$work/copy.cu"
compile 12.1.105 "$work/copy.cu" compute_90 "$work/compute90"
compile 12.1.105 "$work/copy.cu" sm_80 "$work/sm80"
for arch in 90 100 120; do
    compile 12.9.86 "$work/copy.cu" sm_$arch "$work/sm$arch"
done
mkdir "$work/made"
python3 pack.py "$packages/nvidia-nvfatbin-cu12-12.9.82/nvidia/nvfatbin/lib/libnvfatbin.so.12" "$work" "$work/made"

if [ "${1:-}" = --check ]; then
    for file in $(cd "$work/made" && ls) copy_*; do
        if [ "$file" != copy.cu ] && ! cmp "$work/made/$file" "$file"; then
            echo "$file is not what copy.cu and strided.cu make: run $0"
            exit 1
        fi
    done
else
    cp "$work/made"/* .
    ls -l $(cd "$work/made" && ls)
fi
