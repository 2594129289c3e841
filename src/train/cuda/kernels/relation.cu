// DIST, whose images meet: probabilities of teacher and student, how they correlate along each image and each class, and
// the gradient, which `loss_rows` then takes as given. All in f32.

// Of a line of numbers a of the student and b of the teacher: their means; b's part of the gradient of the correlation by
// a, and a's, both from their means.
struct Line {
    float mean_a, mean_b, of_b, of_a, correlation;
};

// By a whole block; for its first thread.
__device__ __forceinline__ Line correlate(const float* a, const float* b, u32 count, u32 stride, float* room) {
    Line line;
    float sum_a = 0.f, sum_b = 0.f, ab = 0.f, aa = 0.f, bb = 0.f;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
        sum_a += a[(u64)i * stride];
        sum_b += b[(u64)i * stride];
    }
    line.mean_a = block_sum(sum_a, room) / count;
    line.mean_b = block_sum(sum_b, room) / count;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
        float x = a[(u64)i * stride] - line.mean_a, y = b[(u64)i * stride] - line.mean_b;
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    ab = block_sum(ab, room);
    float length_a = sqrtf(block_sum(aa, room)), length_b = sqrtf(block_sum(bb, room));
    // As in the authors' code: what does not vary correlates with nothing.
    float below = length_a * length_b + 1e-8f;
    line.of_b = 1.f / below;
    line.of_a = length_a > 0.f ? ab / below * (length_b / below) / length_a : 0.f;
    line.correlation = ab / below;
    return line;
}

// A block of 128 a row. logits, answers, student, teacher [N, classes]; lines [N].
KERNEL relation_rows(const float* logits, const float* answers, float* student, float* teacher, Line* lines, u32 classes,
                     float inverse) {
    __shared__ float room[32];
    u64 row = (u64)blockIdx.x * classes;
    Soft q = soft(logits + row, classes, inverse, classes, room), p = soft(answers + row, classes, inverse, classes, room);
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) {
        student[row + i] = expf(q.log(logits[row + i]));
        teacher[row + i] = expf(p.log(answers[row + i]));
    }
    __syncthreads();
    Line line = correlate(student + row, teacher + row, classes, 1, room);
    if (threadIdx.x == 0) lines[blockIdx.x] = line;
}

// A block of 128 a class. lines [classes].
KERNEL relation_columns(const float* student, const float* teacher, Line* lines, u32 images, u32 classes) {
    __shared__ float room[32];
    Line line = correlate(student + blockIdx.x, teacher + blockIdx.x, images, classes, room);
    if (threadIdx.x == 0) lines[blockIdx.x] = line;
}

// A block of 128 a row. slope [N, classes]: of the loss times N by the logits; loss [N], whose mean is the loss.
KERNEL relation_slope(const float* student, const float* teacher, const Line* rows, const Line* columns, float* slope,
                      float* loss, u32 classes, float inverse, float factor, float beta, float gamma) {
    __shared__ float room[32];
    u64 row = (u64)blockIdx.x * classes;
    u32 images = gridDim.x;
    Line own = rows[blockIdx.x];
    float mean = 0.f, correlation = 0.f;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) {
        Line column = columns[i];
        float q = student[row + i], p = teacher[row + i];
        float by_row = own.of_b * (p - own.mean_b) - own.of_a * (q - own.mean_a);
        float by_column = column.of_b * (p - column.mean_b) - column.of_a * (q - column.mean_a);
        float gradient = -factor * (beta * by_row + gamma * images / classes * by_column);
        slope[row + i] = gradient;
        mean += q * gradient;
        correlation += column.correlation;
    }
    mean = block_sum(mean, room);
    correlation = block_sum(correlation, room) / classes;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x)
        slope[row + i] = student[row + i] * (slope[row + i] - mean) * inverse;
    if (threadIdx.x == 0) loss[blockIdx.x] = factor * (beta * (1.f - own.correlation) + gamma * (1.f - correlation));
}
