// The stand-in's own test: kernels, captures, products and convolutions compared with plain loops, and the mistakes
// that it has to notice. Ends with the number of failed checks.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "bf16.h"
#include "selftest_kernels.h"

using stand_in::Bf16;
using stand_in::load;

// C functions with whatever parameters; the libraries have no header.
extern "C" {
typedef unsigned long long Device;
int cuInit(unsigned), cuStreamCreate(void**, unsigned), cuStreamSynchronize(void*), cuMemAllocAsync(Device*, size_t, void*);
int cuMemFreeAsync(Device, void*), cuMemcpyHtoDAsync_v2(Device, const void*, size_t, void*);
int cuMemcpyDtoHAsync_v2(void*, Device, size_t, void*), cuMemsetD8Async(Device, unsigned char, size_t, void*);
int cuModuleLoadData(void**, const void*), cuModuleGetFunction(void**, void*, const char*);
int cuFuncSetAttribute(void*, int, int), cuFuncGetParamInfo(void*, size_t, size_t*, size_t*);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
int cuStreamBeginCapture_v2(void*, int), cuStreamEndCapture(void*, void**);
int cuGraphInstantiateWithFlags(void**, void*, unsigned long long), cuGraphLaunch(void*, void*);
int nvrtcCreateProgram(void**, const char*, const char*, int, const char* const*, const char* const*);
int nvrtcCompileProgram(void*, int, const char* const*), nvrtcGetPTXSize(void*, size_t*), nvrtcGetPTX(void*, char*);
int nvrtcGetProgramLogSize(void*, size_t*), nvrtcGetProgramLog(void*, char*), nvrtcDestroyProgram(void**);
int cublasLtCreate(void**), cublasLtMatrixLayoutCreate(void**, int, uint64_t, uint64_t, int64_t);
int cublasLtMatrixLayoutSetAttribute(void*, int, const void*, size_t), cublasLtMatmulDescCreate(void**, int, int);
int cublasLtMatmulDescSetAttribute(void*, int, const void*, size_t), cublasLtMatmulPreferenceCreate(void**);
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void*, int*);
int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*,
                   void*, void*, const void*, void*, size_t, void*);
int cudnnCreate(void**), cudnnSetStream(void*, void*), cudnnCreateTensorDescriptor(void**);
int cudnnSetTensor4dDescriptor(void*, int, int, int, int, int, int), cudnnCreateConvolutionDescriptor(void**);
int cudnnSetFilter4dDescriptor(void*, int, int, int, int, int, int);
int cudnnSetConvolution2dDescriptor(void*, int, int, int, int, int, int, int, int);
int cudnnSetConvolutionGroupCount(void*, int);
int cudnnConvolutionForward(void*, const void*, void*, const void*, void*, const void*, void*, int, void*, size_t,
                            const void*, void*, void*);
int cudnnConvolutionBackwardData(void*, const void*, void*, const void*, void*, const void*, void*, int, void*, size_t,
                                 const void*, void*, void*);
int cudnnConvolutionBackwardFilter(void*, const void*, void*, const void*, void*, const void*, void*, int, void*, size_t,
                                   const void*, void*, void*);
}

static int failed = 0;

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) failed++, printf("line %d: %s\n", __LINE__, #condition);  \
    } while (0)

static void* stream;

static double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Device memory of a vector's contents.
template <typename T> Device upload(const std::vector<T>& from) {
    Device to = 0;
    CHECK(cuMemAllocAsync(&to, from.size() * sizeof(T), stream) == 0);
    CHECK(cuMemcpyHtoDAsync_v2(to, from.data(), from.size() * sizeof(T), stream) == 0);
    return to;
}

template <typename T> std::vector<T> download(Device from, size_t count) {
    std::vector<T> to(count);
    CHECK(cuMemcpyDtoHAsync_v2(to.data(), from, count * sizeof(T), stream) == 0);
    return to;
}

static float uniform() {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return float(state >> 40) / float(1 << 23) - 1.0f;
}

