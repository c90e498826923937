// Sampler and loader: the order is a bijection, and batches do not depend on ranks, micro-batch or prefetching.

#include "data/loader.h"
#include "runtime/file.h"
#include "tests/test.h"

// ---- the bijection ----

TEST(permutations_are_bijections) {
    uint8_t seen[300];
    for (uint64_t size = 1; size <= 300; size++) {
        memset(seen, 0, sizeof seen);
        for (uint64_t i = 0; i < size; i++) {
            uint64_t to = permute(i, size, 7, 3);
            assert_true(to < size);
            assert_int_equal(seen[to]++, 0);
        }
    }
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

TEST(large_permutations_do_not_collide) {
    static const uint64_t sizes[] = {65536, 65537, 1000003, UINT64_C(1) << 31, (UINT64_C(1) << 40) + 1,
                                     UINT64_C(1) << 62};
    enum { SAMPLES = 2000 };
    static uint64_t to[SAMPLES];
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (uint64_t i = 0; i < SAMPLES; i++) {
            to[i] = permute(i * (sizes[s] / SAMPLES), sizes[s], 1, 0);
            assert_true(to[i] < sizes[s]);
        }
        qsort(to, SAMPLES, sizeof to[0], by_value);
        for (int i = 1; i < SAMPLES; i++) assert_true(to[i - 1] != to[i]);
    }
}

// Mean displacement of a random permutation of n is n / 3; neighbours must not stay neighbours.
TEST(permutations_mix) {
    enum { N = 10000 };
    double moved = 0;
    int neighbours = 0;
    for (uint64_t i = 0; i + 1 < N; i++) {
        int64_t a = (int64_t)permute(i, N, 5, 0), b = (int64_t)permute(i + 1, N, 5, 0);
        moved += (double)llabs(a - (int64_t)i);
        neighbours += llabs(a - b) == 1;
    }
    CHECK_CLOSE(moved / N, N / 3.0, 0.05 * N);
    assert_true(neighbours < 12); // two are expected
}

TEST(epochs_and_seeds_differ) {
    Sampler a = {SAMPLER_SHUFFLED, 1, 100}, b = {SAMPLER_SHUFFLED, 2, 100};
    int same_epoch = 0, same_seed = 0;
    for (int64_t i = 0; i < 100; i++) {
        same_epoch += sampler_window(&a, i) == sampler_window(&a, 100 + i);
        same_seed += sampler_window(&a, i) == sampler_window(&b, i);
    }
    assert_true(same_epoch < 10 && same_seed < 10);
    Sampler sequential = {SAMPLER_SEQUENTIAL, 1, 100};
    assert_int_equal(sampler_window(&sequential, 205), 5);
}

// ---- batches ----

enum { LENGTH = 4, WINDOWS = 50, VOCAB = 211 };

static Shards *open_shards(int32_t damage) {
    uint16_t ids[WINDOWS * LENGTH + 1];
    for (int i = 0; i <= WINDOWS * LENGTH; i++) ids[i] = (uint16_t)i;
    if (damage >= 0) ids[damage] = VOCAB;
    static char folder[4096];
    if (!folder[0]) snprintf(folder, sizeof folder, "%s", test_folder("loader"));
    char path[4096];
    path_join(path, folder, "ids.bin");
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(ids, 1, sizeof ids, file), sizeof ids);
    fclose(file);
    TextList globs = {0};
    text_list_add(&globs, path);
    Errors errors = {0};
    Shards *shards = shards_open(&globs, SHARD_RAW_U16, &errors);
    assert_non_null(shards);
    text_list_close(&globs);
    return shards;
}

static LoaderSetup plain_setup(const Shards *shards) {
    return (LoaderSetup){.shards = shards,
                         .sampler = {SAMPLER_SHUFFLED, 3, WINDOWS},
                         .sequence_length = LENGTH,
                         .micro_batch = 2,
                         .sequences_per_step = 6,
                         .vocab = VOCAB,
                         .ranks = 1};
}

