// Copies between two layouts, block by block: behind copy.cu in one module, whose types and accesses
// it uses.
//
// A copy is runs of one length in nested loops. It is made for pairs of blocks, and for parts: pairs
// of memory that the same blocks are numbers in, such as the layers of a cache. The bytes of a block
// are cut into units, in the order of the loops: as many bytes as divide all lengths, distances and
// addresses, up to 16. A block of 128 threads (a tile) copies neighbouring units of one block, so the
// length of a run does not matter: neighbouring threads have neighbouring bytes as far as the runs
// go.
//
// Where a run is one element, and the elements of source and destination are adjacent along
// different loops, a tile is a rectangle of these two, which goes through shared memory.
//
// ../copy/strided/ chooses the order of the loops and the kernel.

struct Loop {
    u64 src;    // bytes from one to the next
    u64 dst;
    u32 times;
    u32 magic;  // divides by `times`; for the two loops of a rectangle, by its tiles along the loop
    u32 shift;
    u32 pad;
};

// The parameters begin with it. Behind it come the loops, the innermost first, and the words: for
// each part the addresses of block 0, source and destination, and then for each pair the numbers of
// its blocks: source and destination in one word, or in two.
struct StridedHead {
    u64 src_pitch;  // bytes from block to block
    u64 dst_pitch;
    u32 units;  // of a block; for rectangles, tiles along the second loop
    u32 tiles;  // of a block
    u32 tiles_magic;
    u32 tiles_shift;
    u32 run;  // units of a run; for rectangles, tiles along the first loop
    u32 run_magic;
    u32 run_shift;
    u32 how;    // WIDE_NUMBERS, KEEP
    u32 parts;
    u32 part_tiles;  // of all pairs
    u32 part_magic;
    u32 part_shift;
};
#define WIDE_NUMBERS 1u  // a pair has two words
#define KEEP 2u          // runs end inside of sectors, whose other parts are accessed soon: caches keep
                         // them (rows of 656 bytes: 63 % of the limit instead of 55, H200)

OFFSET(Loop, src, 0);
OFFSET(Loop, dst, 8);
OFFSET(Loop, times, 16);
OFFSET(Loop, magic, 20);
OFFSET(Loop, shift, 24);
SIZE(Loop, 32);
OFFSET(StridedHead, src_pitch, 0);
OFFSET(StridedHead, dst_pitch, 8);
OFFSET(StridedHead, units, 16);
OFFSET(StridedHead, tiles, 20);
OFFSET(StridedHead, tiles_magic, 24);
OFFSET(StridedHead, tiles_shift, 28);
OFFSET(StridedHead, run, 32);
OFFSET(StridedHead, run_magic, 36);
OFFSET(StridedHead, run_shift, 40);
OFFSET(StridedHead, how, 44);
OFFSET(StridedHead, parts, 48);
OFFSET(StridedHead, part_tiles, 52);
OFFSET(StridedHead, part_magic, 56);
OFFSET(StridedHead, part_shift, 60);
SIZE(StridedHead, 64);

template <u32 LOOPS, u32 ROOM> struct Strided {
    static const u32 DEPTH = LOOPS;
    StridedHead head;
    Loop loops[LOOPS];
    u32 words[(ROOM - sizeof(StridedHead) - LOOPS * sizeof(Loop)) / 4];
};

// Numbers below 2^31.
__device__ __forceinline__ u32 divide(u32 n, u32 magic, u32 shift) { return __umulhi(n << 1, magic) >> shift; }

