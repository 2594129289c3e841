// Sums over rows, in two steps: slices of rows, then slices.

// partial [slices, C]: sums of columns of x [rows, stride], the first C of each row. Grid (ceil(C / 32), slices), 32 x 8
// threads; a block takes `rows_each` rows.
KERNEL column_sums(const NUMBER* x, float* partial, u32 rows, u32 rows_each, u32 stride, u32 c) {
    __shared__ float room[8 * 32];
    u32 column = blockIdx.x * 32 + threadIdx.x % 32, line = threadIdx.x / 32;
    u32 first = blockIdx.y * rows_each, end = min(first + rows_each, rows);
    float sum = 0.f;
    if (column < c)
        for (u32 row = first + line; row < end; row += 8) sum += widen(x[(u64)row * stride + column]);
    room[threadIdx.x] = sum;
    sum_rows(room, 8, 32);
    if (line == 0 && column < c) partial[(u64)blockIdx.y * c + column] = room[threadIdx.x];
}

// to [C] (+)= the sum over `parts` rows of partial [parts, stride], the first C of each. Grid ceil(C / 32), 32 x 16
// threads.
KERNEL sum_parts(const float* partial, float* to, u32 parts, u32 stride, u32 c, u32 add) {
    __shared__ float room[16 * 32];
    u32 column = blockIdx.x * 32 + threadIdx.x % 32, line = threadIdx.x / 32;
    float sum = 0.f;
    if (column < c)
        for (u32 part = line; part < parts; part += 16) sum += partial[(u64)part * stride + column];
    room[threadIdx.x] = sum;
    sum_rows(room, 16, 32);
    if (line == 0 && column < c) to[column] = (add ? to[column] : 0.f) + room[threadIdx.x];
}
