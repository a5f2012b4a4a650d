// Device code of the GPU benchmark: what others do (one warp a tile, tiles cut by the longest copy), and tools for measuring.
// Built like the library's kernels: `src/device/cuda/kernels/build.sh benches/gpu/rivals.cu`.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

// A descriptor: 48 bits of each address, and in the other 16 the two halves of the length.
struct Row { u64 src, dst; };
struct Copy { u64 src, dst; u32 bytes; };

struct Shape {
    u32 rows, tiles;  // tiles of the longest row
    u32 bytes;        // of a row, for indices
    u32 old;          // rows below are of the first source
    u64 table;        // Row or u32 indices in memory, where they are not in the parameters
    u64 src, second, dst, pitch;  // for indices; `second` is row `old`
};

__device__ __forceinline__ Copy copy_of(u64 src, u64 dst) {
    const u64 mask = 0xffffffffffffull;
    return {src & mask, dst & mask, (u32)(src >> 48) | (u32)(dst >> 48) << 16};
}
__device__ __forceinline__ Copy row_of(const Shape& s, u32 i, u32 j) {
    const u64 from = j < s.old ? s.src + j * s.pitch : s.second + (j - s.old) * s.pitch;
    return {from, s.dst + i * (u64)s.bytes, s.bytes};
}
template <u32 N> struct Rows {
    Shape s;
    Row row[N];
    __device__ Copy get(u32 i) const { return copy_of(row[i].src, row[i].dst); }
};
template <u32 N> struct Indices {
    Shape s;
    u32 index[N];
    __device__ Copy get(u32 i) const { return row_of(s, i, index[i]); }
};
struct RowTable {
    Shape s;
    __device__ Copy get(u32 i) const {
        const ulonglong2 r = __ldg((const ulonglong2*)s.table + i);
        return copy_of(r.x, r.y);
    }
};
struct IndexTable {
    Shape s;
    __device__ Copy get(u32 i) const { return row_of(s, i, __ldg((const u32*)s.table + i)); }
};

// A warp copies G tiles of U times 512 bytes: all its loads are issued before its first store.
template <u32 U, u32 G, class D> __device__ __forceinline__ void rows(const D& d) {
    const u32 lane = threadIdx.x & 31, first = (blockIdx.x * 256 + threadIdx.x) / 32 * G;
    u64 src[G], dst[G];
    u32 n[G];
#pragma unroll
    for (u32 g = 0; g < G; ++g) {
        const u32 row = (first + g) / d.s.tiles, at = (first + g - row * d.s.tiles) * U * 512;
        src[g] = dst[g] = n[g] = 0;
        if (row >= d.s.rows) continue;
        const Copy c = d.get(row);
        if (at >= c.bytes) continue;
        n[g] = min(U * 512, c.bytes - at);
        src[g] = c.src + at;
        dst[g] = c.dst + at;
    }
#pragma unroll
    for (u32 g = 0; g < G; ++g) {
        const u64 bits = src[g] | dst[g] | n[g];
        if ((bits & 15) == 0) continue;
        if ((bits & 3) == 0)
            for (u32 i = lane * 4; i < n[g]; i += 128) *(u32*)(dst[g] + i) = *(const u32*)(src[g] + i);
        else
            for (u32 i = lane; i < n[g]; i += 32) ((u8*)dst[g])[i] = ((const u8*)src[g])[i];
        n[g] = 0;
    }
    uint4 v[G][U];
#pragma unroll
    for (u32 g = 0; g < G; ++g)
#pragma unroll
        for (u32 u = 0; u < U; ++u)
            if ((u * 32 + lane) * 16 < n[g]) v[g][u] = __ldcs((const uint4*)src[g] + u * 32 + lane);
#pragma unroll
    for (u32 g = 0; g < G; ++g)
#pragma unroll
        for (u32 u = 0; u < U; ++u)
            if ((u * 32 + lane) * 16 < n[g]) __stcs((uint4*)dst[g] + u * 32 + lane, v[g][u]);
}

