// The terminal that standard error may be.
#pragma once

#include <stdbool.h>

// Whether it is one that can move its cursor: nothing else is sent escape sequences. TERM=dumb and no TERM are none.
bool terminal_there(void);
int terminal_columns(void); // that a line may fill: one less than there are, since some wrap in the last one
int terminal_rows(void);
bool terminal_colours(void);  // as NO_COLOR has it
bool terminal_unicode(void);  // as the locale of the environment has it
