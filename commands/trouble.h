// Trouble: what a run does about numbers that go bad. A step that is not finite is computed once more, to tell
// arithmetic from hardware; behind a spike the run may go back to an older checkpoint; a state that holds a number that
// is not finite is never saved.
#pragma once

#include "commands/steps.h"

typedef struct {
    bool again;    // the run stands before this step, or at an older one: nothing is counted, it goes on from there
    int exit_code; // not 0: it ends
    bool keep;     // and what is trained so far is to be saved
} Trouble;

// About a step that was skipped, before it is counted. Afterwards comes steps_seek.
Trouble trouble_meet(Run *run, const StepResult *result);

// Before a save: whether the state is finite. If not, it is told what is wrong with it and how to go on.
bool trouble_state_is_good(Run *run);
