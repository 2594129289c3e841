// The counters, and the file they are written to.
#pragma once

#include <map>
#include <string>

#include "stand_in.h"

namespace stand_in {

struct Report {
    std::map<std::string, long> kernels;
    long launches = 0, gemms = 0, convolutions = 0;
    double gemm_flops = 0;
    long allocations = 0, current_bytes = 0, peak_bytes = 0, pinned_bytes = 0;
    long uploads = 0, upload_bytes = 0, downloads = 0, memsets = 0;
    long synchronizations = 0, captures = 0, graph_launches = 0, graph_nodes = 0, host_calls = 0;
};

/// Changes the counters under their lock.
void count(const std::function<void(Report&)>& change);
/// Counts work that is executed now.
void count_work(const Work& work);
/// Rewrites the file named by DISTILLERY_STAND_IN_REPORT, if any.
void write_report();

}  // namespace stand_in