template <class T> __device__ __forceinline__ T load(u64 from, bool keep);
template <> __device__ __forceinline__ uint4 load<uint4>(u64 from, bool keep) {
    return keep ? load16(from) : load16_once(from);
}
template <> __device__ __forceinline__ u32 load<u32>(u64 from, bool) { return load4(from); }
template <> __device__ __forceinline__ u16 load<u16>(u64 from, bool) { return (u16)load2(from); }
template <> __device__ __forceinline__ u8 load<u8>(u64 from, bool) { return (u8)load1(from); }
template <> __device__ __forceinline__ u64 load<u64>(u64 from, bool) {
    u64 v;
    asm volatile("ld.global.u64 %0,[%1];" : "=l"(v) : "l"(from));
    return v;
}
template <class T> __device__ __forceinline__ void store(u64 to, T v, bool keep);
template <> __device__ __forceinline__ void store<uint4>(u64 to, uint4 v, bool keep) {
    if (keep)
        asm volatile("st.global.v4.u32 [%0],{%1,%2,%3,%4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
    else store16(to, v);
}
template <> __device__ __forceinline__ void store<u64>(u64 to, u64 v, bool) {
    asm volatile("st.global.u64 [%0],%1;" ::"l"(to), "l"(v) : "memory");
}
template <> __device__ __forceinline__ void store<u32>(u64 to, u32 v, bool) { store4(to, v); }
template <> __device__ __forceinline__ void store<u16>(u64 to, u16 v, bool) { store2(to, v); }
template <> __device__ __forceinline__ void store<u8>(u64 to, u8 v, bool) { store1(to, v); }

// The source and the destination of the block that this tile is of, and the number of the tile in it.
template <class P> __device__ __forceinline__ u32 block_of_tile(const P& p, u64& src, u64& dst) {
    const StridedHead& h = p.head;
    const u32 part = divide(blockIdx.x, h.part_magic, h.part_shift), in_part = blockIdx.x - part * h.part_tiles;
    const u32 pair = divide(in_part, h.tiles_magic, h.tiles_shift);
    const u32 *base = p.words + 4 * part, *pairs = p.words + 4 * h.parts;
    u32 from, to;
    if (h.how & WIDE_NUMBERS) {
        from = pairs[2 * pair];
        to = pairs[2 * pair + 1];
    } else {
        from = pairs[pair] & 0xffff;
        to = pairs[pair] >> 16;
    }
    src = (base[0] | (u64)base[1] << 32) + from * h.src_pitch;
    dst = (base[2] | (u64)base[3] << 32) + to * h.dst_pitch;
    return in_part - pair * h.tiles;
}

// Adds where unit `u` of a block is.
template <u32 UNIT, class P> __device__ __forceinline__ void add_unit(const P& p, u32 u, u64& src, u64& dst) {
    u32 rest = divide(u, p.head.run_magic, p.head.run_shift);
    const u64 in_run = (u64)(u - rest * p.head.run) * UNIT;
    src += in_run;
    dst += in_run;
#pragma unroll
    for (u32 i = 0; i < P::DEPTH; ++i) {
        const Loop& loop = p.loops[i];
        if (i + 1 == P::DEPTH) {
            src += rest * loop.src;
            dst += rest * loop.dst;
        } else {
            const u32 outer = divide(rest, loop.magic, loop.shift), at = rest - outer * loop.times;
            src += at * loop.src;
            dst += at * loop.dst;
            rest = outer;
        }
    }
}

// The kernels `strided_*`: U units of type T a thread.
template <class T, u32 U, class P> __device__ __forceinline__ void strided_tile(const P& p) {
    u64 block_src, block_dst, src[U], dst[U];
    const u32 first = block_of_tile(p, block_src, block_dst) * (THREADS * U) + threadIdx.x, units = p.head.units;
#pragma unroll
    for (u32 i = 0; i < U; ++i) {
        src[i] = block_src;
        dst[i] = block_dst;
        add_unit<sizeof(T)>(p, first + i * THREADS, src[i], dst[i]);
    }
    wait_for_earlier_work();
    T v[U];
    const bool keep = p.head.how & KEEP;
#pragma unroll
    for (u32 i = 0; i < U; ++i)
        if (first + i * THREADS < units) v[i] = load<T>(src[i], keep);
#pragma unroll
    for (u32 i = 0; i < U; ++i)
        if (first + i * THREADS < units) store<T>(dst[i], v[i], keep);
}

// The kernels `turned_*`: a tile is a rectangle of the first two loops. Along the first one the
// destinations are adjacent, along the second one the sources. V elements are a word W. A thread
// loads V words that lie above each other, turns them, and puts them into shared memory: word `i` of
// row `r` at place `i + r / V`, so that a warp reaches all banks both ways.
template <class T, class W, class P> __device__ __forceinline__ void turned_tile(const P& p) {
    constexpr u32 V = sizeof(W) / sizeof(T), SIDE = 32 * V, WARPS = THREADS / 32;
    union Word {
        W word;
        T of[V];
    };
    __shared__ W tile[SIDE][32];
    const StridedHead& h = p.head;
    u64 src, dst;
    const u32 at = block_of_tile(p, src, dst);
    u32 rest = divide(at, p.loops[0].magic, p.loops[0].shift);
    const u32 a = (at - rest * h.run) * SIDE;
    u32 outer = divide(rest, p.loops[1].magic, p.loops[1].shift);
    const u32 b = (rest - outer * h.units) * SIDE;
#pragma unroll
    for (u32 i = 2; i < P::DEPTH; ++i) {
        const Loop& loop = p.loops[i];
        rest = divide(outer, loop.magic, loop.shift);
        src += (outer - rest * loop.times) * loop.src;
        dst += (outer - rest * loop.times) * loop.dst;
        outer = rest;
    }
    const u32 as = p.loops[0].times, bs = p.loops[1].times, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    wait_for_earlier_work();
    Word v[32 / WARPS][V];
#pragma unroll
    for (u32 i = 0; i < 32 / WARPS; ++i)
#pragma unroll
        for (u32 k = 0; k < V; ++k) {
            const u32 to_a = a + (i * WARPS + warp) * V + k, to_b = b + lane * V;
            if (to_a < as && to_b < bs) v[i][k].word = load<W>(src + to_a * p.loops[0].src + (u64)to_b * sizeof(T), false);
        }
#pragma unroll
    for (u32 i = 0; i < 32 / WARPS; ++i)
#pragma unroll
        for (u32 j = 0; j < V; ++j) {
            Word turned;
#pragma unroll
            for (u32 k = 0; k < V; ++k) turned.of[k] = v[i][k].of[j];
            tile[lane * V + j][(i * WARPS + warp + lane) % 32] = turned.word;
        }
    __syncthreads();
#pragma unroll 8
    for (u32 i = warp; i < SIDE; i += WARPS) {
        const u32 to_a = a + lane * V, to_b = b + i;
        if (to_a < as && to_b < bs)
            store<W>(dst + to_b * p.loops[1].dst + (u64)to_a * sizeof(T), tile[i][(lane + i / V) % 32], false);
    }
}

#define STRIDED(UNIT, T, U, LOOPS, ROOM)                                                      \
    extern "C" __global__ void __launch_bounds__(128)                                         \
        strided_##UNIT##_##LOOPS##_##ROOM(const __grid_constant__ Strided<LOOPS, ROOM> p) {   \
        strided_tile<T, U>(p);                                                                \
    }
