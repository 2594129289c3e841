// Executes the blocks of a kernel. The threads of a block take turns on one OS thread: a stack runs thread after
// thread until one has to wait; that stack is parked, and another goes on with the threads that are left. Blocks
// are shared out to all cores.
#include "executor.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>

#include "fibre.h"
#include "memory.h"

__thread StandInThread* stand_in_now;

namespace stand_in {

namespace {

constexpr unsigned LANES = 32;

struct Fibre {
    Stack stack;
    /// The device thread it runs.
    unsigned thread = 0;
    StandInIndex index{};
    /// What it waits for in its warp.
    StandInMeeting meeting{};
    unsigned mask = 0, source = 0;
    uint64_t value = 0;

    Fibre(void (*entry)(), unsigned number) : stack(entry, number) {}
};

struct Warp {
    unsigned existing = 0, ended = 0, arrived = 0;
    Fibre* waiting[LANES];
};

/// The lanes of the mask that have to arrive.
unsigned awaited(const Warp& warp, StandInMeeting meeting, unsigned mask) {
    return mask & warp.existing & (meeting == STAND_IN_SYNC ? ~warp.ended : ~0u);
}

/// The state of the block that an OS thread executes.
class Executor {
  public:
    Executor();
    ~Executor();
    void start(const Launch& launch);
    void run_block(StandInIndex block);
    bool describe(char* text, size_t bytes) const;

    void block_barrier();
    uint64_t warp_exchange(StandInMeeting meeting, unsigned mask, uint64_t value, unsigned source);
    [[noreturn]] void fail(const char* why);
    [[noreturn]] void fibre_body();

  private:
    Fibre* choose();
    void leave(Fibre* self);
    void end_thread();
    void release_block();
    void meet(Warp& warp, unsigned mask, Fibre* last);
    [[noreturn]] void fail_stuck();

