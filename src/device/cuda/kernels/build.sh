#!/usr/bin/env bash
# Rebuilds copy_sm80.ptx and copy_sm90.ptx from copy.cu, with NVRTC of CUDA 12.1: its PTX ISA 8.1 is the oldest with launch
# parameters of more than 4 KB, and what every driver from CUDA 12.1 on loads. The compiler comes from the Python packages
# (`pip download`), or from the folder that NVRTC names; nothing else is needed, and no GPU.
#
# `build.sh FILE.cu` makes FILE.ptx of another source, for sm_80. `build.sh --check` compares without a compiler: the first line of each file names the source it was made of.
set -euo pipefail
other=${1:+$(realpath -- "${1#--check}" 2>/dev/null || true)}
cd "$(dirname "$0")"

source_hash=$(sha256sum copy.cu | cut -d' ' -f1)
version=12.1.105

if [ "${1:-}" = --check ]; then
    for arch in 80 90; do
        if ! head -1 "copy_sm$arch.ptx" | grep -q "$source_hash"; then
            echo "copy_sm$arch.ptx was not made of this copy.cu: run $0"
            exit 1
        fi
    done
    exit 0
fi

if [ -z "${NVRTC:-}" ]; then
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/tidelock-nvrtc-$version
    if [ ! -d "$cache/nvidia" ]; then
        mkdir -p "$cache"
        python3 -m pip download --quiet --no-deps --dest "$cache" "nvidia-cuda-nvrtc-cu12==$version"
        python3 -m zipfile -e "$cache"/*.whl "$cache"
    fi
    NVRTC=$cache/nvidia/cuda_nvrtc/lib
fi

compile() { # source, architecture, output
    LD_LIBRARY_PATH=$NVRTC python3 - "$1" "$2" "$3" "$(sha256sum "$1" | cut -d' ' -f1)" "$version" <<'PYTHON'
import ctypes, os, sys

path, arch, output, source_hash, version = sys.argv[1:]
nvrtc = ctypes.CDLL("libnvrtc.so.12")
program, size = ctypes.c_void_p(), ctypes.c_size_t()

def text(name):
    getattr(nvrtc, f"nvrtcGet{name}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{name}")(program, buffer)
    return buffer.value.decode()

name = os.path.basename(path)
with open(path, "rb") as source:
    code = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.read(), name.encode(), 0, None, None)
options = [f"--gpu-architecture=compute_{arch}".encode(), b"--std=c++17"]
code = code or nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
if code:
    sys.exit(f"NVRTC answered {code}\n{text('ProgramLog')}")
with open(output, "w") as out:
    out.write(f"// made of {name} with sha256 {source_hash} by NVRTC {version}\n")
    out.write("\n".join(line for line in text("PTX").split("\n") if line.strip()) + "\n")
PYTHON
    ls -l "$3"
}

if [ -n "${other:-}" ]; then
    compile "$other" 80 "${other%.cu}.ptx"
else
    compile copy.cu 80 copy_sm80.ptx
    compile copy.cu 90 copy_sm90.ptx
fi
