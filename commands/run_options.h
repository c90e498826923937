// The options that the program itself reads, one struct per section of run_options.def.
#pragma once

#include "runtime/options.h"

typedef struct {
#define MACHINE_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "commands/run_options.def"
} MachineOptions;

typedef struct {
#define RUN_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "commands/run_options.def"
} RunOptions;

typedef struct {
#define TRAIN_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "commands/run_options.def"
} TrainOptions;

typedef struct {
#define EVAL_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "commands/run_options.def"
} EvalOptions;

typedef struct {
#define CHECKPOINT_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "commands/run_options.def"
} CheckpointOptions;

typedef struct {
#define SAMPLE_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "commands/run_options.def"
} SampleOptions;

typedef struct {
#define LOG_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "commands/run_options.def"
} LogOptions;

typedef struct {
#define DIST_SECTION
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "commands/run_options.def"
} DistOptions;

extern const OptionRows machine_option_rows, run_option_rows, train_option_rows, eval_option_rows,
    checkpoint_option_rows, sample_option_rows, log_option_rows, dist_option_rows;

// Values of device, precision, train.on_spike, dist.shard and dist.comm.
enum { DEVICE_CPU, DEVICE_CUDA };
enum { PRECISION_FP32, PRECISION_BF16 };
enum { ON_SPIKE_NONE, ON_SPIKE_SKIP, ON_SPIKE_ROLLBACK };
enum { SHARD_NONE, SHARD_OPTIMIZER };
enum { DIST_HOST, DIST_NCCL };
