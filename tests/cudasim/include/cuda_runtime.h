// Stands for the toolkit's header of this name.
#pragma once
#define CUDASIM 1
#include "tests/cudasim/cudasim.h"
