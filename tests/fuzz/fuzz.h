// Fuzz targets: one file each, one TARGET, linked with libFuzzer (`make FUZZ=1 fuzz`, scripts/fuzz.sh). Bad input must
// end in Errors, with messages that a terminal can show; whatever ends the process is a finding, DIE and REQUIRE
// included.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/error.h"

#define TARGET int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
TARGET;

// What must hold whatever the input.
#define HOLDS(condition)                                                                      \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "%s:%d: (%s) does not hold\n", __FILE__, __LINE__, #condition);   \
            abort();                                                                          \
        }                                                                                     \
    } while (0)

__attribute__((constructor)) static void abort_where_the_program_exits(void) { error_abort_hook = abort; }

enum { FUZZ_FILES = 2, MESSAGES_LIMIT = 1 << 17 };

// A file in memory that holds these bytes; its path is that of the same number before.
static inline const char *fuzz_file(int number, const void *bytes, size_t size) {
    static char paths[FUZZ_FILES][32];
    static int files[FUZZ_FILES];
    if (!paths[number][0]) {
        files[number] = memfd_create("input", 0);
        snprintf(paths[number], sizeof paths[number], "/proc/self/fd/%d", files[number]);
    }
    HOLDS(ftruncate(files[number], 0) == 0 && pwrite(files[number], bytes, size, 0) == (ssize_t)size);
    return paths[number];
}

// Checks what was said, and that it was said exactly where something was refused; closes it.
static inline void fuzz_errors(Errors *errors, bool refused) {
    const char *text = text_string(&errors->text);
    HOLDS(refused == (errors->count > 0));
    HOLDS(!refused || (errors->exit_code != EXIT_INTERNAL && errors->exit_code != 0));
    HOLDS(errors->text.size < MESSAGES_LIMIT && text_is_utf8(text, errors->text.size, NULL));
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        HOLDS((*c >= ' ' && *c != 0x7F) || *c == '\n' || *c == '\t');
        HOLDS(*c != 0xC2 || c[1] >= 0xA0);
    }
    errors_close(errors);
}