#define ENTRY(NAME, TYPE, KIND, U, G) \
    extern "C" __global__ void __launch_bounds__(256) NAME##_##KIND(const __grid_constant__ TYPE d) { rows<U, G>(d); }
#define ENTRIES(NAME, TYPE) \
    ENTRY(NAME, TYPE, 1, 1, 1) ENTRY(NAME, TYPE, 2, 2, 1) ENTRY(NAME, TYPE, 4, 4, 1) ENTRY(NAME, TYPE, 8, 8, 1) \
    ENTRY(NAME, TYPE, many, 1, 4)
ENTRIES(rows_60, Rows<60>)
ENTRIES(rows_256, Rows<256>)
ENTRIES(rows_1024, Rows<1024>)
ENTRIES(rows_2040, Rows<2040>)
ENTRIES(indices_256, Indices<256>)
ENTRIES(indices_1024, Indices<1024>)
ENTRIES(indices_8000, Indices<8000>)
ENTRIES(rows_table, RowTable)
ENTRIES(indices_table, IndexTable)

extern "C" __global__ void spin(long long cycles) {
    const long long from = clock64();
    while (clock64() - from < cycles) {}
}

// Blocks of a cache from one layout to another, in the shapes of engines' kernels: strides in bytes, block numbers in memory.
struct Cache { u64 base, block, layer, kv, head, token; };
struct Move { Cache src, dst; u32 layers, kvs, heads, tokens; u64 row; const u32 *from, *to; u64 pairs; };

// An element of two bytes a thread, found by divisions of 64 bits.
extern "C" __global__ void __launch_bounds__(256) blocks_by_element(const __grid_constant__ Move m) {
    const u64 row = m.row / 2, all = m.pairs * m.layers * m.kvs * m.heads * m.tokens * row;
    for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < all; i += (u64)gridDim.x * blockDim.x) {
        u64 x = i;
        const u64 e = x % row; x /= row;
        const u64 t = x % m.tokens; x /= m.tokens;
        const u64 k = x % m.kvs; x /= m.kvs;
        const u64 l = x % m.layers; x /= m.layers;
        const u64 h = x % m.heads, p = x / m.heads;
        const Cache &s = m.src, &d = m.dst;
        *(unsigned short*)(d.base + m.to[p] * d.block + l * d.layer + k * d.kv + h * d.head + t * d.token + 2 * e) =
            *(const unsigned short*)(s.base + m.from[p] * s.block + l * s.layer + k * s.kv + h * s.head + t * s.token + 2 * e);
    }
}
// A warp a token of a block, which loops over the layers, 8 bytes a lane.
extern "C" __global__ void __launch_bounds__(1024) blocks_by_warp(const __grid_constant__ Move m) {
    const u32 lane = threadIdx.x & 31;
    const u64 warps = gridDim.x * 32ull, items = m.pairs * m.tokens;
    for (u64 item = blockIdx.x * 32ull + (threadIdx.x >> 5); item < items; item += warps) {
        const u64 p = item / m.tokens, t = item % m.tokens;
        const u64 a = m.src.base + m.from[p] * m.src.block + t * m.src.token, b = m.dst.base + m.to[p] * m.dst.block + t * m.dst.token;
        for (u32 l = 0; l < m.layers; ++l)
            for (u32 k = 0; k < m.kvs; ++k)
                for (u32 h = 0; h < m.heads; ++h) {
                    const u64* x = (const u64*)(a + l * m.src.layer + k * m.src.kv + h * m.src.head);
                    u64* y = (u64*)(b + l * m.dst.layer + k * m.dst.kv + h * m.dst.head);
#pragma unroll 4
                    for (u32 i = lane; i < m.row / 8; i += 32) y[i] = x[i];
                }
    }
}

// A block reads 32 KiB, as a step of decoding reads weights.
extern "C" __global__ void __launch_bounds__(256) read(const uint4* p, u32* out) {
    const uint4* q = p + (u64)blockIdx.x * 2048 + threadIdx.x;
    uint4 v[8];
    u32 all = 0;
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = __ldcs(q + k * 256);
#pragma unroll
    for (int k = 0; k < 8; ++k) all ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
    if (all == 0x12345678u) *out = all;
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
