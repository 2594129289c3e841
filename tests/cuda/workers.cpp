// A few OS threads that share out independent pieces of work. Whoever asks while they are busy works alone.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "stand_in.h"

namespace stand_in {

namespace {

constexpr unsigned MOST_THREADS = 16;

struct Workers {
    std::mutex busy;
    std::mutex lock;
    std::condition_variable wake, done;
    const std::function<void(size_t)>* body = nullptr;
    size_t count = 0;
    std::atomic<size_t> next{0};
    unsigned helpers = 0, working = 0;
    unsigned long round = 0;

    Workers() {
        const unsigned cores = std::thread::hardware_concurrency();
        helpers = (cores < MOST_THREADS ? cores : MOST_THREADS) - (cores > 0);
        for (unsigned i = 0; i < helpers; i++) std::thread([this] { help(); }).detach();
    }

    void work() {
        for (size_t i; (i = next.fetch_add(1)) < count;) (*body)(i);
    }

    [[noreturn]] void help() {
        unsigned long seen = 0;
        std::unique_lock<std::mutex> guard(lock);
        for (;;) {
            wake.wait(guard, [&] { return round != seen; });
            seen = round;
            guard.unlock();
            work();
            guard.lock();
            if (!--working) done.notify_one();
        }
    }

    void share(size_t pieces, const std::function<void(size_t)>& what) {
        {
            std::lock_guard<std::mutex> guard(lock);
            body = &what, count = pieces, next = 0, working = helpers, round++;
        }
        wake.notify_all();
        work();
        std::unique_lock<std::mutex> guard(lock);
        done.wait(guard, [&] { return !working; });
    }
};

}  // namespace

void parallel(size_t count, const std::function<void(size_t)>& body) {
    // Never destroyed: its threads live as long as the process.
    static Workers& workers = *new Workers;
    std::unique_lock<std::mutex> mine(workers.busy, std::try_to_lock);
    if (count > 1 && mine.owns_lock() && workers.helpers)
        workers.share(count, body);
    else
        for (size_t i = 0; i < count; i++) body(i);
}

}  // namespace stand_in
