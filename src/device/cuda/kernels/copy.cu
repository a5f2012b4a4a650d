// Copies on the multiprocessors: one launch carries out many copies between memory that the device
// can address.
//
// Chunks. The bytes of all copies are cut into chunks. A chunk is what lies in one aligned group of
// 16 bytes of a destination. The chunks of a launch are numbered, copy after copy. A block of 128
// threads copies 128 * U neighbouring chunks, so blocks have equal work whatever the lengths are.
// Each thread finds the copy of each of its chunks, has up to U loads of 16 bytes in flight, and
// then stores. With U = 2 a block has 4 KiB: 256 MiB take 3 % longer in blocks of 8 KiB, and 20 %
// longer in blocks of 2 KiB, or in blocks that stay and go on to other tiles (H200). Where source
// and destination are aligned differently, two aligned groups of the source are shifted together.
// What a group has outside the copy is never read and never written.
//
// Segments. A launch has up to 16 segments. The form of a segment says how words describe its
// copies. The words are in the launch parameters or in a table in memory; the segments are in the
// parameters, in front of the words. A launch with a single segment has kernels of its own, which
// look at nothing else first: an idle device finishes 0.1 to 0.5 us sooner (H200).
//
// Tables. A table lies in page-locked host memory. The first blocks fetch it into device memory
// while the others already work. Each fetched word carries the number of the launch (its epoch): a
// reader that finds another number waits for the word. After some looks it reads the word in host
// memory, so nothing depends on the order in which blocks run.
//
// While something is being fetched, the device sees the end of the work before a launch 1.6 us
// later (H200). Where it pays, the first words of a table are therefore in the parameters too,
// which is enough to begin with, and the fetch begins after the wait for that work.
//
// Overlap. On sm_90 a launch may begin before the work before it has ended: it finds out what to
// copy, and then waits.
//
// The host's side is ../copy/, which has the same layouts and numbers: a test compares them.
// build.sh compiles this, with strided.cu behind it. Nothing is included, so nvcc and NVRTC both take
// it.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
typedef unsigned char u8;

// Forms.

// Rows of one length. Word `i` is the number of the source row that goes to destination row `i`. A
// number from `old` on is a row of the second source; if there is none, the destination row keeps
// its content. 32 bits each, or 16.
#define FORM_ROWS 0u
#define FORM_ROWS_16 1u
// Copies of one length, two words each: where source and destination are, in units from the bases.
// For rows by pairs of numbers, the unit is the distance from row to row, and the words are the
// numbers of the rows.
#define FORM_PAIRS 2u
// Copies of any length. Word `i` is the first chunk of copy `i` times 16, plus the bytes of the
// last chunk's group that lie behind the copy. Behind these words come all sources, and then all
// destinations, in units from the bases.
#define FORM_RAGGED 3u
// The same with addresses of 64 bits instead of units.
#define FORM_WIDE 4u
// Copies of bytes that are among the words themselves, which are in the parameters; a block each.
// Four words each: the destination's address, the word of the segment at which the bytes begin, and
// their number. Then the bytes.
#define FORM_OWN 5u
// Copies of any length, each no longer than the chunks of a block; a block each, which need not
// search for it. Five words each: the source's address, the destination's, and the bytes.
#define FORM_EACH 6u

#define THREADS 128u
#define SEGMENTS 16u
#define SEGMENT_WORDS 24u
#define NEAR 4u           // segments behind the first one whose first blocks are in the head
#define PIECE_WORDS 512u  // words of a table that a block fetches at once
#define PATIENCE 32u      // looks at a word before the host's table is read

// Some copies of a launch that one form describes. It is plain if their lengths are equal and all
// addresses and lengths are multiples of 16: most are, and these have kernels of their own with as
// few instructions as that takes.
struct Segment {
    u64 src;          // source base
    u64 dst;          // destination base
    u64 src_pitch;    // FORM_ROWS: bytes from row to row, of both sources, not less than `bytes`;
                      // else bytes of a unit
    u64 dst_pitch;    // likewise
    u64 bytes;        // of each copy, in the forms with one length
    u32 form;
    u32 first_block;  // its blocks follow those that fetch and those of the segments before it
    u32 chunks;       // of all copies together, below 2^31; below 2^28 where lengths differ
    u32 row_chunks;   // of each copy, in the forms with one length
    u32 magic;        // a number below 2^31 divided by row_chunks: times magic, right by 31 + shift
    u32 shift;
    u32 words;        // the word at which its description begins
    u32 old;          // rows of the first source
    u64 second;       // base of the second source; 0 if there is none
    u32 copies;
    u32 owners;       // where lengths differ, in a table: the word at which the first copies of the
                      // blocks begin, with the last copy behind them
    u32 staged;       // copies that a block has room for in shared memory, where lengths differ
    u32 unit;         // 4 or 1 where chunks are words or bytes of a copy, in the forms with one
                      // length; 0 where they are groups of 16 bytes
};

