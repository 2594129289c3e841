// A network's numbers: the f32 vector in timm's order, and the matrices that the products read, [Co, taps, Ci] in the
// element type, standardised where the layer is. One block takes one row: all layers in one launch.
struct Row {
    u32 at;        // place in the flat vector
    u32 packed;    // place in the matrices, or NOT_PACKED
    u32 n;         // numbers
    u32 taps;      // places of the window; n / taps input channels
    float eps;     // of weight standardisation; negative for none
    u32 decays;    // whether weights decay
};
#define NOT_PACKED 0xffffffffu

// What a step is told; written by the host before it.
struct Control {
    float rate;        // of learning, with Adam's first correction in it
    float correction;  // of averages of squares: 1 / (1 - beta2^t)
    float keep;        // of the weights that decay
    float most;        // norm to which gradients are clipped; infinity for none
    u64 step;
    float take;        // of the new weights, for their moving average
    float coupled;     // of the weights that decay, for their gradient
    float first;       // Adam's first correction where it is not in the rate: 1 / (1 - beta1^t)
    u32 nothing;
};

// What a student's steps leave behind; read by the host now and then. Eight bytes each.
struct Status {
    double loss;         // sum over steps
    double norm;         // sum of the gradients' norms before clipping
    double nanoseconds;  // of the student's steps
    double last_loss, last_norm;
    u64 steps;           // taken since the host last looked
    u64 failed;          // 0, or 1 + the step at which something was not finite: nothing moves any more
    u64 why;             // 1 the loss, 2 the gradient, 3 a weight
    u64 began;           // when the step began
    u64 bad_weight;      // whether the last update made one that is not finite
    double clip;         // factor of the gradient
};

KERNEL begin_step(Status* status) { status->began = global_timer(); }

// Mean and 1 / standard deviation of a row of `n` numbers.
__device__ void moments(const float* w, u32 n, float eps, double* room, float& mean, float& rstd) {
    double sum = 0;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) sum += w[i];
    double middle = block_sum(sum, room) / n, square = 0;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) square += (w[i] - middle) * (w[i] - middle);
    double variance = block_sum(square, room) / n;
    mean = (float)middle;
    rstd = (float)(1.0 / sqrt(variance + (double)eps));
}

// Writes one row's matrix from its numbers.
__device__ void pack(Row row, const float* w, NUMBER* packed, double* room) {
    if (row.packed == NOT_PACKED) return;
    float mean = 0.f, rstd = 1.f;
    if (row.eps >= 0.f) moments(w, row.n, row.eps, room, mean, rstd);
    u32 channels = row.n / row.taps;
    packed += row.packed;
    for (u32 i = threadIdx.x; i < row.n; i += blockDim.x)
        narrow((w[i % channels * row.taps + i / channels] - mean) * rstd, packed[i]);
}

// Grid over rows, 128 threads.
KERNEL pack_rows(const Row* rows, const float* weights, NUMBER* packed) {
    __shared__ double room[32];
    Row row = rows[blockIdx.x];
    pack(row, weights + row.at, packed, room);
}

