#include "commands/run_options.h"

#define OPTION_STRUCT MachineOptions
#define MACHINE_SECTION
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow machine_rows[] = {
#include "commands/run_options.def"
};
const OptionRows machine_option_rows = {machine_rows, sizeof machine_rows / sizeof machine_rows[0]};
#undef OPTION_STRUCT

#define OPTION_STRUCT RunOptions
#define RUN_SECTION
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow run_rows[] = {
#include "commands/run_options.def"
};
const OptionRows run_option_rows = {run_rows, sizeof run_rows / sizeof run_rows[0]};
#undef OPTION_STRUCT

#define OPTION_STRUCT TrainOptions
#define TRAIN_SECTION
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow train_rows[] = {
#include "commands/run_options.def"
};
const OptionRows train_option_rows = {train_rows, sizeof train_rows / sizeof train_rows[0]};
#undef OPTION_STRUCT

#define OPTION_STRUCT EvalOptions
#define EVAL_SECTION
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow eval_rows[] = {
#include "commands/run_options.def"
};
const OptionRows eval_option_rows = {eval_rows, sizeof eval_rows / sizeof eval_rows[0]};
#undef OPTION_STRUCT

#define OPTION_STRUCT CheckpointOptions
#define CHECKPOINT_SECTION
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow checkpoint_rows[] = {
#include "commands/run_options.def"
};
const OptionRows checkpoint_option_rows = {checkpoint_rows, sizeof checkpoint_rows / sizeof checkpoint_rows[0]};
#undef OPTION_STRUCT

#define OPTION_STRUCT SampleOptions
#define SAMPLE_SECTION
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow sample_rows[] = {
#include "commands/run_options.def"
};
const OptionRows sample_option_rows = {sample_rows, sizeof sample_rows / sizeof sample_rows[0]};
#undef OPTION_STRUCT

#define OPTION_STRUCT LogOptions
#define LOG_SECTION
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow log_rows[] = {
#include "commands/run_options.def"
};
const OptionRows log_option_rows = {log_rows, sizeof log_rows / sizeof log_rows[0]};
#undef OPTION_STRUCT

#define OPTION_STRUCT DistOptions
#define DIST_SECTION
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow dist_rows[] = {
#include "commands/run_options.def"
};
const OptionRows dist_option_rows = {dist_rows, sizeof dist_rows / sizeof dist_rows[0]};
#undef OPTION_STRUCT
