#include "optim/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "optim/pieces.h"
#include "optim/routes.h"
#include "runtime/memory.h"

enum { CHUNK_ELEMENTS = 1 << 25 }; // of the matrices that are orthogonalised by the same calls

// ---- groups ----

static bool belongs(const Optim *optim, const Group *group, const Piece *piece) {
    const Route *route = piece_route(optim, piece);
    if (!piece_is_whole(optim, piece)) return !group->route;
    return group->route == route && group->rows == piece->rows && group->columns == piece->columns;
}

// NULL: nothing of it is here.
static Group *group_of(Optim *optim, const Piece *piece) {
    if (piece_is_whole(optim, piece) && piece->segment.count == 0) return NULL; // another rank's
    for (int i = 0; i < optim->group_count; i++)
        if (belongs(optim, &optim->groups[i], piece)) return &optim->groups[i];
    REQUIRE(optim->group_count < OPTIM_GROUPS, "more than %d shapes of matrices", OPTIM_GROUPS);
    Group *group = &optim->groups[optim->group_count++];
    *group = (Group){0};
    if (piece_is_whole(optim, piece))
        *group = (Group){.route = piece_route(optim, piece), .rows = piece->rows, .columns = piece->columns};
    return group;
}

static void list_groups(Optim *optim) {
    for (int64_t i = 0; i < optim->piece_count; i++) {
        Group *group = group_of(optim, &optim->pieces[i]);
        if (group) group->count++;
    }
    int64_t next = optim->piece_count;
    for (int i = 0; i < optim->group_count; i++) {
        Group *group = &optim->groups[i];
        group->first = next;
        next += group->count;
        if (!group->route) continue;
        int64_t most = CHUNK_ELEMENTS / (group->rows * group->columns);
        if (group->route->recipe->direction->move == MOVE_SOAP || most < 1) most = 1;
        group->chunk = group->count < most ? group->count : most;
    }
}

// What is to be orthogonalised in each step, counted from the parameters alone.
static int64_t count_matrices(const Optim *optim) {
    int64_t count = 0;
    for (int64_t i = 0; i < optim->params.count; i++)
        if (optim->params.items[i].kind == PARAM_MATRIX) count += optim->params.items[i].part_count;
    return optim->routes[RECIPE_MATRIX].recipe->direction->move == MOVE_ORTHOGONAL ? count : 0;
}

// Of them, by this rank. Over all ranks that is every matrix once.
static int64_t count_own_matrices(const Optim *optim) {
    int64_t all = count_matrices(optim), owned = 0;
    if (!optim->sharded || all == 0) return all;
    for (int rank = 0; rank < optim->owners.ranks; rank++) owned += owners_load(&optim->owners, rank).parts;
    REQUIRE(owned == all, "%ld of %ld matrices have an owner", owned, all);
    return owners_load(&optim->owners, optim->comm->rank).parts;
}

// ---- memory ----

static DType wide_of(const Optim *optim) { return optim->z.dtype; }

static bool averages(const Optim *optim) {
    for (int route = 0; route < RECIPE_ROUTES; route++)
        if (optim->routes[route].recipe->average->averages) return true;
    return false;
}

// Whether the network can read z itself: nothing else is ever shown to it.
static bool is_shared(const Optim *optim, DType compute) {
    return wide_of(optim) == compute && !averages(optim) && optim->readout.kind == READOUT_NONE;
}

// What the matrices of a route are orthogonalised in.
static DType ns_dtype(const Optim *optim, const Route *route, DType compute) {
    int64_t choice = route->hyper.ns_dtype;
    bool half = choice == NS_BF16 || (choice == OPTION_AUTO && compute == DTYPE_BF16);
    return half ? DTYPE_BF16 : wide_of(optim);
}

// Groups work one after the other, in the same room.
static void place_rooms(Optim *optim, DType compute) {
    size_t most = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass && most == 0) return; // nothing moves whole matrices
        void *base = pass ? arena_take(&optim->arena, "room for matrices", most) : NULL;
        for (int i = 0; i < optim->group_count; i++) {
            Group *group = &optim->groups[i];
            if (!group->route) continue;
            Arena room = {.name = "room", .base = base, .capacity = most};
            if (group->route->recipe->direction->move == MOVE_SOAP)
                soap_place(&group->soap, &room, wide_of(optim), group->rows, group->columns, &group->route->hyper);
            else
                newton_schulz_place(&group->room, &room, ns_dtype(optim, group->route, compute),
                                    &group->route->polynomial, (int64_t[]){group->chunk, group->rows, group->columns});
            if (room.used > most) most = room.used;
            arena_close(&room);
        }
    }
}