static Loader *open_loader(const LoaderSetup *setup) {
    Errors errors = {0};
    Loader *loader = loader_open(setup, &errors);
    assert_non_null(loader);
    return loader;
}

static const int32_t *row_of(Tensor t, int64_t row) { return (const int32_t *)t.data + row * t.shape[1]; }

// Checks one batch by itself and notes the first token of each of its sequences, by global number.
static void check_batch(const Batch *batch, const LoaderSetup *setup, int32_t *first_tokens, int64_t sequences) {
    assert_false(tensor_present(batch->first_visible));
    for (int64_t row = 0; row < setup->micro_batch; row++) {
        const int32_t *tokens = row_of(batch->tokens, row), *targets = row_of(batch->targets, row);
        const float *weights = (const float *)batch->weights.data + row * LENGTH;
        int64_t sequence = ((const int64_t *)batch->sequence.data)[row];
        assert_int_equal(((const int32_t *)batch->source.data)[row], 0);
        for (int t = 0; t < LENGTH; t++) {
            assert_int_equal(row_of(batch->positions, row)[t], t);
            assert_int_equal(tokens[t], sequence < 0 ? 0 : tokens[0] + t);
            assert_int_equal(targets[t], sequence < 0 ? -1 : tokens[t] + 1);
            assert_true(weights[t] == (sequence < 0 ? 0 : 1));
        }
        if (sequence < 0) continue;
        assert_true(sequence < sequences && first_tokens[sequence] == -1);
        first_tokens[sequence] = tokens[0];
        assert_int_equal(tokens[0], LENGTH * sampler_window(&setup->sampler, sequence));
    }
    const int32_t *order = batch->token_order.data, *tokens = batch->tokens.data;
    for (int64_t i = 1; i < tensor_count(batch->token_order); i++)
        assert_true(tokens[order[i - 1]] < tokens[order[i]] ||
                    (tokens[order[i - 1]] == tokens[order[i]] && order[i - 1] < order[i]));
    order = batch->position_order.data;
    for (int64_t i = 0; i < tensor_count(batch->position_order); i++)
        assert_int_equal(order[i], i % setup->micro_batch * LENGTH + i / setup->micro_batch);
}

TEST(windows_do_not_depend_on_ranks_or_micro_batch) {
    enum { STEPS = 20 }; // more than two epochs
    static const struct {
        int ranks;
        int64_t micro_batch, sequences_per_step, micro_steps;
    } cases[] = {{1, 1, 6, 6}, {1, 4, 6, 2}, {2, 2, 6, 2}, {3, 2, 6, 1},
                 {4, 1, 6, 2}, {4, 3, 6, 1}, {8, 1, 6, 1}, {5, 2, 7, 1}};
    Shards *shards = open_shards(-1);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int64_t sequences = STEPS * cases[c].sequences_per_step;
        int32_t first_tokens[STEPS * 7];
        for (int64_t i = 0; i < sequences; i++) first_tokens[i] = -1;
        for (int rank = 0; rank < cases[c].ranks; rank++) {
            LoaderSetup setup = plain_setup(shards);
            setup.rank = rank, setup.ranks = cases[c].ranks;
            setup.micro_batch = cases[c].micro_batch, setup.sequences_per_step = cases[c].sequences_per_step;
            assert_int_equal(loader_micro_steps(&setup), cases[c].micro_steps);
            Loader *loader = open_loader(&setup);
            for (int64_t i = 0; i < STEPS * cases[c].micro_steps; i++) {
                int64_t step = i / cases[c].micro_steps;
                check_batch(loader_next(loader, NULL), &setup, first_tokens, (step + 1) * setup.sequences_per_step);
            }
            loader_close(loader);
        }
        for (int64_t i = 0; i < sequences; i++) assert_true(first_tokens[i] >= 0); // each exactly once
    }
    shards_close(shards);
}

