// Ways to hand the description of a few copies to a kernel: what each costs the host, and when its end is seen.
//
//   nvcc -O3 -std=c++20 -arch=sm_90 -o launch benches/gpu/launch.cu -lcuda && ./launch
//
// The kernel copies rows whose numbers are its description, 16 bits each. Every method's result is compared byte for byte on
// poisoned destinations, eight different descriptions in flight at once.
//
// enqueue: host time until the last call returns, the stream idle. end to end: until cuStreamSynchronize returns. before others:
// end to end, with three empty kernels behind it. pipelined: twenty behind each other on a stream that is held meanwhile,
// between two events, divided by twenty. Medians, in us.
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#define CHECK(x) do { auto e = (int)(x); if (e) { fprintf(stderr, "line %d: %s: %d\n", __LINE__, #x, e); exit(1); } } while (0)

struct Head { const char* src; char* dst; unsigned rows, chunks; };
template <unsigned BYTES> struct Parameters { Head h; unsigned short row[(BYTES - sizeof(Head)) / 2]; };
typedef Parameters<16384> Description;

template <class P> __device__ __forceinline__ void copy(const P& p) {
    // Two chunks of 16 bytes a thread.
    const unsigned first = blockIdx.x * 512 + threadIdx.x, all = p.h.rows * p.h.chunks;
    const uint4* from[2];
    for (unsigned u = 0; u < 2; ++u) {
        const unsigned at = first + 256 * u, row = at / p.h.chunks;
        from[u] = at < all ? (const uint4*)p.h.src + p.row[row] * p.h.chunks + at % p.h.chunks : nullptr;
    }
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    uint4 v[2];
    for (unsigned u = 0; u < 2; ++u) if (from[u]) v[u] = *from[u];
    for (unsigned u = 0; u < 2; ++u) if (from[u]) ((uint4*)p.h.dst)[first + 256 * u] = v[u];
}
template <unsigned BYTES> __global__ void __launch_bounds__(256) told(const __grid_constant__ Parameters<BYTES> p) { copy(p); }
// The description is in page-locked memory, of which each block reads all in one round trip.
__global__ void __launch_bounds__(256) slot(const uint4* at, unsigned quads) {
    __shared__ uint4 own[512];
    for (unsigned i = threadIdx.x; i < quads; i += 256) own[i] = at[i];
    __syncthreads();
    copy(*(const Parameters<8192>*)own);
}
__global__ void nothing() {}
__global__ void hold(long long ns) {
    unsigned long long start, now;
    asm volatile("mov.u64 %0,%globaltimer;" : "=l"(start));
    do asm volatile("mov.u64 %0,%globaltimer;" : "=l"(now)); while ((long long)(now - start) < ns);
}

static CUstream stream;
static CUfunction function(const void* kernel) { cudaFunction_t f; CHECK(cudaGetFuncBySymbol(&f, kernel)); return (CUfunction)f; }

static void plainly(CUfunction f, unsigned blocks, void** arguments, bool programmatic) {
    CUlaunchAttribute overlap{};
    overlap.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    overlap.value.programmaticStreamSerializationAllowed = 1;
    CUlaunchConfig config{blocks, 1, 1, 256, 1, 1, 0, stream, &overlap, programmatic};
    CHECK(cuLaunchKernelEx(&config, f, arguments, nullptr));
}

// A graph of one kernel.
struct Graph {
    CUgraph graph; CUgraphNode node; CUgraphExec executable; CUDA_KERNEL_NODE_PARAMS params{};
    Graph(CUfunction f, unsigned blocks, void** arguments) {
        params.func = f, params.gridDimX = blocks, params.blockDimX = 256;
        params.gridDimY = params.gridDimZ = params.blockDimY = params.blockDimZ = 1;
        params.kernelParams = arguments;
        CHECK(cuGraphCreate(&graph, 0));
        CHECK(cuGraphAddKernelNode(&node, graph, nullptr, 0, &params));
        CHECK(cuGraphInstantiate(&executable, graph, 0));
    }
    void set(void** arguments) { params.kernelParams = arguments; CHECK(cuGraphExecKernelNodeSetParams(executable, node, &params)); }
    void launch() { CHECK(cuGraphLaunch(executable, stream)); }
};

struct Way { std::string name; std::function<void(int)> go; bool checked; };

static double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
static double median(std::vector<double>& v) { std::sort(v.begin(), v.end()); return v[v.size() / 2]; }