enum { TABLE_STATE, TABLE_Z, TABLE_WHOLES }; // segments that are all of a tensor, behind those of groups

static int64_t table_wholes(const Optim *optim) {
    const Group *last = &optim->groups[optim->group_count - 1];
    return optim->group_count > 0 ? last->first + last->count : optim->piece_count;
}

static int64_t table_size(const Optim *optim) { return table_wholes(optim) + TABLE_WHOLES; }

static void place(Optim *optim, int64_t state, DType compute) {
    Tensor z = tensor_1d(NULL, wide_of(optim), tensor_count(optim->z));
    if (!is_shared(optim, compute)) optim->z = arena_tensor(&optim->arena, "z", z);
    if (state > 0) optim->state = arena_tensor(&optim->arena, "gap and slots", tensor_1d(NULL, wide_of(optim), state));
    if (optim->readout.kind != READOUT_NONE) optim->average = arena_tensor(&optim->arena, "readout", z);
    optim->table = arena_take(&optim->arena, "segments", (size_t)table_size(optim) * sizeof(Segment));
    optim->squares = arena_tensor(&optim->arena, "squares", tensor_1d(NULL, DTYPE_F64, optim->piece_count));
    optim->window = arena_tensor(&optim->arena, "window", tensor_1d(NULL, DTYPE_F64, WINDOW_SIZE));
    place_rooms(optim, compute);
}

static bool check_host(const Optim *optim, Errors *errors) {
    for (int route = 0; route < RECIPE_ROUTES; route++) {
        const Recipe *r = optim->routes[route].recipe;
        if (r->direction->move == MOVE_SOAP && !optim->kernels->is_host())
            return errors_add(errors, EXIT_USAGE, "optim.name: %s runs on the CPU only; set device=cpu or choose "
                              "another recipe", r->name);
        bool half = r->direction->move == MOVE_ORTHOGONAL && optim->routes[route].hyper.ns_dtype == NS_BF16;
        if (half && strcmp(optim->kernels->name, "cpu") == 0)
            return errors_add(errors, EXIT_USAGE, "optim.ns_dtype: the CPU multiplies in fp32; set device=cuda, or "
                              "leave it out");
    }
    return true;
}

static Readout readout_of(const OptimOptions *o) {
    return (Readout){.kind = o->readout,
                     .start = o->readout_start != OPTION_AUTO ? o->readout_start : 0,
                     .every = o->readout_every != OPTION_AUTO ? o->readout_every : 10,
                     .decay = !isnan(o->readout_decay) ? o->readout_decay : 0.95};
}

bool optim_plan(Optim *optim, const Kernels *kernels, const ParamList *params, DType compute, const OptimSetup *setup,
                Errors *errors) {
    const OptimOptions *o = setup->options;
    *optim = (Optim){.kernels = kernels, .params = *params, .clip = o->clip, .readout = readout_of(o),
                     .arena = {.name = "optimizer state"}, .z = tensor_1d(NULL, setup->wide, params->elements),
                     .comm = setup->comm, .sharded = setup->sharded && setup->comm && setup->comm->size > 1};
    if (!routes_choose(optim->routes, setup, errors) || !check_host(optim, errors)) return false;
    pieces_list(optim);
    if (!groups_apply(&o->groups, optim->pieces, optim->piece_count, errors)) return false;
    if (optim->sharded) {
        optim->owners = optim_owners(optim, setup->comm->size);
        pieces_take_shares(optim);
    }
    list_groups(optim);
    optim->matrices = count_own_matrices(optim);
    int64_t state = pieces_lay_out(optim, optim->sharded && !is_shared(optim, compute));
    place(optim, state, compute);
    return true;
}

