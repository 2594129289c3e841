// Losses from logits, one block of 128 a row; everything but the gradient's last rounding in f32.
//
// logits [N, classes]; answers [N, count, classes]: teachers' logits; labels [N, classes]: probabilities; weights [count]
// of teachers, or null where all are 1; loss [N]: each row's; slope [N, classes]: `share` times its gradient.
// The loss is `taught` times the sum of the distances to the teachers plus `told` times the cross-entropy to the labels.
#define LABELS_ALONE 0
#define KL 1
#define SQUARED 2
#define EUCLIDEAN 3
#define PSEUDO_LABELS 4
#define DECOUPLED 5
#define GIVEN 6
#define MOST_TEACHERS 16

// Of a row: log-softmax of x at 1 / inverse is (x - most) * inverse - log_sum.
struct Soft {
    float most, log_sum, inverse;
    __device__ __forceinline__ float log(float x) const { return (x - most) * inverse - log_sum; }
};

// `but` is left out.
__device__ __forceinline__ Soft soft(const float* row, u32 classes, float inverse, u32 but, float* room) {
    Soft of;
    of.most = -LARGEST;
    of.inverse = inverse;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x)
        if (i != but) of.most = fmaxf(of.most, row[i]);
    of.most = block_max(of.most, room);
    float sum = 0.f;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x)
        if (i != but) sum += expf((row[i] - of.most) * inverse);
    of.log_sum = logf(block_sum(sum, room));
    return of;
}

// The place of the largest number, the first of equal ones.
__device__ __forceinline__ u32 largest(const float* row, u32 classes, float* room) {
    float most = -LARGEST, first = -LARGEST;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) most = fmaxf(most, row[i]);
    most = block_max(most, room);
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x)
        if (row[i] == most) first = fmaxf(first, -(float)i);
    first = block_max(first, room);
    return first == -LARGEST ? 0 : (u32)-first;
}

// first, second: of pseudo-labels the smoothing; of decoupled distillation alpha and beta. factor: what a divergence is
// multiplied by. GIVEN: `slope_of` has the gradient of the distance, and `loss` its value.
KERNEL loss_rows(const float* logits, const float* answers, const float* labels, const float* weights, const float* slope_of,
                 float* loss, NUMBER* slope, u32 classes, u32 kind, u32 count, float temperature, float factor, float first,
                 float second, float told, float share) {
    __shared__ float room[32];
    __shared__ Soft teachers[MOST_TEACHERS];
    u64 row = (u64)blockIdx.x * classes;
    logits += row;
    slope += row;
    answers += row * count;
    labels += row;
    float taught = kind == LABELS_ALONE ? 0.f : 1.f - told, inverse = 1.f / temperature;
    u32 nobody = classes, place = classes;
    Soft plain, q, q_others, p_others;
    plain = q = q_others = p_others = soft(logits, classes, 1.f, nobody, room);
    float mass = 0.f, length = 0.f, log_not_q = 0.f, log_not_p = 0.f, difference = 0.f, total = 0.f;
    if (told > 0.f) {
        for (u32 i = threadIdx.x; i < classes; i += blockDim.x) mass += labels[i];
        mass = block_sum(mass, room);
    }
    if (kind == KL || kind == DECOUPLED) {
        q = soft(logits, classes, inverse, nobody, room);
        for (u32 k = 0; k < count; k++) {
            Soft p = soft(answers + (u64)k * classes, classes, inverse, nobody, room);
            if (threadIdx.x == 0) teachers[k] = p;
        }
        __syncthreads();
    }
    if (kind == EUCLIDEAN) {
        for (u32 i = threadIdx.x; i < classes; i += blockDim.x) length += (logits[i] - answers[i]) * (logits[i] - answers[i]);
        length = sqrtf(block_sum(length, room));
        if (threadIdx.x == 0) total += taught * length;
    }
    if (kind == PSEUDO_LABELS) place = largest(answers, classes, room);
    if (kind == DECOUPLED) {
        place = largest(labels, classes, room);
        q_others = soft(logits, classes, inverse, place, room);
        p_others = soft(answers, classes, inverse, place, room);
        float log_q = q.log(logits[place]), log_p = teachers[0].log(answers[place]);
        log_not_q = (q_others.most - q.most) * inverse + q_others.log_sum - q.log_sum;
        log_not_p = (p_others.most - teachers[0].most) * inverse + p_others.log_sum - teachers[0].log_sum;
        difference = expf(log_q) - expf(log_p);
        if (threadIdx.x == 0)
            total += taught * factor * first * (expf(log_p) * (log_p - log_q) + expf(log_not_p) * (log_not_p - log_not_q));
    }
    if (kind == GIVEN && threadIdx.x == 0) total += taught * loss[blockIdx.x];
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) {
        float value = 0.f, gradient = 0.f, x = logits[i];
        if (kind == KL) {
            float log_q = q.log(x);
            for (u32 k = 0; k < count; k++) {
                float weight = weights ? weights[k] : 1.f, log_p = teachers[k].log(answers[(u64)k * classes + i]);
                value += weight * factor * expf(log_p) * (log_p - log_q);
                gradient += weight * factor * inverse * (expf(log_q) - expf(log_p));
            }
        } else if (kind == SQUARED) {
            gradient = 2.f * (x - answers[i]);
            value = (x - answers[i]) * (x - answers[i]);
        } else if (kind == EUCLIDEAN) {
            gradient = length > 0.f ? (x - answers[i]) / length : 0.f;
        } else if (kind == PSEUDO_LABELS) {
            float p = first / classes + (i == place ? 1.f - first : 0.f), log_q = plain.log(x);
            value = -p * log_q;
            gradient = expf(log_q) - p;
        } else if (kind == DECOUPLED && i == place) {
            gradient = temperature * first * difference;
        } else if (kind == DECOUPLED) {
            float log_q = q_others.log(x), log_p = p_others.log(answers[i]);
            value = factor * second * expf(log_p) * (log_p - log_q);
            gradient = temperature * (second * (expf(log_q) - expf(log_p)) - first * difference * expf(log_q));
        } else if (kind == GIVEN) {
            gradient = slope_of[row + i];
        }
        value *= taught;
        gradient *= taught;
        if (told > 0.f) {
            float log_q = plain.log(x);
            value -= told * labels[i] * log_q;
            gradient += told * (expf(log_q) * mass - labels[i]);
        }
        total += value;
        narrow(share * gradient, slope[i]);
    }
    total = block_sum(total, room);
    // A maximum passes over NaN, the sum does not.
    if (threadIdx.x == 0) loss[blockIdx.x] = total;
}
