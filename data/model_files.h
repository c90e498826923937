// The weights of a model as others keep them: a Hugging Face directory (model.safetensors, or shards with an index) or
// a checkpoint file of llm.c, as one list of named tensors on the host, mapped. Knows no network. What is wrong with a
// directory or file ends in messages: 65, or 66 for what is not there.
#pragma once

#include "data/safetensors.h"

// Whether a path is one or the other: a regular file, or a directory with weights in it, readable here or not.
bool model_files_are(const char *path);
bool model_files_are_llmc(const char *path); // whether it is a file that begins as those of llm.c do

// config.json, or what the header of an llm.c file says as one; `name` is for messages.
bool model_files_config(const char *path, Text *name, Text *json, Errors *errors);

typedef struct ModelFiles ModelFiles;
ModelFiles *model_files_open(const char *path, Errors *errors); // maps and validates
void model_files_close(ModelFiles *files);

// Whether the tensors are those of the list, no more and no less, of these shapes and of floats. Names may lack the
// list's prefix ("transformer.", "model."), buffers that are no weights are passed over, and a head that is there
// though the list has none must be the embedding.
bool model_files_check(const ModelFiles *files, const NamedTensor *tensors, int64_t count, Errors *errors);

// After that: fills every tensor of the list, converting dtypes; or the list itself, of views of the files.
void model_files_fill(const ModelFiles *files, const Kernels *kernels, const NamedTensor *tensors, int64_t count);
void model_files_list(const ModelFiles *files, const NamedTensor *tensors, int64_t count, NamedTensors *out);