static void upload_table(Optim *optim) {
    int64_t size = table_size(optim);
    Segment *host = memory_take(size, sizeof *host, "segments");
    int64_t filled[OPTIM_GROUPS] = {0};
    for (int64_t i = 0; i < optim->piece_count; i++) {
        Group *group = group_of(optim, &optim->pieces[i]);
        host[i] = optim->pieces[i].segment;
        if (group) host[group->first + filled[group - optim->groups]++] = host[i];
    }
    host[table_wholes(optim) + TABLE_STATE].count = tensor_count(optim->state);
    host[table_wholes(optim) + TABLE_Z].count = tensor_count(optim->z);
    int64_t bytes = size * (int64_t)sizeof *host;
    optim->kernels->upload(tensor_1d(optim->table, DTYPE_I64, bytes / (int64_t)sizeof(int64_t)), host);
    free(host);
}

bool optim_open(Optim *optim, const OptimTarget *target, Errors *errors) {
    optim->weights = target->weights;
    optim->grads = target->grads;
    optim->status = target->status;
    optim->scalars = target->scalars;
    optim->memory = optim->kernels->take_memory(optim->arena.used);
    if (!optim->memory) {
        char number[TEXT_NUMBER];
        return errors_add(errors, EXIT_USAGE, "not enough memory on %s: the optimizer's state needs %s",
                          optim->kernels->name, text_bytes(number, (double)optim->arena.used));
    }
    arena_begin_placing(&optim->arena, optim->memory);
    place(optim, tensor_count(optim->state), optim->weights.dtype);
    if (is_shared(optim, optim->weights.dtype)) optim->z = optim->weights;
    upload_table(optim);
    return true;
}

void optim_close(Optim *optim) {
    if (optim->memory) optim->kernels->return_memory(optim->memory, optim->arena.capacity);
    arena_close(&optim->arena);
    owners_close(&optim->owners);
    free(optim->pieces);
    *optim = (Optim){0};
}

// ---- scalars ----

// e = x up to the start; then the mean of all x behind it, or every so many steps a step towards x.
static double readout_weight(const Optim *optim, int64_t t) {
    const Readout *r = &optim->readout;
    int64_t behind = t - r->start;
    if (behind <= 0 || t == 1) return 1;
    if (r->kind == READOUT_TAIL) return 1 / (double)behind;
    return behind % r->every == 0 ? 1 - r->decay : 0;
}

void optim_scalars(Optim *optim, int64_t t, StepScalars *scalars) {
    scalars->t = t;
    scalars->seen = t - 1;
    scalars->clip = optim->clip;
    scalars->readout = readout_weight(optim, t);
    for (int i = 0; i < RECIPE_ROUTES; i++) route_scalars(&optim->routes[i], t, &scalars->recipe[i]);
}

// ---- steps ----

static bool is_one_of_several(const Optim *optim) { return optim->comm && optim->comm->size > 1; }

static Update update_of(const Optim *optim, int64_t first, int64_t count) {
    return (Update){.weights = optim->weights, .z = optim->z, .state = optim->state, .grads = optim->grads,
                    .squares = tensor_slice(optim->squares, 0, 0, count), .segments = {optim->table + first, count},
                    .scalars = optim->scalars, .status = optim->status};
}

static void sum_over_ranks(const Optim *optim, Tensor values) {
    if (is_one_of_several(optim)) comm_wait(optim->comm, comm_sum(optim->comm, values));
}

static void move_elements(Optim *optim, const Group *group) {
    const Kernels *k = optim->kernels;
    Update update = update_of(optim, group->first, group->count);
    bool normed = false;
    for (int route = 0; route < RECIPE_ROUTES; route++)
        normed = normed || optim->routes[route].recipe->direction->move == MOVE_NORMED;
    if (normed) {
        k->corrected_squares(update.squares, &update);
        if (optim->sharded) sum_over_ranks(optim, update.squares);
    } else {
        update.squares = TENSOR_NONE;
    }
    k->update(&update);
}

static void move_orthogonal(Optim *optim, const Group *group) {
    const Kernels *k = optim->kernels;
    const Route *route = group->route;
    NewtonSchulzWay way = {.official = route->hyper.compat == COMPAT_OFFICIAL, .match = route->hyper.ns_match == 1};
    for (int64_t begin = 0; begin < group->count; begin += group->chunk) {
        int64_t count = group->count - begin < group->chunk ? group->count - begin : group->chunk;
        Update update = update_of(optim, group->first + begin, count);
        update.squares = TENSOR_NONE;
        k->momentum_mix(tensor_slice(group->room.x[0], 0, 0, count), &update);
        update.directions = newton_schulz(k, &route->polynomial, &group->room, count, way);
        optim->orthogonalised += count;
        Neurons neurons = route->recipe->direction->neurons;
        if (neurons != NEURONS_AS_THEY_ARE) k->neuron_normalise(update.directions, neurons == NEURONS_UNIT, &update);
        k->update(&update);
    }
}

