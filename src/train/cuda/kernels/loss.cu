// Losses from logits, one block of 128 a row; everything but the gradient's last rounding in f32.
//
// logits, target [N, classes]; loss [N]: each row's, in nats; slope [N, classes]: `share` times its gradient.
// teacher = 1: T^2 KL(softmax(target / T) || softmax(logits / T)); 0: cross-entropy against probabilities.
KERNEL loss_rows(const float* logits, const float* target, float* loss, NUMBER* slope, u32 classes, u32 teacher,
                 float temperature, float share) {
    __shared__ float room[32];
    logits += (u64)blockIdx.x * classes;
    target += (u64)blockIdx.x * classes;
    slope += (u64)blockIdx.x * classes;
    float inverse = 1.f / temperature, most = -LARGEST, most_target = -LARGEST;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) {
        most = fmaxf(most, logits[i]);
        most_target = fmaxf(most_target, target[i]);
    }
    most = block_max(most, room);
    most_target = block_max(most_target, room);
    float sum = 0.f, mass = 0.f;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) {
        sum += expf((logits[i] - most) * inverse);
        mass += teacher ? expf((target[i] - most_target) * inverse) : target[i];
    }
    sum = block_sum(sum, room);
    mass = block_sum(mass, room);
    float log_sum = logf(sum), log_mass = logf(mass), total = 0.f;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) {
        float log_q = (logits[i] - most) * inverse - log_sum;
        float log_p = teacher ? (target[i] - most_target) * inverse - log_mass : 0.f;
        float p = teacher ? expf(log_p) : target[i];
        total += p * (log_p - log_q);
        narrow(share * temperature * (expf(log_q) * (teacher ? 1.f : mass) - p), slope[i]);
    }
    total = block_sum(total, room);
    // A maximum passes over NaN, the sum does not.
    if (threadIdx.x == 0) loss[blockIdx.x] = total * temperature * temperature;
}
