// What the stand-in's libraries share: libcuda.so.1 holds it, the stand-ins for cuBLASLt and cuDNN link to it.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

/// For a C function that the program calls.
#define STAND_IN_API extern "C" __attribute__((visibility("default")))

namespace stand_in {

/// The CUresult values in use.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904,
};

enum class Kind { KERNEL, PRODUCT, CONVOLUTION, UPLOAD, DOWNLOAD, COPY, SET };

/// One piece of work of a stream, executed when it is enqueued or at each launch of the graph that records it.
struct Work {
    Work(Kind kind, std::string name) : kind(kind), name(std::move(name)) {}

    Kind kind;
    /// A kernel's name, or what else it is.
    std::string name;
    /// A product's floating-point operations.
    double flops = 0;
    /// An upload's bytes.
    size_t bytes = 0;
    /// Says whether the operands are live; called before every execution, and when it is recorded.
    std::function<Result()> check;
    std::function<void()> run;
    /// Executed while counting too.
    bool always = false;
};

/// Whether nothing is computed (DISTILLERY_STAND_IN=count).
bool counting();

/// Executes the work, or records it when the stream captures.
Result enqueue(void* stream, Work work);

/// Says whether the bytes lie inside one live allocation of device memory; tells stderr if not.
bool inside(const void* start, size_t bytes, const char* what);

/// Calls `body` with 0..count, on all cores when it pays off, and returns when all calls have.
void parallel(size_t count, const std::function<void(size_t)>& body);

/// A line on stderr.
void complain(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace stand_in
