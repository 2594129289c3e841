// The counters, and the file they are written to: a JSON object, rewritten at every synchronisation of a stream and
// when the process ends.
#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mutex>

namespace stand_in {

namespace {

// Never destroyed: other threads may still count while the process ends.
std::mutex& lock = *new std::mutex;
Report& report = *new Report;

std::string json(const Report& r) {
    std::string text = "{\"kernels\": {";
    const char* separator = "";
    for (const auto& [name, launches] : r.kernels) {
        text += separator + ("\"" + name + "\": ") + std::to_string(launches);
        separator = ", ";
    }
    text += "}";
    const std::pair<const char*, long> numbers[] = {
        {"launches", r.launches},
        {"gemms", r.gemms},
        {"gemm_flops", static_cast<long>(r.gemm_flops)},
        {"convolutions", r.convolutions},
        {"allocations", r.allocations},
        {"current_bytes", r.current_bytes},
        {"peak_bytes", r.peak_bytes},
        {"pinned_bytes", r.pinned_bytes},
        {"uploads", r.uploads},
        {"upload_bytes", r.upload_bytes},
        {"downloads", r.downloads},
        {"memsets", r.memsets},
        {"synchronizations", r.synchronizations},
        {"captures", r.captures},
        {"graph_launches", r.graph_launches},
        {"graph_nodes", r.graph_nodes},
        {"host_calls", r.host_calls},
    };
    for (const auto& [name, value] : numbers) text += std::string(", \"") + name + "\": " + std::to_string(value);
    return text + "}\n";
}

}  // namespace

bool counting() {
    static const bool counting = [] {
        const char* mode = getenv("DISTILLERY_STAND_IN");
        if (!mode || !*mode || !strcmp(mode, "run")) return false;
        if (!strcmp(mode, "count")) return true;
        complain("DISTILLERY_STAND_IN is run or count, not %s", mode);
        abort();
    }();
    return counting;
}

void complain(const char* format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "stand-in: %s\n", line);
}

void count(const std::function<void(Report&)>& change) {
    std::lock_guard<std::mutex> guard(lock);
    change(report);
}

void count_work(const Work& work) {
    std::lock_guard<std::mutex> guard(lock);
    switch (work.kind) {
        case Kind::KERNEL:
            report.launches++;
            report.kernels[work.name]++;
            break;
        case Kind::PRODUCT:
            report.launches++;
            report.gemms++;
            report.gemm_flops += work.flops;
            break;
        case Kind::CONVOLUTION:
            report.launches++;
            report.convolutions++;
            break;
        case Kind::UPLOAD:
            report.uploads++;
            report.upload_bytes += work.bytes;
            break;
        case Kind::DOWNLOAD: report.downloads++; break;
        case Kind::COPY: break;
        case Kind::SET: report.memsets++; break;
    }
}

void write_report() {
    const char* path = getenv("DISTILLERY_STAND_IN_REPORT");
    if (!path || !*path) return;
    std::lock_guard<std::mutex> guard(lock);
    const std::string text = json(report), fresh = std::string(path) + "." + std::to_string(getpid());
    FILE* file = fopen(fresh.c_str(), "w");
    const bool written = file && fputs(text.c_str(), file) >= 0;
    if (!file || fclose(file) || !written || rename(fresh.c_str(), path)) complain("cannot write %s", path);
}

__attribute__((destructor)) static void write_last_report() { write_report(); }

}  // namespace stand_in