template <typename T> std::vector<T> random_vector(size_t count) {
    std::vector<T> values(count);
    for (T& value : values) stand_in::store(&value, uniform());
    return values;
}

static void* function(const char* name) {
    static void* module = nullptr;
    if (!module) {
        void* program;
        const char* options[] = {"--gpu-architecture=sm_90", "-DFROM_OPTION=3", "--use_fast_math"};
        CHECK(nvrtcCreateProgram(&program, KERNELS, "kernels.cu", 0, nullptr, nullptr) == 0);
        const int compiled = nvrtcCompileProgram(program, 3, options);
        size_t bytes;
        nvrtcGetProgramLogSize(program, &bytes);
        std::string log(bytes, ' '), image;
        nvrtcGetProgramLog(program, log.data());
        if (compiled) printf("%s\n", log.c_str()), exit(1);
        nvrtcGetPTXSize(program, &bytes);
        image.resize(bytes);
        nvrtcGetPTX(program, image.data());
        nvrtcDestroyProgram(&program);
        CHECK(cuModuleLoadData(&module, image.data()) == 0);
    }
    void* found = nullptr;
    const int result = cuModuleGetFunction(&found, module, name);
    CHECK(result == (found ? 0 : 500));
    return found;
}

template <typename... P>
int launch(const char* name, unsigned grid, unsigned block_x, unsigned block_y, unsigned shared, P... parameters) {
    void* all[] = {&parameters..., nullptr};
    return cuLaunchKernel(function(name), grid, 1, 1, block_x, block_y, 1, shared, stream, all, nullptr);
}

static void test_kernels() {
    const int rows = 300, n = 777;
    const auto x = random_vector<float>(rows * n);
    const Device at_x = upload(x), out = upload(std::vector<float>(rows));
    CHECK(launch("row_sums", rows, 128, 1, 0, at_x, out, n) == 0);
    const auto sums = download<float>(out, rows);
    for (int r = 0; r < rows; r++) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += x[r * n + i];
        CHECK(fabs(sum - sums[r]) < 1e-4);
    }
    const unsigned long long small = 100;
    CHECK(launch("reverse", 7, 64, 2, 400, at_x, small) == 0);
    const auto reversed = download<float>(at_x, 700);
    for (int i = 0; i < 700; i++) CHECK(reversed[i] == x[i / 100 * 100 + 99 - i % 100]);

    const Device words = upload(std::vector<unsigned>(33));
    CHECK(launch("ballots", 1, 32, 1, 0, words) == 0);
    const auto ballots = download<unsigned>(words, 33);
    for (unsigned i = 0; i < 32; i++) CHECK(ballots[i] == 0xaaaaaaaau + (i < 8 ? (i ? i - 1 : 0) : 0) + 1000);
    CHECK(ballots[32] == 5);
    CHECK(launch("large_shared", 64, 256, 1, 0, out) == 0);
    CHECK(download<float>(out, 64)[63] == 48 * 256 - 1 + 63);
    CHECK(launch("unwritten_shared", 1, 1, 1, 4, out) == 0);
    CHECK(isnan(download<float>(out, 1)[0]));
    Device fresh;
    CHECK(cuMemAllocAsync(&fresh, 4, stream) == 0 && fresh % 256 == 0 && isnan(download<float>(fresh, 1)[0]));

    CHECK(!function("no_such_kernel") && !function("not_extern_c") && !function("a_template"));
    size_t offset, size;
    CHECK(cuFuncGetParamInfo(function("axpy"), 3, &offset, &size) == 0 && offset == 24 && size == 4);
    CHECK(cuFuncGetParamInfo(function("axpy"), 4, &offset, &size) == 1);
    CHECK(launch("row_sums", 0, 128, 1, 0, at_x, out, n) == 1);
    CHECK(launch("row_sums", 1, 256, 1, 0, at_x, out, n) == 1);
    CHECK(launch("reverse", 1, 1025, 1, 0, at_x, small) == 1);
    CHECK(launch("reverse", 1, 64, 1, 64 << 10, at_x, small) == 1);
    CHECK(cuFuncSetAttribute(function("reverse"), 8, 64 << 10) == 0);
    CHECK(launch("reverse", 1, 64, 2, 64 << 10, at_x, small) == 0);
    CHECK(cuFuncSetAttribute(function("reverse"), 8, 228 << 10) == 1);
    CHECK(cuMemcpyHtoDAsync_v2(out, x.data(), rows * 4 + 4, stream) == 1);
    CHECK(cuMemFreeAsync(out + 256, stream) == 1);
    CHECK(cuMemFreeAsync(out, stream) == 0 && cuMemFreeAsync(out, stream) == 1);
    CHECK(cuMemsetD8Async(out, 0, 4, stream) == 1);
    Device huge;
    CHECK(cuMemAllocAsync(&huge, size_t(81) * 1000000000, stream) == 2);

    void* program;
    CHECK(nvrtcCreateProgram(&program, "\n__global__ void f() { wrong; }", "bad.cu", 0, nullptr, nullptr) == 0);
    CHECK(nvrtcCompileProgram(program, 0, nullptr) == 6);
    char log[4096] = "";
    nvrtcGetProgramLog(program, log);
    CHECK(strstr(log, "bad.cu:2") && strstr(log, "wrong"));
}

