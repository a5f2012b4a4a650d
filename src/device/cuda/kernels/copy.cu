// Copies on the multiprocessors: one launch carries out many copies between memory that the device can address.
//
// The bytes of all copies are cut into chunks: a chunk is what lies in one aligned group of 16 bytes of a destination.
// The chunks of a launch are numbered through, copy after copy, and a block of 128 threads moves 128 * U neighbouring
// ones, so that blocks have equal work whatever the lengths are. Each thread looks up the copy of each of its chunks,
// has up to U loads of 16 bytes in flight, and then stores. With U = 2 a block has 4 KiB: 256 MiB take 3 % longer in blocks
// of 8 KiB, and 20 % longer in blocks of 2 KiB, or in blocks that stay and go on to other tiles (H200). Where source and
// destination are aligned differently, two aligned groups of the source are shifted together; what a group has outside the
// copy is never read and never written.
//
// A launch has a few segments. How the copies of a segment are described is its form; the words that describe them are in
// the launch parameters or in a table in memory, and the segments themselves in the parameters, in front of the words. A launch
// with a single segment has kernels of its own, which look at nothing else first: an idle device is done 0.1 to 0.5 us sooner
// (H200).
//
// A table in page-locked host memory is fetched by the first blocks into device memory, while the others are already at work.
// Each fetched word carries the number of the launch, so that whoever finds an older number knows that the word has not come yet;
// after some looks the host's own is read, so that nothing depends on the order in which blocks run.
//
// The end of the work before a launch is not seen while something is being fetched: 1.6 us (H200). So the first words of a
// table are in the parameters too, where that is worth it, and are enough to begin with; the fetching begins after the wait.
//
// On sm_90 a launch may begin before the work before it has ended: it looks up what to copy, and then waits.
//
// The host's side of this is ../copy/, which has the same layouts and numbers. Built by build.sh, for sm_80 and sm_90.
// Nothing is included: it compiles with nvcc and with NVRTC.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
typedef unsigned char u8;

// Rows of one length: word `i` says which source row goes to destination row `i`. From `old` on it is a row of the second
// source; if there is none, the destination row is left as it is. 32 or 16 bits each.
#define FORM_ROWS 0u
#define FORM_ROWS_16 1u
// Copies of one length, two words each: where source and destination are, in units, from the bases.
#define FORM_PAIRS 2u
// Copies of any length. Word `i` is the first chunk of copy `i` times 16, plus how many bytes of the group that its last
// chunk is in lie behind it; then all sources, and then all destinations, in units from the bases.
#define FORM_RAGGED 3u
// The same with addresses of 64 bits in the place of the units.
#define FORM_WIDE 4u
// Copies of bytes that are among the words themselves, where these are in the parameters; a block each. Four words each: the
// destination's address, behind how many words of the segment its bytes begin, and how many bytes they are; then the bytes.
#define FORM_OWN 5u
// Copies of any length, but each inside a block's chunks; a block each, which need not look for it. Five words each: the
// source's address, the destination's, and the bytes.
#define FORM_EACH 6u

// A segment is plain if lengths are equal and everything is a multiple of 16: most of the time, and so it has kernels of
// its own with as few instructions as it takes.
#define THREADS 128u
#define SEGMENTS 16u
#define SEGMENT_WORDS 24u
#define NEAR 4u            // segments behind the first one whose first blocks are in the head
#define PIECE_WORDS 512u   // of a table, fetched by a block at once
#define PATIENCE 32u       // looks at a word before the host's table is read

struct Segment {
    u64 src;          // source base
    u64 dst;          // destination base
    u64 src_pitch;    // FORM_ROWS: bytes from row to row, of both sources; else bytes of a unit
    u64 dst_pitch;    // likewise
    u64 bytes;        // of each copy, in the forms with one length
    u32 form;
    u32 first_block;  // behind the blocks that fetch
    u32 chunks;       // of all copies together, below 2^31; below 2^28 where lengths differ
    u32 row_chunks;   // of each copy, in the forms with one length
    u32 magic;        // division of a number below 2^31 by row_chunks: times magic, right by 31 + shift
    u32 shift;
    u32 words;        // where its words start
    u32 old;          // rows of the first source
    u64 second;       // base of the second source, 0 if there is none
    u32 copies;
    u32 owners;       // where lengths differ, in a table: from here on the first copy of each block, and the last copy
    u32 staged;       // copies that a block has room for in shared memory, where lengths differ
    u32 unit;         // 4 or 1 where chunks are words or bytes of a copy and not groups of 16, in the forms with one length; else 0
};