static void move_soap(Optim *optim, const Group *group) {
    for (int64_t i = 0; i < group->count; i++) {
        Update update = update_of(optim, group->first + i, 1);
        update.squares = TENSOR_NONE;
        update.directions = group->soap.direction;
        if (!soap_direction(optim->kernels, &update, &group->route->hyper, &group->soap)) continue;
        optim->kernels->update(&update);
    }
}

// Of all of a tensor, over all ranks: some may have none. Room for one sum is where squares of tensors are taken.
static double sum_of_squares(Optim *optim, Tensor values, int whole) {
    Tensor room = tensor_slice(optim->squares, 0, 0, 1);
    Segments all = {optim->table + table_wholes(optim) + whole, 1};
    double sum = 0;
    if (tensor_present(values)) optim->kernels->sum_squares(room, values, all);
    else optim->kernels->fill_zero(room);
    sum_over_ranks(optim, room);
    optim->kernels->download(&sum, room);
    return sum;
}

bool optim_is_finite(Optim *optim) {
    return isfinite(sum_of_squares(optim, optim->z, TABLE_Z)) &&
           isfinite(sum_of_squares(optim, optim->state, TABLE_STATE)) &&
           isfinite(sum_of_squares(optim, optim->average, TABLE_Z));
}

// What is not sharded is the same on all ranks: its squares are whole.
void optim_measure(Optim *optim) {
    _Static_assert(STATUS_LOSS_SUM == 0 && STATUS_WEIGHT_SUM == 1 && STATUS_GRAD_SQUARES == 2, "one sum of all three");
    Segments pieces = {optim->table, optim->piece_count};
    optim->kernels->sum_squares(tensor_slice(optim->status, 0, STATUS_GRAD_SQUARES, 1), optim->grads, pieces);
    sum_over_ranks(optim, tensor_slice(optim->status, 0, 0, STATUS_GRAD_SQUARES + optim->sharded));
}

void optim_step(Optim *optim) {
    static void (*const moves[])(Optim *, const Group *) = {[MOVE_ELEMENTS] = move_elements,
                                                            [MOVE_NORMED] = move_elements,
                                                            [MOVE_ORTHOGONAL] = move_orthogonal,
                                                            [MOVE_SOAP] = move_soap};
    const Kernels *k = optim->kernels;
    optim_measure(optim);
    k->step_decide(optim->status, optim->window, optim->scalars);
    optim->orthogonalised = 0;
    for (int i = 0; i < optim->group_count; i++) {
        const Group *group = &optim->groups[i];
        moves[group->route ? group->route->recipe->direction->move : MOVE_ELEMENTS](optim, group);
    }
    REQUIRE(optim->orthogonalised == optim->matrices, "%ld of %ld matrices were orthogonalised",
            (long)optim->orthogonalised, (long)optim->matrices);
    Update all = update_of(optim, 0, optim->piece_count);
    if (tensor_present(optim->average)) k->readout_add(optim->average, &all);
    optim->stale = optim->sharded;
}

// ---- ranks ----

// From the first parameter of a unit to the end of its last one.
static Tensor unit_range(const Optim *optim, Tensor flat, int unit) {
    int64_t begin = -1, end = 0;
    for (int64_t i = 0; i < optim->params.count; i++) {
        const Param *p = &optim->params.items[i];
        if (p->unit != unit) continue;
        if (begin < 0) begin = p->offset;
        end = p->offset + p->rows * p->columns;
    }
    return begin < 0 ? TENSOR_NONE : tensor_slice(flat, 0, begin, end - begin);
}

int64_t optim_reduce(Optim *optim, int unit) {
    if (optim->sharded) return comm_reduce(optim->comm, optim->grads, owners_unit(&optim->owners, unit));
    Tensor range = unit_range(optim, optim->grads, unit);
    return is_one_of_several(optim) && tensor_present(range) ? comm_sum(optim->comm, range) : 0;
}

