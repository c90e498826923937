#include "comm/ranks.h"

int ranks_rank(const Ranks *ranks) { (void)ranks; return 0; }
int ranks_size(const Ranks *ranks) { (void)ranks; return 1; }
void ranks_at(Ranks *ranks, const char *format, ...) { (void)ranks, (void)format; }
