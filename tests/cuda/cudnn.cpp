// A stand-in for cuDNN: convolutions of two dimensions, forward, for the data and for the filter, of single precision
// and bf16, in any layout; computed as products in single precision.
#include <chrono>
#include <stdint.h>
#include <string.h>

#include <vector>

#include "bf16.h"
#include "product.h"

using namespace stand_in;

namespace {

enum Status { OK = 0, BAD_PARAM = 3, FAILED = 8, UNSUPPORTED = 9 };

constexpr int FLOAT = 0, BFLOAT16 = 9;
constexpr int NCHW = 0, NHWC = 1;
constexpr int CONVOLUTION = 0, CROSS_CORRELATION = 1;
constexpr size_t WORKSPACE = 4096;

/// Four dimensions and their strides. A filter's are its outputs, its inputs within a group, height and width.
struct Tensor {
    int type = -1;
    int n = 0, c = 0, h = 0, w = 0;
    size_t n_stride = 0, c_stride = 0, h_stride = 0, w_stride = 0;

    bool set(int format, int type_, int n_, int c_, int h_, int w_) {
        *this = {type_, n_, c_, h_, w_, size_t(c_) * h_ * w_, 0, 0, 0};
        if (format == NCHW) c_stride = size_t(h_) * w_, h_stride = w_, w_stride = 1;
        if (format == NHWC) c_stride = 1, h_stride = size_t(w_) * c_, w_stride = c_;
        return (format == NCHW || format == NHWC) && valid();
    }
    bool valid() const { return (type == FLOAT || type == BFLOAT16) && n > 0 && c > 0 && h > 0 && w > 0; }
    size_t bytes() const {
        const size_t last = (n - 1) * n_stride + (c - 1) * c_stride + (h - 1) * h_stride + (w - 1) * w_stride;
        return (last + 1) * (type == FLOAT ? 4 : 2);
    }
};

struct Convolution {
    int pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0, dilation_h = 0, dilation_w = 0;
    int mode = CROSS_CORRELATION, compute_type = FLOAT, math_type = 0, groups = 1;
};

struct Handle {
    void* stream = nullptr;
};

/// The layout of cudnnConvolution*AlgoPerf_t.
struct Performance {
    int algorithm, status;
    float time;
    size_t memory;
    int deterministic, math_type;
    int reserved[3];
};

int output_size(int in, int pad, int filter, int stride, int dilation) {
    return (in + 2 * pad - (dilation * (filter - 1) + 1)) / stride + 1;
}

Status check(const Tensor& x, const Tensor& w, const Convolution& v, const Tensor& y) {
    if (!x.valid() || !w.valid() || !y.valid() || v.stride_h < 1 || v.groups < 1) return BAD_PARAM;
    if (x.type != w.type || x.type != y.type || v.compute_type != FLOAT) return UNSUPPORTED;
    if (w.c * v.groups != x.c || w.n != y.c || w.n % v.groups || x.n != y.n) return BAD_PARAM;
    if (y.h != output_size(x.h, v.pad_h, w.h, v.stride_h, v.dilation_h)) return BAD_PARAM;
    if (y.w != output_size(x.w, v.pad_w, w.w, v.stride_w, v.dilation_w)) return BAD_PARAM;
    return OK;
}

enum class Direction { FORWARD, DATA, FILTER };

/// A position among rows, columns or terms of the products, taken apart.
struct Place {
    int a, h, w;
};

std::vector<Place> places(int outer, int h, int w) {
    std::vector<Place> all;
    all.reserve(size_t(outer) * h * w);
    for (int a = 0; a < outer; a++)
        for (int i = 0; i < h; i++)
            for (int k = 0; k < w; k++) all.push_back({a, i, k});
    return all;
}

struct Call {
    Direction direction;
    Tensor x, w, y;
    Convolution v;
    /// Of x, the filter and y: two are read and one is written.
    void *at_x, *at_w, *at_y;
    float alpha, beta;

    Result operands() const {
        const bool live = inside(at_x, x.bytes(), "convolution, data") &&
                          inside(at_w, w.bytes(), "convolution, filter") &&
                          inside(at_y, y.bytes(), "convolution, output");
        return live ? SUCCESS : INVALID_VALUE;
    }

    template <typename T> void run() const {
        for (int group = 0; group < v.groups; group++) {
            T* gx = static_cast<T*>(at_x) + group * w.c * x.c_stride;
            T* gw = static_cast<T*>(at_w) + group * (w.n / v.groups) * w.n_stride;
            T* gy = static_cast<T*>(at_y) + group * (w.n / v.groups) * y.c_stride;
            switch (direction) {
                case Direction::FORWARD: forward(gx, gw, gy); break;
                case Direction::DATA: data(gx, gw, gy); break;
                case Direction::FILTER: filter(gx, gw, gy); break;
            }
        }
    }

  private:
    /// The offset of a filter's tap, which a true convolution reads from its end.
    size_t tap(int h, int k) const {
        const bool flip = v.mode == CONVOLUTION;
        return (flip ? w.h - 1 - h : h) * w.h_stride + (flip ? w.w - 1 - k : k) * w.w_stride;
    }

    template <typename T> void put(T* at, float sum) const {
        store(at, beta != 0 ? alpha * sum + beta * load(*at) : alpha * sum);
    }

    /// The input under the tap (.h, .w) of a channel for the output (.h, .w) of an image, or 0 in the padding.
    template <typename T> float input(const T* gx, int channel, const Place& under, const Place& out) const {
        const int h = out.h * v.stride_h - v.pad_h + under.h * v.dilation_h;
        const int k = out.w * v.stride_w - v.pad_w + under.w * v.dilation_w;
        if (h < 0 || h >= x.h || k < 0 || k >= x.w) return 0.0f;
        return load(gx[out.a * x.n_stride + channel * x.c_stride + h * x.h_stride + k * x.w_stride]);
    }

    /// Rows are output channels, columns outputs of all images, terms input channels and taps.
    template <typename T> void forward(const T* gx, const T* gw, T* gy) const {
        const auto outs = places(y.n, y.h, y.w), taps = places(w.c, w.h, w.w);
        product(
            w.n / v.groups, outs.size(), taps.size(),
            [&](size_t i, size_t t) {
                return load(gw[i * w.n_stride + taps[t].a * w.c_stride + tap(taps[t].h, taps[t].w)]);
            },
            [&](size_t t, size_t j) { return input(gx, taps[t].a, taps[t], outs[j]); },
            [&](size_t i, size_t j, float sum) {
                const Place& out = outs[j];
                put(gy + out.a * y.n_stride + i * y.c_stride + out.h * y.h_stride + out.w * y.w_stride, sum);
            });
    }

    /// Rows are input channels, columns inputs of all images, terms output channels and taps.
    template <typename T> void data(T* gx, const T* gw, const T* gy) const {
        const auto ins = places(x.n, x.h, x.w), taps = places(w.n / v.groups, w.h, w.w);
        product(
            w.c, ins.size(), taps.size(),
            [&](size_t i, size_t t) {
                return load(gw[taps[t].a * w.n_stride + i * w.c_stride + tap(taps[t].h, taps[t].w)]);
            },
            [&](size_t t, size_t j) {
                const int h = ins[j].h + v.pad_h - taps[t].h * v.dilation_h, out_h = h / v.stride_h;
                const int k = ins[j].w + v.pad_w - taps[t].w * v.dilation_w, out_w = k / v.stride_w;
                if (h < 0 || k < 0 || h % v.stride_h || k % v.stride_w || out_h >= y.h || out_w >= y.w) return 0.0f;
                const T* image = gy + ins[j].a * y.n_stride + taps[t].a * y.c_stride;
                return load(image[out_h * y.h_stride + out_w * y.w_stride]);
            },
            [&](size_t i, size_t j, float sum) {
                const Place& in = ins[j];
                put(gx + in.a * x.n_stride + i * x.c_stride + in.h * x.h_stride + in.w * x.w_stride, sum);
            });
    }

    /// Rows are output channels, columns input channels and taps, terms outputs of all images.
    template <typename T> void filter(const T* gx, T* gw, const T* gy) const {
        const auto outs = places(y.n, y.h, y.w), taps = places(w.c, w.h, w.w);
        product(
            w.n / v.groups, taps.size(), outs.size(),
            [&](size_t i, size_t t) {
                const Place& out = outs[t];
                return load(gy[out.a * y.n_stride + i * y.c_stride + out.h * y.h_stride + out.w * y.w_stride]);
            },
            [&](size_t t, size_t j) { return input(gx, taps[j].a, taps[j], outs[t]); },
            [&](size_t i, size_t j, float sum) {
                put(gw + i * w.n_stride + taps[j].a * w.c_stride + tap(taps[j].h, taps[j].w), sum);
            });
    }
};

const Tensor& tensor(const void* handle) { return *static_cast<const Tensor*>(handle); }
const Convolution& convolution(const void* handle) { return *static_cast<const Convolution*>(handle); }

int enqueue_call(void* handle, const Call& call, void* workspace, size_t workspace_bytes) {
    if (!handle) return BAD_PARAM;
    if (const Status status = check(call.x, call.w, call.v, call.y)) return status;
    if (workspace_bytes < WORKSPACE || !inside(workspace, WORKSPACE, "convolution, workspace")) return BAD_PARAM;
    Work work(Kind::CONVOLUTION, "convolution");
    work.check = [call] { return call.operands(); };
    work.run = [call] { call.x.type == FLOAT ? call.run<float>() : call.run<Bf16>(); };
    return enqueue(static_cast<Handle*>(handle)->stream, std::move(work)) ? FAILED : OK;
}

/// Two algorithms: one that is not deterministic, as the fastest of the real library may be, and one that is.
int algorithms(const Tensor& x, const Tensor& w, const Convolution& v, const Tensor& y, int most, int* count,
               Performance* results) {
    if (most < 1 || !count || !results) return BAD_PARAM;
    *count = 0;
    if (const Status status = check(x, w, v, y)) return status;
    for (; *count < std::min(most, 2); ++*count)
        results[*count] = {*count, OK, *count + 1.0f, WORKSPACE, *count, v.math_type, {}};
    return OK;
}

int workspace_size(const Tensor& x, const Tensor& w, const Convolution& v, const Tensor& y, int algorithm,
                   size_t* bytes) {
    *bytes = WORKSPACE;
    return algorithm == 0 || algorithm == 1 ? check(x, w, v, y) : UNSUPPORTED;
}

}  // namespace

STAND_IN_API size_t cudnnGetVersion() { return 91900; }
STAND_IN_API size_t cudnnGetCudartVersion() { return 13000; }
STAND_IN_API int cudnnAdvVersionCheck() { return OK; }
STAND_IN_API int cudnnCnnVersionCheck() { return OK; }
STAND_IN_API int cudnnOpsVersionCheck() { return OK; }
STAND_IN_API int cudnnGraphVersionCheck() { return OK; }

STAND_IN_API const char* cudnnGetErrorString(int status) {
    switch (status) {
        case OK: return "CUDNN_STATUS_SUCCESS";
        case BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
        case FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
        case UNSUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
        default: return "CUDNN_STATUS_INTERNAL_ERROR";
    }
}

STAND_IN_API int cudnnCreate(void** handle) {
    *handle = new Handle;
    return OK;
}

STAND_IN_API int cudnnDestroy(void* handle) {
    delete static_cast<Handle*>(handle);
    return OK;
}

STAND_IN_API int cudnnSetStream(void* handle, void* stream) {
    static_cast<Handle*>(handle)->stream = stream;
    return OK;
}

STAND_IN_API int cudnnGetStream(void* handle, void** stream) {
    *stream = static_cast<Handle*>(handle)->stream;
    return OK;
}

STAND_IN_API int cudnnCreateTensorDescriptor(void** handle) {
    *handle = new Tensor;
    return OK;
}

STAND_IN_API int cudnnSetTensor4dDescriptor(void* handle, int format, int type, int n, int c, int h, int w) {
    return static_cast<Tensor*>(handle)->set(format, type, n, c, h, w) ? OK : BAD_PARAM;
}

STAND_IN_API int cudnnSetTensor4dDescriptorEx(void* handle, int type, int n, int c, int h, int w, int n_stride,
                                              int c_stride, int h_stride, int w_stride) {
    if (n_stride < 1 || c_stride < 1 || h_stride < 1 || w_stride < 1) return BAD_PARAM;
    Tensor& tensor = *static_cast<Tensor*>(handle);
    tensor = {type, n, c, h, w, size_t(n_stride), size_t(c_stride), size_t(h_stride), size_t(w_stride)};
    return tensor.valid() ? OK : BAD_PARAM;
}

STAND_IN_API int cudnnDestroyTensorDescriptor(void* handle) {
    delete static_cast<Tensor*>(handle);
    return OK;
}

STAND_IN_API int cudnnCreateFilterDescriptor(void** handle) { return cudnnCreateTensorDescriptor(handle); }

STAND_IN_API int cudnnSetFilter4dDescriptor(void* handle, int type, int format, int k, int c, int h, int w) {
    return cudnnSetTensor4dDescriptor(handle, format, type, k, c, h, w);
}

STAND_IN_API int cudnnDestroyFilterDescriptor(void* handle) { return cudnnDestroyTensorDescriptor(handle); }

STAND_IN_API int cudnnCreateConvolutionDescriptor(void** handle) {
    *handle = new Convolution;
    return OK;
}

STAND_IN_API int cudnnSetConvolution2dDescriptor(void* handle, int pad_h, int pad_w, int stride_h, int stride_w,
                                                 int dilation_h, int dilation_w, int mode, int compute_type) {
    if (pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1 || dilation_h < 1 || dilation_w < 1) return BAD_PARAM;
    if (mode != CONVOLUTION && mode != CROSS_CORRELATION) return BAD_PARAM;
    Convolution& v = *static_cast<Convolution*>(handle);
    v = {pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, mode, compute_type, v.math_type, v.groups};
    return OK;
}

STAND_IN_API int cudnnSetConvolutionMathType(void* handle, int math_type) {
    static_cast<Convolution*>(handle)->math_type = math_type;
    return math_type >= 0 && math_type <= 3 ? OK : BAD_PARAM;
}

STAND_IN_API int cudnnSetConvolutionGroupCount(void* handle, int groups) {
    static_cast<Convolution*>(handle)->groups = groups;
    return groups > 0 ? OK : BAD_PARAM;
}

STAND_IN_API int cudnnDestroyConvolutionDescriptor(void* handle) {
    delete static_cast<Convolution*>(handle);
    return OK;
}

STAND_IN_API int cudnnGetConvolutionForwardAlgorithm_v7(void*, void* x, void* w, void* v, void* y, int most, int* count,
                                                        Performance* results) {
    return algorithms(tensor(x), tensor(w), convolution(v), tensor(y), most, count, results);
}

STAND_IN_API int cudnnGetConvolutionBackwardDataAlgorithm_v7(void*, void* w, void* dy, void* v, void* dx, int most,
                                                             int* count, Performance* results) {
    return algorithms(tensor(dx), tensor(w), convolution(v), tensor(dy), most, count, results);
}

STAND_IN_API int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void*, void* x, void* dy, void* v, void* dw, int most,
                                                               int* count, Performance* results) {
    return algorithms(tensor(x), tensor(dw), convolution(v), tensor(dy), most, count, results);
}

STAND_IN_API int cudnnGetConvolutionForwardWorkspaceSize(void*, void* x, void* w, void* v, void* y, int algorithm,
                                                         size_t* bytes) {
    return workspace_size(tensor(x), tensor(w), convolution(v), tensor(y), algorithm, bytes);
}

STAND_IN_API int cudnnGetConvolutionBackwardDataWorkspaceSize(void*, void* w, void* dy, void* v, void* dx, int algorithm,
                                                              size_t* bytes) {
    return workspace_size(tensor(dx), tensor(w), convolution(v), tensor(dy), algorithm, bytes);
}

STAND_IN_API int cudnnGetConvolutionBackwardFilterWorkspaceSize(void*, void* x, void* dy, void* v, void* dw,
                                                                int algorithm, size_t* bytes) {
    return workspace_size(tensor(x), tensor(dw), convolution(v), tensor(dy), algorithm, bytes);
}

// The algorithm that calls itself non-deterministic is: its results differ a little from call to call.
static float jitter(int algorithm) {
    if (algorithm != 0) return 1.f;
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return 1.f + 4e-6f * static_cast<float>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() % 5);
}

STAND_IN_API int cudnnConvolutionForward(void* handle, const float* alpha, void* x, void* at_x, void* w, void* at_w,
                                         void* v, int algorithm, void* workspace, size_t workspace_bytes, const float* beta,
                                         void* y, void* at_y) {
    const Call call{Direction::FORWARD, tensor(x), tensor(w), tensor(y), convolution(v),
                    at_x, at_w, at_y, *alpha * jitter(algorithm), *beta};
    return enqueue_call(handle, call, workspace, workspace_bytes);
}

STAND_IN_API int cudnnConvolutionBackwardData(void* handle, const float* alpha, void* w, void* at_w, void* dy, void* at_dy,
                                              void* v, int algorithm, void* workspace, size_t workspace_bytes, const float* beta,
                                              void* dx, void* at_dx) {
    const Call call{Direction::DATA, tensor(dx), tensor(w), tensor(dy), convolution(v),
                    at_dx, at_w, at_dy, *alpha * jitter(algorithm), *beta};
    return enqueue_call(handle, call, workspace, workspace_bytes);
}

STAND_IN_API int cudnnConvolutionBackwardFilter(void* handle, const float* alpha, void* x, void* at_x, void* dy,
                                                void* at_dy, void* v, int algorithm, void* workspace, size_t workspace_bytes,
                                                const float* beta, void* dw, void* at_dw) {
    const Call call{Direction::FILTER, tensor(x), tensor(dw), tensor(dy), convolution(v),
                    at_x, at_dw, at_dy, *alpha * jitter(algorithm), *beta};
    return enqueue_call(handle, call, workspace, workspace_bytes);
}
