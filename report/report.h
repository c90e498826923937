// A report: runs and sweeps as one HTML file that needs nothing else, with figures as SVG.
#pragma once

#include "runtime/error.h"
#include "runtime/text.h"

// Run directories and sweep directories, in any mix, into the file `out`, which is replaced as a whole. Messages are 66
// where a directory is neither, 65 where what it holds is damaged, 73 where the file cannot be written.
bool report_write(const TextList *directories, const char *out, Errors *errors);
