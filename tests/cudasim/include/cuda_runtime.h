// The runtime and the language, as the toolkit's header of this name has them.
#pragma once

#include <cuda_runtime_api.h>

#include "tests/cudasim/language.h"
