// Streams, events, captures and graphs. Work is executed when it is enqueued, by the calling thread, while it holds
// the stream; a stream that captures records it instead.
#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "memory.h"
#include "report.h"
#include "stream.h"

namespace stand_in {

namespace {

using Clock = std::chrono::steady_clock;

struct Stream;

struct Capture {
    std::vector<Work> nodes;
    Stream* origin;
    int mode;
    std::thread::id thread = std::this_thread::get_id();
    bool invalid = false;
};

struct Stream {
    /// Held while work is executed.
    std::mutex busy;
    std::shared_ptr<Capture> capture;
};

struct Event {
    bool recorded = false, timed;
    Clock::time_point at;
    std::shared_ptr<Capture> capture;
};

using Graph = std::vector<Work>;

constexpr int GLOBAL = 0, THREAD_LOCAL = 1;
constexpr unsigned EVENT_DISABLE_TIMING = 2;

/// Guards the sets and all captures.
std::mutex& lock = *new std::mutex;
Stream& default_stream = *new Stream;
std::set<void*>& streams = *new std::set<void*>;
std::set<void*>& events = *new std::set<void*>;
std::set<void*>& graphs = *new std::set<void*>;
std::set<void*>& executables = *new std::set<void*>;
std::set<std::shared_ptr<Capture>>& captures = *new std::set<std::shared_ptr<Capture>>;

/// The stream of a handle; the null handle and 1 and 2 are the default stream.
Stream* find_stream(void* handle) {
    if (reinterpret_cast<size_t>(handle) <= 2) return &default_stream;
    return streams.count(handle) ? static_cast<Stream*>(handle) : nullptr;
}

Result execute_now(const Work& work) {
    if (work.check)
        if (const Result result = work.check()) return result;
    count_work(work);
    if (!counting() || work.always) work.run();
    return SUCCESS;
}

/// Whether a call that may wait for the device is allowed; if not, it spoils the captures that forbid it.
Result allowed() {
    Result result = SUCCESS;
    for (const auto& capture : captures)
        if (capture->mode == GLOBAL || (capture->mode == THREAD_LOCAL && capture->thread == std::this_thread::get_id()))
            capture->invalid = true, result = CAPTURE_UNSUPPORTED;
    if (result) complain("a call that is not allowed while a stream captures");
    return result;
}

}  // namespace

Result enqueue(void* handle, Work work) {
    if (work.check)
        if (const Result result = work.check()) return result;
    Stream* stream;
    {
        std::lock_guard<std::mutex> guard(lock);
        stream = find_stream(handle);
        if (!stream) return INVALID_HANDLE;
        if (stream->capture) {
            if (stream->capture->invalid) return CAPTURE_INVALIDATED;
            stream->capture->nodes.push_back(std::move(work));
            return SUCCESS;
        }
    }
    count([](Report& r) { r.host_calls++; });
    std::lock_guard<std::mutex> guard(stream->busy);
    return execute_now(work);
}

Result allowed_by_captures() {
    std::lock_guard<std::mutex> guard(lock);
    return allowed();
}

Result allowed_on(void* handle) {
    std::lock_guard<std::mutex> guard(lock);
    Stream* stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) {
        stream->capture->invalid = true;
        complain("a call that is not allowed on a stream that captures");
        return CAPTURE_UNSUPPORTED;
    }
    return SUCCESS;
}

}  // namespace stand_in

using namespace stand_in;

STAND_IN_API int cuStreamCreate(void** stream, unsigned) {
    std::lock_guard<std::mutex> guard(lock);
    *stream = new Stream;
    streams.insert(*stream);
    return SUCCESS;
}

STAND_IN_API int cuStreamCreateWithPriority(void** stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

STAND_IN_API int cuStreamDestroy_v2(void* handle) {
    std::lock_guard<std::mutex> guard(lock);
    if (!streams.count(handle)) return INVALID_HANDLE;
    Stream* stream = static_cast<Stream*>(handle);
    if (stream->capture) captures.erase(stream->capture);
    streams.erase(handle);
    // Another thread that still used it would be at fault on a device too.
    delete stream;
    return SUCCESS;
}

STAND_IN_API int cuStreamSynchronize(void* stream) {
    if (const Result result = allowed_on(stream)) return result;
    if (const Result result = allowed_by_captures()) return result;
    count([](Report& r) { r.synchronizations++; });
    write_report();
    return SUCCESS;
}

STAND_IN_API int cuStreamQuery(void* stream) {
    if (const Result result = allowed_on(stream)) return result;
    return allowed_by_captures();
}

STAND_IN_API int cuCtxSynchronize() {
    if (const Result result = allowed_by_captures()) return result;
    count([](Report& r) { r.synchronizations++; });
    write_report();
    return SUCCESS;
}

STAND_IN_API int cuStreamWaitEvent(void* handle, void* waited, unsigned) {
    std::lock_guard<std::mutex> guard(lock);
    Stream* stream = find_stream(handle);
    if (!stream || !events.count(waited)) return INVALID_HANDLE;
    const Event& event = *static_cast<Event*>(waited);
    if (event.capture && !captures.count(event.capture)) return INVALID_VALUE;
    // A stream that waits for captured work takes part in the capture.
    if (event.capture && !stream->capture) stream->capture = event.capture;
    if (stream->capture && event.recorded && !event.capture) {
        stream->capture->invalid = true;
        complain("a stream that captures waits for an event recorded outside the capture");
        return 905;  // CUDA_ERROR_STREAM_CAPTURE_ISOLATION
    }
    return SUCCESS;
}

STAND_IN_API int cuStreamIsCapturing(void* handle, int* status) {
    std::lock_guard<std::mutex> guard(lock);
    const Stream* stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    *status = stream->capture ? 1 + stream->capture->invalid : 0;
    return SUCCESS;
}

STAND_IN_API int cuStreamBeginCapture_v2(void* handle, int mode) {
    std::lock_guard<std::mutex> guard(lock);
    Stream* stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (mode < 0 || mode > 2) return INVALID_VALUE;
    if (stream == &default_stream) return CAPTURE_UNSUPPORTED;
    if (stream->capture) return 901;
    auto capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->mode = mode;
    stream->capture = capture;
    captures.insert(capture);
    count([](Report& r) { r.captures++; });
    return SUCCESS;
}

STAND_IN_API int cuStreamEndCapture(void* handle, void** graph) {
    std::lock_guard<std::mutex> guard(lock);
    *graph = nullptr;
    Stream* stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    const auto capture = stream->capture;
    if (!capture || capture->origin != stream) return CAPTURE_UNMATCHED;
    if (capture->mode != 2 && capture->thread != std::this_thread::get_id()) return 908;  // WRONG_THREAD
    for (void* other : streams)
        if (static_cast<Stream*>(other)->capture == capture) static_cast<Stream*>(other)->capture.reset();
    captures.erase(capture);
    if (capture->invalid) return CAPTURE_INVALIDATED;
    *graph = new Graph(std::move(capture->nodes));
    graphs.insert(*graph);
    return SUCCESS;
}

STAND_IN_API int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
    std::lock_guard<std::mutex> guard(lock);
    if (!graphs.count(graph)) return INVALID_VALUE;
    *executable = new Graph(*static_cast<Graph*>(graph));
    executables.insert(*executable);
    return SUCCESS;
}

