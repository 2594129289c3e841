// The driver's calls for the device, its context, modules and launches.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>

#include "executor.h"
#include "memory.h"
#include "report.h"

using namespace stand_in;

// The device.

STAND_IN_API int cuInit(unsigned) {
    report_faults();
    return SUCCESS;
}

STAND_IN_API int cuDriverGetVersion(int* version) {
    *version = 13000;
    return SUCCESS;
}

STAND_IN_API int cuDeviceGetCount(int* count) {
    *count = 1;
    return SUCCESS;
}

STAND_IN_API int cuDeviceGet(int* device, int ordinal) {
    *device = 0;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

STAND_IN_API int cuDeviceGetName(char* name, int bytes, int) {
    snprintf(name, bytes, "stand-in");
    return SUCCESS;
}

STAND_IN_API int cuDeviceGetUuid(char* uuid, int) {
    memcpy(uuid, "distil-stand-in\0", 16);
    return SUCCESS;
}

STAND_IN_API int cuDeviceGetUuid_v2(char* uuid, int device) { return cuDeviceGetUuid(uuid, device); }

STAND_IN_API int cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = memory_total();
    return SUCCESS;
}

STAND_IN_API int cuDeviceGetAttribute(int* value, int attribute, int) {
    static const std::map<int, int> values = {
        {1, 1024},              // threads of a block
        {2, 1024},              // and along x,
        {3, 1024},              // y,
        {4, 64},                // z
        {5, 0x7fffffff},        // blocks of a grid along x,
        {6, 65535},             // y,
        {7, 65535},             // z
        {8, SHARED_DEFAULT},    // shared memory of a block
        {9, 64 << 10},          // constant memory
        {10, 32},               // threads of a warp
        {12, 65536},            // registers of a block
        {13, 1980000},          // clock, kHz
        {16, 132},              // multiprocessors
        {31, 1},                // concurrent kernels
        {36, 2619000},          // memory clock, kHz
        {37, 5120},             // memory bus, bits
        {38, 50 << 20},         // second-level cache
        {39, 2048},             // threads of a multiprocessor
        {40, 3},                // copy engines
        {41, 1},                // unified addressing
        {75, 9},                // compute capability, major
        {76, 0},                // and minor
        {78, 1},                // stream priorities
        {81, 228 << 10},        // shared memory of a multiprocessor
        {82, 65536},            // registers of a multiprocessor
        {97, SHARED_MOST},      // shared memory of a block, asked for
        {106, 32},              // blocks of a multiprocessor
        {111, 1 << 10},         // shared memory of a block that the system keeps
        {115, 1},               // memory pools
    };
    const auto found = values.find(attribute);
    *value = found == values.end() ? 0 : found->second;
    return SUCCESS;
}

// The context.

static char the_context;
static thread_local void* current_context = nullptr;

STAND_IN_API int cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &the_context;
    return SUCCESS;
}

STAND_IN_API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

STAND_IN_API int cuCtxSetCurrent(void* context) {
    current_context = context;
    return SUCCESS;
}

STAND_IN_API int cuCtxGetCurrent(void** context) {
    *context = current_context;
    return SUCCESS;
}

STAND_IN_API int cuCtxGetDevice(int* device) {
    *device = 0;
    return SUCCESS;
}

STAND_IN_API int cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    *least = *greatest = 0;
    return SUCCESS;
}

// Modules: an image is a text that names the object which the stand-in for NVRTC compiled. Objects and kernels are
// never taken down, since graphs may still refer to them.

