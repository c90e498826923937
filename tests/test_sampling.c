// Sampling: what is left of logits and with which probability is what transformers leaves (scripts/oracles/
// make_sampling_fixtures.py), and what a full sort chooses; draws follow it.
#include <math.h>

#include "model/sampling.h"
#include "runtime/json.h"
#include "runtime/philox.h"
#include "tests/test.h"

// Draws once; the weights that were left, made probabilities.
static void probabilities_of(double *out, const Sampling *options, const float *logits, int64_t vocab,
                             const int32_t *ids, int64_t count) {
    TokenSampler sampler;
    double total = 0;
    token_sampler_open(&sampler, options, vocab);
    token_sampler_see(&sampler, ids, count);
    int32_t id = token_sampler_draw(&sampler, logits, 0);
    assert_in_range(id, 0, vocab - 1);
    assert_true(sampler.weights[id] > 0);
    for (int64_t i = 0; i < vocab; i++) total += (double)sampler.weights[i];
    for (int64_t i = 0; i < vocab; i++) out[i] = (double)sampler.weights[i] / total;
    token_sampler_close(&sampler);
}

// ---- as transformers has it ----

static double number(const cJSON *object, const char *key) { return json_member(object, key)->valuedouble; }

static Sampling options_of(const cJSON *o) {
    return (Sampling){.temperature = number(o, "temperature"), .top_k = (int64_t)number(o, "top_k"),
                      .top_p = number(o, "top_p"), .min_p = number(o, "min_p"),
                      .repetition_penalty = number(o, "repetition_penalty")};
}

static void check_case(const cJSON *all, const cJSON *row) {
    enum { MOST = 1000 };
    float logits[MOST];
    int32_t ids[MOST];
    double got[MOST], expected[MOST] = {0};
    int vocab = 0, count = 0;
    const char *name = json_member(row, "logits")->valuestring;
    const cJSON *item, *probability = json_member(row, "probabilities")->child;
    cJSON_ArrayForEach(item, json_member(all, name)) logits[vocab++] = (float)item->valuedouble;
    cJSON_ArrayForEach(item, json_member(row, "ids")) ids[count++] = item->valueint;
    cJSON_ArrayForEach(item, json_member(row, "kept")) {
        expected[item->valueint] = probability->valuedouble;
        probability = probability->next;
    }
    Sampling options = options_of(json_member(row, "options"));
    probabilities_of(got, &options, logits, vocab, ids, count);
    for (int i = 0; i < vocab; i++)
        if ((got[i] > 0) != (expected[i] > 0) || fabs(got[i] - expected[i]) > 1e-6) {
            char *text = cJSON_PrintUnformatted(json_member(row, "options"));
            fail_msg("%s, %s: id %d has probability %.9g, not %.9g", name, text, i, got[i], expected[i]);
        }
}

TEST(what_is_left_is_what_transformers_leaves) {
    Errors errors = {0};
    Json *json = json_open("tests/fixtures/sampling.json", 1 << 22, EXIT_DATA, &errors);
    if (!json) fail_msg("%s", text_string(&errors.text));
    const cJSON *row;
    int cases = 0;
    cJSON_ArrayForEach(row, json_member(json_root(json), "cases")) {
        check_case(json_member(json_root(json), "logits"), row);
        cases++;
    }
    assert_true(cases > 50);
    json_close(json);
}

// ---- as a full sort has it ----

static const float *sorted_by;

static int likelier_first(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sorted_by[x] != sorted_by[y]) return sorted_by[x] < sorted_by[y] ? 1 : -1;
    return (x > y) - (x < y);
}

// The ids that top-k, top-p and min-p leave, by their definitions.
static void sort_and_choose(bool *kept, const float *logits, int32_t vocab, const Sampling *o) {
    int32_t *order = test_take((size_t)vocab * sizeof *order);
    double total = 0, before = 0;
    for (int32_t i = 0; i < vocab; i++) order[i] = i;
    sorted_by = logits;
    qsort(order, (size_t)vocab, sizeof *order, likelier_first);
    int64_t count = o->top_k > 0 && o->top_k < vocab ? o->top_k : vocab;
    for (int64_t i = 0; i < count; i++) total += exp((double)(logits[order[i]] - logits[order[0]]) / o->temperature);
    for (int64_t i = 0; i < vocab; i++) {
        double p = exp((double)(logits[order[i]] - logits[order[0]]) / o->temperature);
        kept[order[i]] = i < count && before < o->top_p * total && p >= o->min_p;
        before += p;
    }
    free(order);
}

// `grain`: logits are multiples of it, so that many are equal.
static void check_choice(int32_t vocab, double grain, const Sampling *o, uint64_t seed) {
    float *logits = test_take((size_t)vocab * sizeof *logits);
    double *got = test_take((size_t)vocab * sizeof *got);
    bool *kept = test_take((size_t)vocab * sizeof *kept);
    philox_normal(logits, vocab, 3, seed, STREAM_TEST, 1, 0);
    for (int32_t i = 0; i < vocab && grain > 0; i++) logits[i] = (float)(grain * round((double)logits[i] / grain));
    probabilities_of(got, o, logits, vocab, NULL, 0);
    sort_and_choose(kept, logits, vocab, o);
    for (int32_t i = 0; i < vocab; i++)
        if ((got[i] > 0) != kept[i])
            fail_msg("vocabulary %d, grain %g, top_k %ld, top_p %g, min_p %g, seed %lu: id %d is %s", vocab, grain,
                     (long)o->top_k, o->top_p, o->min_p, (unsigned long)seed, i, kept[i] ? "missing" : "there");
    free(logits);
    free(got);
    free(kept);
}

