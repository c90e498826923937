// Networks under test: opened on a backend in that backend's own precision (the CPU's fp32, the reference's fp64),
// with batches made by hand and all numbers seen as doubles. One network is open at a time.
#pragma once

#include "model/gpt.h"

typedef struct {
    int64_t batch, length; // largest B and T
    int recompute;
} NetworkSize;

// Opened for training, every call checked against the contract of kernels.h and every float that it writes for being
// finite (checked_want_finite).
void network_open(Gpt *gpt, const Kernels *kernels, const GptShape *shape, NetworkSize size);

// Weights far enough from 0 and from each other that nothing in the network is nearly linear: gains around 1,
// everything else around 0, padding rows zero. The same fp32 numbers on every backend.
void network_fill(Gpt *gpt, uint64_t seed);

// A host batch of B = `sequences` times T = `length` in which everything but first_visible is present: weights 1,
// positions counting from 0. The caller writes tokens and targets, then sorts.
void batch_open(Batch *batch, int64_t sequences, int64_t length);
void batch_add_first_visible(Batch *batch);
void batch_sort_ids(Batch *batch, const GptShape *shape);
void batch_fill(Batch *batch, int64_t vocab, uint64_t seed); // random tokens and targets; some targets -1, weights 0.5
void batch_close(Batch *batch);
double batch_total_weight(const Batch *batch); // of tokens with a target
Batch batch_sequence(const Batch *batch, int64_t sequence); // a view of one; to be sorted alone: orders are its own
static inline int32_t *batch_ids(Tensor field) { return field.data; }

// Weighted mean loss of the batch. `network_gradients` leaves gradients of it in gpt->grads, from zero.
double network_loss(Gpt *gpt, const Batch *batch);
double network_gradients(Gpt *gpt, const Batch *batch);

// A contiguous float tensor of the device as doubles on the host, for free(); and back.
double *tensor_download(const Kernels *kernels, Tensor tensor);
void tensor_upload(const Kernels *kernels, Tensor tensor, const double *values);

// Every separate matrix (q, k, v; gate, up) and every vector: the distance of `got` from `expected` is at most
// `tolerance` times the norm of `expected`; padding rows are exactly zero. Both are flat, laid out as the parameters.
void check_gradients(const ParamList *params, const double *got, const double *expected, double tolerance);
