// Places for runs: GPUs and jobs that are free, and memory that is left.
#include "sweep/pool.h"
#include "tests/test.h"

static Pool pool_of(const char *gpus, int64_t gpus_per_run, int64_t jobs) {
    Pool pool;
    Errors errors = {0};
    unsetenv("CUDA_VISIBLE_DEVICES");
    PoolSetup setup = {.gpus_per_run = gpus_per_run, .jobs = jobs, .runs = 100};
    if (!pool_open(&pool, &setup, &errors)) fail_msg("%s", text_string(&errors.text));
    text_list_close(&pool.gpus);
    for (const char *c = gpus; *c; c++) text_list_add(&pool.gpus, (char[]){*c, 0}); // whatever this machine has
    free(pool.gpu_owners);
    pool.gpu_owners = test_take(8 * sizeof(int64_t));
    for (int i = 0; i < 8; i++) pool.gpu_owners[i] = -1;
    return pool;
}

static void at_work(Pool *pool, bool host, double bytes) {
    pool->runs[pool->count] = (PoolRun){.run = pool->count, .host = host, .bytes = bytes};
    pool->count++;
}

TEST(a_job_waits_for_memory_unless_nothing_else_has_it) {
    Pool pool = pool_of("", 1, 3);
    pool.memory = 100;
    assert_true(pool_has_room(&pool, true, 1000)); // the machine for itself
    at_work(&pool, true, 60);
    assert_true(pool_has_room(&pool, true, 40));
    assert_false(pool_has_room(&pool, true, 41));
    at_work(&pool, true, 20);
    assert_true(pool_has_room(&pool, true, 20));
    assert_false(pool_has_room(&pool, true, 21));
    pool.memory = 0; // not known
    assert_true(pool_has_room(&pool, true, 1000));
    at_work(&pool, true, 0);
    assert_false(pool_has_room(&pool, true, 0)); // three jobs
    pool_close(&pool);
}

TEST(a_run_takes_whole_gpus_and_no_memory_of_the_host) {
    char names[256];
    Pool pool = pool_of("01234", 2, 1);
    assert_int_equal(pool_places(&pool, false), 2);
    assert_string_equal(pool_first_devices(&pool, names), "0,1");
    pool.memory = 1;
    assert_true(pool_has_room(&pool, false, 100));
    pool.gpu_owners[0] = pool.gpu_owners[2] = 7;
    assert_string_equal(pool_first_devices(&pool, names), "1,3");
    assert_true(pool_has_room(&pool, false, 100));
    pool.gpu_owners[3] = 7;
    assert_true(pool_has_room(&pool, false, 100));
    pool.gpu_owners[4] = 8;
    assert_false(pool_has_room(&pool, false, 100));
    assert_null(pool_first_devices(&pool, names));
    pool_close(&pool);
}

TEST(most_is_a_limit_to_both) {
    Pool pool = pool_of("0123", 1, 4);
    pool.most = 3;
    assert_true(pool_places(&pool, true) == 3 && pool_places(&pool, false) == 3);
    for (int i = 0; i < 3; i++) at_work(&pool, false, 0);
    assert_false(pool_has_room(&pool, true, 0));
    assert_false(pool_has_room(&pool, false, 0));
    pool_close(&pool);
}

TEST(threads_are_shared_out) {
    Pool pool = pool_of("", 1, 4);
    pool.cores = 9;
    assert_int_equal(pool_threads(&pool, true), 2);
    pool.cores = 3;
    assert_int_equal(pool_threads(&pool, true), 1);
    pool_close(&pool);
}

TEST(names_of_gpus_that_make_no_sense_are_refused) {
    Pool pool;
    Errors errors = {0};
    assert_false(pool_open(&pool, &(PoolSetup){.gpus = "0", .gpus_per_run = 1, .runs = 1}, &errors));
    assert_non_null(strstr(text_string(&errors.text), "--gpus 0: no GPU is seen")); // of a build without CUDA
    errors_close(&errors);
    pool_close(&pool);
}