struct Head {
    u32 segments;
    u32 fetchers;  // blocks that fetch
    u32 early;     // whether the words of a table may be read before the work before this launch has ended
    u32 epoch;     // the number of the launch, never 0
    u64 table;     // where the words are, if they are not in the parameters
    u64 fetched;   // device memory they are fetched into, twice as large; 0: they are read where they are
    u32 pieces;
    u32 along;     // words behind the segments; with a table, the first ones of it
    u32 starts[NEAR];  // the first blocks of the second segment and of the next ones, which a block then finds sooner
};

// Everything enqueued before this launch has ended, and its writes are seen from here on. Nothing after it may be started
// before: a launch that follows in the same way then overlaps with this one only, and with nothing before it.
__device__ __forceinline__ void wait_for_earlier_work() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ u32 load4(u64 from) {
    u32 v;
    asm volatile("ld.global.u32 %0,[%1];" : "=r"(v) : "l"(from));
    return v;
}

// Reads words of the table, all together, so that a thread waits once. If they are fetched `LATE`, none can come before the
// work before this launch has ended.
template <bool LATE, u32 N> __device__ __forceinline__ void read_table(const Head& h, const u32 (&at)[N], u32 (&words)[N]) {
    if (h.fetched == 0) {
        // Through the cache of the multiprocessor: nothing here has read them before the wait, and with long rows nearly
        // everybody reads the same word (256 rows of 1 MiB: 145 us without it, 129 with it, H200).
#pragma unroll
        for (u32 n = 0; n < N; ++n) words[n] = load4(h.table + 4ull * at[n]);
        return;
    }
    // Through the cache of the multiprocessor, which may find an older word, but not a wrong one.
    u64 v[N];
    bool there = true;
#pragma unroll
    for (u32 n = 0; n < N; ++n) asm volatile("ld.global.u64 %0,[%1];" : "=l"(v[n]) : "l"(h.fetched + 8ull * at[n]));
#pragma unroll
    for (u32 n = 0; n < N; ++n) {
        words[n] = (u32)v[n];
        there = there && (u32)(v[n] >> 32) == h.epoch;
    }
    if (LATE && !there) wait_for_earlier_work();
    for (u32 looks = 0; !there && looks < PATIENCE; ++looks) {
        // Everybody looks at the same few words: not so often that those who write them are held up.
        __nanosleep(100);
        there = true;
#pragma unroll
        for (u32 n = 0; n < N; ++n)
            asm volatile("ld.relaxed.gpu.global.u64 %0,[%1];" : "=l"(v[n]) : "l"(h.fetched + 8ull * at[n]) : "memory");
#pragma unroll
        for (u32 n = 0; n < N; ++n) {
            words[n] = (u32)v[n];
            there = there && (u32)(v[n] >> 32) == h.epoch;
        }
    }
    if (!there)
#pragma unroll
        for (u32 n = 0; n < N; ++n) words[n] = __ldcg((const u32*)h.table + at[n]);
}

