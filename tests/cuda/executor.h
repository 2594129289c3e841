// Kernels, and their execution.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "device_thread.h"
#include "stand_in.h"

namespace stand_in {

/// The most shared memory of a block, bytes: without asking, and after asking for it.
constexpr size_t SHARED_DEFAULT = 48 << 10, SHARED_MOST = 227 << 10;

struct Kernel {
    std::string name;
    void (*call)(void** parameters);
    std::vector<long> sizes;
    /// The most threads of a block, by its launch bounds.
    unsigned threads_most = 1024;
    std::atomic<size_t> shared_most{SHARED_DEFAULT};
    /// Whether its module is still loaded.
    std::atomic<bool> loaded{true};
};

struct Launch {
    const Kernel* kernel;
    StandInIndex grid, block;
    size_t shared;
    /// The parameters, each at a multiple of 16 bytes.
    std::shared_ptr<char> values;
    std::vector<void*> parameters;
};

/// Executes all blocks, and returns when they have ended.
void execute(const Launch& launch);

/// Names the kernel when one touches memory that it must not.
void report_faults();

}  // namespace stand_in
