// Markup: HTML and SVG that is well-formed XML, too. Whatever is no markup of ours goes through here and comes out as
// text: names, values, reasons and messages of strangers can be shown anywhere, in attributes as well.
#pragma once

#include "runtime/text.h"

// printf, where every %s is escaped and the format is markup. It knows %s, %d, %ld, %f and %g, with flags.
void markup(Text *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Escaped: what has a meaning in markup, and all that text_escape replaces.
void markup_text(Text *out, const char *text);
// The same, at most so many characters, the last one … where there are more.
void markup_short(Text *out, const char *text, int64_t characters);

// "1e-5", "0.003", "12.5": at most `digits` digits that count.
const char *markup_number(char out[TEXT_NUMBER], double value, int digits);
