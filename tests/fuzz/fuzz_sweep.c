// A sweep file, on a small base of its own: refused, or its runs are there, each once and with settings that read back.
// The first byte says whether an override comes, too.
#include "sweep/search.h"
#include "tests/fuzz/fuzz.h"

enum { POINTS = 300 };

int omp_get_num_procs(void) { return 1; } // of the library's normal numbers, which nothing here asks for

static void check(const Search *search) {
    HOLDS(search->count > 0 && search->count + search->duplicates + search->excluded == search->points);
    for (int64_t i = 0; i < search->count; i++) {
        const SearchRun *run = &search->runs[i];
        Text text = {0};
        Errors errors = {0};
        JsonWriter writer = {.out = &text};
        HOLDS(strlen(run->id) == SWEEP_ID - 1 && run->arm < search->arms.count);
        HOLDS((run->arm >= 0) == (search->arms.count > 0));
        for (int64_t k = 0; k < i && k < 8; k++) HOLDS(strcmp(search->runs[k].id, run->id) != 0);
        json_begin(&writer, NULL, '{');
        search_settings_json(run, &writer);
        json_end(&writer, '}');
        json_close(json_parse("settings", text.data, text.size, EXIT_USAGE, &errors));
        HOLDS(errors.count == 0);
        text_close(&text);
    }
}

TARGET {
    static const char text[] = "{\"eval\": {\"every\": 7}, \"train\": {\"steps\": 9}}";
    char base[64], *overrides[] = {base, "optim.lr=0.25"};
    Search search;
    Errors errors = {0};
    if (size == 0) return 0;
    snprintf(base, sizeof base, "base=%s", fuzz_file(1, text, strlen(text)));
    SearchRequest request = {.path = fuzz_file(0, bytes + 1, size - 1), .overrides = overrides, .count = 1 + *bytes % 2,
                             .points = POINTS};
    bool good = search_open(&search, &request, &errors);
    fuzz_errors(&errors, !good);
    if (good) check(&search);
    search_close(&search);
    return 0;
}