int64_t optim_gather(Optim *optim, int unit) {
    if (!optim->sharded) return 0;
    return comm_gather(optim->comm, optim->weights, owners_unit(&optim->owners, unit));
}

void optim_gather_all(Optim *optim) {
    for (int unit = 0; unit < optim->units && optim->stale; unit++) comm_wait(optim->comm, optim_gather(optim, unit));
    optim->stale = false;
}

// ---- what the network sees ----

bool optim_has(const Optim *optim, Iterate iterate) {
    return iterate != ITERATE_READOUT || optim->readout.kind != READOUT_NONE;
}

bool optim_is_anytime(const Optim *optim) {
    for (int i = 0; i < RECIPE_ROUTES; i++) {
        ScheduleKind kind = optim->routes[i].schedule.kind;
        if (kind != SCHEDULE_CONSTANT && kind != SCHEDULE_INVERSE_SQRT) return false;
    }
    return true;
}

// Between a tensor laid out as z, and a flat one: what is owned, piece by piece.
static void pack(const Optim *optim, Tensor packed, Tensor flat) {
    for (const Piece *p = optim->pieces; p < optim->pieces + optim->piece_count; p++)
        if (p->segment.count > 0)
            optim->kernels->copy(tensor_slice(packed, 0, p->segment.z, p->segment.count),
                                 tensor_slice(flat, 0, p->segment.offset, p->segment.count));
}

static void unpack(const Optim *optim, Tensor flat, Tensor packed) {
    for (const Piece *p = optim->pieces; p < optim->pieces + optim->piece_count; p++)
        if (p->segment.count > 0)
            optim->kernels->copy(tensor_slice(flat, 0, p->segment.offset, p->segment.count),
                                 tensor_slice(packed, 0, p->segment.z, p->segment.count));
}

static void interpolate(Optim *optim, Iterate iterate, int64_t steps) {
    double share[RECIPE_ROUTES];
    for (int route = 0; route < RECIPE_ROUTES; route++) {
        route_advance(&optim->routes[route], steps);
        share[route] = iterate == ITERATE_Y ? optim->routes[route].averages.b_next : iterate == ITERATE_X;
    }
    Update all = update_of(optim, 0, optim->piece_count);
    optim->kernels->interpolate(optim->weights, &all, share);
}

void optim_load_weights(Optim *optim, Iterate iterate, int64_t steps) {
    bool apart = optim->z.data != optim->weights.data;
    if (iterate == ITERATE_SHOWN) iterate = optim->readout.kind != READOUT_NONE ? ITERATE_READOUT : ITERATE_X;
    if (apart && iterate == ITERATE_READOUT) unpack(optim, optim->weights, optim->average);
    else if (apart) interpolate(optim, iterate, steps);
    if (apart) optim->stale = optim->sharded;
    optim_gather_all(optim);
}

void optim_begin(Optim *optim, Tensor values) {
    optim->kernels->fill_zero(optim->window);
    pack(optim, optim->z, values);
    if (tensor_present(optim->average)) pack(optim, optim->average, values);
    optim->stale = optim->sharded;
    optim_load_weights(optim, ITERATE_Y, 0);
}

// ---- state ----

// A vector, or a matrix (rows, columns), at `offset` of a flat tensor, under "PREFIX.NAME", or "NAME" without a prefix.
static NamedTensor *add_tensor(NamedTensors *out, const char *prefix, const Piece *piece, Tensor flat, int64_t offset,
                               const int64_t shape[2]) {
    Text name = {0};
    piece_name(piece, &name);
    Tensor view = tensor_slice(flat, 0, offset, shape[0] * shape[1]);
    if (piece->param->kind != PARAM_VECTOR && shape[1] > 1) view = tensor_reshape(view, shape[0], shape[1], 0, 0);
    NamedTensor *item = named_tensors_add(out, view, "%s%s%s", prefix, *prefix ? "." : "", text_string(&name));
    text_close(&name);
    return item;
}

