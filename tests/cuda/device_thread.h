// What a compiled kernel and the executor share: the state of the device thread that runs now, and the calls by
// which a thread waits for others. Included by shim.h (in every kernel) and by executor.cpp; both must agree.
#pragma once

struct StandInIndex {
    unsigned x, y, z;
};

/// How lanes of a warp meet in StandInThread::warp_exchange.
enum StandInMeeting { STAND_IN_SYNC, STAND_IN_SHUFFLE, STAND_IN_BALLOT };

struct StandInThread {
    StandInIndex thread, block, block_dim, grid_dim;
    unsigned lane;
    /// The dynamic shared memory of the block that runs.
    void* shared;
    /// Waits until every live thread of the block has called it.
    void (*block_barrier)();
    /// Waits until every lane of the mask has called it. A shuffle gives the value of the lane `source`, a ballot the
    /// lanes whose value is not zero.
    unsigned long long (*warp_exchange)(StandInMeeting, unsigned mask, unsigned long long value, unsigned source);
    /// Ends the process with a message that names the kernel and this thread.
    void (*fail)(const char* why);
};

/// The state of the device thread that this OS thread runs, in the stand-in for the driver.
extern "C" __thread StandInThread* stand_in_now __attribute__((tls_model("initial-exec")));