TEST(beyond_the_limit_is_filled_up) {
    Shards *shards = open_shards(-1);
    LoaderSetup setup = plain_setup(shards);
    setup.sampler.kind = SAMPLER_SEQUENTIAL;
    setup.sequence_limit = 9;
    Loader *loader = open_loader(&setup);
    int32_t first_tokens[12];
    memset(first_tokens, -1, sizeof first_tokens);
    for (int i = 0; i < 6; i++) check_batch(loader_next(loader, NULL), &setup, first_tokens, 12);
    for (int i = 0; i < 12; i++) assert_int_equal(first_tokens[i], i < 9 ? LENGTH * i : -1);
    loader_close(loader);
    shards_close(shards);
}

static void check_same(const Batch *a, const Batch *b) {
#define CHECK_FIELD(field)                                                                         \
    assert_true(tensor_same_shape(a->field, b->field));                                            \
    if (tensor_present(a->field)) assert_memory_equal(a->field.data, b->field.data, tensor_size_bytes(a->field));
    BATCH_FIELDS(CHECK_FIELD)
}

TEST(prefetching_and_seeking_change_nothing) {
    Shards *shards = open_shards(-1);
    LoaderSetup setup = plain_setup(shards);
    setup.micro_batch = 4;
    Loader *plain = open_loader(&setup);
    static const int depths[] = {1, 2, 7};
    static const int64_t seeks[] = {0, 11, 3, 3, 1000};
    for (int d = 0; d < 3; d++) {
        setup.prefetch = depths[d];
        Loader *ahead = open_loader(&setup);
        for (int s = 0; s < 5; s++) {
            loader_seek(plain, seeks[s]);
            loader_seek(ahead, seeks[s]);
            for (int i = 0; i < 30; i++) check_same(loader_next(plain, NULL), loader_next(ahead, NULL));
        }
        loader_close(ahead);
    }
    loader_close(plain);
    shards_close(shards);
}

TEST(closing_early_ends_the_thread) {
    Shards *shards = open_shards(-1);
    for (int taken = 0; taken < 20; taken++) {
        LoaderSetup setup = plain_setup(shards);
        setup.prefetch = 1 + taken % 4;
        Loader *loader = open_loader(&setup);
        for (int i = 0; i < taken; i++) loader_next(loader, NULL);
        loader_close(loader);
    }
    shards_close(shards);
}

TEST(too_few_tokens_for_one_window) {
    Shards *shards = open_shards(-1);
    LoaderSetup setup = plain_setup(shards);
    setup.sequence_length = WINDOWS * LENGTH + 1;
    Errors errors = {0};
    assert_null(loader_open(&setup, &errors));
    assert_int_equal(errors.exit_code, EXIT_DATA);
    assert_non_null(strstr(text_string(&errors.text), "train.sequence_length"));
    errors_close(&errors);
    shards_close(shards);
}

TEST(a_damaged_id_is_told_where_it_is_taken) {
    Shards *shards = open_shards(100);
    for (int prefetch = 0; prefetch <= 3; prefetch += 3) {
        LoaderSetup setup = plain_setup(shards);
        setup.prefetch = prefetch;
        Loader *loader = open_loader(&setup);
        for (int round = 0; round < 2; round++) {
            Errors errors = {0};
            int taken = 0;
            loader_seek(loader, 0);
            while (taken < WINDOWS && loader_next(loader, &errors)) taken++;
            assert_true(taken < WINDOWS);
            assert_int_equal(errors.exit_code, EXIT_DATA);
            assert_int_equal(errors.count, 1);
            assert_non_null(strstr(text_string(&errors.text), "outside the vocabulary"));
            errors_close(&errors);
        }
        loader_close(loader);
    }
    shards_close(shards);
}

TEST(batch_sort_is_stable) {
    static const int32_t ids[] = {3, 0, 3, 1, 0, 3};
    static const int32_t expected[] = {1, 4, 3, 0, 2, 5};
    int32_t order[6], counts[6];
    batch_sort(order, ids, 6, 5, counts);
    assert_memory_equal(order, expected, sizeof expected);
    batch_sort(order, ids, 0, 5, counts);
}
