// The optimizer's step: how fast it moves elements, beside `stream` over as many tensors of the same size, and how fast
// its Newton-Schulz multiplies, beside the vendor library's own products of the same shapes.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands/bench.h"
#include "commands/console.h"
#include "runtime/integers.h"

enum {
    LEAST_REPEATS = 3,
    LIBRARY_REPEATS = 8, // of each product in one measurement
    ALIGNMENT = 64,      // elements
};
static const double SECONDS = 5; // of measuring, for each recipe

// ---- a backend that adds up what the optimizer's calls take ----

static struct {
    const Kernels *inner;
    Kernels table;
    double elements, newton_schulz;
} timed;

#define TIMED(sum, name, parameters, arguments)      \
    static void timed_##name parameters {            \
        double begin = clock_seconds();              \
        timed.inner->name arguments;                 \
        timed.inner->finish();                       \
        timed.sum += clock_seconds() - begin;        \
    }
TIMED(elements, update, (const Update *update), (update))
TIMED(elements, corrected_squares, (Tensor squares, const Update *update), (squares, update))
TIMED(elements, momentum_mix, (Tensor out, const Update *update), (out, update))
TIMED(elements, readout_add, (Tensor readout, const Update *update), (readout, update))
TIMED(newton_schulz, matrix_normalise, (Tensor matrices, const MatrixNorm *norm), (matrices, norm))
TIMED(newton_schulz, matrix_product, (const MatrixProduct *product), (product))

static const Kernels *timed_kernels(const Kernels *inner) {
    timed.inner = inner;
    timed.table = *inner;
    timed.table.update = timed_update;
    timed.table.corrected_squares = timed_corrected_squares;
    timed.table.momentum_mix = timed_momentum_mix;
    timed.table.readout_add = timed_readout_add;
    timed.table.matrix_normalise = timed_matrix_normalise;
    timed.table.matrix_product = timed_matrix_product;
    timed.elements = timed.newton_schulz = 0;
    return &timed.table;
}

// ---- what a recipe does in a step ----

// To a pass with the same mix of tensors, where there is one. `narrow`: bytes of an element that is overwritten.
static void add_pass(OptimizerBench *b, ElementPass pass, size_t narrow) {
    size_t wide = dtype_bytes(b->run->wide);
    int64_t bytes = (int64_t)wide * (pass.read + 2 * pass.updated) + (int64_t)narrow * pass.overwritten;
    int i = 0;
    while (i < b->pass_count && (b->passes[i].read != pass.read || b->passes[i].updated != pass.updated ||
                                 b->passes[i].overwritten != pass.overwritten))
        i++;
    REQUIRE(i < BENCH_PASSES, "more than %d kinds of passes", BENCH_PASSES);
    if (i == b->pass_count)
        b->passes[b->pass_count++] = (ElementPass){0, pass.read, pass.updated, pass.overwritten, 0};
    b->passes[i].elements += pass.elements;
    b->passes[i].bytes += (double)(pass.elements * bytes);
}

static void count_piece(OptimizerBench *b, const Piece *piece) {
    const Optim *optim = &b->run->optim;
    const Segment *segment = &piece->segment;
    MoveKind move = optim->routes[segment->route].recipe->direction->move;
    bool by_element = move == MOVE_ELEMENTS || move == MOVE_NORMED;
    int64_t n = segment->count, gap = segment->gap >= 0, slots = 0;
    size_t wide = dtype_bytes(b->run->wide);
    for (int i = 0; i < SEGMENT_SLOTS && by_element; i++) slots += segment->slot[i] >= 0;
    if (move == MOVE_NORMED) add_pass(b, (ElementPass){.elements = n, .read = 2}, wide);
    if (move == MOVE_ORTHOGONAL)
        add_pass(b, (ElementPass){.elements = n, .read = 1, .updated = 1, .overwritten = 1}, wide);
    add_pass(b, (ElementPass){.elements = n, .read = 1, .updated = 1 + gap + slots,
                              .overwritten = optim->z.data != optim->weights.data}, dtype_bytes(b->run->compute));
    if (tensor_present(optim->average)) add_pass(b, (ElementPass){.elements = n, .read = 1 + gap, .updated = 1}, wide);
}

static void add_call(OptimizerBench *b, LibraryCall call) {
    if (call.calls > 0) b->calls[b->call_count++] = call;
}

