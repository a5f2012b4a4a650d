// PyTorch's copies of rows behind C functions, for the GPU benchmark; built by rivals.sh. No Python is involved, so that its
// overhead is not counted.

#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/version.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

namespace {

// One set of rows: `many` has more rows than `few`, and its rows `numbers` belong to those of `few` in order.
struct Set {
    at::Tensor many, few;
    at::Tensor present, present_long;  // numbers on the device
    at::Tensor pinned, pinned_long;    // numbers on the host, page-locked
    std::vector<at::Tensor> many_rows, few_rows;
};

// Numbers are uploaded into these, in turns.
constexpr int slots = 24;
at::Tensor room[slots], room_long[slots];
int turn = 0;

template <class F> int answer(F f) {
    try {
        f();
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "PyTorch: %s\n", error.what());
        return 1;
    }
}

at::Tensor& uploaded(const Set& set, bool is_long) {
    turn = (turn + 1) % slots;
    at::Tensor& to = (is_long ? room_long : room)[turn];
    const at::Tensor& from = is_long ? set.pinned_long : set.pinned;
    if (!to.defined() || to.numel() != from.numel()) to = at::empty_like(from, from.options().device(at::kCUDA).pinned_memory(false));
    to.copy_(from, true);
    return to;
}

}  // namespace

extern "C" const char* torch_version() { return "PyTorch " TORCH_VERSION; }

// From now on everything is enqueued on `stream`.
extern "C" int torch_open(void* stream) {
    return answer([=] { c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromExternal((cudaStream_t)stream, 0)); });
}

// `count` of `all` rows of `bytes` bytes at `many`; as many rows at `few`. Null if it fails.
extern "C" void* torch_set(void* many, int64_t all, void* few, int64_t count, int64_t bytes, const uint32_t* numbers, int each) {
    Set* set = new Set;
    const int failed = answer([=] {
        const auto kind = bytes % 8 == 0 ? at::kLong : bytes % 4 == 0 ? at::kInt : at::kByte;
        const int64_t width = bytes % 8 == 0 ? bytes / 8 : bytes % 4 == 0 ? bytes / 4 : bytes;
        const auto options = at::TensorOptions().dtype(kind).device(at::kCUDA, 0);
        set->many = at::from_blob(many, {all, width}, options);
        set->few = at::from_blob(few, {count, width}, options);
        set->pinned = at::empty({count}, at::TensorOptions().dtype(at::kInt).pinned_memory(true));
        for (int64_t i = 0; i < count; ++i) set->pinned.data_ptr<int>()[i] = (int)numbers[i];
        set->pinned_long = set->pinned.to(at::kLong).pin_memory();
        set->present = set->pinned.to(at::kCUDA);
        set->present_long = set->pinned_long.to(at::kCUDA);
        for (int64_t i = 0; each && i < count; ++i) {
            set->many_rows.push_back(set->many.select(0, numbers[i]));
            set->few_rows.push_back(set->few.select(0, i));
        }
    });
    if (!failed) return set;
    delete set;
    return nullptr;
}

extern "C" void torch_drop(void* set) { delete (Set*)set; }

// few[i] = many[numbers[i]]
extern "C" int torch_index_select(void* s, int upload) {
    return answer([=] {
        Set& set = *(Set*)s;
        at::index_select_out(set.few, set.many, 0, upload ? uploaded(set, false) : set.present);
    });
}

// many[numbers[i]] = few[i]
extern "C" int torch_index_copy(void* s, int upload) {
    return answer([=] {
        Set& set = *(Set*)s;
        set.many.index_copy_(0, upload ? uploaded(set, true) : set.present_long, set.few);
    });
}

// few[i] = many[numbers[i]], row by row
extern "C" int torch_foreach_copy(void* s) {
    return answer([=] {
        Set& set = *(Set*)s;
        at::_foreach_copy_(set.few_rows, set.many_rows);
    });
}
