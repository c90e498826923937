// The record of a sweep: refused, or a history whose summaries can be written.
#include <math.h>

#include "data/sweep_log.h"
#include "runtime/json.h"
#include "tests/fuzz/folder.h"

static void check_records(const SweepHistory *h) {
    SweepGroup *groups;
    int64_t seeds = 0;
    for (int64_t i = 0; i < h->count; i++) {
        const SweepRecord *r = &h->records[i];
        HOLDS(strlen(r->id) == SWEEP_ID - 1 && sweep_record(h, r->id) == r);
        HOLDS(r->status < SWEEP_STATUSES && r->failures >= 0 && r->step >= 0);
        for (int64_t k = 1; k < r->rung_count; k++) HOLDS(r->rungs[k].step > r->rungs[k - 1].step);
        seeds += r->planned && isfinite(sweep_result(h, r));
    }
    for (int64_t g = sweep_groups(h, &groups, NULL) - 1; g >= 0; g--) seeds -= groups[g].seeds;
    HOLDS(seeds == 0);
    free(groups);
}

static void check_summary(const SweepHistory *h) {
    char path[4096];
    Errors errors = {0};
    HOLDS(sweep_summary_write(h, fuzz_folder(), &errors));
    path_join(path, fuzz_folder(), "summary.json");
    Json *json = json_open(path, 1 << 26, EXIT_DATA, &errors);
    HOLDS(json && cJSON_GetArraySize(json_member(json_root(json), "runs")) == h->count);
    json_close(json);
}

TARGET {
    SweepHistory history;
    Errors errors = {0};
    fuzz_link("state.jsonl", fuzz_file(0, bytes, size));
    bool good = sweep_history_read(&history, fuzz_folder(), &errors);
    fuzz_errors(&errors, !good);
    if (good) check_records(&history);
    if (good && size < 4096) check_summary(&history);
    if (good) sweep_history_close(&history);
    return 0;
}