TEST(a_selection_is_what_a_full_sort_chooses) {
    static const int32_t vocabs[] = {1, 2, 3, 17, 400, 5000};
    static const double grains[] = {0, 0.5, 100}; // 100: all logits are 0
    static const Sampling options[] = {{1, 1, 1, 0, 1, 0, 0},    {1, 7, 1, 0, 1, 0, 0},     {1, 399, 1, 0, 1, 0, 0},
                                       {1, 0, 0.013, 0, 1, 0, 0}, {2, 0, 0.7, 0, 1, 0, 0},  {1, 0, 0.9993, 0, 1, 0, 0},
                                       {1, 0, 1, 0.07, 1, 0, 0},  {3, 50, 0.83, 0.11, 1, 0, 0}};
    for (size_t v = 0; v < sizeof vocabs / sizeof vocabs[0]; v++)
        for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++)
            for (size_t o = 0; o < sizeof options / sizeof options[0]; o++)
                for (uint64_t seed = 1; seed <= 3; seed++) check_choice(vocabs[v], grains[g], &options[o], seed);
}

// ---- draws ----

TEST(draws_follow_the_probabilities) {
    enum { VOCAB = 5, DRAWS = 20000 };
    static const float logits[VOCAB] = {0.3f, -1, 1.2f, -8, 0.9f};
    Sampling options = {.temperature = 0.8, .top_k = 4, .top_p = 0.97, .repetition_penalty = 1, .seed = 11};
    TokenSampler sampler;
    int64_t counts[VOCAB] = {0};
    double p[VOCAB];
    probabilities_of(p, &options, logits, VOCAB, NULL, 0);
    token_sampler_open(&sampler, &options, VOCAB);
    for (int64_t i = 0; i < DRAWS; i++) counts[token_sampler_draw(&sampler, logits, i)]++;
    token_sampler_close(&sampler);
    for (int i = 0; i < VOCAB; i++) CHECK_CLOSE((double)counts[i] / DRAWS, p[i], 5 * sqrt(p[i] * (1 - p[i]) / DRAWS));
}

static int32_t draw(const Sampling *options, const float *logits, int64_t vocab, int64_t place) {
    TokenSampler sampler;
    token_sampler_open(&sampler, options, vocab);
    int32_t id = token_sampler_draw(&sampler, logits, place);
    token_sampler_close(&sampler);
    return id;
}

TEST(a_draw_is_a_function_of_seed_prompt_and_place) {
    enum { VOCAB = 1000 };
    float logits[VOCAB] = {0};
    Sampling options = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 5, .prompt = 2};
    Sampling other_seed = options, other_prompt = options;
    other_seed.seed++, other_prompt.prompt++;
    int same[4] = {0};
    for (int64_t place = 0; place < 50; place++) {
        int32_t id = draw(&options, logits, VOCAB, place);
        same[0] += id == draw(&options, logits, VOCAB, place);
        same[1] += id == draw(&other_seed, logits, VOCAB, place);
        same[2] += id == draw(&other_prompt, logits, VOCAB, place);
        same[3] += id == draw(&options, logits, VOCAB, place + 1);
    }
    assert_int_equal(same[0], 50);
    for (int i = 1; i < 4; i++) assert_true(same[i] < 5);
}

TEST(temperature_zero_takes_the_likeliest) {
    static const float logits[] = {-2, 3.5f, 3, 3.5f, -1};
    Sampling options = SAMPLING_GREEDY;
    assert_int_equal(draw(&options, logits, 5, 0), 1); // of equals the first
    options.repetition_penalty = 2;
    TokenSampler sampler;
    token_sampler_open(&sampler, &options, 5);
    for (int i = 0; i < 3; i++) { // 3.5 and 3 become 1.75 and 1.5 once they were there
        static const int32_t expected[] = {1, 3, 2};
        int32_t id = token_sampler_draw(&sampler, logits, i);
        assert_int_equal(id, expected[i]);
        token_sampler_see(&sampler, &id, 1);
    }
    token_sampler_close(&sampler);
}

TEST(extreme_options_and_logits) {
    static const double temperatures[] = {1e-300, 1e-30, 1e-3, 100};
    static const float wide[] = {-3e38f, 3e38f, 0, 1}, even[] = {-3e38f, -3e38f, -3e38f, -3e38f};
    for (size_t i = 0; i < sizeof temperatures / sizeof temperatures[0]; i++) {
        Sampling options = {.temperature = temperatures[i], .top_p = 1e-6, .repetition_penalty = 1, .seed = 3};
        assert_int_equal(draw(&options, wide, 4, 0), 1);
        assert_int_equal(draw(&options, even, 4, 0), 0);
        options.top_p = 1;
        assert_int_equal(draw(&options, wide, 4, 0), 1);
        assert_in_range(draw(&options, even, 4, 0), 0, 3);
    }
    for (int i = 0; i < 3; i++) {
        float logits[] = {1, 2, 3, 4};
        logits[2] = i == 0 ? NAN : i == 1 ? INFINITY : -INFINITY;
        assert_int_equal(draw(&(Sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1}, logits, 4, 0), -1);
        assert_int_equal(draw(&SAMPLING_GREEDY, logits, 4, 0), -1);
    }
}
