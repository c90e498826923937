// Every operation on a device, listed once. A backend is a table of them; one that lacks an entry does not compile.
//
// Outputs come first. Parameter gradients accumulate; every other output is overwritten, unless the operation's name
// ends in `_add`. Work is queued in call order on the backend's stream. Nothing allocates once `open` has returned.
// Inputs may be strided where a shape is given with four dimensions; all other tensors have contiguous rows.
// Absent tensors (rank 0) are allowed only where marked "or none".
//
// Dims: B sequences, T tokens, N = B T rows, C channels, V vocabulary rows, H query heads, K key/value heads, D head
// width, F hidden width of the MLP. "compute" is the dtype of weights and activations; "wide" is fp32 (fp64 where
// compute is fp64): statistics, losses, gradients of parameters and optimizer state.
#pragma once

#include "runtime/error.h"
#include "runtime/step_scalars.h"
#include "runtime/tensor.h"

typedef enum { NORM_LAYER, NORM_RMS } NormKind;
typedef struct {
    NormKind kind;
    double epsilon;
    Tensor gain; // (C) compute
    Tensor bias; // (C) compute, or none
} Norm;
typedef struct {
    Tensor gain;          // (C) wide, accumulates
    Tensor bias;          // (C) wide, accumulates, or none
    Tensor sequence_gain; // (B, C) wide, overwritten: the gain's gradient per sequence; or none
    Tensor sum;           // (C) wide, accumulates: columns of the new dsum, which are a bias's gradient; or none
} NormGrads;

// Activations. The gated one reads (N, 2 F), gate columns first, and writes (N, F).
typedef enum { ACTIVATION_NONE, ACTIVATION_GELU, ACTIVATION_SWIGLU, ACTIVATION_RELU2 } Activation;

// The three products of a linear layer: out = a b', out = a b, out += a' b.
typedef enum { PRODUCT_FORWARD, PRODUCT_BACKWARD_INPUT, PRODUCT_BACKWARD_WEIGHT } Product;

// A linear layer and the activation behind it.
typedef struct {
    Tensor weight; // (O, I) compute
    Tensor bias;   // (O) compute, or none
    Activation activation;
    bool repeated; // activation_forward will compute `out` again from `pre`: it must come out the same, bit for bit
} Linear;

// Backward through a linear layer and the activation before it: dpre = activation'(pre) (dout weight).
typedef struct {
    Tensor dpre;   // (N, O) compute
    Tensor dbias;  // (O) wide, accumulates: columns of dpre; or none
    Tensor room;   // (N, F) compute; may hold dout weight afterwards
    Tensor dout;   // (N, C) compute
    Tensor weight; // (C, F) compute
    Tensor pre;    // (N, O) compute
    Activation activation;
} ActivationBackward;

typedef struct {
    Tensor gain;      // (D) compute, or none: heads are not normalised
    double epsilon;
    double theta;     // base of the rotation's wavelengths; 0: heads are not rotated
    Tensor positions; // (B, T) i32
} Rotary;

typedef struct {
    Tensor q; // (B, Tq, H, D) compute, strided
    Tensor k; // (B, Tk, K, D)
    Tensor v; // (B, Tk, K, D)
} AttentionHeads;
typedef struct {
    double scale;         // of q k', positive
    Tensor first_visible; // (B, Tq) i32, or none
    Tensor offset;        // (B) i32: position of query 0 among the keys; or none: 0
} AttentionMask;          // query i sees keys first_visible[i] .. offset + i, as far as there are any

typedef struct {
    int64_t vocab;              // columns beyond it are padding: probability and gradient 0
    bool gradient;              // replace logits by weight * inverse_weight * (p - onehot)
    const StepScalars *scalars; // device pointer
} CrossEntropy;