static void test_capture() {
    const int n = 256;
    const auto x = random_vector<float>(n * 4);
    const Device at_x = upload(x), y = upload(std::vector<float>(n * 4));
    CHECK(cuStreamBeginCapture_v2(stream, 1) == 0);
    CHECK(cuMemsetD8Async(y, 0, n * 16, stream) == 0);
    for (int i = 1; i <= 2; i++) CHECK(launch("axpy", 4, 64, 1, 0, float(i), at_x, y, n) == 0);
    void *graph, *executable;
    CHECK(cuStreamEndCapture(stream, &graph) == 0 && cuGraphInstantiateWithFlags(&executable, graph, 0) == 0);
    CHECK(download<float>(y, 1)[0] == 0.0f);
    for (int i = 0; i < 3; i++) CHECK(cuGraphLaunch(executable, stream) == 0);
    const auto out = download<float>(y, n * 4);
    for (int i = 0; i < n * 4; i++) CHECK(out[i] == fmaf(2.0f, x[i], x[i]));

    Device refused;
    CHECK(cuStreamBeginCapture_v2(stream, 1) == 0);
    CHECK(cuMemAllocAsync(&refused, 4, stream) == 900);
    CHECK(cuStreamEndCapture(stream, &graph) == 901);
    CHECK(cuStreamBeginCapture_v2(stream, 1) == 0 && cuStreamSynchronize(stream) == 900);
    CHECK(cuStreamEndCapture(stream, &graph) == 901);
}

struct Size {
    int m, n, k;
};