// s = x x' or x' x on the short side, its powers, and the product with x.
static void count_group(OptimizerBench *b, const Group *group) {
    const Polynomial *p = &group->route->polynomial;
    int64_t rows = group->rows, columns = group->columns, side = rows < columns ? rows : columns;
    bool tall = rows > columns;
    b->product_dtype = group->room.x[0].dtype;
    double steps = (double)(p->steps * group->count), squares = steps * (p->terms - 2);
    add_call(b, (LibraryCall){tall ? PRODUCT_BACKWARD_WEIGHT : PRODUCT_FORWARD, {side, side}, {rows, columns},
                              {rows, columns}, steps});
    add_call(b, (LibraryCall){PRODUCT_BACKWARD_INPUT, {side, side}, {side, side}, {side, side}, squares});
    add_call(b, (LibraryCall){PRODUCT_BACKWARD_INPUT, {rows, columns}, {rows, tall ? columns : rows},
                              {tall ? columns : rows, columns}, steps});
    b->flops += (double)group->count * newton_schulz_flops(p, rows, columns);
}

// Bytes of a matrix of Newton-Schulz, and of a tensor of a pass.
static int64_t matrix_bytes(const OptimizerBench *b, const int64_t sides[2]) {
    return round_up(sides[0] * sides[1], ALIGNMENT) * (int64_t)dtype_bytes(b->product_dtype);
}

static int64_t pass_bytes(const ElementPass *pass) {
    return round_up(pass->elements, ALIGNMENT) * (int64_t)sizeof(float);
}

static int64_t tensors_of(const ElementPass *pass) { return pass->read + pass->updated + pass->overwritten; }

static int64_t bytes_needed(const OptimizerBench *b) {
    int64_t most = 0;
    for (int i = 0; i < b->pass_count; i++) {
        int64_t needed = tensors_of(&b->passes[i]) * pass_bytes(&b->passes[i]);
        if (needed > most) most = needed;
    }
    for (int i = 0; i < b->call_count; i++) {
        const LibraryCall *call = &b->calls[i];
        int64_t needed = matrix_bytes(b, call->out) + matrix_bytes(b, call->a) + matrix_bytes(b, call->b);
        if (needed > most) most = needed;
    }
    return most;
}

// ---- the same without an optimizer ----

static double pass_seconds(const OptimizerBench *b, const ElementPass *pass) {
    enum { MOST = SEGMENT_SLOTS + 4 };
    const Kernels *k = b->run->kernels;
    int64_t count = tensors_of(pass);
    Tensor tensors[MOST];
    REQUIRE(count <= MOST, "%ld tensors in a pass", count);
    for (int64_t i = 0; i < count; i++)
        tensors[i] = tensor_1d(b->memory + i * pass_bytes(pass), DTYPE_F32, pass->elements);
    double begin = clock_seconds();
    k->stream(tensors, count, pass->read, pass->read + pass->updated);
    k->finish();
    return clock_seconds() - begin;
}

static double stream_seconds(const OptimizerBench *b) {
    double total = 0;
    for (int i = 0; i < b->pass_count; i++) total += pass_seconds(b, &b->passes[i]);
    return total;
}

static double stream_bytes(const OptimizerBench *b) {
    double total = 0;
    for (int i = 0; i < b->pass_count; i++) {
        const ElementPass *p = &b->passes[i];
        total += (double)sizeof(float) * (double)(p->elements * (tensors_of(p) + p->updated));
    }
    return total;
}

static double element_bytes(const OptimizerBench *b) {
    double total = 0;
    for (int i = 0; i < b->pass_count; i++) total += b->passes[i].bytes;
    return total;
}

static double call_seconds(const OptimizerBench *b, const LibraryCall *call) {
    const Kernels *k = b->run->kernels;
    DType dtype = b->product_dtype;
    char *a = b->memory, *second = a + matrix_bytes(b, call->a), *product = second + matrix_bytes(b, call->b);
    Tensor out = tensor_2d(product, dtype, call->out[0], call->out[1]);
    double begin = clock_seconds();
    for (int i = 0; i < LIBRARY_REPEATS; i++)
        k->library_product(out, tensor_2d(a, dtype, call->a[0], call->a[1]),
                           tensor_2d(second, dtype, call->b[0], call->b[1]), call->product);
    k->finish();
    return (clock_seconds() - begin) / LIBRARY_REPEATS;
}

static double library_seconds(const OptimizerBench *b) {
    double total = 0;
    for (int i = 0; i < b->call_count; i++) total += b->calls[i].calls * call_seconds(b, &b->calls[i]);
    return total;
}

// ---- measuring ----