// What is done with a gradient before it moves a parameter: d = direction(g, slots). g is the clipped gradient, m, v
// and so on are slots in the order of the list; hats are divided by their corrections; a / 0 is 0 and sign(0) is 0.
#define DIRECTIONS(D)                                                                                                  \
    D(GIVEN, 0)             /* d comes from Update.directions */                                                       \
    D(GRADIENT, 0)          /* g */                                                                                    \
    D(MOMENTUM, 1)          /* m = momentum m + feed g; mix_momentum m + mix_gradient g */                             \
    D(SIGNUM, 1)            /* its sign */                                                                             \
    D(LION, 1)              /* sign(beta1 m + (1 - beta1) g), then m = beta2 m + (1 - beta2) g */                      \
    D(ADAM, 2)              /* m^ / (sqrt(v^) + epsilon) */                                                            \
    D(ADAM_WITHOUT_MEAN, 1) /* slot v: g / (sqrt(v^) + epsilon) */                                                     \
    D(ADEMAMIX, 3)          /* slots m, slow, v: (m^ + alpha slow) / (sqrt(v^) + epsilon); slow decays by beta3 */     \
    D(ADAMX, 3)             /* slots m, v, v_max = max(rescale v_max, v): m^ / (sqrt(v_max^) + epsilon) */             \
    D(MARS, 3)              /* slots m, v, g_previous: adam of u = g + gamma (g - g_previous), cut to norm 1 */

typedef enum {
#define D(name, slots) DIRECTION_##name,
    DIRECTIONS(D)
#undef D
    DIRECTION_COUNT
} Direction;

typedef enum { DECAY_AT_Z, DECAY_AT_Y, DECAY_AFTER } DecayPoint;

// One matrix or vector in the flat buffers, or a range of it, where its state lies and how it moves. What lies between
// segments counts nowhere and stays.
enum { SEGMENT_SLOTS = 6 };
typedef struct {
    int64_t offset, count;       // elements of the flat buffers; count 0: nothing to move
    int64_t z;                   // first element of z and of the readout, which may be packed
    int64_t gap;                 // x - z: first element of `state`; -1: the route does not average, x = z
    int64_t slot[SEGMENT_SLOTS]; // of the direction: first elements of `state`, -1 where there is none
    int32_t route;               // RECIPE_MATRIX or RECIPE_OTHER
    int32_t direction;           // Direction
    int32_t decay_at;            // DecayPoint
    float lr_scale;              // multiplies eta
    float decay_scale;           // multiplies decay: 0 exempts
    float move_scale;            // multiplies d, and not decay
} Segment;
typedef struct {
    const Segment *items; // device pointer; sorted, without overlap
    int64_t count;
} Segments;

// One step of the segments, which nothing but `readout` and `interpolate` needs all at once:
//   move = eta lr_scale move_scale d
//   z'   = z - (move + eta lr_scale decay decay_scale P), P = z or z + b gap; or after: (z - move) (1 - eta ... decay)
//   gap' = t - c t with t = stretch gap + (z - z')
//   weights = z' + b_next gap'
typedef struct {
    Tensor weights;             // flat, compute: what forward reads
    Tensor z;                   // wide; may be `weights` itself where the dtypes agree and nothing is averaged
    Tensor state;               // flat, wide; or none: no segment has a slot or a gap
    Tensor grads;               // flat, wide
    Tensor directions;          // (segments, rows, columns) of DIRECTION_GIVEN, any float dtype; or none
    Tensor squares;             // (segments) f64: |u|^2 of all of a tensor, of DIRECTION_MARS; or none
    Segments segments;
    const StepScalars *scalars; // device pointer
    Tensor status;              // (STATUS_COUNT) f64
} Update;

// x target / max(factor |x|, epsilon) of each matrix, |x| its Frobenius norm; or target / (factor |x| + epsilon).
typedef struct {
    double target, factor, epsilon;
    bool add_epsilon;
} MatrixNorm;