/// One product, compared with plain loops at all or at some places.
template <typename In, typename Out> void test_product(Size s, int trans_a, int trans_b, int batches, bool bias) {
    const int type = sizeof(In) == 2 ? 14 : 0, out_type = sizeof(Out) == 2 ? 14 : 0;
    const int lda = (trans_a ? s.k : s.m) + 3, ldb = (trans_b ? s.n : s.k) + 1, ldc = s.m + 2, ldd = s.m + 5;
    const int64_t strides[] = {int64_t(lda) * (trans_a ? s.m : s.k), int64_t(ldb) * (trans_b ? s.k : s.n),
                               int64_t(ldc) * s.n, int64_t(ldd) * s.n};
    const auto a = random_vector<In>(strides[0] * batches), b = random_vector<In>(strides[1] * batches);
    const auto c = random_vector<Out>(strides[2] * batches), d = random_vector<Out>(strides[3] * batches);
    const auto offsets = random_vector<Out>(s.m);
    const Device at[] = {upload(a), upload(b), upload(c), upload(d), upload(offsets)};
    void *handle, *product, *preference, *layouts[4];
    cublasLtCreate(&handle), cublasLtMatmulDescCreate(&product, 68, 0), cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatrixLayoutCreate(&layouts[0], type, trans_a ? s.k : s.m, trans_a ? s.m : s.k, lda);
    cublasLtMatrixLayoutCreate(&layouts[1], type, trans_b ? s.n : s.k, trans_b ? s.k : s.n, ldb);
    cublasLtMatrixLayoutCreate(&layouts[2], out_type, s.m, s.n, ldc);
    cublasLtMatrixLayoutCreate(&layouts[3], out_type, s.m, s.n, ldd);
    for (int i = 0; i < 4; i++) {
        CHECK(cublasLtMatrixLayoutSetAttribute(layouts[i], 5, &batches, 4) == 0);
        CHECK(cublasLtMatrixLayoutSetAttribute(layouts[i], 6, &strides[i], 8) == 0);
    }
    CHECK(cublasLtMatmulDescSetAttribute(product, 3, &trans_a, 4) == 0);
    CHECK(cublasLtMatmulDescSetAttribute(product, 4, &trans_b, 4) == 0);
    const int epilogue = bias ? 4 : 1;
    CHECK(cublasLtMatmulDescSetAttribute(product, 7, &epilogue, 4) == 0);
    CHECK(cublasLtMatmulDescSetAttribute(product, 8, &at[4], 8) == 0);
    CHECK(cublasLtMatmulDescSetAttribute(product, 26, &out_type, 4) == 0);
    uint64_t heuristics[3][12];
    int count = 0;
    CHECK(cublasLtMatmulAlgoGetHeuristic(handle, product, layouts[0], layouts[1], layouts[2], layouts[3], preference, 3,
                                         heuristics, &count) == 0 && count == 3);
    const float alpha = 0.5f, beta = 0.25f;
    const double start = seconds();
    CHECK(cublasLtMatmul(handle, product, &alpha, (void*)at[0], layouts[0], (void*)at[1], layouts[1], &beta, (void*)at[2],
                         layouts[2], (void*)at[3], layouts[3], heuristics[0], nullptr, 0, stream) == 0);
    const double took = seconds() - start, flops = 2.0 * s.m * s.n * s.k * batches;
    if (flops > 1e9) printf("product: %.0f GFLOP/s\n", flops / took / 1e9);
    const auto out = download<Out>(at[3], strides[3] * batches);
    const int step = flops > 1e8 ? 97 : 1;
    for (int batch = 0; batch < batches; batch++)
        for (int e = 0; e < s.m * s.n; e += step) {
            const int i = e % s.m, j = e / s.m;
            double sum = 0;
            for (int t = 0; t < s.k; t++)
                sum += double(load(a[batch * strides[0] + (trans_a ? t + i * lda : i + t * lda)])) *
                       load(b[batch * strides[1] + (trans_b ? j + t * ldb : t + j * ldb)]);
            sum = alpha * sum + beta * load(c[batch * strides[2] + i + j * ldc]) + (bias ? load(offsets[i]) : 0.0f);
            const double error = fabs(sum - load(out[batch * strides[3] + i + j * ldd]));
            CHECK(error <= (out_type ? 0.005 * fabs(sum) : 0) + 1e-5 * s.k);
        }
    for (Device one : at) CHECK(cuMemFreeAsync(one, stream) == 0);
}