bool optimizer_bench_open(OptimizerBench *b, Run *run, Errors *errors) {
    const Optim *optim = &run->optim;
    *b = (OptimizerBench){.run = run};
    for (int64_t i = 0; i < optim->piece_count; i++) count_piece(b, &optim->pieces[i]);
    for (int i = 0; i < optim->group_count; i++) {
        const Route *route = optim->groups[i].route;
        if (route && route->recipe->direction->move == MOVE_ORTHOGONAL) count_group(b, &optim->groups[i]);
    }
    b->bytes = (size_t)bytes_needed(b);
    size_t there = run->kernels->memory_bytes();
    if (there == 0 || run_planned_bytes(run) + b->bytes <= there) b->memory = run->kernels->take_memory(b->bytes);
    if (!b->memory)
        return errors_add(errors, EXIT_USAGE, "not enough memory for the passes to compare the optimizer with; choose "
                          "a smaller model, or lower train.micro_batch");
    DType dtype = b->flops > 0 ? b->product_dtype : DTYPE_F32;
    run_fill_random(run->kernels, tensor_1d(b->memory, dtype, (int64_t)(b->bytes / dtype_bytes(dtype))));
    optimizer_bench_repeat(b);
    b->repeats = 0;
    return true;
}

void optimizer_bench_repeat(OptimizerBench *b) {
    Run *run = b->run;
    int i = b->repeats++;
    REQUIRE(i < BENCH_REPEATS, "repeat %d", i);
    run->optim.kernels = timed_kernels(run->kernels);
    double begin = clock_seconds();
    optim_step(&run->optim);
    run->kernels->finish();
    b->step[i] = clock_seconds() - begin;
    run->optim.kernels = run->kernels;
    b->elements[i] = timed.elements;
    b->newton_schulz[i] = timed.newton_schulz;
    b->stream[i] = stream_seconds(b);
    b->library[i] = library_seconds(b);
}

void optimizer_bench_close(OptimizerBench *b) {
    if (b->memory) b->run->kernels->return_memory(b->memory, b->bytes);
    *b = (OptimizerBench){0};
}

// ---- the result ----

double optimizer_bench_seconds(const OptimizerBench *b) { return bench_median(b->step, b->repeats); }

static void add_name(const Optim *optim, Text *out) {
    const Recipe *matrix = optim->routes[RECIPE_MATRIX].recipe, *other = optim->routes[RECIPE_OTHER].recipe;
    text_add(out, matrix->name);
    if (strcmp(other->name, matrix->rest ? matrix->rest : matrix->name) != 0) text_printf(out, " + %s", other->name);
}

void optimizer_bench_print_head(void) {
    printf("%-18s %9s %33s %33s\n", "", "", "element-wise update", "Newton-Schulz");
    printf("%-18s %9s %10s %7s %7s %6s %9s %8s %7s %6s\n", "optimizer", "ms", "bytes", "GB/s", "stream", "ratio",
           "FLOP", "GFLOP/s", "library", "ratio");
}

void optimizer_bench_print(const OptimizerBench *b) {
    char number[TEXT_NUMBER];
    Text name = {0};
    add_name(&b->run->optim, &name);
    double bytes = element_bytes(b), rate = bytes / bench_median(b->elements, b->repeats);
    double stream = stream_bytes(b) / bench_median(b->stream, b->repeats);
    printf("%-18s %9.1f %10s %7.1f %7.1f %6.2f", text_string(&name), 1e3 * optimizer_bench_seconds(b),
           text_bytes(number, bytes), rate * 1e-9, stream * 1e-9, rate / stream);
    text_close(&name);
    if (b->flops > 0) {
        double own = b->flops / bench_median(b->newton_schulz, b->repeats);
        double library = b->flops / bench_median(b->library, b->repeats);
        printf(" %9s %8.1f %7.1f %6.2f", text_count(number, b->flops), own * 1e-9, library * 1e-9, own / library);
    }
    printf("\n");
    fflush(stdout);
}