// The parameters of a launch, with room for words behind the segments.
template <u32 BYTES> struct Parameters {
    static const bool IN_TABLE = false, LATE = false, SINGLE = false;
    Head h;
    u32 own[(BYTES - sizeof(Head)) / 4];
    __device__ __forceinline__ bool early() const { return true; }
    __device__ __forceinline__ const Segment& segment(u32 i) const { return ((const Segment*)own)[i]; }
    __device__ __forceinline__ const u32* words() const { return own + SEGMENT_WORDS * h.segments; }
    template <u32 N> __device__ __forceinline__ void read(const u32 (&at)[N], u32 (&words)[N]) const {
#pragma unroll
        for (u32 n = 0; n < N; ++n) words[n] = own[SEGMENT_WORDS * h.segments + at[n]];
    }
};
// The same of a launch with a single segment, for which nothing in the head is looked at.
template <u32 BYTES> struct Single : Parameters<BYTES> {
    static const bool SINGLE = true;
    __device__ __forceinline__ const Segment& segment(u32) const { return Parameters<BYTES>::segment(0); }
    __device__ __forceinline__ const u32* words() const { return this->own + SEGMENT_WORDS; }
    template <u32 N> __device__ __forceinline__ void read(const u32 (&at)[N], u32 (&words)[N]) const {
#pragma unroll
        for (u32 n = 0; n < N; ++n) words[n] = this->own[SEGMENT_WORDS + at[n]];
    }
};
// Those of a launch with a table.
struct Table {
    static const bool IN_TABLE = true, LATE = false, SINGLE = false;
    Head h;
    Segment own[SEGMENTS];
    __device__ __forceinline__ bool early() const { return h.early; }
    __device__ __forceinline__ const Segment& segment(u32 i) const { return own[i]; }
    template <u32 N> __device__ __forceinline__ void read(const u32 (&at)[N], u32 (&words)[N]) const {
        read_table<LATE>(h, at, words);
    }
};
// Those of a launch with a table that is fetched late, and the first words of it.
template <u32 BYTES> struct Mixed : Parameters<BYTES> {
    static const bool IN_TABLE = true, LATE = true;
    __device__ __forceinline__ bool early() const { return this->h.early; }
    template <u32 N> __device__ __forceinline__ void read(const u32 (&at)[N], u32 (&words)[N]) const {
        bool here = true;
#pragma unroll
        for (u32 n = 0; n < N; ++n) here = here && at[n] < this->h.along;
        if (here) Parameters<BYTES>::read(at, words);
        else read_table<LATE>(this->h, at, words);
    }
};

// What one thread copies at once: up to 16 bytes, in one aligned group of the destination.
struct Piece {
    u64 src, dst;
    u32 how;  // the number of bytes, in words of 4 or as 1 or 2; or one of these
};
#define NOTHING 0u
#define WHOLE 17u    // a group from a group
#define SHIFTED 18u  // a group from two groups, both inside the copy
#define BYTES 32u    // and the number of bytes, one by one

