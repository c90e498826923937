#include "report/markup.h"

#include <math.h>
#include <string.h>

#include "runtime/error.h"

// Of bytes that text_escape let pass.
static void add_safe(Text *out, const char *s, size_t size) {
    static const char *const entities[256] = {['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&quot;",
                                              ['\''] = "&#39;"};
    for (size_t i = 0; i < size; i++) {
        const char *entity = entities[(unsigned char)s[i]];
        bool nothing = i + 2 < size && memcmp(s + i, "\xEF\xBF", 2) == 0 && (unsigned char)s[i + 2] >= 0xBE;
        if (nothing) text_add(out, REPLACEMENT); // U+FFFE and U+FFFF are no characters in XML
        else if (entity) text_add(out, entity);
        else text_append(out, s + i, 1);
        i += nothing ? 2 : 0;
    }
}

void markup_text(Text *out, const char *text) {
    Text safe = {0};
    text_escape(&safe, text, strlen(text));
    add_safe(out, text_string(&safe), safe.size);
    text_close(&safe);
}

void markup_short(Text *out, const char *text, int64_t characters) {
    Text safe = {0};
    text_escape(&safe, text, strlen(text));
    int64_t seen = 0;
    size_t size = 0, last = 0; // bytes before the last character that may be shown
    for (const char *s = text_string(&safe); size < safe.size && seen <= characters; size++) {
        if (((unsigned char)s[size] & 0xC0) == 0x80) continue;
        if (++seen == characters) last = size;
    }
    bool all = seen <= characters;
    add_safe(out, text_string(&safe), all ? safe.size : last);
    if (!all) text_add(out, "…");
    text_close(&safe);
}

static void add_formatted(Text *out, const char *spec, ...) {
    va_list arguments;
    va_start(arguments, spec);
    text_vprintf(out, spec, arguments);
    va_end(arguments);
}

// One conversion, from its % to its letter.
static void add_conversion(Text *out, const char *spec, va_list *arguments) {
    char letter = spec[strlen(spec) - 1];
    if (letter == '%') text_add(out, "%");
    else if (letter == 's') markup_text(out, va_arg(*arguments, const char *));
    else if (letter == 'f' || letter == 'g') add_formatted(out, spec, va_arg(*arguments, double));
    else if (letter == 'd' && strchr(spec, 'l')) add_formatted(out, spec, va_arg(*arguments, long));
    else if (letter == 'd') add_formatted(out, spec, va_arg(*arguments, int));
    else DIE(EXIT_INTERNAL, "markup knows no %s", spec);
}

void markup(Text *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    while (*format) {
        size_t plain = strcspn(format, "%");
        text_append(out, format, plain);
        format += plain;
        if (!*format) break;
        char spec[16];
        size_t size = 1 + strcspn(format + 1, "%sdfgcxup") + 1;
        REQUIRE(size < sizeof spec, "%s", format);
        memcpy(spec, format, size);
        spec[size] = 0;
        add_conversion(out, spec, &arguments);
        format += size;
    }
    va_end(arguments);
}

const char *markup_number(char out[TEXT_NUMBER], double value, int digits) {
    if (isnan(value)) return strcpy(out, "");
    snprintf(out, TEXT_NUMBER, "%.*g", digits, value == 0 ? 0 : value); // no -0
    char *e = strchr(out, 'e');
    if (!e) return out;
    char *digit = e + 1 + (e[1] == '-' || e[1] == '+'), *from = digit;
    while (*from == '0' && from[1]) from++;
    if (e[1] == '+') digit--;
    memmove(digit, from, strlen(from) + 1);
    return out;
}
