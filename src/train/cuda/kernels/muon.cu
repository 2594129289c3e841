// Muon's direction beside its products (`optimizer/muon.rs`).
#define NO_MATRIX 0xffffffffu

// Momentum of hidden matrices' rows, whose sums of squares go to `squares` [rows]; Adam's direction for the others.
// `matrices` [rows]: which hidden matrix a row is of. Grid over rows, 128 threads.
KERNEL muon_rows(const Row* rows, const u32* matrices, const float* gradient, const float* weights, float* first,
                 float* second, float* to, double* squares, const Control* control, const Status* status, float beta,
                 u32 nesterov, float beta1, float beta2, float epsilon) {
    __shared__ double room[32];
    if (status->failed) return;
    Row row = rows[blockIdx.x];
    bool hidden = matrices[blockIdx.x] != NO_MATRIX;
    float clip = (float)status->clip, coupled = row.decays ? control->coupled : 0.f;
    float rate = control->first, correction = control->correction;
    double sum = 0;
    for (u64 i = (u64)row.at + threadIdx.x; i < (u64)row.at + row.n; i += blockDim.x) {
        float g = fmaf(coupled, weights[i], gradient[i] * clip), value;
        if (hidden) {
            float m = fmaf(beta, first[i], g);
            first[i] = m;
            value = nesterov ? fmaf(beta, m, g) : m;
            sum += (double)value * value;
        } else {
            float m = fmaf(beta1, first[i], (1.f - beta1) * g), v = fmaf(beta2, second[i], (1.f - beta2) * g * g);
            first[i] = m;
            second[i] = v;
            value = rate * m / (sqrtf(v * correction) + epsilon);
        }
        to[i] = value;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// 1 over the length of a hidden matrix, zero for one of zeros. Grid over hidden matrices, 256 threads.
KERNEL hidden_factors(const Span* spans, const double* squares, float* factors, const Status* status) {
    __shared__ double room[32];
    if (status->failed) return;
    Span span = spans[blockIdx.x];
    double sum = 0;
    for (u32 i = threadIdx.x; i < span.count; i += blockDim.x) sum += squares[span.first + i];
    sum = sqrt(block_sum(sum, room));
    if (threadIdx.x == 0) factors[blockIdx.x] = sum == 0 ? 0.f : (float)(1.0 / sum);
}

// Hidden matrices of length one. Grid over rows, 128 threads.
KERNEL hidden_rows(const Row* rows, const u32* matrices, const float* factors, const float* from, float* to,
                   const Status* status) {
    if (status->failed || matrices[blockIdx.x] == NO_MATRIX) return;
    Row row = rows[blockIdx.x];
    float factor = factors[matrices[blockIdx.x]];
    for (u64 i = (u64)row.at + threadIdx.x; i < (u64)row.at + row.n; i += blockDim.x) to[i] = from[i] * factor;
}
