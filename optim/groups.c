// Multipliers of single parameters: rules "WHICH lr=X weight_decay=Y" of optim.groups.
#include <fnmatch.h>
#include <string.h>

#include "optim/routes.h"

typedef struct {
    Text which;        // a kind, or a pattern of names
    double lr, decay;  // -1: not of this rule
} Rule;

void piece_name(const Piece *piece, Text *out) {
    bool part = *piece->part->suffix && piece->param->part_count > 1;
    text_printf(out, "%s%s%s", piece->param->name, part ? "." : "", part ? piece->part->suffix : "");
}

static bool is_kind(const Text *which, ParamKind kind) {
    static const char *const kinds[] = {[PARAM_MATRIX] = "matrix", [PARAM_TABLE] = "table", [PARAM_VECTOR] = "vector"};
    return strcmp(text_string(which), kinds[kind]) == 0;
}

static bool matches(const Text *which, const Piece *piece) {
    Text name = {0};
    piece_name(piece, &name);
    bool named = fnmatch(text_string(which), text_string(&name), 0) == 0 ||
                 fnmatch(text_string(which), piece->param->name, 0) == 0;
    text_close(&name);
    return named || is_kind(which, piece->param->kind);
}

// "lr=0.5": to the rule.
static bool read_setting(Rule *rule, const char *text, size_t size) {
    static const double most = 1e3;
    const char *equals = memchr(text, '=', size);
    if (!equals) return false;
    size_t key = (size_t)(equals - text);
    double value, *place = NULL;
    if (text_read_number(equals + 1, &value) != text + size || value < 0 || value > most) return false;
    if (key == strlen("lr") && strncmp(text, "lr", key) == 0) place = &rule->lr;
    if (key == strlen("weight_decay") && strncmp(text, "weight_decay", key) == 0) place = &rule->decay;
    if (!place || *place >= 0) return false; // no such setting, or the second one
    *place = value;
    return true;
}

static bool read_rule(Rule *rule, const char *text) {
    bool good = true;
    *rule = (Rule){.lr = -1, .decay = -1};
    for (int word = 0; *(text += strspn(text, " \t")); word++) {
        size_t size = strcspn(text, " \t");
        if (word == 0) text_append(&rule->which, text, size);
        else good = read_setting(rule, text, size) && good;
        text += size;
    }
    return good && (rule->lr >= 0 || rule->decay >= 0);
}

static int64_t apply(const Rule *rule, Piece *pieces, int64_t count) {
    int64_t matched = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!matches(&rule->which, &pieces[i])) continue;
        matched++;
        if (rule->lr >= 0) pieces[i].segment.lr_scale = (float)rule->lr;
        if (rule->decay >= 0) pieces[i].segment.decay_scale = (float)rule->decay;
    }
    return matched;
}

bool groups_apply(const TextList *rules, Piece *pieces, int64_t count, Errors *errors) {
    int before = errors->count;
    for (int64_t i = 0; i < rules->count; i++) {
        Rule rule;
        Text shown = {0}, example = {0};
        text_escape(&shown, rules->items[i], strlen(rules->items[i]));
        piece_name(&pieces[count - 1], &example);
        if (!read_rule(&rule, rules->items[i]))
            errors_add(errors, EXIT_USAGE, "optim.groups: \"%s\" is no rule; expected WHICH lr=X weight_decay=Y (one "
                       "or both, 0..1000), as \"wte lr=0.5\" or \"vector weight_decay=0\"", text_string(&shown));
        else if (apply(&rule, pieces, count) == 0)
            errors_add(errors, EXIT_USAGE, "optim.groups: \"%s\" is for no parameter of this model; there are matrix, "
                       "table, vector and names such as h.0.qkv_w.q, h.*.mlp_in_w or %s", text_string(&shown),
                       text_string(&example));
        text_close(&rule.which);
        text_close(&shown);
        text_close(&example);
    }
    return errors->count == before;
}
