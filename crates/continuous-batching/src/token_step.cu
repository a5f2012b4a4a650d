// The token step of the model on a GPU: what oracle.rs defines, one block for each sequence of the batch.
//
// All sums wrap, so that the threads of a block may add in any order and get the oracle's bits. There is no floating-point
// arithmetic: the temperature enters by its bits.
//
// Lengths and block tables lie on the device, where nobody has checked them. Whatever they say, nothing outside the arrays
// is touched, no two threads race, and the kernel ends; a wrong value gives a wrong token, which the oracle notices.
//
// The example is built with token_step.ptx, which token_step.sh makes of this file.

typedef unsigned int u32;
typedef unsigned long long u64;

#define THREADS 256
#define WARPS (THREADS / 32)
#define BLOCK_TOKENS 64u
#define VOCABULARY 32000u

// As in workload.rs, the temperature by its bits.
struct Sampling {
    u32 temperature;
    u32 top_k;
};

static __device__ __forceinline__ u32 key(u32 token, u32 position) {
    u32 x = (token ^ position * 0x9E3779B1u) * 0x85EBCA6Bu;
    return x ^ (x >> 15);
}

static __device__ __forceinline__ u32 token_term(u32 token) {
    u32 x = (token + 0x7F4A7C15u) * 0xC2B2AE35u;
    return x ^ (x >> 13);
}

static __device__ __forceinline__ u64 step_random(u64 x) {
    x ^= x >> 12;
    x ^= x << 25;
    return x ^ (x >> 27);
}

static __device__ __forceinline__ u64 mix(u64 x) {
    x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDull;
    x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53ull;
    return x ^ (x >> 33);
}

static __device__ __forceinline__ u32 sample(u32 keys, u32 tokens, u64 random, Sampling sampling, u32 length) {
    u64 draw = random * 0x2545F4914F6CDD1Dull;
    u64 pick = ((draw >> 32) * sampling.top_k) >> 32;
    u64 context = ((u64)keys << 32) | tokens;
    u64 shape = ((u64)sampling.temperature << 32) | length;
    u64 candidate = mix(context ^ mix(shape ^ draw)) + pick * 0x9E3779B97F4A7C15ull;
    return (u32)(((mix(candidate) >> 32) * VOCABULARY) >> 32);
}

// The sum over the threads of a warp, in each of them.
static __device__ __forceinline__ u32 warp_sum(u32 value) {
    for (int lane = 16; lane > 0; lane /= 2) value += __shfl_xor_sync(~0u, value, lane);
    return value;
}

// The keys of one sequence, where its block table says. Tables that wrongly share a block share its keys: the accesses are
// relaxed ones, not plain.
struct Cache {
    const u32* table;
    u32* keys;
    u32 blocks;

    // Null if the table names no block of the cache.
    __device__ __forceinline__ u32* at(u64 position) const {
        u32 block = table[position / BLOCK_TOKENS];
        return block < blocks ? keys + ((u64)block * BLOCK_TOKENS + position % BLOCK_TOKENS) : nullptr;
    }
    __device__ __forceinline__ void set(u64 position, u32 key) const {
        u32* place = at(position);
        if (place) asm volatile("st.relaxed.gpu.u32 [%0], %1;" ::"l"(place), "r"(key) : "memory");
    }
    __device__ __forceinline__ u32 get(u64 position) const {
        u32 *place = at(position), key = 0;
        if (place) asm volatile("ld.relaxed.gpu.u32 %0, [%1];" : "=r"(key) : "l"(place) : "memory");
        return key;
    }
};

// `history` has a row of `width` tokens for each block of the launch, `tables` has `entries` entries, and `cache` has room
// for `blocks` blocks of keys. The other arrays have an element for each row, `offsets` has one more.
extern "C" __global__ void __launch_bounds__(THREADS)
token_step(const u32* __restrict__ history, u32* __restrict__ lengths, u32* __restrict__ cached,
           const Sampling* __restrict__ sampling, u64* __restrict__ random, const u32* __restrict__ tables,
           const u32* __restrict__ offsets, u32* cache, u32* __restrict__ tokens, u32 width, u32 entries, u32 blocks) {
    const u32 row = blockIdx.x, begin = min(offsets[row], entries), end = min(offsets[row + 1], entries);
    const u64 room = end > begin ? (u64)(end - begin) * BLOCK_TOKENS : 0;
    const u32 length = (u32)min((u64)min(lengths[row], width), room);
    const u32* sequence = history + (u64)row * width;
    const Cache in_cache = {tables + begin, cache, blocks};

    for (u64 position = (u64)cached[row] + threadIdx.x; position < length; position += THREADS)
        in_cache.set(position, key(sequence[position], (u32)position));
    // From here on the whole block sees the new keys, and every thread has read the lengths.
    __syncthreads();

    u32 keys = 0, terms = 0;
    for (u64 position = threadIdx.x; position < length; position += THREADS) {
        keys += in_cache.get(position);
        terms += token_term(sequence[position]);
    }
    __shared__ u32 sums[2][WARPS];
    keys = warp_sum(keys);
    terms = warp_sum(terms);
    if (threadIdx.x % 32 == 0) {
        sums[0][threadIdx.x / 32] = keys;
        sums[1][threadIdx.x / 32] = terms;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;

    for (u32 warp = 1; warp < WARPS; ++warp) {
        keys += sums[0][warp];
        terms += sums[1][warp];
    }
    const u64 state = step_random(random[row]);
    random[row] = state;
    tokens[row] = sample(keys, terms, state, sampling[row], length);
    cached[row] = length;
    lengths[row] = length + 1;
}
