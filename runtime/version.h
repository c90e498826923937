// What this binary is: "COMMIT[-dirty], compiler, build variant".
#pragma once

const char *version_string(void);
