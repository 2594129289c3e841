// The driver's calls for memory: allocation, pools, copies and settings of bytes.
#include <string.h>

#include "memory.h"
#include "report.h"
#include "stream.h"

using namespace stand_in;

using Device = unsigned long long;

static void* pointer(Device device) { return reinterpret_cast<void*>(device); }

STAND_IN_API int cuMemAllocAsync(Device* start, size_t bytes, void* stream) {
    if (const Result result = allowed_on(stream)) return result;
    return allocate(reinterpret_cast<void**>(start), bytes);
}

STAND_IN_API int cuMemAlloc_v2(Device* start, size_t bytes) {
    if (const Result result = allowed_by_captures()) return result;
    return allocate(reinterpret_cast<void**>(start), bytes);
}

STAND_IN_API int cuMemFreeAsync(Device start, void* stream) {
    if (!start) return INVALID_VALUE;
    if (const Result result = allowed_on(stream)) return result;
    return release(pointer(start));
}

STAND_IN_API int cuMemFree_v2(Device start) {
    if (!start) return SUCCESS;
    if (const Result result = allowed_by_captures()) return result;
    return release(pointer(start));
}

STAND_IN_API int cuMemHostAlloc(void** start, size_t bytes, unsigned) {
    if (const Result result = allowed_by_captures()) return result;
    return allocate_pinned(start, bytes);
}

STAND_IN_API int cuMemAllocHost_v2(void** start, size_t bytes) { return cuMemHostAlloc(start, bytes, 0); }

STAND_IN_API int cuMemFreeHost(void* start) {
    if (const Result result = allowed_by_captures()) return result;
    return release_pinned(start);
}

STAND_IN_API int cuMemGetInfo_v2(size_t* free, size_t* total) {
    *total = memory_total();
    *free = memory_total() - memory_in_use();
    return SUCCESS;
}

// One pool, which keeps nothing.

STAND_IN_API int cuDeviceGetDefaultMemPool(void** pool, int) {
    static char the_pool;
    *pool = &the_pool;
    return SUCCESS;
}

STAND_IN_API int cuDeviceGetMemPool(void** pool, int device) { return cuDeviceGetDefaultMemPool(pool, device); }
STAND_IN_API int cuDeviceSetMemPool(int, void*) { return SUCCESS; }
STAND_IN_API int cuMemPoolSetAttribute(void*, int, void* value) { return value ? SUCCESS : INVALID_VALUE; }
STAND_IN_API int cuMemPoolTrimTo(void*, size_t) { return SUCCESS; }

STAND_IN_API int cuMemPoolGetAttribute(void*, int attribute, void* value) {
    // 5 to 8 are the bytes reserved and used, now and at most; those before are settings.
    if (attribute >= 4)
        *static_cast<unsigned long long*>(value) = attribute == 4 ? 0 : memory_in_use();
    else
        *static_cast<int*>(value) = 1;
    return SUCCESS;
}

// Copies and settings. Those without a stream return when the work is done, and cannot be recorded.

static int upload(Device to, const void* from, size_t bytes, void* stream) {
    Work work{Kind::UPLOAD, "upload"};
    work.bytes = bytes;
    work.check = [=] { return inside(pointer(to), bytes, "upload") ? SUCCESS : INVALID_VALUE; };
    work.run = [=] { memcpy(pointer(to), from, bytes); };
    return enqueue(stream, std::move(work));
}

static int download(void* to, Device from, size_t bytes, void* stream) {
    Work work{Kind::DOWNLOAD, "download"};
    work.check = [=] { return inside(pointer(from), bytes, "download") ? SUCCESS : INVALID_VALUE; };
    work.run = [=] { counting() ? memset(to, 0, bytes) : memcpy(to, pointer(from), bytes); };
    work.always = true;
    return enqueue(stream, std::move(work));
}

static int copy(Device to, Device from, size_t bytes, void* stream) {
    Work work{Kind::COPY, "copy"};
    work.check = [=] {
        const bool live = inside(pointer(to), bytes, "copy to") && inside(pointer(from), bytes, "copy from");
        return live ? SUCCESS : INVALID_VALUE;
    };
    work.run = [=] { memmove(pointer(to), pointer(from), bytes); };
    return enqueue(stream, std::move(work));
}

template <typename T> static int set(Device to, T value, size_t count, void* stream) {
    Work work{Kind::SET, "set"};
    work.check = [=] {
        return to % sizeof(T) == 0 && inside(pointer(to), count * sizeof(T), "set") ? SUCCESS : INVALID_VALUE;
    };
    work.run = [=] {
        T* at = static_cast<T*>(pointer(to));
        for (size_t i = 0; i < count; i++) at[i] = value;
    };
    return enqueue(stream, std::move(work));
}

STAND_IN_API int cuMemcpyHtoDAsync_v2(Device to, const void* from, size_t bytes, void* stream) {
    return upload(to, from, bytes, stream);
}
STAND_IN_API int cuMemcpyDtoHAsync_v2(void* to, Device from, size_t bytes, void* stream) {
    return download(to, from, bytes, stream);
}
STAND_IN_API int cuMemcpyDtoDAsync_v2(Device to, Device from, size_t bytes, void* stream) {
    return copy(to, from, bytes, stream);
}
STAND_IN_API int cuMemsetD8Async(Device to, unsigned char value, size_t count, void* stream) {
    return set(to, value, count, stream);
}
STAND_IN_API int cuMemsetD32Async(Device to, unsigned value, size_t count, void* stream) {
    return set(to, value, count, stream);
}

STAND_IN_API int cuMemcpyHtoD_v2(Device to, const void* from, size_t bytes) {
    if (const Result result = allowed_by_captures()) return result;
    return upload(to, from, bytes, nullptr);
}
STAND_IN_API int cuMemcpyDtoH_v2(void* to, Device from, size_t bytes) {
    if (const Result result = allowed_by_captures()) return result;
    return download(to, from, bytes, nullptr);
}
STAND_IN_API int cuMemcpyDtoD_v2(Device to, Device from, size_t bytes) {
    if (const Result result = allowed_by_captures()) return result;
    return copy(to, from, bytes, nullptr);
}
STAND_IN_API int cuMemsetD8_v2(Device to, unsigned char value, size_t count) {
    if (const Result result = allowed_by_captures()) return result;
    return set(to, value, count, nullptr);
}
STAND_IN_API int cuMemsetD32_v2(Device to, unsigned value, size_t count) {
    if (const Result result = allowed_by_captures()) return result;
    return set(to, value, count, nullptr);
}
