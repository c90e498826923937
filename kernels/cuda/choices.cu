// Choices that results depend on, most of them made by measuring, as JSON. They hold for one device and one version of
// the library. A product without an algorithm is one that the library refused.
#include "kernels/cuda/gemm.cuh"

#include <stdlib.h>
#include <string.h>

extern "C" {
#include "runtime/json.h"
}

constexpr int64_t LARGEST = INT64_C(1) << 40;
enum { ALGORITHM_DIGITS = 2 * sizeof(cublasLtMatmulAlgo_t) };

static const char *device_name(cudaDeviceProp *properties) {
    CUDA(cudaGetDeviceProperties(properties, 0));
    return properties->name;
}

// ---- writing ----

static void write_algorithm(JsonWriter *writer, const cublasLtMatmulAlgo_t *algorithm) {
    char digits[ALGORITHM_DIGITS + 1];
    const unsigned char *bytes = reinterpret_cast<const unsigned char *>(algorithm);
    for (size_t i = 0; i < sizeof *algorithm; i++) {
        digits[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        digits[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    digits[ALGORITHM_DIGITS] = '\0';
    json_string(writer, "algorithm", digits);
}

static void write_product(JsonWriter *writer, const GemmPlan *plan) {
    json_begin(writer, NULL, '{');
#define F(name) json_integer(writer, #name, plan->shape.name);
    GEMM_SHAPE(F)
#undef F
    if (plan->in_library) write_algorithm(writer, &plan->algorithm);
    if (plan->fused != FUSED_UNDECIDED) json_bool(writer, "fused", plan->fused == FUSED_TAKEN);
    json_number(writer, "milliseconds", plan->milliseconds);
    json_end(writer, '}');
}

// In the order of shapes: equal choices give equal text, but for times.
void cuda_write_choices(Text *out) {
    cudaDeviceProp properties;
    bool any = false;
    for (int64_t i = 0; gemm_plan_at(i); i++) any = any || gemm_plan_at(i)->settled;
    if (!any) return;
    JsonWriter writer = {};
    writer.out = out;
    json_begin(&writer, NULL, '{');
    json_string(&writer, "device", device_name(&properties));
    json_integer(&writer, "cublaslt", static_cast<int64_t>(cublasLtGetVersion()));
    json_begin(&writer, "products", '[');
    for (int64_t i = 0; gemm_plan_at(i); i++)
        if (gemm_plan_at(i)->settled) write_product(&writer, gemm_plan_at(i));
    json_end(&writer, ']');
    json_end(&writer, '}');
}

// ---- reading ----

static int digit_of(char c) {
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
    return at ? static_cast<int>(at - digits) : -1;
}

static bool read_algorithm(const cJSON *text, cublasLtMatmulAlgo_t *algorithm) {
    if (!cJSON_IsString(text) || strlen(text->valuestring) != ALGORITHM_DIGITS) return false;
    unsigned char *bytes = reinterpret_cast<unsigned char *>(algorithm);
    for (size_t i = 0; i < sizeof *algorithm; i++) {
        int high = digit_of(text->valuestring[2 * i]), low = digit_of(text->valuestring[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        bytes[i] = static_cast<unsigned char>(high << 4 | low);
    }
    return true;
}

static bool shape_is_one(const GemmShape *s) {
#define F(name) \
    if (s->name < 0 || s->name > LARGEST) return false;
    GEMM_SHAPE(F)
#undef F
    bool sized = s->rows > 0 && s->columns > 0 && s->inner > 0 && s->batch > 0 && s->rows <= INT32_MAX &&
                 s->columns <= INT32_MAX && s->inner <= INT32_MAX && s->batch <= UINT16_MAX;
    bool strided = s->a_stride >= (s->a_transposed ? s->rows : s->inner) &&
                   s->b_stride >= (s->b_transposed ? s->inner : s->columns) && s->c_stride >= s->columns &&
                   s->out_stride >= s->columns;
    bool typed = (s->in_dtype == DTYPE_F32 || s->in_dtype == DTYPE_BF16) &&
                 (s->out_dtype == DTYPE_F32 || s->out_dtype == DTYPE_BF16);
    return sized && strided && typed && s->a_transposed <= 1 && s->b_transposed <= 1 && s->adds <= 1 &&
           s->epilogue < EPILOGUES && s->alignment >= 1 && s->alignment <= 16;
}

typedef struct {
    GemmShape shape;
    cublasLtMatmulAlgo_t algorithm;
    bool in_library;
    Fused fused;
    float milliseconds;
} StoredProduct;

static bool read_product(const cJSON *node, StoredProduct *product) {
    bool integers = true;
#define F(name) integers = integers && json_is_integer(json_member(node, #name), &product->shape.name);
    GEMM_SHAPE(F)
#undef F
    const cJSON *fused = json_member(node, "fused"), *milliseconds = json_member(node, "milliseconds");
    const cJSON *algorithm = json_member(node, "algorithm");
    if (!integers || !shape_is_one(&product->shape) || (fused && !cJSON_IsBool(fused)) ||
        !cJSON_IsNumber(milliseconds) || (algorithm && !read_algorithm(algorithm, &product->algorithm)))
        return false;
    product->in_library = algorithm != NULL;
    product->fused = !fused ? FUSED_UNDECIDED : cJSON_IsTrue(fused) ? FUSED_TAKEN : FUSED_LEFT;
    product->milliseconds = static_cast<float>(milliseconds->valuedouble);
    return true;
}

static void take_product(const StoredProduct *product) {
    GemmPlan *plan = gemm_plan_of(&product->shape);
    if (product->in_library) gemm_set_algorithm(plan, &product->algorithm);
    else gemm_leave_library(plan);
    if (!plan->settled) return;
    plan->fused = product->fused;
    plan->milliseconds = product->milliseconds;
}

static bool refuse(const Json *json, const cJSON *node, const char *what, Errors *errors) {
    Text position = {};
    json_position(json, node, &position);
    errors_add(errors, EXIT_CHECKPOINT, "%s: %s", text_string(&position), what);
    text_close(&position);
    return false;
}

// All of it is looked at first: what is damaged changes nothing.
static bool read_products(const Json *json, bool ours, Errors *errors) {
    const cJSON *products = json_member(json_root(json), "products"), *node;
    StoredProduct product;
    if (!cJSON_IsArray(products)) return refuse(json, json_root(json), "\"products\" is not a list", errors);
    cJSON_ArrayForEach(node, products)
        if (!cJSON_IsObject(node) || !read_product(node, &product))
            return refuse(json, node, "this is not the choice for a product", errors);
    cJSON_ArrayForEach(node, products)
        if (ours && read_product(node, &product)) take_product(&product);
    return true;
}

bool cuda_read_choices(const char *text, Errors *errors) {
    Json *json = json_parse("choices of the device", text, strlen(text), EXIT_CHECKPOINT, errors);
    if (!json) return false;
    const cJSON *root = json_root(json), *device = json_member(root, "device");
    cudaDeviceProp properties;
    int64_t version;
    bool good = cJSON_IsString(device) && json_is_integer(json_member(root, "cublaslt"), &version);
    if (good) {
        bool ours = strcmp(device->valuestring, device_name(&properties)) == 0 &&
                    version == static_cast<int64_t>(cublasLtGetVersion());
        good = read_products(json, ours, errors);
    } else {
        refuse(json, root, "\"device\" or \"cublaslt\" is missing", errors);
    }
    json_close(json);
    return good;
}