    StandInThread now{};
    const Launch* launch = nullptr;
    bool executing = false;
    unsigned threads = 0, next = 0, live = 0;
    StandInIndex next_index{};
    std::vector<std::unique_ptr<Fibre>> fibres;
    std::vector<Fibre*> idle, at_barrier, ready;
    size_t ready_taken = 0;
    Warp warps[1024 / LANES];
    Fibre* running = nullptr;
    /// The OS thread's own stack, which a block is started from.
    void* scheduler = nullptr;
    char* shared_region = nullptr;
};

thread_local Executor* executor = nullptr;
thread_local std::unique_ptr<Executor> owned_executor;

constexpr size_t PAGE = 4096, SHARED_REGION = (SHARED_MOST + PAGE - 1) / PAGE * PAGE;

Executor::Executor() {
    now.block_barrier = [] { executor->block_barrier(); };
    now.warp_exchange = [](StandInMeeting meeting, unsigned mask, unsigned long long value, unsigned source) {
        return static_cast<unsigned long long>(executor->warp_exchange(meeting, mask, value, source));
    };
    now.fail = [](const char* why) { executor->fail(why); };
    void* mapped = mmap(nullptr, SHARED_REGION + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped, SHARED_REGION, PROT_READ | PROT_WRITE)) throw std::bad_alloc();
    shared_region = static_cast<char*>(mapped);
}

Executor::~Executor() { munmap(shared_region, SHARED_REGION + PAGE); }

void Executor::start(const Launch& what) {
    launch = &what;
    threads = what.block.x * what.block.y * what.block.z;
    now.block_dim = what.block;
    now.grid_dim = what.grid;
    // Its end is the start of a page that nobody may touch, but for the alignment.
    now.shared = shared_region + SHARED_REGION - (what.shared + 15) / 16 * 16;
}

void Executor::run_block(StandInIndex block) {
    now.block = block;
    next = 0, live = threads, next_index = {0, 0, 0};
    for (unsigned w = 0; w * LANES < threads; w++) {
        const unsigned lanes = std::min(threads - w * LANES, LANES);
        warps[w].existing = ~0u >> (LANES - lanes);
        warps[w].ended = warps[w].arrived = 0;
    }
    memset(now.shared, 0xff, launch->shared);
    stand_in_now = &now;
    executing = true;
    while ((running = choose())) stand_in_switch(&scheduler, running->stack.top);
    if (live) fail_stuck();
    executing = false;
}

/// The stack to go on with: of a thread that waits no more, or for the threads that are left to start.
Fibre* Executor::choose() {
    if (ready_taken < ready.size()) {
        Fibre* const fibre = ready[ready_taken++];
        if (ready_taken == ready.size()) ready.clear(), ready_taken = 0;
        now.thread = fibre->index;
        now.lane = fibre->thread % LANES;
        return fibre;
    }
    if (next == threads) return nullptr;
    if (idle.empty()) {
        fibres.push_back(std::make_unique<Fibre>([] { executor->fibre_body(); }, fibres.size()));
        return fibres.back().get();
    }
    Fibre* const fibre = idle.back();
    idle.pop_back();
    return fibre;
}

/// What every stack does: runs threads until none is left to start, again and again.
void Executor::fibre_body() {
    Fibre* const self = running;
    for (;;) {
        while (next < threads) {
            self->thread = next++;
            self->index = now.thread = next_index;
            now.lane = self->thread % LANES;
            if (++next_index.x == now.block_dim.x) {
                next_index.x = 0;
                if (++next_index.y == now.block_dim.y) next_index.y = 0, next_index.z++;
            }
            launch->kernel->call(const_cast<void**>(launch->parameters.data()));
            end_thread();
        }
        idle.push_back(self);
        leave(self);
    }
}

/// Leaves this stack for another, until that of this thread is chosen again.
void Executor::leave(Fibre* self) {
    if (self->stack.overflowed()) fail("a thread's stack is full");
    running = choose();
    stand_in_switch(&self->stack.top, running ? running->stack.top : scheduler);
}

void Executor::end_thread() {
    live--;
    if (live && at_barrier.size() == live) release_block();
    Warp& warp = warps[running->thread / LANES];
    warp.ended |= 1u << running->thread % LANES;
    // Lanes that only synchronise do not wait for those that have ended.
    for (unsigned left = warp.arrived; left; left &= left - 1) {
        const unsigned lane = __builtin_ctz(left);
        if (!(warp.arrived >> lane & 1)) continue;
        const Fibre& fibre = *warp.waiting[lane];
        if (fibre.meeting == STAND_IN_SYNC && !(awaited(warp, STAND_IN_SYNC, fibre.mask) & ~warp.arrived))
            meet(warp, fibre.mask, nullptr);
    }
}

void Executor::block_barrier() {
    if (at_barrier.size() + 1 == live) return release_block();
    Fibre* const self = running;
    at_barrier.push_back(self);
    leave(self);
}

void Executor::release_block() {
    ready.insert(ready.end(), at_barrier.begin(), at_barrier.end());
    at_barrier.clear();
}

uint64_t Executor::warp_exchange(StandInMeeting meeting, unsigned mask, uint64_t value, unsigned source) {
    Fibre* const self = running;
    const unsigned lane = self->thread % LANES;
    Warp& warp = warps[self->thread / LANES];
    if (!(mask >> lane & 1)) fail("a warp operation by a lane that its mask lacks");
    if (meeting != STAND_IN_SYNC && mask & warp.ended)
        fail("a warp operation whose mask has lanes that have ended already");
    self->meeting = meeting, self->mask = mask, self->value = value, self->source = source;
    warp.waiting[lane] = self;
    warp.arrived |= 1u << lane;
    if (awaited(warp, meeting, mask) & ~warp.arrived)
        leave(self);
    else
        meet(warp, mask, self);
    return self->value;
}

/// Exchanges the values of the lanes in the mask, and lets them go on; the last to arrive runs already.
void Executor::meet(Warp& warp, unsigned mask, Fibre* last) {
    const unsigned lanes = mask & warp.arrived;
    const StandInMeeting meeting = warp.waiting[__builtin_ctz(lanes)]->meeting;
    uint64_t values[LANES], ballot = 0;
    for (unsigned left = lanes; left; left &= left - 1) {
        const unsigned lane = __builtin_ctz(left);
        const Fibre& fibre = *warp.waiting[lane];
        if (fibre.mask != mask || fibre.meeting != meeting)
            fail("lanes of a warp meet in different operations or with different masks");
        values[lane] = fibre.value;
        if (fibre.value) ballot |= 1ull << lane;
    }
    for (unsigned left = lanes; left; left &= left - 1) {
        const unsigned lane = __builtin_ctz(left);
        Fibre* const fibre = warp.waiting[lane];
        if (meeting == STAND_IN_BALLOT) fibre->value = ballot;
        if (meeting == STAND_IN_SHUFFLE) {
            if (!(lanes >> fibre->source % LANES & 1)) fail("a shuffle from a lane that takes no part");
            fibre->value = values[fibre->source % LANES];
        }
        if (fibre != last) ready.push_back(fibre);
    }
    warp.arrived &= ~lanes;
}

bool Executor::describe(char* text, size_t bytes) const {
    if (!executing) return false;
    snprintf(text, bytes, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", launch->kernel->name.c_str(),
             now.block.x, now.block.y, now.block.z, now.thread.x, now.thread.y, now.thread.z);
    return true;
}

void Executor::fail(const char* why) {
    char where[256] = "no kernel";
    describe(where, sizeof where);
    complain("%s: %s", where, why);
    abort();
}

void Executor::fail_stuck() {
    char why[256];
    for (unsigned w = 0; w * LANES < threads; w++) {
        if (!warps[w].arrived) continue;
        const unsigned lane = __builtin_ctz(warps[w].arrived), mask = warps[w].waiting[lane]->mask;
        now.thread = warps[w].waiting[lane]->index;
        snprintf(why, sizeof why, "stuck: lanes %08x of warp %u wait in a warp operation for lanes %08x",
                 warps[w].arrived, w, mask & warps[w].existing & ~warps[w].arrived);
        fail(why);
    }
    snprintf(why, sizeof why, "stuck: %zu of %u live threads wait in __syncthreads", at_barrier.size(), live);
    fail(why);
}

/// Threads in a piece of work for one core.
constexpr size_t PIECE = 4096;

struct sigaction before_segv, before_bus;

void on_fault(int, siginfo_t* info, void*) {
    char where[256];
    if (executor && executor->describe(where, sizeof where))
        complain("%s: touched %p, %s", where, info->si_addr, describe(info->si_addr).c_str());
    // The fault happens again on return, and is handled as it would have been.
    sigaction(SIGSEGV, &before_segv, nullptr);
    sigaction(SIGBUS, &before_bus, nullptr);
}

}  // namespace

void execute(const Launch& launch) {
    const size_t blocks = size_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    const size_t threads = size_t(launch.block.x) * launch.block.y * launch.block.z;
    const size_t piece = std::max<size_t>(1, PIECE / threads);
    parallel((blocks + piece - 1) / piece, [&](size_t number) {
        if (!executor) {
            owned_executor = std::make_unique<Executor>();
            executor = owned_executor.get();
        }
        executor->start(launch);
        for (size_t b = number * piece, end = std::min(blocks, b + piece); b < end; b++) {
            const size_t x = b % launch.grid.x, row = b / launch.grid.x;
            executor->run_block({unsigned(x), unsigned(row % launch.grid.y), unsigned(row / launch.grid.y)});
        }
    });
}

void report_faults() {
    static const int installed = [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        return sigaction(SIGSEGV, &action, &before_segv) | sigaction(SIGBUS, &action, &before_bus);
    }();
    if (installed) complain("cannot watch for faults");
}

}  // namespace stand_in
