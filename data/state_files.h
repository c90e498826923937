// State files: state-0000i-of-0000N.safetensors, one by each of the N ranks that wrote a checkpoint, read as if they
// were one. A tensor is whole in one of them, or cut into flat parts NAME[BEGIN:END] (its elements BEGIN to END - 1) in
// any of them; how it was cut is nothing to who reads it.
#pragma once

#include "data/safetensors.h"

enum { STATE_FILE_NAME = 64 };
void state_file_name(char out[STATE_FILE_NAME], int64_t index, int64_t count); // index from 1
// What state_file_name wrote: false for any other name, and where index is not one of 1..count.
bool state_file_place(const char *name, int64_t *index, int64_t *count);

typedef struct StateFiles StateFiles;
// All that the manifest lists, mapped and checked: parts have their names' sizes, and no two overlap or leave a gap.
// NULL and messages (74), or 66 where there are none.
StateFiles *state_open(const char *checkpoint, Errors *errors);
void state_close(StateFiles *state);

// Tensors by name, each once, however it is cut.
int64_t state_count(const StateFiles *state);
const char *state_name(const StateFiles *state, int64_t index);
Tensor state_whole(const StateFiles *state, int64_t index); // on the host; absent where it is cut

// Whether every tensor of the list, or the part of one, is there with its shape (of parts: with as many elements as
// their whole has); all that are not are named. Then state_fill fills them, converting dtypes; only what is asked for
// is read.
bool state_check(StateFiles *state, const NamedTensor *tensors, int64_t count, Errors *errors);
void state_fill(const StateFiles *state, const Kernels *kernels, const NamedTensor *tensors, int64_t count);

// What state_check was asked for so far, as text. Tensors that are in no text of `count` ranks are named.
void state_used(const StateFiles *state, Text *used);
bool state_check_used(const StateFiles *state, const Text *used, int count, Errors *errors);
