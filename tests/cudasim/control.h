// What tests ask of the CUDA simulator, from C and C++.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Seed 0 runs blocks, warps and lanes in ascending order. Every other seed shuffles them, and its low bits choose:
// 1: poison is a huge number instead of NaN; 2: cp.async copies at once instead of at its wait; 4: another warp runs at
// every suspension, instead of one up to the barrier. A correct kernel gives the same bits under all of them.
void cudasim_seed(uint64_t seed);

// Blocks of one launch in parallel; 1 is the default, and all there is in the race check.
void cudasim_host_threads(int count);

// Nonzero: cuBLASLt's stand-in knows no epilogue but the plain one, as the real one may not for some shapes.
void cudasim_plain_products(int only);

// Which of the algorithms that it proposes the stand-in refuses as they are launched: bit i is the i-th, of products
// with the plain epilogue and of those with another.
void cudasim_refuse_algorithms(uint32_t plain, uint32_t fused);

// Nonzero: the cublasStatus_t that making a handle, and asking for algorithms, end with.
void cudasim_fail_library(int create, int heuristic);

// Nonzero: cudaMalloc has no memory left.
void cudasim_refuse_memory(int refuse);

uint64_t cudasim_launches(void); // kernels run so far, those of graphs included

// Graphs are numbered from 0 as they are instantiated, and stay known when they are destroyed; a negative number counts
// from the newest, which is -1.
int cudasim_graph_count(void);

// Two recordings of the same work must be the same launches with the same arguments. The program ends with a report
// where they are not: a value of one step was baked into the graph.
void cudasim_compare_graphs(int first, int second);

// Calls of one name, such as "ncclAllReduce", that NCCL's stand-in has taken so far.
uint64_t cudasim_collectives(const char *name);

#ifdef __cplusplus
}
#endif
