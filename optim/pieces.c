#include "optim/pieces.h"

#include <stdlib.h>

#include "optim/routes.h"
#include "runtime/integers.h"
#include "runtime/memory.h"

const Route *piece_route(const Optim *optim, const Piece *piece) { return &optim->routes[piece->segment.route]; }

bool piece_is_whole(const Optim *optim, const Piece *piece) {
    return recipe_is_whole(piece_route(optim, piece)->recipe);
}

int route_slots(const Route *route) {
    int count = 0;
    while (count < SEGMENT_SLOTS && route->recipe->direction->slots[count].name) count++;
    return count;
}

// ---- the list ----

static Piece piece_of(const Optim *optim, const Param *p, const ParamPart *part) {
    bool vector = p->kind == PARAM_VECTOR;
    Piece piece = {.param = p, .part = part};
    piece.rows = vector ? 1 : part->rows;
    piece.columns = vector ? part->rows : p->columns;
    int route = p->kind == PARAM_MATRIX ? RECIPE_MATRIX : RECIPE_OTHER;
    const Recipe *recipe = optim->routes[route].recipe;
    piece.segment = (Segment){.offset = p->offset + part->row * (vector ? 1 : p->columns),
                              .count = piece.rows * piece.columns,
                              .gap = -1,
                              .slot = {-1, -1, -1, -1, -1, -1},
                              .route = route,
                              .direction = recipe->direction->kernel,
                              .decay_at = recipe->decay_at,
                              .lr_scale = 1,
                              .decay_scale = 1,
                              .move_scale = (float)route_move_scale(&optim->routes[route], piece.rows, piece.columns)};
    return piece;
}

void pieces_list(Optim *optim) {
    const ParamList *params = &optim->params;
    int64_t count = 0;
    for (int64_t i = 0; i < params->count; i++) count += params->items[i].part_count;
    optim->pieces = memory_take(count, sizeof *optim->pieces, "pieces");
    optim->units = params->count > 0 ? params->items[params->count - 1].unit + 1 : 0;
    for (int64_t i = 0; i < params->count; i++)
        for (int part = 0; part < params->items[i].part_count; part++)
            optim->pieces[optim->piece_count++] = piece_of(optim, &params->items[i], &params->items[i].part[part]);
}

// ---- owners ----

// Of a step, in floating-point operations; 0 for what moves by element.
static double cost_of(const Optim *optim, const Piece *piece) {
    const Route *route = piece_route(optim, piece);
    double r = (double)piece->rows, c = (double)piece->columns;
    switch (route->recipe->direction->move) {
    case MOVE_ORTHOGONAL: return newton_schulz_flops(&route->polynomial, piece->rows, piece->columns);
    case MOVE_SOAP: return 2 * r * c * (r + c) + (r * r * r + c * c * c) / (double)route->hyper.precondition_every;
    case MOVE_ELEMENTS: case MOVE_NORMED: break;
    }
    return 0;
}

// All of a piece, as owners see it; without a name.
static OwnedPart part_of(const Optim *optim, const Piece *piece) {
    return (OwnedPart){.unit = piece->param->unit, .offset = piece->segment.offset - piece->begin,
                       .count = piece->rows * piece->columns, .cost = cost_of(optim, piece)};
}

Owners optim_owners(const Optim *optim, int ranks) {
    OwnedPart *parts = memory_take(optim->piece_count, sizeof *parts, "parts of pieces");
    TextList names = {0};
    for (int64_t i = 0; i < optim->piece_count; i++) {
        Text name = {0};
        piece_name(&optim->pieces[i], &name);
        text_list_add(&names, text_string(&name));
        text_close(&name);
    }
    for (int64_t i = 0; i < optim->piece_count; i++) {
        parts[i] = part_of(optim, &optim->pieces[i]);
        parts[i].name = names.items[i];
    }
    Owners owners = owners_plan(parts, optim->piece_count, ranks);
    text_list_close(&names);
    free(parts);
    return owners;
}

void pieces_take_shares(Optim *optim) {
    for (int64_t i = 0; i < optim->piece_count; i++) {
        Piece *piece = &optim->pieces[i];
        OwnedPart part = part_of(optim, piece);
        Share own = owners_range(&optim->owners, &part, optim->comm->rank);
        piece->begin = own.offset - part.offset;
        piece->segment.offset = own.offset;
        piece->segment.count = own.count;
    }
}

// ---- where things lie ----

// Elements of a slot here; those that are not like the parameter itself are of whole pieces.
static int64_t slot_size(const Route *route, const Piece *piece, int slot) {
    SlotShape shape = route->recipe->direction->slots[slot].shape;
    if (piece->segment.count == 0 || shape == SLOT_LIKE) return piece->segment.count;
    return slot_elements(shape, piece->rows, piece->columns, &route->hyper);
}

// Room for so many elements; the first of them.
static int64_t put(int64_t *end, int64_t elements) {
    int64_t begin = *end;
    *end += round_up(elements, PARAM_ALIGNMENT);
    return begin;
}

int64_t pieces_lay_out(Optim *optim, bool packed) {
    int64_t z = 0, end = 0;
    for (int64_t i = 0; i < optim->piece_count; i++) {
        Piece *piece = &optim->pieces[i];
        Segment *segment = &piece->segment;
        const Route *route = piece_route(optim, piece);
        segment->z = packed ? put(&z, segment->count) : segment->offset;
        if (segment->count > 0 && route->recipe->average->averages) segment->gap = put(&end, segment->count);
        for (int slot = 0; slot < route_slots(route); slot++) {
            int64_t elements = slot_size(route, piece, slot);
            if (elements > 0) segment->slot[slot] = put(&end, elements);
        }
    }
    if (packed) optim->z.shape[0] = z > 0 ? z : PARAM_ALIGNMENT; // a rank may own nothing
    return end;
}