int main() {
    CHECK(cudaSetDevice(0));
    CHECK(cudaStreamCreateWithFlags((cudaStream_t*)&stream, cudaStreamNonBlocking));
    const size_t half = 64 << 20, each = half / 8;
    char *src, *dst, *ring;
    CHECK(cudaMalloc(&src, half)); CHECK(cudaMalloc(&dst, half)); CHECK(cudaMallocHost(&ring, 32 * 8192));
    std::mt19937_64 random(7);
    std::vector<char> bytes(half), got(half);
    for (auto& b : bytes) b = (char)random();
    CHECK(cudaMemcpy(src, bytes.data(), half, cudaMemcpyHostToDevice));
    cudaEvent_t begin, end; CHECK(cudaEventCreate(&begin)); CHECK(cudaEventCreate(&end));
    struct { unsigned bytes; CUfunction f; } kernels[] = {
        {512, function((void*)told<512>)}, {1024, function((void*)told<1024>)}, {2048, function((void*)told<2048>)},
        {4096, function((void*)told<4096>)}, {8192, function((void*)told<8192>)}, {16384, function((void*)told<16384>)}};
    CUfunction none = function((void*)nothing), read = function((void*)slot), holder = function((void*)hold);
    for (auto [rows, length] : {std::pair{32u, 128u}, {256u, 128u}, {256u, 4096u}, {1024u, 4096u}, {3000u, 2048u}}) {
        std::vector<Description> set(8);
        for (int k = 0; k < 8; ++k) {
            std::vector<unsigned short> order(rows);
            for (unsigned i = 0; i < rows; ++i) order[i] = i;
            std::shuffle(order.begin(), order.end(), random);
            set[k].h = {src + k * each, dst + k * each, rows, length / 16};
            std::copy(order.begin(), order.end(), set[k].row);
        }
        const unsigned blocks = (rows * length / 16 + 511) / 512, used = sizeof(Head) + 2 * rows, quads = (used + 15) / 16;
        std::vector<Way> ways;
        ways.push_back({"empty kernel, plainly", [&](int) { plainly(none, 1, nullptr, false); }, false});
        Graph empty(none, 1, nullptr);
        ways.push_back({"empty kernel, graph", [&](int) { empty.launch(); }, false});
        std::vector<Graph> graphs, slots;
        graphs.reserve(64);
        for (auto& k : kernels) if (k.bytes >= used) {
            const std::string size = std::to_string(k.bytes) + " B of parameters";
            ways.push_back({"plainly, " + size, [&](int i) { void* a[] = {&set[i % 8]}; plainly(k.f, blocks, a, true); }, true});
            void* a[] = {&set[0]};
            Graph& g = graphs.emplace_back(k.f, blocks, a);
            ways.push_back({"graph, other parameters, " + size, [&](int i) { void* a[] = {&set[i % 8]}; g.set(a); g.launch(); }, true});
            if (k.bytes / 2 >= used && k.bytes > 512) continue;
            ways.push_back({"plainly, not programmatic, " + size, [&](int i) { void* a[] = {&set[i % 8]}; plainly(k.f, blocks, a, false); }, true});
            const size_t first = graphs.size();
            for (int i = 0; i < 8; ++i) { void* a[] = {&set[i]}; graphs.emplace_back(k.f, blocks, a); }
            ways.push_back({"graph, as it is, " + size, [&, first](int i) { graphs[first + i % 8].launch(); }, true});
        }
        slots.reserve(32);
        for (int i = 0; i < 32; ++i) {
            const void* at = ring + i * 8192; unsigned n = quads; void* a[] = {&at, &n};
            slots.emplace_back(read, blocks, a);
        }
        ways.push_back({"graph, page-locked slot", [&](int i) { memcpy(ring + i % 32 * 8192, &set[i % 8], used); slots[i % 32].launch(); }, true});
        for (auto& way : ways) if (way.checked) {
            CHECK(cudaMemset(dst, 0xee, half)); CHECK(cudaDeviceSynchronize());
            long long ns = 300000; void* a[] = {&ns};
            CHECK(cuLaunchKernel(holder, 1, 1, 1, 1, 1, 1, 0, stream, a, nullptr));
            for (int i = 0; i < 8; ++i) way.go(i);
            CHECK(cuStreamSynchronize(stream));
            CHECK(cudaMemcpy(got.data(), dst, half, cudaMemcpyDeviceToHost));
            for (int k = 0; k < 8; ++k) for (unsigned i = 0; i < rows; ++i)
                if (memcmp(&got[k * each + (size_t)i * length], &bytes[k * each + (size_t)set[k].row[i] * length], length)) { printf("%s: WRONG\n", way.name.c_str()); return 1; }
        }
        std::vector<std::vector<double>> enqueue(ways.size()), all(ways.size()), before(ways.size());
        for (int pass = 0; pass < 6; ++pass) for (size_t w = 0; w < ways.size(); ++w) for (int i = 0; i < 160; ++i) {
            const bool others = i >= 80;
            const double start = seconds(); ways[w].go(i);
            const double made = seconds();
            for (int k = 0; others && k < 3; ++k) CHECK(cuLaunchKernel(none, 1, 1, 1, 256, 1, 1, 0, stream, nullptr, nullptr));
            CHECK(cuStreamSynchronize(stream));
            const double done = seconds();
            if (!pass || i % 80 < 10) continue;
            if (others) before[w].push_back(1e6 * (done - start));
            else enqueue[w].push_back(1e6 * (made - start)), all[w].push_back(1e6 * (done - start));
        }
        printf("\n| %u x %u B, %u bytes of description | enqueue | end to end | before others | pipelined |\n|---|---:|---:|---:|---:|\n", rows, length, used);
        for (size_t w = 0; w < ways.size(); ++w) {
            std::vector<double> behind;
            for (int round = 0; round < 25; ++round) {
                long long ns = 200000; void* a[] = {&ns}; float ms;
                CHECK(cuLaunchKernel(holder, 1, 1, 1, 1, 1, 1, 0, stream, a, nullptr));
                CHECK(cuEventRecord(begin, stream));
                for (int i = 0; i < 20; ++i) ways[w].go(i);
                CHECK(cuEventRecord(end, stream)); CHECK(cuStreamSynchronize(stream));
                CHECK(cudaEventElapsedTime(&ms, begin, end)); behind.push_back(1e3 * ms / 20);
            }
            printf("| %s | %.2f | %.2f | %.2f | %.2f |\n", ways[w].name.c_str(), median(enqueue[w]), median(all[w]), median(before[w]), median(behind));
        }
    }
}