__device__ __forceinline__ uint4 load16(u64 from) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0,%1,%2,%3},[%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}
__device__ __forceinline__ void store16(u64 to, uint4 v) {
    asm volatile("st.global.cs.v4.u32 [%0],{%1,%2,%3,%4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// The same for what is read once: it need not stay in the cache of the multiprocessor (1.4 % on an H200).
__device__ __forceinline__ uint4 load16_once(u64 from) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3},[%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}
__device__ __forceinline__ void store4(u64 to, u32 v) { asm volatile("st.global.u32 [%0],%1;" ::"l"(to), "r"(v) : "memory"); }
// One or two bytes, in the low bits. Plain accesses: a volatile one waits for the one before, over PCIe for microseconds.
__device__ __forceinline__ u32 load1(u64 from) {
    u32 v;
    asm volatile("ld.global.u8 %0,[%1];" : "=r"(v) : "l"(from));
    return v;
}
__device__ __forceinline__ u32 load2(u64 from) {
    u32 v;
    asm volatile("{.reg .u16 h; ld.global.u16 h,[%1]; cvt.u32.u16 %0,h;}" : "=r"(v) : "l"(from));
    return v;
}
__device__ __forceinline__ void store1(u64 to, u32 v) { asm volatile("st.global.u8 [%0],%1;" ::"l"(to), "r"(v) : "memory"); }
__device__ __forceinline__ void store2(u64 to, u32 v) {
    asm volatile("{.reg .u16 h; cvt.u16.u32 h,%1; st.global.u16 [%0],h;}" ::"l"(to), "r"(v) : "memory");
}

// Writes two words with the number of the launch.
__device__ __forceinline__ void tag(u64 to, u32 a, u32 b, u32 epoch) {
    const u64 number = (u64)epoch << 32;
    asm volatile("st.relaxed.gpu.global.v2.u64 [%0],{%1,%2};" ::"l"(to), "l"(a | number), "l"(b | number) : "memory");
}

// The 16 bytes from byte `at` on of the 32 bytes `a`, `b`; `at` is 1 to 15.
__device__ __forceinline__ uint4 shifted(uint4 a, uint4 b, u32 at) {
    u32 w0 = a.x, w1 = a.y, w2 = a.z, w3 = a.w, w4 = b.x, w5 = b.y, w6 = b.z;
    if (at & 8) { w0 = w2; w1 = w3; w2 = w4; w3 = w5; w4 = w6; w5 = b.w; }
    if (at & 4) { w0 = w1; w1 = w2; w2 = w3; w3 = w4; w4 = w5; }
    const u32 bits = (at & 3) * 8;
    return make_uint4(__funnelshift_r(w0, w1, bits), __funnelshift_r(w1, w2, bits), __funnelshift_r(w2, w3, bits),
                      __funnelshift_r(w3, w4, bits));
}

// Copies a piece that no words of 4 are told of at both ends: by words where the source has them, all loads before all stores.
__device__ __forceinline__ void copy_bytes(u64 src, u64 dst, u32 bytes) {
    // Words of the source; the piece begins `off` bytes behind the first one, and ends `tail` bytes behind word `last`.
    const u64 from = src & ~3ull;
    const u32 off = (u32)src & 3, last = (off + bytes) >> 2, tail = (off + bytes) & 3;
    u32 w[5], a[3], b[3];
#pragma unroll
    for (u32 k = 0; k < 5; ++k) {
        w[k] = 0;
        if (k < last && (k > 0 || off == 0)) w[k] = load4(from + 4 * k);
    }
#pragma unroll
    for (u32 i = 0; i < 3; ++i) {
        a[i] = b[i] = 0;
        if (off && i + 1 >= off && i + 1 < off + bytes) a[i] = load1(from + i + 1);
        if (i < tail && (last || off == 0)) b[i] = load1(from + 4 * last + i);
    }
    w[0] |= a[0] << 8 | a[1] << 16 | a[2] << 24;
    const u32 end = b[0] | b[1] << 8 | b[2] << 16;
#pragma unroll
    for (u32 k = 0; k < 5; ++k)
        if (k == last) w[k] |= end;
    u32 v[4];
#pragma unroll
    for (u32 k = 0; k < 4; ++k) v[k] = __funnelshift_r(w[k], w[k + 1], off * 8);
    if (bytes == 16) {
        store16(dst, make_uint4(v[0], v[1], v[2], v[3]));
        return;
    }
#pragma unroll
    for (u32 i = 0; i < 15; ++i)
        if (i < bytes) store1(dst + i, v[i / 4] >> i % 4 * 8);
}

// The words that say where copy `i` of a segment with one length is: two, or one and the same.
__device__ __forceinline__ void ends_at(const Segment& h, u32 i, u32& a, u32& b) {
    a = b = h.words + (h.form == FORM_ROWS ? i : h.form == FORM_ROWS_16 ? i >> 1 : 2 * i);
    if (h.form == FORM_PAIRS) b = a + 1;
}

// What they say. A source of 0 means that there is nothing to copy.
__device__ __forceinline__ void ends(const Segment& h, u32 i, u32 a, u32 b, u64& src, u64& dst) {
    if (h.form == FORM_PAIRS) {
        src = h.src + a * h.src_pitch;
        dst = h.dst + b * h.dst_pitch;
        return;
    }
    u32 row = a;
    if (h.form == FORM_ROWS_16) row = a >> (i & 1) * 16 & 0xffff;
    dst = h.dst + i * h.dst_pitch;
    src = row < h.old ? h.src + row * h.src_pitch : h.second ? h.second + (row - h.old) * h.src_pitch : 0;
}

// The word of the first chunk of copy `i` in the parameters, where lengths differ; behind the last copy one above all. Each
// thread asks for another one, which memory answers at once and the cache of constants one after the other.
template <class P> __device__ __forceinline__ u32 start_apart(const P& p, const Segment& h, u32 i) {
    if (i >= h.copies) return 0xffffffffu;
    u32 word;
    asm volatile("ld.u32 %0,[%1];" : "=r"(word) : "l"(p.words() + h.words + i));
    return word;
}

// The largest power of two below `n`, where to start a search among `n`; 0 if there is nothing to search.
__device__ __forceinline__ u32 half(u32 n) { return n < 2 ? 0 : 0x80000000u >> __clz(n - 1); }

// The copies of a block, in shared memory: chunk `at` comes from `srcs[i] + 16 * at` and goes to `dsts[i] + 16 * at`, where
// the low bits of `dsts[i]` say how many bytes of the group that its first chunk is in lie before copy `i`.
struct Staged {
    u32 count;
    u64 *srcs, *dsts;
    u32* starts;
};

// `end` is behind the block's last chunk.
template <class P>
__device__ __forceinline__ Staged stage(const P& p, const Segment& h, u32 block, u32 chunk, u32 end) {
    extern __shared__ u64 shared[];
    Staged s = {0, shared, shared + h.staged, (u32*)(shared + 2 * h.staged)};
    u32 first = 0, last = 0;
    if constexpr (P::IN_TABLE) {
        const u32 at[2] = {h.owners + block, h.owners + block + 1};
        u32 word[2];
        p.read(at, word);
        first = word[0];
        last = word[1];
    } else {
        // The last copy that starts at or before the block's first chunk, and at or before its last one: each thread looks
        // at one of `THREADS` copies that are equally far apart, and then at one of those between two of them.
        u32 step = (h.copies + THREADS - 1) / THREADS;
        for (;;) {
            const u32 a = start_apart(p, h, first + threadIdx.x * step) >> 4;
            const u32 b = start_apart(p, h, last + threadIdx.x * step) >> 4;
            first += (__syncthreads_count(a <= chunk) - 1) * step;
            last += (__syncthreads_count(b < end) - 1) * step;
            if (step == 1) break;
            step = (step + THREADS - 1) / THREADS;
        }
    }
    s.count = last - first + 1;
    for (u32 i = threadIdx.x; i <= s.count; i += THREADS) {
        // The copy behind the last one is read for where it starts.
        const u32 copy = min(first + i, h.copies - 1), n = h.copies, from = h.words + copy;
        u32 word[5];
        u64 src, dst;
        if (h.form == FORM_RAGGED) {
            const u32 at[3] = {from, from + n, from + 2 * n};
            u32 read[3];
            p.read(at, read);
            word[0] = read[0];
            src = h.src + read[1] * h.src_pitch;
            dst = h.dst + read[2] * h.dst_pitch;
        } else {
            const u32 to = from + copy;
            const u32 at[5] = {from, to + n, to + n + 1, to + 3 * n, to + 3 * n + 1};
            p.read(at, word);
            src = word[1] | (u64)word[2] << 32;
            dst = word[3] | (u64)word[4] << 32;
        }
        s.starts[i] = first + i < n ? word[0] : h.chunks * 16;
        if (i < s.count) {
            s.srcs[i] = src - (dst & 15) - (word[0] >> 4) * 16ull;
            s.dsts[i] = dst - (word[0] >> 4) * 16ull;
        }
    }
    __syncthreads();
    return s;
}

// What chunk `chunk` of a copy has to copy.
__device__ __forceinline__ Piece cut(u64 src, u64 dst, u64 bytes, u32 chunk) {
    // The chunk's place in the copy: the first one may start before it, the last one end behind it.
    const u64 before = dst & 15, low = (u64)chunk * 16 < before ? 0 : (u64)chunk * 16 - before;
    u64 high = (u64)chunk * 16 + 16 - before;
    if (high > bytes) high = bytes;
    Piece c;
    c.src = src + low;
    c.dst = dst + low;
    const u32 n = low < high ? (u32)(high - low) : 0, off = (u32)c.src & 15, odd = (off | (u32)c.dst | n) & 15;
    if (n == 0) c.how = NOTHING;
    else if (odd == 0) c.how = WHOLE;
    else if (n == 16 && low >= off && high + 16 - off <= bytes) c.how = SHIFTED;
    else if ((odd & 3) == 0 || n == 1 || (n == 2 && (odd & 1) == 0)) c.how = n;
    else c.how = BYTES + n;
    return c;
}

// Which copy chunk `at` is of, where lengths are equal, and which chunk of it.
__device__ __forceinline__ u32 copy_of(const Segment& h, u32 at, u32& chunk) {
    const u32 i = (u32)((u64)at * h.magic >> 31 >> h.shift);
    chunk = at - i * h.row_chunks;
    return i;
}

template <class P>
__device__ __forceinline__ Piece find(const P& p, const Segment& h, const Staged& s, u32 at) {
    if (h.form <= FORM_PAIRS) {
        u64 src, dst;
        u32 chunk;
        const u32 copy = copy_of(h, at, chunk);
        u32 where[2], word[2];
        ends_at(h, copy, where[0], where[1]);
        p.read(where, word);
        ends(h, copy, word[0], word[1], src, dst);
        if (h.unit) {
            Piece c;
            c.src = src + chunk * h.unit;
            c.dst = dst + chunk * h.unit;
            c.how = src == 0 ? NOTHING : h.unit;
            return c;
        }
        return cut(src, dst, src == 0 ? 0 : h.bytes, chunk);
    }
    u32 i = 0;
    for (u32 step = half(s.count); step; step >>= 1)
        if (i + step < s.count && s.starts[i + step] >> 4 <= at) i += step;
    const u32 word = s.starts[i], from = word >> 4, to = s.starts[i + 1] >> 4;
    const u64 src = s.srcs[i], dst = s.dsts[i], before = dst & 15;
    // Two chunks away from both ends everything around the chunk belongs to the copy.
    if (at >= from + 2 && at + 2 < to) {
        Piece c;
        c.src = src + at * 16ull;
        c.dst = dst - before + at * 16ull;
        c.how = (u32)c.src & 15 ? SHIFTED : WHOLE;
        return c;
    }
    const u64 bytes = (u64)(to - from) * 16 - before - (word & 15);
    return cut(src + before + from * 16ull, dst + from * 16ull, bytes, at - from);
}

// Brings the table to device memory, in order, and each word with the number of the launch.
__device__ __forceinline__ void fetch(const Head& h) {
    for (u32 piece = blockIdx.x; piece < h.pieces; piece += h.fetchers) {
        const u64 word = (u64)piece * PIECE_WORDS + threadIdx.x * 4, to = h.fetched + 8 * word;
        const uint4 v = load16(h.table + 4 * word);
        tag(to, v.x, v.y, h.epoch);
        tag(to + 16, v.z, v.w, h.epoch);
    }
}

// All loads before all stores.
template <u32 U> __device__ __forceinline__ void move(const Piece (&c)[U]) {
    uint4 v[U];
#pragma unroll
    for (u32 u = 0; u < U; ++u) {
        const u32 how = c[u].how;
        if (how == WHOLE) {
            v[u] = load16_once(c[u].src);
        } else if (how == SHIFTED) {
            v[u] = load16(c[u].src & ~15ull);
        } else if (how < WHOLE && how >= 4) {
            v[u].x = load4(c[u].src);
            if (how > 4) v[u].y = load4(c[u].src + 4);
            if (how > 8) v[u].z = load4(c[u].src + 8);
            if (how > 12) v[u].w = load4(c[u].src + 12);
        } else if (how == 2) {
            v[u].x = load2(c[u].src);
        } else if (how == 1) {
            v[u].x = load1(c[u].src);
        }
    }
#pragma unroll
    for (u32 u = 0; u < U; ++u) {
        const u32 how = c[u].how;
        if (how == WHOLE) {
            store16(c[u].dst, v[u]);
        } else if (how == SHIFTED) {
            // The second group is in the cache: the next thread has just loaded it.
            store16(c[u].dst, shifted(v[u], load16((c[u].src & ~15ull) + 16), (u32)c[u].src & 15));
        } else if (how >= BYTES) {
            copy_bytes(c[u].src, c[u].dst, how - BYTES);
        } else if (how >= 4) {
            store4(c[u].dst, v[u].x);
            if (how > 4) store4(c[u].dst + 4, v[u].y);
            if (how > 8) store4(c[u].dst + 8, v[u].z);
            if (how > 12) store4(c[u].dst + 12, v[u].w);
        } else if (how == 2) {
            store2(c[u].dst, v[u].x);
        } else if (how == 1) {
            store1(c[u].dst, v[u].x);
        }
    }
}

// Which segment this block works for; NONE if it fetches. A number and not a pointer: then the compiler knows that segments
// are in the parameters, and reads them as constants and not from memory.
#define NONE 0xffffffffu
template <class P> __device__ __forceinline__ u32 segment_of_block(const P& p) {
    if (P::SINGLE) return 0;
    if (blockIdx.x < p.h.fetchers) {
        if (P::LATE) wait_for_earlier_work();
        fetch(p.h);
        if (!P::LATE) wait_for_earlier_work();
        return NONE;
    }
    u32 of = 0;
#pragma unroll
    for (u32 i = 0; i < NEAR; ++i)
        if (blockIdx.x >= p.h.starts[i]) of = i + 1;
    for (u32 i = NEAR + 1; i < p.h.segments; ++i)
        if (blockIdx.x >= p.segment(i).first_block) of = i;
    if (!p.early()) wait_for_earlier_work();
    return of;
}

// All copies have one length, and chunks are either 16 bytes everywhere, or words or bytes.
template <u32 U, bool WHOLE_CHUNKS, class P> __device__ __forceinline__ void equal_tile(const P& p) {
    const u32 of = segment_of_block(p);
    if (of == NONE) return;
    const Segment& h = p.segment(of);
    const u32 unit = WHOLE_CHUNKS ? 16 : h.unit;
    const u32 first = (blockIdx.x - h.first_block) * (THREADS * U) + threadIdx.x;
    u32 where[2 * U], word[2 * U];
#pragma unroll
    for (u32 u = 0; u < U; ++u) {
        u32 chunk;
        ends_at(h, copy_of(h, min(first + u * THREADS, h.chunks - 1), chunk), where[u], where[U + u]);
    }
    if (h.form == FORM_PAIRS) {
        p.read(where, word);
    } else {
        // One word each says it all.
        u32 row_at[U], row[U];
#pragma unroll
        for (u32 u = 0; u < U; ++u) row_at[u] = where[u];
        p.read(row_at, row);
#pragma unroll
        for (u32 u = 0; u < U; ++u) word[u] = row[u];
    }
    u64 src[U], dst[U];
#pragma unroll
    for (u32 u = 0; u < U; ++u) {
        const u32 at = first + u * THREADS;
        u32 chunk;
        const u32 copy = copy_of(h, at, chunk);
        ends(h, copy, word[u], word[U + u], src[u], dst[u]);
        src[u] = at < h.chunks && src[u] ? src[u] + (u64)chunk * unit : 0;
        dst[u] += (u64)chunk * unit;
    }
    if (p.early()) wait_for_earlier_work();
    uint4 v[U];
#pragma unroll
    for (u32 u = 0; u < U; ++u) {
        if (src[u] == 0) continue;
        if (WHOLE_CHUNKS) v[u] = load16_once(src[u]);
        else v[u].x = unit == 4 ? load4(src[u]) : load1(src[u]);
    }
#pragma unroll
    for (u32 u = 0; u < U; ++u) {
        if (src[u] == 0) continue;
        if (WHOLE_CHUNKS) store16(dst[u], v[u]);
        else if (unit == 4) store4(dst[u], v[u].x);
        else store1(dst[u], v[u].x);
    }
}
template <u32 U, class P> __device__ __forceinline__ void plain_tile(const P& p) { equal_tile<U, true>(p); }
template <u32 U, class P> __device__ __forceinline__ void unit_tile(const P& p) { equal_tile<U, false>(p); }

// Copy `i` of bytes that are in the parameters, by words where that can be. They are read as constants: so few are there no
// sooner from memory (H200).
template <class P> __device__ __forceinline__ void own_copy(const P& p, const Segment& h, u32 i) {
    const u32* words = p.words() + h.words + 4 * i;
    const u64 dst = words[0] | (u64)words[1] << 32;
    const u32 from = words[2], bytes = words[3], width = (dst | bytes) & 3 ? 1 : 4;
    if (p.early()) wait_for_earlier_work();
    for (u32 at = threadIdx.x * width; at < bytes; at += THREADS * width) {
        const u32 word = p.words()[h.words + from + at / 4];
        if (width == 4) store4(dst + at, word);
        else store1(dst + at, word >> at % 4 * 8 & 0xff);
    }
}

template <u32 U, class P> __device__ __forceinline__ void any_tile(const P& p) {
    const u32 of = segment_of_block(p);
    if (of == NONE) return;
    const Segment& h = p.segment(of);
    const u32 block = blockIdx.x - h.first_block, first = block * (THREADS * U);
    if constexpr (!P::IN_TABLE) {
        if (h.form == FORM_OWN) {
            own_copy(p, h, block);
            return;
        }
    }
    const u32 end = min(h.chunks, first + THREADS * U);
    Piece c[U];
    if (h.form == FORM_EACH) {
        const u32 from = h.words + 5 * block, at[5] = {from, from + 1, from + 2, from + 3, from + 4};
        u32 word[5];
        p.read(at, word);
        const u64 src = word[0] | (u64)word[1] << 32, dst = word[2] | (u64)word[3] << 32;
#pragma unroll
        for (u32 u = 0; u < U; ++u) c[u] = cut(src, dst, word[4], u * THREADS + threadIdx.x);
    } else {
        Staged s = {0, 0, 0, 0};
        if (h.form > FORM_PAIRS) s = stage(p, h, block, first, end);
#pragma unroll
        for (u32 u = 0; u < U; ++u) {
            const u32 at = first + u * THREADS + threadIdx.x;
            c[u].how = NOTHING;
            if (at < end) c[u] = find(p, h, s, at);
        }
    }
    if (p.early()) wait_for_earlier_work();
    move(c);
}

#define ENTRY(NAME, PARAMETERS, U, BLOCKS, COPY)                                                                  \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) NAME##_##U(const __grid_constant__ PARAMETERS p) {  \
        COPY<U>(p);                                                                                               \
    }
