// CUB's batched memcpy behind C functions, for the GPU benchmark; built by rivals.sh.

#include <cub/device/device_memcpy.cuh>
#include <cstdint>
#include <cstdio>

// How much device memory `cub_batched` needs for `count` copies.
extern "C" size_t cub_room(int64_t count) {
    size_t bytes = 0;
    const auto code = cub::DeviceMemcpy::Batched(nullptr, bytes, (const void**)nullptr, (void**)nullptr, (uint32_t*)nullptr, count);
    return code == cudaSuccess ? bytes : 0;
}

// Enqueues `count` copies; the three arrays are in device memory.
extern "C" int cub_batched(void* room, size_t bytes, const void** src, void** dst, uint32_t* len, int64_t count, void* stream) {
    return (int)cub::DeviceMemcpy::Batched(room, bytes, src, dst, len, count, (cudaStream_t)stream);
}

extern "C" const char* cub_version() {
    static char text[32];
    std::snprintf(text, sizeof text, "CUB %d.%d.%d", CUB_MAJOR_VERSION, CUB_MINOR_VERSION, CUB_SUBMINOR_VERSION);
    return text;
}