// The parameters of every launch begin with it.
struct Head {
    u32 segments;
    u32 fetchers;      // blocks that fetch
    u32 early;         // whether a table's words may be read before the earlier work has ended
    u32 epoch;         // the number of the launch, never 0
    u64 table;         // where the words are, if they are not in the parameters
    u64 fetched;       // device memory they are fetched into, twice as large; 0: they are not fetched
    u32 pieces;        // of PIECE_WORDS words each
    u32 along;         // words behind the segments; with a table, the first ones of it
    u32 starts[NEAR];  // the first blocks of the second segment and the next ones: found sooner here
};

// ../copy/layout.rs has the same structures; a test there reads these lines.
#ifdef __CUDACC_RTC__
#define OFFSET_OF(TYPE, FIELD) ((u64)__INTADDR__(&((TYPE*)0)->FIELD))
#else
#define OFFSET_OF(TYPE, FIELD) __builtin_offsetof(TYPE, FIELD)
#endif
#define OFFSET(TYPE, FIELD, BYTES) static_assert(OFFSET_OF(TYPE, FIELD) == BYTES, #TYPE "." #FIELD)
#define SIZE(TYPE, BYTES) static_assert(sizeof(TYPE) == BYTES, #TYPE)
OFFSET(Segment, src, 0);
OFFSET(Segment, dst, 8);
OFFSET(Segment, src_pitch, 16);
OFFSET(Segment, dst_pitch, 24);
OFFSET(Segment, bytes, 32);
OFFSET(Segment, form, 40);
OFFSET(Segment, first_block, 44);
OFFSET(Segment, chunks, 48);
OFFSET(Segment, row_chunks, 52);
OFFSET(Segment, magic, 56);
OFFSET(Segment, shift, 60);
OFFSET(Segment, words, 64);
OFFSET(Segment, old, 68);
OFFSET(Segment, second, 72);
OFFSET(Segment, copies, 80);
OFFSET(Segment, owners, 84);
OFFSET(Segment, staged, 88);
OFFSET(Segment, unit, 92);
SIZE(Segment, 96);
static_assert(sizeof(Segment) == 4 * SEGMENT_WORDS, "SEGMENT_WORDS");
OFFSET(Head, segments, 0);
OFFSET(Head, fetchers, 4);
OFFSET(Head, early, 8);
OFFSET(Head, epoch, 12);
OFFSET(Head, table, 16);
OFFSET(Head, fetched, 24);
OFFSET(Head, pieces, 32);
OFFSET(Head, along, 36);
OFFSET(Head, starts, 40);
SIZE(Head, 56);

// Waits until everything enqueued before this launch has ended; its writes are visible from here
// on. Only then may the launch behind this one begin: it overlaps with this one, and with nothing
// before.
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