/// A convolution and its two derivatives: <conv(x, w), dy> is linear in each, so each derivative is checked against
/// the plain sum over all its terms.
template <typename T> void test_convolution(int format, int groups) {
    const int n = 3, c = 4, h = 9, w = 7, k = 6, r = 3, q = 2, stride = 2, pad = 1;
    const int oh = (h + 2 * pad - r) / stride + 1, ow = (w + 2 * pad - q) / stride + 1, cg = c / groups, kg = k / groups;
    const int type = sizeof(T) == 2 ? 9 : 0;
    const auto at = [&](int C, int H, int W, int a, int b, int y, int x) {
        return format ? ((a * H + y) * W + x) * C + b : ((a * C + b) * H + y) * W + x;
    };
    const auto x = random_vector<T>(n * c * h * w), f = random_vector<T>(k * cg * r * q);
    const auto dy = random_vector<T>(n * k * oh * ow);
    std::vector<double> y(dy.size()), dx(x.size()), df(f.size());
    for (int term = 0; term < n * k * oh * ow * cg * r * q; term++) {
        int rest = term;
        const auto next = [&](int size) {
            const int digit = rest % size;
            rest /= size;
            return digit;
        };
        const int t = next(q), s = next(r), m = next(cg), b = next(ow), a = next(oh), o = next(k), i = next(n);
        const int ih = a * stride - pad + s, iw = b * stride - pad + t;
        if (ih < 0 || ih >= h || iw < 0 || iw >= w) continue;
        const int at_x = at(c, h, w, i, o / kg * cg + m, ih, iw), at_f = at(cg, r, q, o, m, s, t);
        const int at_y = at(k, oh, ow, i, o, a, b);
        y[at_y] += double(load(x[at_x])) * load(f[at_f]);
        dx[at_x] += double(load(dy[at_y])) * load(f[at_f]);
        df[at_f] += double(load(dy[at_y])) * load(x[at_x]);
    }
    void *handle, *x_desc, *f_desc, *y_desc, *conv;
    cudnnCreate(&handle), cudnnSetStream(handle, stream);
    cudnnCreateTensorDescriptor(&x_desc), cudnnCreateTensorDescriptor(&y_desc), cudnnCreateTensorDescriptor(&f_desc);
    cudnnCreateConvolutionDescriptor(&conv);
    CHECK(cudnnSetTensor4dDescriptor(x_desc, format, type, n, c, h, w) == 0);
    CHECK(cudnnSetTensor4dDescriptor(y_desc, format, type, n, k, oh, ow) == 0);
    CHECK(cudnnSetFilter4dDescriptor(f_desc, type, format, k, cg, r, q) == 0);
    CHECK(cudnnSetConvolution2dDescriptor(conv, pad, pad, stride, stride, 1, 1, 1, 0) == 0);
    CHECK(cudnnSetConvolutionGroupCount(conv, groups) == 0);
    const Device at_x = upload(x), at_f = upload(f), at_dy = upload(dy), space = upload(std::vector<char>(4096));
    const Device out[] = {upload(std::vector<T>(y.size())), upload(x), upload(f)};
    const float one = 1, zero = 0;
    CHECK(cudnnConvolutionForward(handle, &one, x_desc, (void*)at_x, f_desc, (void*)at_f, conv, 1, (void*)space, 4096, &zero,
                                  y_desc, (void*)out[0]) == 0);
    // These add to what is there.
    CHECK(cudnnConvolutionBackwardData(handle, &one, f_desc, (void*)at_f, y_desc, (void*)at_dy, conv, 1, (void*)space, 4096,
                                       &one, x_desc, (void*)out[1]) == 0);
    CHECK(cudnnConvolutionBackwardFilter(handle, &one, x_desc, (void*)at_x, y_desc, (void*)at_dy, conv, 1, (void*)space,
                                         4096, &one, f_desc, (void*)out[2]) == 0);
    const double bound = type ? 0.05 : 1e-4;
    const auto got_y = download<T>(out[0], y.size()), got_dx = download<T>(out[1], dx.size());
    const auto got_df = download<T>(out[2], df.size());
    for (size_t i = 0; i < y.size(); i++) CHECK(fabs(load(got_y[i]) - y[i]) < bound);
    for (size_t i = 0; i < dx.size(); i++) CHECK(fabs(load(got_dx[i]) - dx[i] - load(x[i])) < bound);
    for (size_t i = 0; i < df.size(); i++) CHECK(fabs(load(got_df[i]) - df[i] - load(f[i])) < bound);
}

/// Runs this program again with one word; gives its status as wait does.
static int again(const char* self, const char* what, const char* mode, const std::string& report) {
    if (const pid_t child = fork()) {
        int status = 0;
        waitpid(child, &status, 0);
        return status;
    }
    setenv("DISTILLERY_STAND_IN", mode, 1);
    setenv("DISTILLERY_STAND_IN_REPORT", report.c_str(), 1);
    execl(self, self, what, nullptr);
    _exit(127);
}

