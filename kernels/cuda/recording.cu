// Programs as CUDA graphs.
#include "kernels/cuda/recording.cuh"

enum { PROGRAMS = 32, NONE = -1 };

static struct {
    bool wanted;         // THALWEG_GRAPHS
    bool seen[PROGRAMS]; // ran once
    cudaGraphExec_t programs[PROGRAMS];
    int64_t recording; // program, or NONE
    bool measuring;
} recorder = {true, {}, {}, NONE, false};

bool cuda_measuring(void) { return recorder.measuring; }
void cuda_end_measuring(void) { recorder.measuring = false; }
bool cuda_recording(void) { return recorder.recording != NONE; }

bool recording_configure(Errors *errors) {
    recorder.wanted = true;
    return cuda_read_switch("THALWEG_GRAPHS", &recorder.wanted, errors);
}

void recording_forget(void) {
    REQUIRE(!cuda_recording(), "memory is returned while program %ld is recorded", (long)recorder.recording);
    for (int i = 0; i < PROGRAMS; i++) {
        if (recorder.programs[i]) CUDA(cudaGraphExecDestroy(recorder.programs[i]));
        recorder.programs[i] = NULL;
        recorder.seen[i] = false;
    }
}

bool cuda_record(int64_t program) {
    REQUIRE(program >= 0 && program < PROGRAMS && !cuda_recording(), "program %ld, while %ld is recorded",
            (long)program, (long)recorder.recording);
    recorder.measuring = !recorder.seen[program];
    if (recorder.measuring || !recorder.wanted) {
        recorder.seen[program] = true;
        return false;
    }
    CUDA(cudaStreamBeginCapture(cuda_stream(), cudaStreamCaptureModeThreadLocal));
    recorder.recording = program;
    return true;
}

void cuda_record_end(void) {
    REQUIRE(cuda_recording(), "nothing is recorded");
    cudaGraph_t graph;
    CUDA(cudaStreamEndCapture(cuda_stream(), &graph));
    cudaGraphExec_t *program = &recorder.programs[recorder.recording];
    recorder.recording = NONE;
    if (*program) CUDA(cudaGraphExecDestroy(*program));
    cudaError_t error = cudaGraphInstantiate(program, graph, 0);
    if (error != cudaSuccess)
        DIE(EXIT_INTERNAL, "a recorded program cannot be kept: %s; set THALWEG_GRAPHS=0 to run without recording",
            cudaGetErrorString(error));
    CUDA(cudaGraphDestroy(graph));
}

bool cuda_replay(int64_t program) {
    cuda_end_measuring();
    REQUIRE(program >= 0 && program < PROGRAMS && !cuda_recording(), "program %ld, while %ld is recorded",
            (long)program, (long)recorder.recording);
    if (!recorder.programs[program]) return false;
    CUDA(cudaGraphLaunch(recorder.programs[program], cuda_stream()));
    return true;
}
