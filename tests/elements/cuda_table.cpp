// Writes cuda_table.txt: what CUDA's own conversions of small floats answer, run on the host.
//
//     pip download --no-deps nvidia-cuda-runtime-cu12==12.9.79 nvidia-cuda-nvcc-cu12==12.9.86 nvidia-cuda-cccl-cu12==12.9.27
//     for w in nvidia_*.whl; do unzip -q -o $w -d cuda; done
//     g++ -O2 -w -std=c++17 -I cuda/nvidia/cuda_runtime/include -I cuda/nvidia/cuda_nvcc/include -I cuda/nvidia/cuda_cccl/include \
//         tests/elements/cuda_table.cpp -o table && ./table > tests/elements/cuda_table.txt
//
// `decode FORMAT` has the bits of the float of every pattern. `encode FORMAT` has pairs: the bits of a float, and its
// pattern when it is rounded to the nearest even and saturated (e8m0: rounded up and saturated). The floats are all
// values of the format, the midpoints between two of them, their neighbours, and special ones.
#include <cuda_fp4.h>
#include <cuda_fp6.h>
#include <cuda_fp8.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <set>

static uint32_t bits(float f) { uint32_t b; memcpy(&b, &f, 4); return b; }
static float from(uint32_t b) { float f; memcpy(&f, &b, 4); return f; }
static float wide(__half_raw h) { return __half2float(__half(h)); }

template <class Decode, class Encode>
void table(const char* name, int patterns, Decode decode, Encode encode) {
    printf("decode %s\n", name);
    std::set<uint32_t> floats = {0, 0x80000000, 1, 0x80000001, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0x00800000, 0x3f800000};
    std::set<double> values;
    for (int i = 0; i < patterns; i++) {
        float f = decode(i);
        printf("%08x%s", std::isnan(f) ? 0x7fc00000 : bits(f), i % 8 == 7 ? "\n" : " ");
        if (std::isfinite(f)) values.insert(f);
    }
    double last = NAN;
    for (double v : values) {
        for (double x : {v, (v + last) / 2, v * 1.5, -v, v / 1024}) {
            if (!std::isfinite(x) || !std::isfinite((float)x)) continue;
            for (int d = -1; d <= 1; d++) floats.insert(bits((float)x) + d);
        }
        last = v;
    }
    uint64_t random = 20261201;
    for (int i = 0; i < 200; i++) { random = random * 6364136223846793005u + 1442695040888963407u; floats.insert(random >> 32); }
    printf("encode %s\n", name);
    int i = 0;
    for (uint32_t b : floats) printf("%08x:%02x%s", b, encode(from(b)), ++i % 10 ? " " : "\n");
    printf("\n");
}

int main() {
    auto fp8 = [](__nv_fp8_interpretation_t kind) {
        return std::pair([=](int i) { return wide(__nv_cvt_fp8_to_halfraw(i, kind)); }, [=](float f) { return (unsigned)__nv_cvt_float_to_fp8(f, __NV_SATFINITE, kind); });
    };
    auto [d43, e43] = fp8(__NV_E4M3);
    table("f8e4m3", 256, d43, e43);
    auto [d52, e52] = fp8(__NV_E5M2);
    table("f8e5m2", 256, d52, e52);
    table("f8e8m0", 256,
        [](int i) { __nv_bfloat16_raw raw = __nv_cvt_e8m0_to_bf16raw(i); return __bfloat162float(__nv_bfloat16(raw)); },
        [](float f) { return (unsigned)__nv_cvt_float_to_e8m0(f, __NV_SATFINITE, cudaRoundPosInf); });
    table("f6e2m3", 64, [](int i) { return wide(__nv_cvt_fp6_to_halfraw(i, __NV_E2M3)); },
        [](float f) { return (unsigned)__nv_cvt_float_to_fp6(f, __NV_E2M3, cudaRoundNearest); });
    table("f6e3m2", 64, [](int i) { return wide(__nv_cvt_fp6_to_halfraw(i, __NV_E3M2)); },
        [](float f) { return (unsigned)__nv_cvt_float_to_fp6(f, __NV_E3M2, cudaRoundNearest); });
    table("f4e2m1", 16, [](int i) { return wide(__nv_cvt_fp4_to_halfraw(i, __NV_E2M1)); },
        [](float f) { return (unsigned)__nv_cvt_float_to_fp4(f, __NV_E2M1, cudaRoundNearest); });
}