void optimizer_bench_json(const OptimizerBench *b, double step_seconds, JsonWriter *w) {
    Text name = {0};
    add_name(&b->run->optim, &name);
    double own = optimizer_bench_seconds(b), elements = bench_median(b->elements, b->repeats);
    double rate = element_bytes(b) / elements, stream = stream_bytes(b) / bench_median(b->stream, b->repeats);
    json_begin(w, NULL, '{');
    json_string(w, "recipe", text_string(&name));
    json_integer(w, "repeats", b->repeats);
    json_number(w, "seconds", own);
    if (!isnan(step_seconds)) json_number(w, "share_of_step", own / step_seconds);
    json_number(w, "element_seconds", elements);
    json_number(w, "element_bytes", element_bytes(b));
    json_number(w, "element_bytes_per_second", rate);
    json_number(w, "stream_bytes_per_second", stream);
    json_number(w, "elements_over_stream", rate / stream);
    if (b->flops > 0) {
        double products = bench_median(b->newton_schulz, b->repeats), library = bench_median(b->library, b->repeats);
        json_number(w, "newton_schulz_seconds", products);
        json_number(w, "newton_schulz_flops", b->flops);
        json_number(w, "newton_schulz_flops_per_second", b->flops / products);
        json_number(w, "library_flops_per_second", b->flops / library);
        json_number(w, "newton_schulz_over_library", library / products);
    }
    json_end(w, '}');
    text_close(&name);
}

// ---- the optimizer alone ----

// A gradient of random numbers instead of micro-batches.
static void begin_step(Run *run, int64_t t) {
    StepScalars scalars;
    run_begin_step(run, &scalars, t);
    run_fill_random(run->kernels, run->gpt.grads);
}

static bool measure(OptimizerBench *b, Run *run, Errors *errors) {
    gpt_fill(&run->gpt, run->gpt.grads, 1);
    optim_begin(&run->optim, run->gpt.grads);
    begin_step(run, 1);
    double begin = clock_seconds();
    if (!optimizer_bench_open(b, run, errors)) return false;
    while (b->repeats < LEAST_REPEATS || (b->repeats < BENCH_REPEATS && clock_seconds() - begin < SECONDS)) {
        console_progress("measuring", b->repeats, BENCH_REPEATS);
        begin_step(run, b->repeats + 2);
        optimizer_bench_repeat(b);
    }
    console_wipe();
    return true;
}

static void begin_result(const Run *run, JsonWriter *w) {
    if (!w) {
        Text model = {0};
        gpt_print(&run->shape, &model);
        printf("%s, the optimizer alone, on %s\n\n", text_string(&model), run->kernels->name);
        text_close(&model);
        optimizer_bench_print_head();
        return;
    }
    json_begin(w, NULL, '{');
    json_string(w, "device", run->kernels->name);
    json_integer(w, "parameters", gpt_parameter_count(&run->shape));
    json_begin(w, "optimizers", '[');
}

static bool bench_one(const BenchRequest *request, const char *recipe, bool first, JsonWriter *w, Errors *errors) {
    static OptimizerBench bench;
    Run run = RUN_CLOSED;
    bool good = bench_configure(&run.config, request, recipe, errors);
    if (good) {
        run.config.train.micro_batch = 1; // of a network that computes nothing
        good = run_plan(&run, RUN_TRAINING, errors) && run_open(&run, errors) && measure(&bench, &run, errors);
    }
    if (good && first) begin_result(&run, w);
    if (good && w) optimizer_bench_json(&bench, NAN, w);
    if (good && !w) optimizer_bench_print(&bench);
    optimizer_bench_close(&bench);
    run_close(&run);
    return good;
}

// All but what only takes what another leaves, and what takes minutes for its eigenvectors.
static void list_all_recipes(TextList *out) {
    const Recipe *r;
    for (int i = 0; (r = recipe_at(i)); i++)
        if (!strstr(r->name, "_rest") && r->direction->move != MOVE_SOAP) text_list_add(out, r->name);
}

static void list_recipes(TextList *out, const char *asked) {
    if (strcmp(asked, "all") == 0) {
        list_all_recipes(out);
        return;
    }
    for (;;) {
        size_t size = strcspn(asked, ",");
        Text name = {0};
        text_append(&name, asked, size);
        text_list_add(out, text_string(&name));
        text_close(&name);
        if (!asked[size]) return;
        asked += size + 1;
    }
}

bool bench_recipes(const BenchRequest *request, Errors *errors) {
    Text text = {0};
    TextList recipes = {0};
    JsonWriter writer = {.out = &text, .indent = 2}, *w = request->json ? &writer : NULL;
    if (request->recipes) list_recipes(&recipes, request->recipes);
    bool good = true;
    for (int64_t i = 0; good && i < (request->recipes ? recipes.count : 1); i++)
        good = bench_one(request, request->recipes ? recipes.items[i] : NULL, i == 0, w, errors);
    if (good && w) {
        json_end(w, ']');
        json_end(w, '}');
        puts(text_string(&text));
    }
    text_list_close(&recipes);
    text_close(&text);
    return good;
}