// What is here of something of the parameter's own shape.
static void add_like(NamedTensors *out, const char *prefix, const Piece *piece, Tensor flat, int64_t offset) {
    int64_t whole = piece->rows * piece->columns, here = piece->segment.count;
    bool is_all = here == whole;
    if (here == 0) return;
    NamedTensor *item = add_tensor(out, prefix, piece, flat, offset,
                                   (const int64_t[]){is_all ? piece->rows : here, is_all ? piece->columns : 1});
    if (!is_all) item->begin = piece->begin, item->whole = whole;
}

static void add_slot(NamedTensors *out, const Optim *optim, const Piece *piece, int slot) {
    const Slot *row = &piece_route(optim, piece)->recipe->direction->slots[slot];
    int64_t r = piece->rows, c = piece->columns, begin = piece->segment.slot[slot];
    const int64_t shapes[][2] = {[SLOT_ROWS] = {r, 1}, [SLOT_LEFT] = {r, r}, [SLOT_RIGHT] = {c, c}};
    if (begin < 0) return;
    if (row->shape == SLOT_LIKE) add_like(out, row->name, piece, optim->state, begin);
    else add_tensor(out, row->name, piece, optim->state, begin, shapes[row->shape]);
}

void optim_state(const Optim *optim, NamedTensors *out) {
    for (int64_t i = 0; i < optim->piece_count; i++) {
        const Piece *piece = &optim->pieces[i];
        add_like(out, "z", piece, optim->z, piece->segment.z);
        if (piece->segment.gap >= 0) add_like(out, "gap", piece, optim->state, piece->segment.gap);
        for (int slot = 0; slot < route_slots(piece_route(optim, piece)); slot++) add_slot(out, optim, piece, slot);
        if (tensor_present(optim->average)) add_like(out, "readout", piece, optim->average, piece->segment.z);
    }
}

void optim_gradients(const Optim *optim, NamedTensors *out) {
    for (int64_t i = 0; i < optim->piece_count; i++) {
        const Piece *piece = &optim->pieces[i];
        add_like(out, "", piece, optim->grads, piece->segment.offset);
    }
}

// ---- for people ----

static void print_route(Text *out, const Route *route, const char *serves) {
    Text schedule = {0};
    option_choice_name(optim_option_find("schedule")->choices, route->schedule.kind, &schedule);
    text_printf(out, "%s%s, lr %g, %s", route->recipe->name, serves, route->hyper.lr, text_string(&schedule));
    text_close(&schedule);
}

static int64_t owned_elements(const Optim *optim) {
    int64_t count = 0;
    for (int64_t i = 0; i < optim->piece_count; i++) count += optim->pieces[i].segment.count;
    return count;
}

static void print_ranks(const Optim *optim, Text *out) {
    char own[TEXT_NUMBER], all[TEXT_NUMBER];
    int64_t count = 0;
    for (int64_t i = 0; i < optim->piece_count; i++) count += optim->pieces[i].rows * optim->pieces[i].columns;
    text_printf(out, "        sharded over %d ranks: this one moves %s of %s parameters", optim->comm->size,
                text_count(own, (double)owned_elements(optim)), text_count(all, (double)count));
    int64_t matrices = owners_load(&optim->owners, optim->comm->rank).parts;
    if (matrices > 0)
        text_printf(out, ", %ld matrices among them; the most work of a rank is %.2f times the mean", matrices,
                    owners_imbalance(&optim->owners));
    text_add(out, "\n");
}

void optim_print(const Optim *optim, Text *out) {
    const Route *matrix = &optim->routes[RECIPE_MATRIX], *other = &optim->routes[RECIPE_OTHER];
    bool one = matrix->recipe == other->recipe && matrix->hyper.lr == other->hyper.lr;
    print_route(out, matrix, one ? "" : " for matrices");
    text_printf(out, " after %ld steps of warmup\n", matrix->schedule.warmup);
    if (!one) {
        text_add(out, "        ");
        print_route(out, other, " for the rest");
        text_add(out, "\n");
    }
    if (count_matrices(optim) > 0)
        text_printf(out, "        %ld matrices are orthogonalised in each step by %d of %s\n", count_matrices(optim),
                    matrix->polynomial.steps, matrix->hyper.ns);
    if (optim->sharded) print_ranks(optim, out);
    if (optim->readout.kind != READOUT_NONE)
        text_add(out, "        checkpoints and evaluations are of the readout, a further average of x\n");
    else if (averages(optim))
        text_add(out, "        checkpoints and evaluations are of x, the average\n");
}