#define TURNED(UNIT, T, W, V, ROOM)                                                           \
    extern "C" __global__ void __launch_bounds__(128)                                         \
        turned_##UNIT##_##V##_##ROOM(const __grid_constant__ Strided<7, ROOM> p) {            \
        turned_tile<T, W>(p);                                                                 \
    }
// ../copy/strided/kernels.rs lists the same kernels.
#define SIZES(MACRO, ...) MACRO(__VA_ARGS__, 512) MACRO(__VA_ARGS__, 2560) MACRO(__VA_ARGS__, 20992)
SIZES(STRIDED, 16, uint4, 2, 1)
SIZES(STRIDED, 16, uint4, 2, 2)
SIZES(STRIDED, 16, uint4, 2, 3)
#define BOTH(MACRO, ...) MACRO(__VA_ARGS__, 512) MACRO(__VA_ARGS__, 20992)
BOTH(STRIDED, 16, uint4, 2, 7)
BOTH(STRIDED, 8, u64, 4, 7)
BOTH(STRIDED, 4, u32, 4, 7)
BOTH(STRIDED, 2, u16, 4, 7)
BOTH(STRIDED, 1, u8, 4, 7)
BOTH(TURNED, 8, u64, uint4, 2)
BOTH(TURNED, 8, u64, u64, 1)
BOTH(TURNED, 4, u32, u64, 2)
BOTH(TURNED, 4, u32, u32, 1)
BOTH(TURNED, 2, u16, u32, 2)
BOTH(TURNED, 2, u16, u16, 1)
BOTH(TURNED, 1, u8, u32, 4)
BOTH(TURNED, 1, u8, u8, 1)
