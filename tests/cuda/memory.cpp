// Device memory and pinned host memory. An allocation of the device lies between two pages that nobody may touch, its
// end at the second but for up to 255 bytes; the rest of its pages holds a pattern that release checks. Released
// memory stays reserved and untouchable for a while. While counting, all of it is untouchable.
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <deque>
#include <map>
#include <mutex>

#include "report.h"

namespace stand_in {

namespace {

constexpr size_t PAGE = 4096, ALIGNMENT = 256, QUARANTINED = 256;
constexpr unsigned char FRESH = 0xff;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

struct Allocation {
    size_t bytes;
    char* region;
    size_t region_bytes;
};

std::mutex& lock = *new std::mutex;
std::map<char*, Allocation>& live = *new std::map<char*, Allocation>;
std::map<char*, size_t>& pinned = *new std::map<char*, size_t>;
std::deque<Allocation>& quarantine = *new std::deque<Allocation>;
size_t in_use = 0;

/// The live allocation that holds the address, or end().
std::map<char*, Allocation>::iterator find(const void* address) {
    auto at = live.upper_bound(static_cast<char*>(const_cast<void*>(address)));
    if (at == live.begin()) return live.end();
    --at;
    return static_cast<const char*>(address) <= at->first + at->second.bytes ? at : live.end();
}

bool fresh(const char* from, const char* to) {
    for (; from < to; from++)
        if (static_cast<unsigned char>(*from) != FRESH) return false;
    return true;
}

}  // namespace

size_t memory_total() {
    static const size_t total = [] {
        const char* bytes = getenv("DISTILLERY_STAND_IN_MEMORY");
        return static_cast<size_t>(bytes && *bytes ? strtod(bytes, nullptr) : 80e9);
    }();
    return total;
}

size_t memory_in_use() {
    std::lock_guard<std::mutex> guard(lock);
    return in_use;
}

Result allocate(void** start, size_t bytes) {
    if (!start || !bytes) return INVALID_VALUE;
    const size_t pages = round_up(bytes, PAGE), region_bytes = pages + 2 * PAGE;
    std::lock_guard<std::mutex> guard(lock);
    if (bytes > memory_total() - in_use) return OUT_OF_MEMORY;
    void* mapped = mmap(nullptr, region_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return OUT_OF_MEMORY;
    char* region = static_cast<char*>(mapped);
    if (!counting()) {
        if (mprotect(region + PAGE, pages, PROT_READ | PROT_WRITE)) {
            munmap(mapped, region_bytes);
            return OUT_OF_MEMORY;
        }
        memset(region + PAGE, FRESH, pages);
    }
    char* at = region + PAGE + pages - round_up(bytes, ALIGNMENT);
    live[at] = {bytes, region, region_bytes};
    in_use += bytes;
    count([&](Report& r) {
        r.allocations++;
        r.current_bytes = in_use;
        if (r.current_bytes > r.peak_bytes) r.peak_bytes = r.current_bytes;
    });
    *start = at;
    return SUCCESS;
}

Result release(void* start) {
    std::lock_guard<std::mutex> guard(lock);
    const auto at = live.find(static_cast<char*>(start));
    if (at == live.end()) {
        complain("release of %p, which is no live allocation", start);
        return INVALID_VALUE;
    }
    const Allocation gone = at->second;
    Result result = SUCCESS;
    const char *first = gone.region + PAGE, *last = gone.region + gone.region_bytes - PAGE;
    if (!counting() && !(fresh(first, at->first) && fresh(at->first + gone.bytes, last))) {
        complain("an allocation of %zu bytes was written to just outside its bounds", gone.bytes);
        result = ILLEGAL_ADDRESS;
    }
    live.erase(at);
    // Anew, so that the pages go back to the system.
    mmap(gone.region, gone.region_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    quarantine.push_back(gone);
    if (quarantine.size() > QUARANTINED) {
        munmap(quarantine.front().region, quarantine.front().region_bytes);
        quarantine.pop_front();
    }
    in_use -= gone.bytes;
    count([&](Report& r) { r.current_bytes = in_use; });
    return result;
}

bool inside(const void* start, size_t bytes, const char* what) {
    if (!bytes) return true;
    std::lock_guard<std::mutex> guard(lock);
    const auto at = find(start);
    if (at != live.end() && static_cast<const char*>(start) + bytes <= at->first + at->second.bytes) return true;
    if (at == live.end())
        complain("%s: %zu bytes at %p, which lies in no live allocation", what, bytes, start);
    else
        complain("%s: %zu bytes at %zu of an allocation of %zu bytes", what, bytes,
                 size_t(static_cast<const char*>(start) - at->first), at->second.bytes);
    return false;
}

Result allocate_pinned(void** start, size_t bytes) {
    if (!start || !bytes) return INVALID_VALUE;
    const size_t pages = round_up(bytes, PAGE);
    void* mapped = mmap(nullptr, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return OUT_OF_MEMORY;
    if (!counting()) memset(mapped, FRESH, pages);
    std::lock_guard<std::mutex> guard(lock);
    pinned[static_cast<char*>(mapped)] = bytes;
    count([&](Report& r) { r.pinned_bytes += bytes; });
    *start = mapped;
    return SUCCESS;
}

Result release_pinned(void* start) {
    std::lock_guard<std::mutex> guard(lock);
    const auto at = pinned.find(static_cast<char*>(start));
    if (at == pinned.end()) {
        complain("release of %p, which is no pinned memory", start);
        return INVALID_VALUE;
    }
    munmap(start, round_up(at->second, PAGE));
    count([&](Report& r) { r.pinned_bytes -= at->second; });
    pinned.erase(at);
    return SUCCESS;
}

std::string describe(const void* address) {
    // Called when a fault is about to end the process: not waiting for the lock.
    if (!lock.try_lock()) return "somewhere";
    std::string text = "in no allocation, nor near one";
    const char* at = static_cast<const char*>(address);
    for (const auto& [start, allocation] : live)
        if (at >= allocation.region && at < allocation.region + allocation.region_bytes)
            text = std::to_string(at - start) + " bytes from the start of an allocation of " +
                   std::to_string(allocation.bytes) + " bytes";
    for (const Allocation& gone : quarantine)
        if (at >= gone.region && at < gone.region + gone.region_bytes)
            text = "in a released allocation of " + std::to_string(gone.bytes) + " bytes";
    lock.unlock();
    return text;
}

}  // namespace stand_in