// Reads words of the table, all together, so that a thread waits once. With `LATE`, they are
// fetched after the work before this launch has ended, and none is there before.
template <bool LATE, u32 N>
__device__ __forceinline__ void read_table(const Head& head, const u32 (&at)[N], u32 (&words)[N]) {
    if (head.fetched == 0) {
        // Through the multiprocessor's cache: nothing here has read them before the wait, and with
        // long rows nearly all threads read the same word (256 rows of 1 MiB: 145 us without it,
        // 129 with it, H200).
#pragma unroll
        for (u32 n = 0; n < N; ++n) words[n] = load4(head.table + 4ull * at[n]);
        return;
    }
    // Through the multiprocessor's cache, which may have an older word, but not a wrong one.
    u64 v[N];
    bool there = true;
#pragma unroll
    for (u32 n = 0; n < N; ++n) asm volatile("ld.global.u64 %0,[%1];" : "=l"(v[n]) : "l"(head.fetched + 8ull * at[n]));
#pragma unroll
    for (u32 n = 0; n < N; ++n) {
        words[n] = (u32)v[n];
        there = there && (u32)(v[n] >> 32) == head.epoch;
    }
    if (LATE && !there) wait_for_earlier_work();
    for (u32 looks = 0; !there && looks < PATIENCE; ++looks) {
        // All threads look at the same few words: not so often that they delay the blocks that
        // fetch.
        __nanosleep(100);
        there = true;
#pragma unroll
        for (u32 n = 0; n < N; ++n)
            asm volatile("ld.relaxed.gpu.global.u64 %0,[%1];" : "=l"(v[n]) : "l"(head.fetched + 8ull * at[n]) : "memory");
#pragma unroll
        for (u32 n = 0; n < N; ++n) {
            words[n] = (u32)v[n];
            there = there && (u32)(v[n] >> 32) == head.epoch;
        }
    }
    if (!there)
#pragma unroll
        for (u32 n = 0; n < N; ++n) words[n] = __ldcg((const u32*)head.table + at[n]);
}

// Parameters: segments, and their words behind them.
template <u32 BYTES> struct Parameters {
    static const bool IN_TABLE = false, LATE = false, SINGLE = false;
    Head head;
    u32 own[(BYTES - sizeof(Head)) / 4];
    __device__ __forceinline__ bool early() const { return true; }
    __device__ __forceinline__ const Segment& segment(u32 i) const { return ((const Segment*)own)[i]; }
    __device__ __forceinline__ const u32* words() const { return own + SEGMENT_WORDS * head.segments; }
    template <u32 N> __device__ __forceinline__ void read(const u32 (&at)[N], u32 (&words)[N]) const {
#pragma unroll
        for (u32 n = 0; n < N; ++n) words[n] = own[SEGMENT_WORDS * head.segments + at[n]];
    }
};
// Parameters with a single segment, for which nothing in the head is looked at.
template <u32 BYTES> struct Single : Parameters<BYTES> {
    static const bool SINGLE = true;
    __device__ __forceinline__ const Segment& segment(u32) const { return Parameters<BYTES>::segment(0); }
    __device__ __forceinline__ const u32* words() const { return this->own + SEGMENT_WORDS; }
    template <u32 N> __device__ __forceinline__ void read(const u32 (&at)[N], u32 (&words)[N]) const {
#pragma unroll
        for (u32 n = 0; n < N; ++n) words[n] = this->own[SEGMENT_WORDS + at[n]];
    }
};
// Parameters of a launch with a table: segments only.
struct Table {
    static const bool IN_TABLE = true, LATE = false, SINGLE = false;
    Head head;
    Segment own[SEGMENTS];
    __device__ __forceinline__ bool early() const { return head.early; }
    __device__ __forceinline__ const Segment& segment(u32 i) const { return own[i]; }
    template <u32 N> __device__ __forceinline__ void read(const u32 (&at)[N], u32 (&words)[N]) const {
        read_table<LATE>(head, at, words);
    }
};
// Parameters of a launch with a table that is fetched late: segments, and the table's first words.
template <u32 BYTES> struct Mixed : Parameters<BYTES> {
    static const bool IN_TABLE = true, LATE = true;
    __device__ __forceinline__ bool early() const { return this->head.early; }
    template <u32 N> __device__ __forceinline__ void read(const u32 (&at)[N], u32 (&words)[N]) const {
        bool here = true;
#pragma unroll
        for (u32 n = 0; n < N; ++n) here = here && at[n] < this->head.along;
        if (here) Parameters<BYTES>::read(at, words);
        else read_table<LATE>(this->head, at, words);
    }
};

// The copy of one chunk: up to 16 bytes, in one aligned group of the destination.
struct ChunkCopy {
    u64 src, dst;
    u32 how;  // the number of bytes, if they are copied as words of 4 bytes or as 1 or 2; or one of:
};
#define NOTHING 0u
#define WHOLE 17u    // a group from a group
#define SHIFTED 18u  // a group from two groups, both inside the copy
#define BYTES 32u    // plus the number of bytes: one by one