namespace {

struct Module {
    std::string path;
    void* object;
    std::map<std::string, Kernel*> kernels;
};

std::mutex& lock = *new std::mutex;
std::set<void*>& modules = *new std::set<void*>;
std::set<void*>& kernels = *new std::set<void*>;

template <typename F> F symbol(void* object, const char* prefix, const char* name) {
    return reinterpret_cast<F>(dlsym(object, (std::string(prefix) + name).c_str()));
}

/// The kernel of the name, or null. Kernels that are not extern "C" have another name in their object.
Kernel* load_kernel(const Module& module, const char* name) {
    const auto call = symbol<void (*)(void**)>(module.object, "stand_in_call_", name);
    const auto sizes = symbol<long (*)(long*)>(module.object, "stand_in_sizes_", name);
    const auto bounds = symbol<int (*)()>(module.object, "stand_in_bounds_", name);
    if (!call || !sizes || !bounds || !symbol<void*>(module.object, "", name)) return nullptr;
    Kernel* kernel = new Kernel;
    kernel->name = name;
    kernel->call = call;
    kernel->sizes.resize(sizes(nullptr));
    sizes(kernel->sizes.data());
    kernel->threads_most = bounds();
    return kernel;
}

}  // namespace

STAND_IN_API int cuModuleLoadData(void** module, const void* image) {
    const char* mark = "// stand-in: ";
    const char* text = static_cast<const char*>(image);
    if (strncmp(text, mark, strlen(mark))) {
        complain("an image that the stand-in did not compile");
        return INVALID_IMAGE;
    }
    const char* path = text + strlen(mark);
    Module loaded{std::string(path, strcspn(path, "\n")), nullptr, {}};
    loaded.object = dlopen(loaded.path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!loaded.object) {
        complain("%s", dlerror());
        return INVALID_IMAGE;
    }
    std::lock_guard<std::mutex> guard(lock);
    *module = new Module(std::move(loaded));
    modules.insert(*module);
    return SUCCESS;
}

STAND_IN_API int cuModuleLoad(void** module, const char* path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return file ? cuModuleLoadData(module, text.str().c_str()) : 301;  // CUDA_ERROR_FILE_NOT_FOUND
}

STAND_IN_API int cuModuleUnload(void* handle) {
    std::lock_guard<std::mutex> guard(lock);
    if (!modules.erase(handle)) return INVALID_HANDLE;
    for (const auto& entry : static_cast<Module*>(handle)->kernels) {
        entry.second->loaded = false;
        kernels.erase(entry.second);
    }
    delete static_cast<Module*>(handle);
    return SUCCESS;
}

STAND_IN_API int cuModuleGetFunction(void** function, void* handle, const char* name) {
    std::lock_guard<std::mutex> guard(lock);
    if (!modules.count(handle)) return INVALID_HANDLE;
    Module& module = *static_cast<Module*>(handle);
    Kernel*& kernel = module.kernels[name];
    if (!kernel) kernel = load_kernel(module, name);
    if (!kernel) {
        module.kernels.erase(name);
        complain("no extern \"C\" kernel %s", name);
        return NOT_FOUND;
    }
    kernels.insert(kernel);
    *function = kernel;
    return SUCCESS;
}

STAND_IN_API int cuFuncSetAttribute(void* function, int attribute, int value) {
    std::lock_guard<std::mutex> guard(lock);
    if (!kernels.count(function)) return INVALID_HANDLE;
    if (attribute == 8) {  // the most dynamic shared memory
        if (value < 0 || size_t(value) > SHARED_MOST) return INVALID_VALUE;
        static_cast<Kernel*>(function)->shared_most = value;
    }
    return SUCCESS;
}

STAND_IN_API int cuFuncGetAttribute(int* value, int attribute, void* function) {
    std::lock_guard<std::mutex> guard(lock);
    if (!kernels.count(function)) return INVALID_HANDLE;
    const Kernel& kernel = *static_cast<Kernel*>(function);
    switch (attribute) {
        case 0: *value = kernel.threads_most; break;
        case 4: *value = 32; break;  // registers
        case 5:
        case 6: *value = 90; break;  // the versions of the intermediate code and of the device
        case 8: *value = kernel.shared_most; break;
        default: *value = 0;
    }
    return SUCCESS;
}

