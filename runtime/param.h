// Param: how the network describes one of its tensors to the optimizer, the checkpoint and the exporter,
// none of which know the network.
#pragma once

#include <stdint.h>

typedef enum {
    PARAM_MATRIX, // a linear layer's weight (out, in)
    PARAM_TABLE,  // embeddings, positions, head
    PARAM_VECTOR, // gains and biases
} ParamKind;

enum { PARAM_NAME = 64, PARAM_PARTS = 3, PARAM_ALIGNMENT = 64 }; // alignment in elements

// A range of rows that is a matrix of its own inside a fused tensor: q, k, v; gate, up.
typedef struct {
    const char *suffix; // "" when the tensor is whole
    int64_t row, rows;
} ParamPart;

typedef struct {
    char name[PARAM_NAME]; // "wte", "h.3.qkv_w"
    ParamKind kind;
    int row;         // of the network's own table
    int layer;       // -1: not in a block
    int unit;        // what is communicated at once: 0 before the blocks, then block by block, then what is behind
    int64_t offset;  // elements from the start of the flat buffer, a multiple of PARAM_ALIGNMENT
    int64_t rows;    // stored rows, padding included; 1 for vectors
    int64_t columns;
    int64_t real_rows; // rows without vocabulary padding
    int part_count;    // >= 1
    ParamPart part[PARAM_PARTS];
} Param;

typedef struct {
    const Param *items;
    int64_t count;
    int64_t elements; // of the flat buffer, padding included
} ParamList;