__device__ __forceinline__ uint4 load16(u64 from) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0,%1,%2,%3},[%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
}
__device__ __forceinline__ void store16(u64 to, uint4 v) {
    asm volatile("st.global.cs.v4.u32 [%0],{%1,%2,%3,%4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
}

// The same for what is read once: it need not stay in the multiprocessor's cache (1.4 % on an
// H200).
__device__ __forceinline__ uint4 load16_once(u64 from) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3},[%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
}
__device__ __forceinline__ void store4(u64 to, u32 v) { asm volatile("st.global.u32 [%0],%1;" ::"l"(to), "r"(v) : "memory"); }
// One or two bytes, in the low bits. Not `ld.volatile`: each waits for the one before, over PCIe
// for microseconds.
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

// Stores two words of a table, each with the number of the launch.
__device__ __forceinline__ void store_tagged(u64 to, u32 a, u32 b, u32 epoch) {
    const u64 number = (u64)epoch << 32;
    asm volatile("st.relaxed.gpu.global.v2.u64 [%0],{%1,%2};" ::"l"(to), "l"(a | number), "l"(b | number) : "memory");
}

// The 16 bytes from byte `at` on of the 32 bytes `a`, `b`; `at` is 1 to 15.
__device__ __forceinline__ uint4 shift16(uint4 a, uint4 b, u32 at) {
    u32 w0 = a.x, w1 = a.y, w2 = a.z, w3 = a.w, w4 = b.x, w5 = b.y, w6 = b.z;
    if (at & 8) { w0 = w2; w1 = w3; w2 = w4; w3 = w5; w4 = w6; w5 = b.w; }
    if (at & 4) { w0 = w1; w1 = w2; w2 = w3; w3 = w4; w4 = w5; }
    const u32 bits = (at & 3) * 8;
    return make_uint4(__funnelshift_r(w0, w1, bits), __funnelshift_r(w1, w2, bits), __funnelshift_r(w2, w3, bits),
                      __funnelshift_r(w3, w4, bits));
}