// out (K, M, N) = alpha a b + beta c; each of a and b may be read transposed. c is none where beta is 0. out is none of
// the others. All of one float dtype, accumulated in no less than fp32.
typedef struct {
    Tensor out, a, b, c;
    bool a_transposed, b_transposed;
    double alpha, beta;
} MatrixProduct;

enum { DEVICE_ADDRESS = 32 }; // characters of one

#define KERNELS(K)                                                                                                     \
    /* the device: `threads` 0 means all cores, `device` is the number of the GPU among those that this process sees;  \
       false and a message where it cannot run */                                                                      \
    K(bool, open, (int64_t threads, int64_t device, Errors *errors))                                                   \
    K(void, close, (void))                                                                                             \
    K(int64_t, device_count, (void)) /* GPUs that this process sees; of the CPU: 1 */                                  \
    /* of a GPU on its bus, such as 0000:17:00.0, by which other libraries know it; "": it has none */                 \
    K(void, device_address, (int64_t device, char out[DEVICE_ADDRESS]))                                                \
    K(void *, take_memory, (size_t bytes)) /* zeroed; NULL where there is not enough */                                \
    K(void, return_memory, (void *memory, size_t bytes))                                                               \
    K(size_t, workspace_bytes, (void)) /* what the backend holds for itself */                                         \
    K(size_t, memory_bytes, (void)) /* of the device, as far as this process may use it; 0: not known */               \
    K(size_t, used_bytes, (void))   /* of it, by this process, at the worst moment so far; 0: not known */             \
    K(double, peak_flops, (DType dtype)) /* a second, of dense products, as the maker says; 0: not known */            \
    K(void, describe, (Text *out))  /* the device and its libraries, a line each */                                    \
    /* choices that were made by measuring and that results depend on, as JSON; nothing where there are none. Read     \
       back after `open`, they are not measured again; false and a message (74) where they cannot be */                \
    K(void, write_choices, (Text *out))                                                                                \
    K(bool, read_choices, (const char *text, Errors *errors))                                                          \
    K(void, upload, (Tensor out, const void *host))     /* contiguous; host may be reused on return */                 \
    K(void, download, (void *host, Tensor in))          /* contiguous; waits for queued work */                        \
    K(void, copy, (Tensor out, Tensor in))              /* same shape; converts between float dtypes */                \
    K(void, fill_zero, (Tensor out))                                                                                   \
    K(void, finish, (void)) /* waits for all queued work */                                                            \
    K(bool, is_host, (void)) /* whether device memory is host memory */                                                \
    /* host memory for copies that nobody waits for, page-locked where that matters; zeroed; NULL: not enough */       \
    K(void *, take_host_memory, (size_t bytes))                                                                        \
    K(void, return_host_memory, (void *memory, size_t bytes))                                                          \
    /* a download that is only queued: `host`, memory of the backend, holds it once a mark behind it is reached */     \
    K(void, download_later, (void *host, Tensor in))                                                                   \
    K(int64_t, mark, (void)) /* the place behind all work queued so far */                                             \
    K(void, wait, (int64_t mark))                                                                                      \
    /* calls that are the same in every step: `record` keeps those up to `record_end` under a number without running   \
       them, or is false where the backend keeps none and they run as ever. `replay` runs what was kept, or is false */\
    K(bool, record, (int64_t program))                                                                                 \
    K(void, record_end, (void))                                                                                        \
    K(bool, replay, (int64_t program))                                                                                 \
    /* for profilers: what the host does until `range_end` has this name; ranges nest */                               \
    K(void, range_begin, (const char *name))                                                                           \
    K(void, range_end, (void))                                                                                         \
                                                                                                                       \
    /* embeddings: out (N, C) = table[ids] + positions_table[positions]; the second table or none */                   \
    K(void, embedding_forward, (Tensor out, Tensor table, Tensor ids, Tensor position_table, Tensor positions))        \
    /* dtable (V, C) wide; order (N) i32 sorts ids */                                                                  \
    K(void, embedding_backward, (Tensor dtable, Tensor dout, Tensor ids, Tensor order))                                \
                                                                                                                       \
    /* sum = residual + branch, out = norm(sum); (N, C). branch none: sum is not written, residual is the sum.         \
       stats (N, 2) wide: mean (0 for RMS) and reciprocal deviation. sum may be residual itself. */                    \
    K(void, norm_forward, (Tensor out, Tensor sum, Tensor stats, Tensor residual, Tensor branch, const Norm *norm))    \
    K(void, norm_backward_add,                                                                                         \
      (Tensor dsum, const NormGrads *grads, Tensor dout, Tensor sum, Tensor stats, const Norm *norm))                  \
                                                                                                                       \
    /* pre (N, O) = in (N, I) weight (O, I)' + bias; out = activation(pre). pre none: not kept (only ACTIVATION_NONE,  \
       where out is pre) */                                                                                            \
    K(void, linear_forward, (Tensor out, Tensor pre, Tensor in, const Linear *layer))                                  \
    K(void, linear_backward_input, (Tensor din, Tensor dout, Tensor weight))                                           \
    K(void, linear_backward_activation, (const ActivationBackward *backward))                                          \
    K(void, linear_backward_weight, (Tensor dweight, Tensor dbias, Tensor dout, Tensor in)) /* dbias or none */        \
    /* the vendor library's own product on its own threads, for `bench` to compare with; the network never calls it */ \
    K(void, library_product, (Tensor out, Tensor a, Tensor b, Product product))                                        \
    K(void, activation_forward, (Tensor out, Tensor pre, Activation activation))                                       \
                                                                                                                       \
    /* heads (B, T, H, D): RMS norm over D (gain), then rotate-half rotation; out may be in where there is no gain.    \
       rstd (B, T, H) wide, or none where there is no gain. Backward: din may be dout; `in` may be none without gain */\
    K(void, rotary_forward, (Tensor out, Tensor rstd, Tensor in, const Rotary *rotary))                                \
    K(void, rotary_backward,                                                                                           \
      (Tensor din, Tensor dgain, Tensor dout, Tensor in, Tensor rstd, const Rotary *rotary))                           \
                                                                                                                       \
    /* out (B, Tq, H, D) = softmax(mask(scale q k')) v; lse (B, H, Tq) wide. H is a multiple of K. A query that sees   \
       no key has output 0, lse -infinity and gradient 0. A score that is NaN or +infinity makes the query's output    \
       and lse NaN; numbers of v that are not finite may also reach queries that do not see them, and in backward      \
       numbers of any input keys and queries that do not see each other. Forward does not read beyond the last key     \
       that one of the sequence's queries may see by its place: a cache may hold anything there. */                    \
    K(void, attention_forward, (Tensor out, Tensor lse, const AttentionHeads *heads, const AttentionMask *mask))       \
    K(void, attention_backward,                                                                                        \
      (const AttentionHeads *dheads, Tensor dout, Tensor out, Tensor lse, const AttentionHeads *heads,                 \
       const AttentionMask *mask))                                                                                     \
                                                                                                                       \
    /* out (B, S, K, D)[b, positions[b, t]] = in (B, T, K, D), positions (B, T) i32: what attention of later queries   \
       reads. A token whose position is outside [0, S) is not written; within it those of a sequence differ */         \
    K(void, cache_store, (Tensor out, Tensor in, Tensor positions))                                                    \
                                                                                                                       \
    /* losses (N) wide, unweighted, 0 where the target is < 0; probability_squares (N) wide: sum of p^2, or none;      \
       logits (N, V) compute, replaced by their gradient if asked */                                                   \
    K(void, cross_entropy,                                                                                             \
      (Tensor losses, Tensor probability_squares, Tensor logits, Tensor targets, Tensor weights,                       \
       const CrossEntropy *options))                                                                                   \
    /* status[LOSS_SUM] += sum weights values; status[WEIGHT_SUM] += sum weights, where targets >= 0 */                \
    K(void, loss_add, (Tensor status, Tensor losses, Tensor targets, Tensor weights))                                  \
                                                                                                                       \
    /* the step: squares of the flat gradient, then norm, clip factor and skip flag, then the update */                \
    K(void, sum_squares, (Tensor out, Tensor values, Segments segments)) /* out (1) f64; values (E) wide */            \
    /* held, not finite, a spike where it is asked for and half the window is filled, else accepted into the window   \
       (WINDOW_SIZE) f64: see step_scalars.h */                                                                        \
    K(void, step_decide, (Tensor status, Tensor window, const StepScalars *scalars))                                   \
    /* every segment by its direction, in one pass; a skipped step only writes weights = z + b_next gap */             \
    K(void, update, (const Update *update))                                                                            \
    /* squares (segments) f64 = |u|^2 of DIRECTION_MARS, 0 of the others */                                            \
    K(void, corrected_squares, (Tensor squares, const Update *update))                                                 \
    /* out, flat, = z + share[route] gap, in the segments: share 0 is z, 1 is x, b is y */                             \
    K(void, interpolate, (Tensor out, const Update *update, const double share[RECIPE_ROUTES]))                        \
    /* readout (Z) wide: e += readout (x - e) in the segments; not in a skipped step */                                \
    K(void, readout_add, (Tensor readout, const Update *update))                                                       \
    /* matrices of one shape: slot 0 of the segments moves as in DIRECTION_MOMENTUM; out (segments, R, C), any float   \
       dtype, is the mix. A skipped step leaves the slot and makes out 0 */                                            \
    K(void, momentum_mix, (Tensor out, const Update *update))                                                          \
    K(void, matrix_normalise, (Tensor matrices, const MatrixNorm *norm)) /* (K, R, C), each in place */                \
    K(void, matrix_product, (const MatrixProduct *product))                                                            \
    /* matrices o (segments, R, C): slot 1, v (R), = beta2 v + (1 - beta2) mean of each row's squares; n = o / (sqrt(v)\
       + epsilon); o becomes n |o| / (|n| + epsilon), or n sqrt(R C) / max(|n|, 1e-12) where it is `unit`. A skipped   \
       step does nothing */                                                                                            \
    K(void, neuron_normalise, (Tensor matrices, bool unit, const Update *update))                                      \
    /* for `bench`: passes once over flat wide tensors of one size, as an update does: reads all before                \
       `first_overwritten`, writes all from `first_updated` on */                                                      \
    K(void, stream, (const Tensor *tensors, int64_t count, int64_t first_updated, int64_t first_overwritten))

typedef struct {
    const char *name;
#define K(result, operation, parameters) result(*operation) parameters;
    KERNELS(K)
#undef K
} Kernels;


extern const Kernels cpu_kernels;

// In builds with CUDA. Whether a driver answers and shows a GPU, of use or not; of a simulated one: never.
extern const Kernels cuda_kernels;
bool cuda_is_there(void);

// The backend for a device name (auto, cpu, cuda); NULL and a message when this build has none of that name.
const Kernels *kernels_find(const char *device, Errors *errors);

// Numbers of programs: all that this program records, so that no two have one.
enum {
    PROGRAM_MICRO_STEP,                        // and three more, by the micro-batch's place in its step
    PROGRAM_END_STEP = PROGRAM_MICRO_STEP + 4,
    PROGRAM_TOKEN,                             // of generation
};

// The calls of `queue`, which are the same every time: recorded once where the backend records, then replayed.
void kernels_run(const Kernels *kernels, int64_t program, void (*queue)(void *context), void *context);

// Width of what an activation reads, per column of what it writes.
static inline int64_t activation_inputs(Activation activation) { return activation == ACTIVATION_SWIGLU ? 2 : 1; }