STAND_IN_API int cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* size) {
    std::lock_guard<std::mutex> guard(lock);
    if (!kernels.count(function)) return INVALID_HANDLE;
    const std::vector<long>& sizes = static_cast<Kernel*>(function)->sizes;
    if (index >= sizes.size()) return INVALID_VALUE;
    *offset = 0;
    for (size_t i = 0; i <= index; i++) {
        // Nearly always right: a size's largest power of two is its alignment, up to 16.
        const size_t alignment = std::min(sizes[i] & -sizes[i], 16l);
        *offset = (*offset + alignment - 1) / alignment * alignment + (i < index ? sizes[i] : 0);
    }
    if (size) *size = sizes[index];
    return SUCCESS;
}

// Launches.

static Result check_shape(const Kernel& kernel, StandInIndex grid, StandInIndex block, size_t shared) {
    const unsigned long long threads = 1ull * block.x * block.y * block.z;
    const char* wrong = nullptr;
    if (!grid.x || !grid.y || !grid.z || !threads) wrong = "an empty grid or block";
    else if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) wrong = "too large a grid";
    else if (block.x > 1024 || block.y > 1024 || block.z > 64 || threads > 1024) wrong = "too large a block";
    else if (threads > kernel.threads_most) wrong = "more threads than its launch bounds";
    else if (shared > kernel.shared_most) wrong = "too much shared memory";
    if (!wrong) return SUCCESS;
    complain("kernel %s: %s: grid (%u, %u, %u), block (%u, %u, %u), %zu bytes shared", kernel.name.c_str(), wrong, grid.x,
             grid.y, grid.z, block.x, block.y, block.z, shared);
    return INVALID_VALUE;
}

STAND_IN_API int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                unsigned block_y, unsigned block_z, unsigned shared, void* stream, void** parameters,
                                void** extra) {
    {
        std::lock_guard<std::mutex> guard(lock);
        if (!kernels.count(function)) return INVALID_HANDLE;
    }
    const Kernel& kernel = *static_cast<Kernel*>(function);
    Launch launch{&kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, nullptr, {}};
    if (const Result result = check_shape(kernel, launch.grid, launch.block, shared)) return result;
    if (extra || (!parameters && !kernel.sizes.empty())) return INVALID_VALUE;

    size_t bytes = 0;
    for (long size : kernel.sizes) bytes += (size + 15) / 16 * 16;
    launch.values.reset(static_cast<char*>(aligned_alloc(16, bytes + 16)), free);
    size_t at = 0;
    for (size_t i = 0; i < kernel.sizes.size(); i++) {
        if (!parameters[i]) return INVALID_VALUE;
        memcpy(launch.values.get() + at, parameters[i], kernel.sizes[i]);
        launch.parameters.push_back(launch.values.get() + at);
        at += (kernel.sizes[i] + 15) / 16 * 16;
    }
    Work work{Kind::KERNEL, kernel.name};
    work.check = [&kernel] { return kernel.loaded ? SUCCESS : INVALID_HANDLE; };
    work.run = [launch = std::move(launch)] { execute(launch); };
    return enqueue(stream, std::move(work));
}

// Errors.

STAND_IN_API int cuGetErrorName(int error, const char** name) {
    static const std::map<int, const char*> names = {
        {0, "CUDA_SUCCESS"},
        {1, "CUDA_ERROR_INVALID_VALUE"},
        {2, "CUDA_ERROR_OUT_OF_MEMORY"},
        {101, "CUDA_ERROR_INVALID_DEVICE"},
        {200, "CUDA_ERROR_INVALID_IMAGE"},
        {301, "CUDA_ERROR_FILE_NOT_FOUND"},
        {400, "CUDA_ERROR_INVALID_HANDLE"},
        {500, "CUDA_ERROR_NOT_FOUND"},
        {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
        {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
        {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
        {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"},
        {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"},
        {907, "CUDA_ERROR_CAPTURED_EVENT"},
        {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"},
    };
    const auto found = names.find(error);
    *name = found == names.end() ? "CUDA_ERROR_UNKNOWN" : found->second;
    return SUCCESS;
}

STAND_IN_API int cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }
