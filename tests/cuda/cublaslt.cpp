// A stand-in for cuBLASLt: D = alpha op(A) op(B) + beta C, with a bias for each row of D if asked for. Accepts what
// the real library accepts of bf16 and single precision, and computes in single precision.
#include <stdint.h>
#include <string.h>

#include "bf16.h"
#include "product.h"

using namespace stand_in;

namespace {

enum Status { OK = 0, BAD_VALUE = 7, FAILED = 13, UNSUPPORTED = 15 };

constexpr int TYPE_F32 = 0, TYPE_BF16 = 14;
constexpr int ORDER_COLUMN = 0, ORDER_ROW = 1;
constexpr int EPILOGUE_DEFAULT = 1, EPILOGUE_BIAS = 4;

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t leading;
    int order = ORDER_COLUMN, batches = 1;
    int64_t batch_stride = 0;

    size_t row_stride() const { return order == ORDER_COLUMN ? 1 : leading; }
    size_t column_stride() const { return order == ORDER_COLUMN ? leading : 1; }
    bool valid() const {
        return rows && columns && leading >= int64_t(order == ORDER_COLUMN ? rows : columns) && batches > 0;
    }
    size_t element() const { return type == TYPE_F32 ? 4 : 2; }
    /// From the first element to the end of the last, all batches.
    size_t bytes() const {
        const size_t last = (rows - 1) * row_stride() + (columns - 1) * column_stride() + (batches - 1) * batch_stride;
        return (last + 1) * element();
    }
};

struct Product {
    int compute_type, scale_type;
    int pointer_mode = 0, transpose_a = 0, transpose_b = 0, transpose_c = 0, epilogue = EPILOGUE_DEFAULT;
    const void* bias = nullptr;
    int bias_type = -1;
    int64_t bias_stride = 0;
};

struct Preference {
    uint64_t workspace = 0;
};

/// The layout of cublasLtMatmulHeuristicResult_t.
struct Heuristic {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

constexpr uint64_t ALGORITHM = 0x5374616e64496e;

/// Copies an attribute of the caller into a field, if its size is right.
template <typename T> Status set(T& field, const void* from, size_t bytes) {
    if (!from || bytes != sizeof(T)) return BAD_VALUE;
    memcpy(&field, from, bytes);
    return OK;
}

/// Whether the product is one that the library computes.
Status check(const Product& p, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    if (!a.valid() || !b.valid() || !c.valid() || !d.valid()) return BAD_VALUE;
    const bool types = (a.type == TYPE_BF16 || (a.type == TYPE_F32 && d.type == TYPE_F32)) && b.type == a.type &&
                       (d.type == TYPE_BF16 || d.type == TYPE_F32) && c.type == d.type;
    // Single precision, and its fast forms.
    const bool compute = p.scale_type == TYPE_F32 && (p.compute_type == 68 || p.compute_type == 69 ||
                                                      (p.compute_type >= 74 && p.compute_type <= 77));
    if (!types || !compute || p.pointer_mode || p.transpose_c) return UNSUPPORTED;
    if (p.epilogue != EPILOGUE_DEFAULT && p.epilogue != EPILOGUE_BIAS) return UNSUPPORTED;
    if (p.epilogue == EPILOGUE_BIAS && p.bias_type != -1 && p.bias_type != d.type) return UNSUPPORTED;
    const uint64_t m = p.transpose_a ? a.columns : a.rows, k = p.transpose_a ? a.rows : a.columns;
    const uint64_t n = p.transpose_b ? b.rows : b.columns, k_of_b = p.transpose_b ? b.columns : b.rows;
    if (k != k_of_b || d.rows != m || d.columns != n || c.rows != m || c.columns != n) return BAD_VALUE;
    if (a.batches != d.batches || b.batches != d.batches || c.batches != d.batches) return BAD_VALUE;
    return OK;
}

struct Call {
    Product p;
    Layout a, b, c, d;
    const void *at_a, *at_b, *at_c;
    void* at_d;
    float alpha, beta;

    Result operands() const {
        bool live = inside(at_a, a.bytes(), "product, A") && inside(at_b, b.bytes(), "product, B") &&
                    inside(at_d, d.bytes(), "product, D");
        if (beta != 0) live = live && inside(at_c, c.bytes(), "product, C");
        if (p.epilogue == EPILOGUE_BIAS)
            live = live && inside(p.bias, ((d.batches - 1) * p.bias_stride + d.rows) * d.element(), "product, bias");
        return live ? SUCCESS : INVALID_VALUE;
    }

    template <typename In, typename Out> void run() const {
        const size_t k = p.transpose_a ? a.rows : a.columns;
        size_t a_row = a.row_stride(), a_term = a.column_stride();
        size_t b_term = b.row_stride(), b_column = b.column_stride();
        if (p.transpose_a) std::swap(a_row, a_term);
        if (p.transpose_b) std::swap(b_term, b_column);
        for (int batch = 0; batch < d.batches; batch++) {
            const In* left = static_cast<const In*>(at_a) + batch * a.batch_stride;
            const In* right = static_cast<const In*>(at_b) + batch * b.batch_stride;
            const Out* old = static_cast<const Out*>(at_c) + batch * c.batch_stride;
            const Out* bias = static_cast<const Out*>(p.bias) + batch * p.bias_stride;
            Out* to = static_cast<Out*>(at_d) + batch * d.batch_stride;
            product(
                d.rows, d.columns, k, [=](size_t i, size_t t) { return load(left[i * a_row + t * a_term]); },
                [=](size_t t, size_t j) { return load(right[t * b_term + j * b_column]); },
                [=, this](size_t i, size_t j, float sum) {
                    float value = alpha * sum;
                    // Without beta, C is not read.
                    if (beta != 0) value += beta * load(old[i * c.row_stride() + j * c.column_stride()]);
                    if (p.epilogue == EPILOGUE_BIAS) value += load(bias[i]);
                    store(to + i * d.row_stride() + j * d.column_stride(), value);
                });
        }
    }
};

const Layout& layout(const void* handle) { return *static_cast<const Layout*>(handle); }

}  // namespace

STAND_IN_API size_t cublasLtGetVersion() { return 130000; }
STAND_IN_API size_t cublasLtGetCudartVersion() { return 13000; }

STAND_IN_API const char* cublasLtGetStatusName(int status) {
    switch (status) {
        case OK: return "CUBLAS_STATUS_SUCCESS";
        case BAD_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
        case FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
        case UNSUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
        default: return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}

STAND_IN_API const char* cublasLtGetStatusString(int status) { return cublasLtGetStatusName(status); }

STAND_IN_API int cublasLtCreate(void** handle) {
    *handle = new char;
    return OK;
}

STAND_IN_API int cublasLtDestroy(void* handle) {
    delete static_cast<char*>(handle);
    return OK;
}

STAND_IN_API int cublasLtMatrixLayoutCreate(void** handle, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    *handle = new Layout{type, rows, columns, leading};
    return OK;
}

STAND_IN_API int cublasLtMatrixLayoutDestroy(void* handle) {
    delete static_cast<Layout*>(handle);
    return OK;
}

STAND_IN_API int cublasLtMatrixLayoutSetAttribute(void* handle, int attribute, const void* from, size_t bytes) {
    Layout& layout = *static_cast<Layout*>(handle);
    switch (attribute) {
        case 0: return set(layout.type, from, bytes);
        case 1: return set(layout.order, from, bytes) || layout.order < 0 || layout.order > ORDER_ROW ? BAD_VALUE : OK;
        case 2: return set(layout.rows, from, bytes);
        case 3: return set(layout.columns, from, bytes);
        case 4: return set(layout.leading, from, bytes);
        case 5: return set(layout.batches, from, bytes);
        case 6: return set(layout.batch_stride, from, bytes);
        default: return BAD_VALUE;
    }
}

STAND_IN_API int cublasLtMatmulDescCreate(void** handle, int compute_type, int scale_type) {
    *handle = new Product{compute_type, scale_type};
    return OK;
}

STAND_IN_API int cublasLtMatmulDescDestroy(void* handle) {
    delete static_cast<Product*>(handle);
    return OK;
}

STAND_IN_API int cublasLtMatmulDescSetAttribute(void* handle, int attribute, const void* from, size_t bytes) {
    Product& product = *static_cast<Product*>(handle);
    switch (attribute) {
        case 0: return set(product.compute_type, from, bytes);
        case 1: return set(product.scale_type, from, bytes);
        case 2: return set(product.pointer_mode, from, bytes);
        case 3: return set(product.transpose_a, from, bytes);
        case 4: return set(product.transpose_b, from, bytes);
        case 5: return set(product.transpose_c, from, bytes);
        case 7: return set(product.epilogue, from, bytes);
        case 8: return set(product.bias, from, bytes);
        case 10: return set(product.bias_stride, from, bytes);
        case 26: return set(product.bias_type, from, bytes);
        default: return BAD_VALUE;
    }
}

STAND_IN_API int cublasLtMatmulPreferenceCreate(void** handle) {
    *handle = new Preference;
    return OK;
}

STAND_IN_API int cublasLtMatmulPreferenceDestroy(void* handle) {
    delete static_cast<Preference*>(handle);
    return OK;
}

STAND_IN_API int cublasLtMatmulPreferenceSetAttribute(void* handle, int attribute, const void* from, size_t bytes) {
    // The rest is about speed.
    return attribute == 1 ? set(static_cast<Preference*>(handle)->workspace, from, bytes) : OK;
}

STAND_IN_API int cublasLtMatmulAlgoGetHeuristic(void*, void* product, void* a, void* b, void* c, void* d, void* preference,
                                                int most, void* results, int* count) {
    if (!product || !a || !b || !c || !d || !preference || !results || !count || most < 1) return BAD_VALUE;
    *count = 0;
    if (const Status status = check(*static_cast<Product*>(product), layout(a), layout(b), layout(c), layout(d)))
        return status;
    for (; *count < std::min(most, 3); ++*count)
        static_cast<Heuristic*>(results)[*count] = {{ALGORITHM, uint64_t(*count)}, 0, OK, 1.0f, {}};
    return OK;
}

STAND_IN_API int cublasLtMatmul(void* handle, void* product, const float* alpha, const void* at_a, void* a,
                                const void* at_b, void* b, const float* beta, const void* at_c, void* c, void* at_d,
                                void* d, const uint64_t* algorithm, void* workspace, size_t workspace_bytes,
                                void* stream) {
    if (!handle || !product || !alpha || !beta || !a || !b || !c || !d) return BAD_VALUE;
    const Call call{*static_cast<Product*>(product), layout(a), layout(b), layout(c), layout(d), at_a, at_b, at_c, at_d,
                    *alpha, *beta};
    if (const Status status = check(call.p, call.a, call.b, call.c, call.d)) return status;
    if (algorithm && *algorithm != ALGORITHM) return BAD_VALUE;
    if (workspace_bytes && !inside(workspace, workspace_bytes, "product, workspace")) return BAD_VALUE;
    const bool same_place = call.c.leading == call.d.leading && call.c.order == call.d.order;
    if (at_c == at_d && call.beta != 0 && !same_place) return BAD_VALUE;

    Work work(Kind::PRODUCT, "product");
    const uint64_t k = call.p.transpose_a ? call.a.rows : call.a.columns;
    work.flops = 2.0 * call.d.rows * call.d.columns * k * call.d.batches;
    work.check = [call] { return call.operands(); };
    work.run = [call] {
        if (call.a.type == TYPE_F32) call.run<float, float>();
        else if (call.d.type == TYPE_F32) call.run<Bf16, float>();
        else call.run<Bf16, Bf16>();
    };
    return enqueue(stream, std::move(work)) ? FAILED : OK;
}