static void test_counting() {
    Device plan;
    CHECK(cuMemAllocAsync(&plan, size_t(60) << 30, stream) == 0);
    const Device x = upload(std::vector<float>(1024)), y = upload(std::vector<float>(1024));
    CHECK(launch("axpy", 4, 64, 1, 0, 1.0f, x, y, 256) == 0);
    CHECK(download<float>(y, 1)[0] == 0.0f);
    CHECK(cuMemFreeAsync(plan, stream) == 0);
    void *graph, *executable;
    CHECK(cuStreamBeginCapture_v2(stream, 0) == 0 && launch("axpy", 4, 64, 1, 0, 1.0f, x, y, 256) == 0);
    CHECK(cuStreamEndCapture(stream, &graph) == 0 && cuGraphInstantiateWithFlags(&executable, graph, 0) == 0);
    CHECK(cuGraphLaunch(executable, stream) == 0 && cuGraphLaunch(executable, stream) == 0);
    CHECK(cuStreamSynchronize(stream) == 0);
}

static void time_kernels() {
    const int n = 1 << 20;
    const Device x = upload(random_vector<float>(n * 4)), y = upload(random_vector<float>(n * 4));
    double start = seconds();
    launch("axpy", n / 256, 256, 1, 0, 1.0f, x, y, n);
    printf("%.1f ns a thread without barriers, ", (seconds() - start) / n * 1e9);
    start = seconds();
    launch("row_sums", 4096, 128, 1, 0, x, y, 1024);
    printf("%.1f ns a thread with 6 shuffles and a barrier\n", (seconds() - start) / (4096 * 128) * 1e9);
}

int main(int count, char** words) {
    cuInit(0);
    cuStreamCreate(&stream, 0);
    const std::string what = count > 1 ? words[1] : "";
    if (what == "count") return test_counting(), failed;
    const Device small = upload(std::vector<float>(64));
    if (what == "missing") return launch("lane_missing", 1, 32, 1, 0, small);
    if (what == "bounds") return launch("out_of_bounds", 1, 32, 1, 0, small);

    test_kernels();
    test_capture();
    for (int both = 0; both < 4; both++) {
        test_product<Bf16, Bf16>({37, 29, 300}, both & 1, both >> 1, 2, both == 1);
        test_product<Bf16, float>({16, 24, 8}, both & 1, both >> 1, 1, both == 2);
        test_product<float, float>({50, 1, 33}, both & 1, both >> 1, 3, both == 3);
    }
    test_product<Bf16, float>({1024, 1024, 1024}, 0, 0, 1, false);
    for (int format = 0; format < 2; format++)
        for (int groups = 1; groups <= 2; groups++) {
            test_convolution<float>(format, groups);
            test_convolution<Bf16>(format, groups);
        }
    time_kernels();

    const std::string report = std::string(words[0]) + ".json";
    CHECK(WTERMSIG(again(words[0], "missing", "run", report)) == SIGABRT);
    CHECK(WTERMSIG(again(words[0], "bounds", "run", report)) == SIGSEGV);
    CHECK(again(words[0], "count", "count", report) == 0);
    std::stringstream text;
    text << std::ifstream(report).rdbuf();
    unlink(report.c_str());
    for (const char* part : {"{\"kernels\": {\"axpy\": 3}, \"launches\": 3,", "\"allocations\": 3, \"current_bytes\": 8192,",
                             "\"peak_bytes\": 64424517632,", "\"uploads\": 2, \"upload_bytes\": 8192, \"downloads\": 1,",
                             "\"captures\": 1, \"graph_launches\": 2, \"graph_nodes\": 2, \"host_calls\": 6}"})
        if (!strstr(text.str().c_str(), part)) failed++, printf("%s is not in %s", part, text.str().c_str());
    printf("%d checks failed\n", failed);
    return failed != 0;
}