// Copies up to 16 bytes whose source and destination share no alignment: the source is read by
// words where it has whole ones, all loads come before all stores, and the bytes are stored one by
// one.
__device__ __forceinline__ void copy_bytes(u64 src, u64 dst, u32 bytes) {
    // Words of the source; the bytes begin `off` bytes behind the first word, and end `tail` bytes
    // behind word `last`.
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

// The indices of the words that describe copy `i` of a segment with one length: two, or one twice.
__device__ __forceinline__ void word_indices(const Segment& seg, u32 i, u32& a, u32& b) {
    a = b = seg.words + (seg.form == FORM_ROWS ? i : seg.form == FORM_ROWS_16 ? i >> 1 : 2 * i);
    if (seg.form == FORM_PAIRS) b = a + 1;
}

// Decodes them into addresses. A source of 0 means that there is nothing to copy.
__device__ __forceinline__ void decode(const Segment& seg, u32 i, u32 a, u32 b, u64& src, u64& dst) {
    if (seg.form == FORM_PAIRS) {
        src = seg.src + a * seg.src_pitch;
        dst = seg.dst + b * seg.dst_pitch;
        return;
    }
    u32 row = a;
    if (seg.form == FORM_ROWS_16) row = a >> (i & 1) * 16 & 0xffff;
    dst = seg.dst + i * seg.dst_pitch;
    src = row < seg.old ? seg.src + row * seg.src_pitch : seg.second ? seg.second + (row - seg.old) * seg.src_pitch : 0;
}

// The word of the first chunk of copy `i` in the parameters, where lengths differ; behind the last
// copy one above all. Each thread reads another one, which memory serves at once, and the cache of
// constants one after the other.
template <class P> __device__ __forceinline__ u32 load_start(const P& p, const Segment& seg, u32 i) {
    if (i >= seg.copies) return 0xffffffffu;
    u32 word;
    asm volatile("ld.u32 %0,[%1];" : "=r"(word) : "l"(p.words() + seg.words + i));
    return word;
}

// The first step of a binary search among `n`: the largest power of two below `n`; 0 if `n` is 1 or
// 0.
__device__ __forceinline__ u32 search_step(u32 n) { return n < 2 ? 0 : 0x80000000u >> __clz(n - 1); }

// The copies of a block, in shared memory. Chunk `at` comes from `srcs[i] + 16 * at` and goes to
// `dsts[i] + 16 * at`. The low bits of `dsts[i]` are the bytes that lie before copy `i` in the
// group of its first chunk.
struct Staged {
    u32 count;
    u64 *srcs, *dsts;
    u32* starts;
};

// Brings the copies of a block to shared memory. `chunk` is the block's first chunk, `end` is
// behind its last one.
template <class P>
__device__ __forceinline__ Staged stage_copies(const P& p, const Segment& seg, u32 block, u32 chunk, u32 end) {
    extern __shared__ u64 shared[];
    Staged s = {0, shared, shared + seg.staged, (u32*)(shared + 2 * seg.staged)};
    u32 first = 0, last = 0;
    if constexpr (P::IN_TABLE) {
        const u32 at[2] = {seg.owners + block, seg.owners + block + 1};
        u32 word[2];
        p.read(at, word);
        first = word[0];
        last = word[1];
    } else {
        // Finds the last copy that starts at or before the block's first chunk, and the last one at
        // or before its last chunk: each thread looks at one of `THREADS` copies that are equally
        // far apart, and then at one of those between two of them.
        u32 step = (seg.copies + THREADS - 1) / THREADS;
        for (;;) {
            const u32 a = load_start(p, seg, first + threadIdx.x * step) >> 4;
            const u32 b = load_start(p, seg, last + threadIdx.x * step) >> 4;
            first += (__syncthreads_count(a <= chunk) - 1) * step;
            last += (__syncthreads_count(b < end) - 1) * step;
            if (step == 1) break;
            step = (step + THREADS - 1) / THREADS;
        }
    }
    s.count = last - first + 1;
    for (u32 i = threadIdx.x; i <= s.count; i += THREADS) {
        // One copy more than the block has, for where it starts.
        const u32 copy = min(first + i, seg.copies - 1), n = seg.copies, from = seg.words + copy;
        u32 word[5];
        u64 src, dst;
        if (seg.form == FORM_RAGGED) {
            const u32 at[3] = {from, from + n, from + 2 * n};
            u32 read[3];
            p.read(at, read);
            word[0] = read[0];
            src = seg.src + read[1] * seg.src_pitch;
            dst = seg.dst + read[2] * seg.dst_pitch;
        } else {
            const u32 to = from + copy;
            const u32 at[5] = {from, to + n, to + n + 1, to + 3 * n, to + 3 * n + 1};
            p.read(at, word);
            src = word[1] | (u64)word[2] << 32;
            dst = word[3] | (u64)word[4] << 32;
        }
        s.starts[i] = first + i < n ? word[0] : seg.chunks * 16;
        if (i < s.count) {
            s.srcs[i] = src - (dst & 15) - (word[0] >> 4) * 16ull;
            s.dsts[i] = dst - (word[0] >> 4) * 16ull;
        }
    }
    __syncthreads();
    return s;
}

// Clips chunk `chunk` of a copy to the copy's bytes.
__device__ __forceinline__ ChunkCopy clip_chunk(u64 src, u64 dst, u64 bytes, u32 chunk) {
    // The bytes of the copy that the chunk has: the first chunk may begin before the copy, the last
    // one may end behind it.
    const u64 before = dst & 15, low = (u64)chunk * 16 < before ? 0 : (u64)chunk * 16 - before;
    u64 high = (u64)chunk * 16 + 16 - before;
    if (high > bytes) high = bytes;
    ChunkCopy c;
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

// Which copy chunk `at` belongs to, where lengths are equal, and which chunk of it that is.
__device__ __forceinline__ u32 copy_of(const Segment& seg, u32 at, u32& chunk) {
    const u32 i = (u32)((u64)at * seg.magic >> 31 >> seg.shift);
    chunk = at - i * seg.row_chunks;
    return i;
}

// What chunk `at` of a segment copies, whatever its form.
template <class P>
__device__ __forceinline__ ChunkCopy decode_chunk(const P& p, const Segment& seg, const Staged& staged, u32 at) {
    if (seg.form <= FORM_PAIRS) {
        u64 src, dst;
        u32 chunk;
        const u32 copy = copy_of(seg, at, chunk);
        u32 where[2], word[2];
        word_indices(seg, copy, where[0], where[1]);
        p.read(where, word);
        decode(seg, copy, word[0], word[1], src, dst);
        if (seg.unit) {
            ChunkCopy c;
            c.src = src + chunk * seg.unit;
            c.dst = dst + chunk * seg.unit;
            c.how = src == 0 ? NOTHING : seg.unit;
            return c;
        }
        return clip_chunk(src, dst, src == 0 ? 0 : seg.bytes, chunk);
    }
    u32 i = 0;
    for (u32 step = search_step(staged.count); step; step >>= 1)
        if (i + step < staged.count && staged.starts[i + step] >> 4 <= at) i += step;
    const u32 word = staged.starts[i], from = word >> 4, to = staged.starts[i + 1] >> 4;
    const u64 src = staged.srcs[i], dst = staged.dsts[i], before = dst & 15;
    // Two chunks away from both ends, everything around the chunk belongs to the copy.
    if (at >= from + 2 && at + 2 < to) {
        ChunkCopy c;
        c.src = src + at * 16ull;
        c.dst = dst - before + at * 16ull;
        c.how = (u32)c.src & 15 ? SHIFTED : WHOLE;
        return c;
    }
    const u64 bytes = (u64)(to - from) * 16 - before - (word & 15);
    return clip_chunk(src + before + from * 16ull, dst + from * 16ull, bytes, at - from);
}

// Fetches the table to device memory, in order; each word gets the number of the launch.
__device__ __forceinline__ void fetch_table(const Head& head) {
    for (u32 piece = blockIdx.x; piece < head.pieces; piece += head.fetchers) {
        const u64 word = (u64)piece * PIECE_WORDS + threadIdx.x * 4, to = head.fetched + 8 * word;
        const uint4 v = load16(head.table + 4 * word);
        store_tagged(to, v.x, v.y, head.epoch);
        store_tagged(to + 16, v.z, v.w, head.epoch);
    }
}

// Copies a thread's chunks: all loads before all stores.
template <u32 U> __device__ __forceinline__ void copy_chunks(const ChunkCopy (&c)[U]) {
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
            store16(c[u].dst, shift16(v[u], load16((c[u].src & ~15ull) + 16), (u32)c[u].src & 15));
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

// The segment this block works for; NONE if the block fetches. A number and not a pointer: then the
// compiler sees that segments are in the parameters, and reads them as constants and not from
// memory.
#define NONE 0xffffffffu
template <class P> __device__ __forceinline__ u32 segment_of_block(const P& p) {
    if (P::SINGLE) return 0;
    if (blockIdx.x < p.head.fetchers) {
        if (P::LATE) wait_for_earlier_work();
        fetch_table(p.head);
        if (!P::LATE) wait_for_earlier_work();
        return NONE;
    }
    u32 of = 0;
#pragma unroll
    for (u32 i = 0; i < NEAR; ++i)
        if (blockIdx.x >= p.head.starts[i]) of = i + 1;
    for (u32 i = NEAR + 1; i < p.head.segments; ++i)
        if (blockIdx.x >= p.segment(i).first_block) of = i;
    if (!p.early()) wait_for_earlier_work();
    return of;
}

// A block of a segment whose copies have one length, and whose chunks are either 16 bytes
// everywhere, or words or bytes.
template <u32 U, bool WHOLE_CHUNKS, class P> __device__ __forceinline__ void equal_tile(const P& p) {
    const u32 of = segment_of_block(p);
    if (of == NONE) return;
    const Segment& seg = p.segment(of);
    const u32 unit = WHOLE_CHUNKS ? 16 : seg.unit;
    const u32 first = (blockIdx.x - seg.first_block) * (THREADS * U) + threadIdx.x;
    u32 where[2 * U], word[2 * U];
#pragma unroll
    for (u32 u = 0; u < U; ++u) {
        u32 chunk;
        word_indices(seg, copy_of(seg, min(first + u * THREADS, seg.chunks - 1), chunk), where[u], where[U + u]);
    }
    if (seg.form == FORM_PAIRS) {
        p.read(where, word);
    } else {
        // One word each.
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
        const u32 copy = copy_of(seg, at, chunk);
        decode(seg, copy, word[u], word[U + u], src[u], dst[u]);
        src[u] = at < seg.chunks && src[u] ? src[u] + (u64)chunk * unit : 0;
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
// The kernels `*_plain_2`: every segment is plain, chunks are whole groups of 16 bytes.
template <u32 U, class P> __device__ __forceinline__ void plain_tile(const P& p) { equal_tile<U, true>(p); }
// The kernels `*_unit_2`: one segment, whose chunks are words or bytes.
template <u32 U, class P> __device__ __forceinline__ void unit_tile(const P& p) { equal_tile<U, false>(p); }

// Stores copy `i` of FORM_OWN, by words where the destination is aligned. The bytes are read as
// constants: so few are read no sooner from memory (H200).
template <class P> __device__ __forceinline__ void store_own_bytes(const P& p, const Segment& seg, u32 i) {
    const u32* words = p.words() + seg.words + 4 * i;
    const u64 dst = words[0] | (u64)words[1] << 32;
    const u32 from = words[2], bytes = words[3], width = (dst | bytes) & 3 ? 1 : 4;
    if (p.early()) wait_for_earlier_work();
    for (u32 at = threadIdx.x * width; at < bytes; at += THREADS * width) {
        const u32 word = p.words()[seg.words + from + at / 4];
        if (width == 4) store4(dst + at, word);
        else store1(dst + at, word >> at % 4 * 8 & 0xff);
    }
}

// The kernels `*_2` and `*_4`: any segments.
template <u32 U, class P> __device__ __forceinline__ void any_tile(const P& p) {
    const u32 of = segment_of_block(p);
    if (of == NONE) return;
    const Segment& seg = p.segment(of);
    const u32 block = blockIdx.x - seg.first_block, first = block * (THREADS * U);
    if constexpr (!P::IN_TABLE) {
        if (seg.form == FORM_OWN) {
            store_own_bytes(p, seg, block);
            return;
        }
    }
    const u32 end = min(seg.chunks, first + THREADS * U);
    ChunkCopy c[U];
    if (seg.form == FORM_EACH) {
        const u32 from = seg.words + 5 * block, at[5] = {from, from + 1, from + 2, from + 3, from + 4};
        u32 word[5];
        p.read(at, word);
        const u64 src = word[0] | (u64)word[1] << 32, dst = word[2] | (u64)word[3] << 32;
#pragma unroll
        for (u32 u = 0; u < U; ++u) c[u] = clip_chunk(src, dst, word[4], u * THREADS + threadIdx.x);
    } else {
        Staged s = {0, 0, 0, 0};
        if (seg.form > FORM_PAIRS) s = stage_copies(p, seg, block, first, end);
#pragma unroll
        for (u32 u = 0; u < U; ++u) {
            const u32 at = first + u * THREADS + threadIdx.x;
            c[u].how = NOTHING;
            if (at < end) c[u] = decode_chunk(p, seg, s, at);
        }
    }
    if (p.early()) wait_for_earlier_work();
    copy_chunks(c);
}

#define ENTRY(NAME, PARAMETERS, U, BLOCKS, COPY)                                                     \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                        \
        NAME##_##U(const __grid_constant__ PARAMETERS p) {                                           \
        COPY<U>(p);                                                                                  \
    }
// For plain launches, and for any others.
#define ENTRIES(NAME, PARAMETERS)                      \
    ENTRY(NAME##_plain, PARAMETERS, 2, 16, plain_tile) \
    ENTRY(NAME, PARAMETERS, 2, 12, any_tile)
// For launches with one segment and no table; `unit` if its chunks are words or bytes.
#define SINGLE_ENTRIES(BYTES)                     \
    ENTRIES(copy_##BYTES##_single, Single<BYTES>) \
    ENTRY(copy_##BYTES##_single_unit, Single<BYTES>, 2, 16, unit_tile)
// For plain launches with one segment and no table.
#define PLAIN_SINGLE(BYTES) ENTRY(copy_##BYTES##_single_plain, Single<BYTES>, 2, 16, plain_tile)
// For launches without a table; with `MANY`, four groups a thread too, for many bytes.
#define FEW(BYTES) SINGLE_ENTRIES(BYTES) ENTRIES(copy_##BYTES, Parameters<BYTES>)
#define MANY(BYTES)                           \
    ENTRIES(copy_##BYTES, Parameters<BYTES>)  \
    ENTRY(copy_##BYTES, Parameters<BYTES>, 4, 10, any_tile)

// Each KiB of parameters is 0.2 to 0.5 us of a launch on an idle stream (H200). Head and segment
// are 152 bytes, so 256 row numbers of 16 bits fit into the second size, and twice as many into
// each of the next ones. ../copy/kernels.rs lists the same kernels.
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
// For launches with a table, and for those with a table and its first words in the parameters.
ENTRIES(copy_table, Table)
ENTRY(copy_table, Table, 4, 9, any_tile)
ENTRY(copy_mixed_plain, Mixed<16384>, 2, 16, plain_tile)
