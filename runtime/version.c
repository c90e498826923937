#include "runtime/version.h"

#ifndef THALWEG_COMMIT
#define THALWEG_COMMIT "unknown"
#endif
#ifndef THALWEG_VARIANT
#define THALWEG_VARIANT "unknown"
#endif

const char *version_string(void) { return "thalweg " THALWEG_COMMIT ", gcc " __VERSION__ ", " THALWEG_VARIANT; }