STAND_IN_API int cuGraphGetNodes(void* graph, void** nodes, size_t* count) {
    std::lock_guard<std::mutex> guard(lock);
    if (!graphs.count(graph) || nodes) return INVALID_VALUE;
    *count = static_cast<Graph*>(graph)->size();
    return SUCCESS;
}

STAND_IN_API int cuGraphUpload(void* executable, void* stream) {
    std::lock_guard<std::mutex> guard(lock);
    return executables.count(executable) && find_stream(stream) ? SUCCESS : INVALID_VALUE;
}

STAND_IN_API int cuGraphLaunch(void* executable, void* handle) {
    Stream* stream;
    {
        std::lock_guard<std::mutex> guard(lock);
        stream = find_stream(handle);
        if (!stream || !executables.count(executable)) return INVALID_VALUE;
        if (stream->capture) {
            stream->capture->invalid = true;
            complain("the launch of a graph while its stream captures");
            return CAPTURE_UNSUPPORTED;
        }
    }
    const Graph& graph = *static_cast<Graph*>(executable);
    count([&](Report& r) { r.host_calls++, r.graph_launches++, r.graph_nodes += graph.size(); });
    std::lock_guard<std::mutex> guard(stream->busy);
    for (const Work& work : graph)
        if (const Result result = execute_now(work)) return result;
    return SUCCESS;
}

STAND_IN_API int cuGraphExecDestroy(void* executable) {
    std::lock_guard<std::mutex> guard(lock);
    if (!executables.erase(executable)) return INVALID_VALUE;
    delete static_cast<Graph*>(executable);
    return SUCCESS;
}

STAND_IN_API int cuGraphDestroy(void* graph) {
    std::lock_guard<std::mutex> guard(lock);
    if (!graphs.erase(graph)) return INVALID_VALUE;
    delete static_cast<Graph*>(graph);
    return SUCCESS;
}

STAND_IN_API int cuEventCreate(void** event, unsigned flags) {
    std::lock_guard<std::mutex> guard(lock);
    *event = new Event{false, !(flags & EVENT_DISABLE_TIMING), {}, nullptr};
    events.insert(*event);
    return SUCCESS;
}

STAND_IN_API int cuEventDestroy_v2(void* event) {
    std::lock_guard<std::mutex> guard(lock);
    if (!events.erase(event)) return INVALID_HANDLE;
    delete static_cast<Event*>(event);
    return SUCCESS;
}

STAND_IN_API int cuEventRecord(void* handle, void* stream_handle) {
    std::lock_guard<std::mutex> guard(lock);
    const Stream* stream = find_stream(stream_handle);
    if (!stream || !events.count(handle)) return INVALID_HANDLE;
    Event& event = *static_cast<Event*>(handle);
    // What is recorded while capturing marks a place in the graph, and no time.
    event.capture = stream->capture;
    event.recorded = !event.capture;
    event.at = Clock::now();
    return SUCCESS;
}

static Result query_event(void* handle) {
    std::lock_guard<std::mutex> guard(lock);
    if (!events.count(handle)) return INVALID_HANDLE;
    if (const Event& event = *static_cast<Event*>(handle); event.capture) {
        event.capture->invalid = true;
        return static_cast<Result>(907);  // CUDA_ERROR_CAPTURED_EVENT
    }
    return allowed();
}

STAND_IN_API int cuEventQuery(void* event) { return query_event(event); }

STAND_IN_API int cuEventSynchronize(void* event) {
    if (const Result result = query_event(event)) return result;
    count([](Report& r) { r.synchronizations++; });
    return SUCCESS;
}

// Not `_v2`, which drivers before 12.8 lack.
STAND_IN_API int cuEventElapsedTime(float* milliseconds, void* start, void* end) {
    std::lock_guard<std::mutex> guard(lock);
    if (!events.count(start) || !events.count(end)) return INVALID_HANDLE;
    const Event &from = *static_cast<Event*>(start), &to = *static_cast<Event*>(end);
    if (!from.recorded || !to.recorded || !from.timed || !to.timed) return INVALID_HANDLE;
    *milliseconds = std::chrono::duration<float, std::milli>(to.at - from.at).count();
    return SUCCESS;
}
