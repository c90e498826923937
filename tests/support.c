#include "tests/support.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/memory.h"

enum { PATHS = 16, PATH_BYTES = 4096 };

// One of a ring of buffers, so that several results live at once.
static char *next_path(void) {
    static char paths[PATHS][PATH_BYTES];
    static int next;
    return paths[next++ % PATHS];
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info, (void)type, (void)walk;
    return remove(path);
}

static void make_directory(const char *path) {
    if (mkdir(path, 0777) != 0 && errno != EEXIST) DIE(EXIT_CANNOT_WRITE, "cannot make %s for a test", path);
}

void *test_take(size_t bytes) { return memory_take((int64_t)bytes, 1, "a test"); }

const char *test_folder(const char *name) {
    enum { OPEN_FOLDERS = 16 };
    char *path = next_path();
    make_directory("build");
    make_directory("build/tmp");
    snprintf(path, PATH_BYTES, "build/tmp/%s", name);
    if (nftw(path, remove_entry, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        DIE(EXIT_CANNOT_WRITE, "cannot empty %s for a test", path);
    make_directory(path);
    return path;
}

void test_write(char path[PATH_BYTES], const char *folder, const char *name, const char *text) {
    Errors errors = {0};
    path_join(path, folder, name);
    if (!file_replace(path, text, strlen(text), &errors)) errors_exit_if_any(&errors);
}

const char *test_shared_data(const char *name) {
    const char *folder = getenv("THALWEG_TEST_DATA");
    char *path = next_path();
    snprintf(path, PATH_BYTES, "%s/%s", folder ? folder : "../shared/data", name);
    return access(path, R_OK) == 0 ? path : NULL;
}

int test_status_of(void (*call)(const void *), const void *context, char *printed, size_t size) {
    int ends[2], status;
    if (pipe(ends) != 0) DIE(EXIT_INTERNAL, "no pipe for a test");
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) DIE(EXIT_INTERNAL, "no process for a test");
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        call(context);
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t n; (n = read(ends[0], printed + length, size - 1 - length)) > 0;) length += (size_t)n;
    printed[length] = 0;
    close(ends[0]);
    if (waitpid(child, &status, 0) != child) DIE(EXIT_INTERNAL, "a child of a test is lost");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
