// Device code of the GPU benchmark: what others do (one warp a tile, rows of one length), and tools for measuring.
// Built like the library's kernels: `src/device/cuda/kernels/build.sh benches/gpu/rivals.cu`.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

struct Row { u64 src, dst; };

struct Shape {
    u32 rows, tiles;  // tiles of a row
    u32 bytes;        // of a row
    u32 pad;
    u64 table;        // Row or u32 indices in memory, where they are not in the parameters
    u64 src, dst, src_pitch, dst_pitch;  // for indices
};
template <u32 N> struct Rows {
    Shape s;
    Row row[N];
    __device__ Row get(u32 i) const { return row[i]; }
};
template <u32 N> struct Indices {
    Shape s;
    u32 index[N];
    __device__ Row get(u32 i) const { return {s.src + index[i] * s.src_pitch, s.dst + i * s.dst_pitch}; }
};
struct RowTable {
    Shape s;
    __device__ Row get(u32 i) const {
        const ulonglong2 r = __ldg((const ulonglong2*)s.table + i);
        return {r.x, r.y};
    }
};

template <u32 U, class D> __device__ __forceinline__ void rows(const D& d) {
    const u32 lane = threadIdx.x & 31, tile = (blockIdx.x * 256 + threadIdx.x) / 32;
    const u32 row = tile / d.s.tiles, at = (tile - row * d.s.tiles) * U * 512;
    if (row >= d.s.rows || at >= d.s.bytes) return;
    const Row r = d.get(row);
    const u32 n = min(U * 512, d.s.bytes - at);
    const u64 src = r.src + at, dst = r.dst + at;
    if (((src | dst | n) & 15) != 0) {
        for (u32 i = lane; i < n; i += 32) ((u8*)dst)[i] = ((const u8*)src)[i];
        return;
    }
    uint4 v[U];
#pragma unroll
    for (u32 u = 0; u < U; ++u)
        if ((u * 32 + lane) * 16 < n) v[u] = __ldcs((const uint4*)src + u * 32 + lane);
#pragma unroll
    for (u32 u = 0; u < U; ++u)
        if ((u * 32 + lane) * 16 < n) __stcs((uint4*)dst + u * 32 + lane, v[u]);
}

#define ENTRY(NAME, TYPE, U) \
    extern "C" __global__ void __launch_bounds__(256) NAME##_##U(const __grid_constant__ TYPE d) { rows<U>(d); }
#define ENTRIES(NAME, TYPE) ENTRY(NAME, TYPE, 1) ENTRY(NAME, TYPE, 2) ENTRY(NAME, TYPE, 4) ENTRY(NAME, TYPE, 8)
ENTRIES(rows_256, Rows<252>)
ENTRIES(rows_1024, Rows<1020>)
ENTRIES(rows_2040, Rows<2040>)
ENTRIES(indices_1024, Indices<1008>)
ENTRIES(indices_8000, Indices<8000>)
ENTRIES(rows_table, RowTable)

extern "C" __global__ void spin(long long cycles) {
    const long long from = clock64();
    while (clock64() - from < cycles) {}
}

extern "C" __global__ void fill(uint4* p, u64 n, u64 seed) {
    for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        u64 x = (i + 1) * 0x9E3779B97F4A7C15ull + seed;
        u32 r[4];
        for (int k = 0; k < 4; ++k) {
            x ^= x >> 30;
            x *= 0xBF58476D1CE4E5B9ull;
            x ^= x >> 27;
            r[k] = (u32)(x >> 16);
        }
        p[i] = make_uint4(r[0], r[1], r[2], r[3]);
    }
}

struct Check { u64 src, dst, bytes; };
extern "C" __global__ void compare(const Check* checks, u64 count, unsigned long long* wrong) {
    for (u64 i = blockIdx.x; i < count; i += gridDim.x) {
        const Check c = checks[i];
        u64 bad = 0;
        for (u64 at = threadIdx.x; at < c.bytes; at += blockDim.x) bad += ((const u8*)c.src)[at] != ((const u8*)c.dst)[at];
        if (bad) atomicAdd(wrong, bad);
    }
}
// Counts bytes that are not `value`.
extern "C" __global__ void untouched(const u8* p, u64 n, u32 value, unsigned long long* wrong) {
    u64 bad = 0;
    for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) bad += p[i] != value;
    if (bad) atomicAdd(wrong, bad);
}
