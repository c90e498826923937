// What tests share with each other and with the supports: memory, a scratch folder, the shared data, and calls that end
// the program.
#pragma once

#include <stddef.h>

// Zeroed, for free(); a test without memory is over.
void *test_take(size_t bytes);

// A folder for this test program's files, empty at the start: build/tmp/NAME under the current directory.
const char *test_folder(const char *name);

// A file in a folder, replaced by this text; its path.
void test_write(char path[4096], const char *folder, const char *name, const char *text);

// A file of the shared data folder, or NULL (the test then calls skip()): $THALWEG_TEST_DATA, default ../shared/data.
const char *test_shared_data(const char *name);

// Exit status of a child process that makes the call, -1 where a signal ended it, and what it printed to stderr.
int test_status_of(void (*call)(const void *context), const void *context, char *printed, size_t size);