// The gradient of a row's numbers from that of its matrix, `native`; for other rows it is there already.
// squares [rows]: sums of its squares.
KERNEL collect_rows(const Row* rows, const float* weights, const float* native, float* gradient, double* squares) {
    __shared__ double room[32];
    Row row = rows[blockIdx.x];
    gradient += row.at;
    const float* w = weights + row.at;
    if (row.packed != NOT_PACKED) {
        native += row.packed;
        u32 channels = row.n / row.taps;
        float mean = 0.f, rstd = 1.f, middle = 0.f, product = 0.f;
        if (row.eps >= 0.f) {
            moments(w, row.n, row.eps, room, mean, rstd);
            double a = 0, b = 0;
            for (u32 i = threadIdx.x; i < row.n; i += blockDim.x) {
                a += native[i];
                b += (double)native[i] * ((w[i % channels * row.taps + i / channels] - mean) * rstd);
            }
            middle = (float)(block_sum(a, room) / row.n);
            product = (float)(block_sum(b, room) / row.n);
        }
        for (u32 i = threadIdx.x; i < row.n; i += blockDim.x) {
            u32 to = i % channels * row.taps + i / channels;
            gradient[to] = rstd * (native[i] - middle - (w[to] - mean) * rstd * product);
        }
        __syncthreads();
    }
    double sum = 0;
    for (u32 i = threadIdx.x; i < row.n; i += blockDim.x) sum += (double)gradient[i] * gradient[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// One block of 1024: the step's loss and norm, whether all is finite, and what the gradient is to be multiplied by.
KERNEL judge(const float* loss, u32 batch, const double* squares, u32 rows, const Control* control, Status* status) {
    __shared__ double room[32];
    double sum = 0, square = 0;
    for (u32 i = threadIdx.x; i < batch; i += blockDim.x) sum += loss[i];
    for (u32 i = threadIdx.x; i < rows; i += blockDim.x) square += squares[i];
    sum = block_sum(sum, room) / batch;
    double norm = sqrt(block_sum(square, room));
    if (threadIdx.x || status->failed) return;
    status->last_loss = sum;
    status->last_norm = norm;
    u64 why = status->bad_weight ? 3 : !isfinite(sum) ? 1 : !isfinite(norm) ? 2 : 0;
    if (why) {
        status->why = why;
        // What an update spoiled is noticed one step later.
        status->failed = 1 + control->step - (why == 3);
        return;
    }
    status->clip = norm > control->most ? control->most / norm : 1.0;
    status->loss += sum;
    status->norm += norm;
    status->steps += 1;
}

// The gradient alone, for workloads without an optimiser.
KERNEL end_step(Status* status) { status->nanoseconds += (double)(global_timer() - status->began); }

// `directed`: a direction, in which clipping and coupled decay are already, stands for the gradient.
#define UPDATE(directed, body)                                                \
    __shared__ double room[32];                                               \
    if (status->failed) return;                                               \
    Row row = rows[blockIdx.x];                                               \
    float* w = weights + row.at;                                              \
    const float* g = gradient + row.at;                                       \
    float clip = directed ? 1.f : (float)status->clip, rate = control->rate;  \
    float keep = row.decays ? control->keep : 1.f;                            \
    float coupled = row.decays && !(directed) ? control->coupled : 0.f;       \
    for (u32 i = threadIdx.x; i < row.n; i += blockDim.x) {                   \
        float slope = g[i] * clip + coupled * w[i], value;                    \
        body                                                                  \
        if (!isfinite(value)) status->bad_weight = 1;                         \
        w[i] = value;                                                         \
    }                                                                         \
    __syncthreads();                                                          \
    pack(row, w, packed, room);

// Running statistics that take in a batch's moments: n numbers `at` the flat vector, `from` the moments.
struct Running {
    u32 at, from, n;
};

// Torch's own momentum. Grid over statistics, 128 threads.
KERNEL settle_running(const Running* rows, const float* moments, float* weights, Status* status) {
    if (status->failed) return;
    Running row = rows[blockIdx.x];
    for (u32 i = threadIdx.x; i < row.n; i += blockDim.x) {
        float value = (float)(0.9 * (double)weights[row.at + i] + 0.1 * (double)moments[row.from + i]);
        if (!isfinite(value)) status->bad_weight = 1;
        weights[row.at + i] = value;
    }
}

// Updates of a row, and its matrix anew. Grid over rows, 128 threads.
KERNEL adam_rows(const Row* rows, const float* gradient, float* first, float* second, float* weights, NUMBER* packed,
                 const Control* control, Status* status, float beta1, float beta2, float epsilon) {
    float correction = control->correction;
    UPDATE(0, {
        float m = beta1 * first[row.at + i] + (1.f - beta1) * slope;
        float v = beta2 * second[row.at + i] + (1.f - beta2) * slope * slope;
        first[row.at + i] = m;
        second[row.at + i] = v;
        value = w[i] * keep - rate * m / (sqrtf(v * correction) + epsilon);
    })
}

// The moving average of all weights. One thread a number.
KERNEL average(float* average, const float* weights, u32 n, const Control* control, const Status* status) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n || status->failed) return;
    average[i] = fmaf(control->take, weights[i] - average[i], average[i]);
}

KERNEL sgd_rows(const Row* rows, const float* gradient, float* momentum, float* weights, NUMBER* packed,
                const Control* control, Status* status, float beta, u32 nesterov, u32 directed) {
    UPDATE(directed, {
        float m = beta * momentum[row.at + i] + slope;
        momentum[row.at + i] = m;
        value = w[i] * keep - rate * (nesterov ? beta * m + slope : m);
    })
}
