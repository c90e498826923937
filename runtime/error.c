#include "runtime/error.h"

#include <stdio.h>
#include <stdlib.h>

void (*error_abort_hook)(void);
void (*error_tell_hook)(void);

static char prefix[32];

void error_name_rank(int rank) { snprintf(prefix, sizeof prefix, "rank %d: ", rank); }
const char *error_prefix(void) { return prefix; }

static void begin_telling(void) {
    fflush(stdout);
    if (error_tell_hook) error_tell_hook();
}

static _Noreturn void leave(int exit_code) {
    void (*hook)(void) = error_abort_hook;
    error_abort_hook = NULL;
    if (hook) hook();
    exit(exit_code);
}

void error_die(int exit_code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    begin_telling();
    fprintf(stderr, "%strain_gpt: ", prefix);
    text_vprint(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    leave(exit_code);
}

void error_require(const char *file, int line, const char *condition, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    begin_telling();
    fprintf(stderr, "%strain_gpt: internal error at %s:%d: (%s) does not hold: ", prefix, file, line, condition);
    text_vprint(stderr, format, arguments);
    fputs("\nThis is a defect of the program; please report it with the command and the configuration.\n", stderr);
    va_end(arguments);
    leave(EXIT_INTERNAL);
}

bool errors_add(Errors *errors, int exit_code, const char *format, ...) {
    va_list arguments;
    Text raw = {0};
    if (errors->count++ == 0) errors->exit_code = exit_code;
    if (errors->count == ERRORS_TOLD + 1) text_add(&errors->text, "there are more mistakes; these come first\n");
    if (errors->count > ERRORS_TOLD) return false;
    va_start(arguments, format);
    text_vprintf(&raw, format, arguments);
    va_end(arguments);
    text_escape(&errors->text, raw.data, raw.size);
    text_add(&errors->text, "\n");
    text_close(&raw);
    return false;
}

bool errors_move(Errors *errors, Errors *from) {
    if (errors->count == 0) errors->exit_code = from->exit_code;
    text_append(&errors->text, from->text.data, from->text.size);
    errors->count += from->count;
    errors_close(from);
    return false;
}

void errors_exit_if_any(Errors *errors) {
    if (errors->count == 0) return;
    int exit_code = errors->exit_code;
    begin_telling();
    if (errors->text.size > 0) fprintf(stderr, "%s%s", prefix, text_string(&errors->text));
    errors_close(errors);
    leave(exit_code);
}

void errors_close(Errors *errors) {
    text_close(&errors->text);
    *errors = (Errors){0};
}