// What has `plain` in its name is for launches all of whose segments are plain.
#define ENTRIES(NAME, PARAMETERS)                      \
    ENTRY(NAME##_plain, PARAMETERS, 2, 16, plain_tile) \
    ENTRY(NAME, PARAMETERS, 2, 12, any_tile)
// What has `single` in it is for launches with one segment and no table; `unit` if its chunks are words or bytes.
#define SINGLE_ENTRIES(BYTES)                     \
    ENTRIES(copy_##BYTES##_single, Single<BYTES>) \
    ENTRY(copy_##BYTES##_single_unit, Single<BYTES>, 2, 16, unit_tile)
#define PLAIN_SINGLE(BYTES) ENTRY(copy_##BYTES##_single_plain, Single<BYTES>, 2, 16, plain_tile)
#define FEW(BYTES) SINGLE_ENTRIES(BYTES) ENTRIES(copy_##BYTES, Parameters<BYTES>)
#define MANY(BYTES) ENTRIES(copy_##BYTES, Parameters<BYTES>) ENTRY(copy_##BYTES, Parameters<BYTES>, 4, 10, any_tile)

// Each KiB of parameters is 0.2 to 0.5 us of a launch on an idle stream (H200). Head and segment are 152 bytes, so that 256 row
// numbers of 16 bits fit into the second size, and twice as many into each of the next ones.
SINGLE_ENTRIES(320)
FEW(768)
FEW(1280)
FEW(2304)
SINGLE_ENTRIES(4352)
MANY(4352)
PLAIN_SINGLE(8448)
MANY(8448)
PLAIN_SINGLE(16384)
MANY(16384)
ENTRIES(copy_table, Table)
ENTRY(copy_table, Table, 4, 9, any_tile)
ENTRY(copy_mixed_plain, Mixed<16384>, 2, 16, plain_tile)
