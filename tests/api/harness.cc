// The run: command line, one process per test, what must be true after each, and the closing line.
//
//   api --backend=io_uring|epoll|kqueue|sim [--sqpoll] [--seed=N] [--seeds=N] [--filter=TEXT] [--no-fork] [--list]
//
// On Linux, kqueue is what this program is linked with when it is built over the model of tests/support/kqueue.
//
// With --seeds every test runs in that many worlds, one after the other in one process; worlds of an even seed also
// make reads and writes short. Skips, failing seeds and reasons come back from the test's process in a shared page.
//
// Each file of tests has a runner of its own, in a process of its own: a test's process is a copy of its runner's, and
// a leak checker looks through all that libcheck keeps there of the tests before it.
#include "harness.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace api {

constexpr int TESTS_MAX = 1024;
constexpr int LOOPS_MAX = 64;

struct report { // one per test, shared with its process
    int skipped;
    int started, failed;
    uint64_t seed;
    char reason[200];
};

struct open_entry {
    mio_loop_t *loop;
    counting *count;
};

static test_case *tests;
static int test_count;
static report *reports;
static bool simulated;
static const char *backend_under_test = "epoll";
static bool sqpoll;
static uint64_t seed_first = 1, seed_count = 1, seed_now = 1;
static int current_test;
static bool over;

static mio_sim_t *current_world;
static open_entry open_loops[LOOPS_MAX];

int test_register(test_case *test) {
    test->next = tests;
    tests = test;
    test->number = test_count++;
    return test->number;
}

bool on_sim() { return simulated; }
bool on_sqpoll() { return sqpoll; }
const char *backend_name() { return backend_under_test; }
uint64_t seed() { return seed_now; }
bool is_over() { return over; }
int scaled(int count) { return seed_now == seed_first ? count : count / 100; }
bool seeded_faults() { return simulated && seed_now % 2 == 0; }

void skip(const char *reason) {
    reports[current_test].skipped = 1;
    snprintf(reports[current_test].reason, sizeof reports[current_test].reason, "%s", reason);
}

mio_sim_t *world() {
    if (!simulated || current_world != nullptr) return current_world;
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.seed = seed_now;
    if (seeded_faults()) options.short_read_ppm = options.short_write_ppm = 200000;
    assert_is(mio_sim_create(&current_world, &options), 0);
    return current_world;
}

// --- counting memory ------------------------------------------------------------------------------------------------

static bool counting_fails(counting *count) {
    count->calls++;
    if (count->fail_at <= 0) return false;
    if (count->fail_at > 1) {
        count->fail_at--;
        return false;
    }
    if (!count->fail_on) count->fail_at = 0;
    count->failed++;
    return true;
}

static void *counting_alloc(void *user, size_t size) {
    counting *count = static_cast<counting *>(user);
    if (counting_fails(count)) return nullptr;
    char *at = static_cast<char *>(malloc(size + 16));
    memcpy(at, &size, sizeof size);
    memset(at + 16, 0xa5, size); // nobody may rely on fresh memory being zero
    count->live++;
    count->live_bytes += static_cast<int64_t>(size);
    return at + 16;
}

static void counting_release(void *user, void *ptr, size_t size) {
    counting *count = static_cast<counting *>(user);
    if (ptr == nullptr) return;
    char *at = static_cast<char *>(ptr) - 16;
    size_t given;
    memcpy(&given, at, sizeof given);
    if (given != size) count->wrong_sizes++;
    count->live--;
    count->live_bytes -= static_cast<int64_t>(given);
    memset(at, 0x5a, given + 16);
    free(at);
}

static void *counting_resize(void *user, void *ptr, size_t old_size, size_t new_size) {
    counting *count = static_cast<counting *>(user);
    if (counting_fails(count)) return nullptr;
    char *at = static_cast<char *>(ptr) - 16;
    size_t given;
    memcpy(&given, at, sizeof given);
    if (given != old_size) count->wrong_sizes++;
    at = static_cast<char *>(realloc(at, new_size + 16));
    memcpy(at, &new_size, sizeof new_size);
    count->live_bytes += static_cast<int64_t>(new_size) - static_cast<int64_t>(given);
    return at + 16;
}

mio_allocator_t counting_allocator(counting *count) {
    mio_allocator_t allocator = {counting_alloc, counting_resize, counting_release, count};
    return allocator;
}

// --- loops ----------------------------------------------------------------------------------------------------------

enum mio_backend kernel_backend() {
    if (strcmp(backend_under_test, "io_uring") == 0) return MIO_BACKEND_IO_URING;
    return strcmp(backend_under_test, "kqueue") == 0 ? MIO_BACKEND_KQUEUE : MIO_BACKEND_EPOLL;
}

bool on_kqueue() { return kernel_backend() == MIO_BACKEND_KQUEUE; }

mio_loop_options_t loop_options() {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = simulated ? MIO_BACKEND_SIM : kernel_backend();
    if (sqpoll) options.uring_sqpoll_ms = 10;
    options.sim = world();
    return options;
}

mio_loop_t *loop_open_with(const mio_loop_options_t *options) {
    int slot = 0;
    while (slot < LOOPS_MAX && open_loops[slot].count != nullptr) slot++;
    ck_assert_int_lt(slot, LOOPS_MAX);
    counting *count = static_cast<counting *>(calloc(1, sizeof(counting)));
    mio_loop_options_t mine = *options;
    mine.allocator = counting_allocator(count);
    mio_loop_t *loop = nullptr;
    assert_is(mio_loop_create(&loop, &mine), 0);
    ck_assert_ptr_nonnull(loop);
    open_loops[slot] = {loop, count};
    return loop;
}

mio_loop_t *loop_open() {
    mio_loop_options_t options = loop_options();
    return loop_open_with(&options);
}

static open_entry *entry_of(mio_loop_t *loop) {
    for (open_entry &entry : open_loops)
        if (entry.count != nullptr && entry.loop == loop) return &entry;
    ck_abort_msg("not a loop of the harness");
}

counting *loop_counting(mio_loop_t *loop) { return entry_of(loop)->count; }

void loop_forget(mio_loop_t *loop) {
    open_entry *entry = entry_of(loop);
    ck_assert_msg(entry->count->live == 0, "%lld allocations (%lld bytes) left after destroy",
                  static_cast<long long>(entry->count->live), static_cast<long long>(entry->count->live_bytes));
    ck_assert_msg(entry->count->wrong_sizes == 0, "released with another size than allocated");
    free(entry->count);
    *entry = {nullptr, nullptr};
}

void loop_close(mio_loop_t *loop) {
    mio_loop_metrics_t now = metrics(loop);
    if (now.handles == 0) {
        ck_assert_msg(now.requests == 0, "no handle, but %llu requests", static_cast<unsigned long long>(now.requests));
        ck_assert_msg(now.buffer_held_bytes == 0, "no handle, but %llu bytes of receive blocks are held",
                      static_cast<unsigned long long>(now.buffer_held_bytes));
    }
    assert_is(mio_loop_destroy(loop, drain_ns()), 0);
    loop_forget(loop);
}

int64_t drain_ns() {
    return simulated || getenv("MIO_TEST_INJECTED") != nullptr ? MIO_SECOND : patience(20 * MIO_SECOND);
}

int run(mio_loop_t *loop) {
    return simulated ? mio_sim_run(current_world, 24 * 3600 * MIO_SECOND) : mio_loop_run(loop);
}

void run_to_end(mio_loop_t *loop) { assert_is(run(loop), 0); }
void run_to_stop(mio_loop_t *loop) { assert_is(run(loop), MIO_STOPPED); }

void timer_stops(mio_timer_t *timer, void *) { mio_loop_stop(mio_handle_loop(timer)); }

void run_for(mio_loop_t *loop, int64_t duration_ns) {
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, duration_ns, 0, timer_stops, nullptr), 0);
    run_to_stop(loop);
    mio_handle_abandon(timer);
    if (simulated) return; // there the time is exact
    // The time may have passed while another process had the processor: what is under way goes on until it rests.
    mio_loop_metrics_t before = metrics(loop);
    const int most = sqpoll ? 20 : 2000;
    for (int rests = 0, turns = 0; rests != 3 && turns != most; turns++) {
        if (mio_loop_run_once(loop, sqpoll ? 10 * MIO_MILLISECOND : 0) != MIO_ALIVE) return; // its thread needs the processor
        const mio_loop_metrics_t now = metrics(loop);
        const bool same = now.callbacks == before.callbacks && now.completions == before.completions &&
                          now.bytes_written == before.bytes_written && now.accepts == before.accepts;
        rests = same ? rests + 1 : 0;
        before = now;
    }
}

mio_loop_metrics_t metrics(mio_loop_t *loop) {
    mio_loop_metrics_t now = MIO_LOOP_METRICS_INIT;
    assert_is(mio_loop_metrics(loop, &now), 0);
    return now;
}

// --- one test -------------------------------------------------------------------------------------------------------

size_t open_descriptors() {
    DIR *listing = opendir("/proc/self/fd");
    if (listing == nullptr) return 0;
    size_t n = 0;
    while (readdir(listing) != nullptr) n++;
    closedir(listing);
    return n - 3; // ".", ".." and the listing's own
}

static void test_run_once(test_case *test) {
    const size_t before = open_descriptors();
    over = false;
    test->body();
    over = true;
    for (open_entry &entry : open_loops)
        if (entry.count != nullptr) loop_close(entry.loop);
    if (current_world != nullptr) {
        assert_is(mio_sim_open_fds(current_world), 0);
        assert_is(mio_sim_destroy(current_world), 0);
        current_world = nullptr;
    }
    size_t after = open_descriptors();
    for (int i = 0; after > before && i < 20000; i++) { // a resolver that nobody waits for may be reading a file
        sleep_ns(MIO_MILLISECOND);
        after = open_descriptors();
    }
    ck_assert_msg(before == after, "%zu descriptors before the test, %zu after it", before, after);
}

void test_run(int number) {
    test_case *test = tests;
    while (test->number != number) test = test->next;
    current_test = number;
    report *mine = &reports[number];
    mine->started = 1;
    unsetenv("MIO_BACKEND");
    for (uint64_t i = 0; i < seed_count && !mine->skipped; i++) {
        seed_now = seed_first + i;
        mine->seed = seed_now;
        test_run_once(test);
    }
}

// --- the run --------------------------------------------------------------------------------------------------------

static const char *group_of(const test_case *test) {
    const char *slash = strrchr(test->file, '/');
    return slash == nullptr ? test->file : slash + 1;
}

static int usage() {
    fprintf(stderr, "usage: api --backend=io_uring|epoll|kqueue|sim [--sqpoll] [--seed=N] [--seeds=N] [--filter=TEXT] [--no-fork] [--list]\n");
    return 2;
}

static test_case *in_order[TESTS_MAX];

static int compare(const void *a, const void *b) {
    const test_case *left = *static_cast<test_case *const *>(a), *right = *static_cast<test_case *const *>(b);
    const int by_file = strcmp(left->file, right->file);
    return by_file != 0 ? by_file : left->line - right->line;
}

// How many tests lie in in_order; < 0: there is no such backend.
static int tests_open(const char *backend, const char *filter) {
    backend_under_test = backend;
    simulated = strcmp(backend, "sim") == 0;
    if (!simulated && strcmp(backend, "epoll") != 0 && strcmp(backend, "io_uring") != 0 &&
        strcmp(backend, "kqueue") != 0) return -1;
    if (test_count > TESTS_MAX) return -1;

    void *shared = mmap(nullptr, TESTS_MAX * sizeof(report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return -1;
    reports = static_cast<report *>(shared);

    int n = 0;
    for (test_case *test = tests; test != nullptr; test = test->next)
        if (strstr(test->name, filter) != nullptr || strstr(group_of(test), filter) != nullptr) in_order[n++] = test;
    qsort(in_order, static_cast<size_t>(n), sizeof in_order[0], compare);
    return n;
}

int suite_open(const char *backend, const char *filter, test_case *const **list) {
    *list = in_order;
    return tests_open(backend, filter);
}

bool suite_skipped(int number) { return reports[number].skipped != 0; }

// What test_backend.cc runs as another user: does AUTO work with this environment?
static int probe_environment() {
    mio_loop_t *loop = nullptr;
    const int error = mio_loop_create(&loop, nullptr);
    if (error == MIO_ENOTSUP) return 3;
    return error < 0 || mio_loop_destroy(loop, 0) != 0 ? 4 : 0;
}

// The tests [from, to) of in_order, by one runner.
static void tests_run(int from, int to, fork_status forked) {
    Suite *suite = suite_create(backend_under_test);
    SRunner *runner = srunner_create(suite);
    for (int i = from; i < to; i++) {
        TCase *one = tcase_create(in_order[i]->name);
        tcase_set_timeout(one, 30.0 + static_cast<double>(seed_count) * 0.5);
        tcase_add_test(one, &in_order[i]->entry);
        suite_add_tcase(suite, one);
    }
    srunner_set_fork_status(runner, forked);
    srunner_run_all(runner, CK_SILENT);

    TestResult **failures = srunner_failures(runner);
    for (int i = 0; i < srunner_ntests_failed(runner); i++) {
        const char *name = tr_tcname(failures[i]);
        printf("FAIL %s\n     %s:%d: %s", name, tr_lfile(failures[i]), tr_lno(failures[i]), tr_msg(failures[i]));
        for (int t = from; t < to; t++) {
            report *one = &reports[in_order[t]->number];
            if (strcmp(in_order[t]->name, name) != 0) continue;
            one->failed = 1;
            if (simulated) printf(" (seed %llu)", static_cast<unsigned long long>(one->seed));
        }
        printf("\n");
    }
    free(failures);
    srunner_free(runner);
}

// The same in a process of its own; what such a one left undone has failed.
static void group_run(int from, int to) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        tests_run(from, to, CK_FORK);
        exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        printf("FAIL %s: its runner ended with %d\n", group_of(in_order[from]), status);
        reports[in_order[from]->number].failed = 1;
    }
    for (int i = from; i < to; i++) {
        report *one = &reports[in_order[i]->number];
        if (one->started || one->failed) continue;
        printf("FAIL %s\n     was not run\n", in_order[i]->name);
        one->failed = 1;
    }
}

int suite_run(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--probe-environment") == 0) return probe_environment();
    const char *&backend = backend_under_test, *filter = "";
    bool forked = true, listed = false;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--backend=", 10) == 0) backend = argv[i] + 10;
        else if (strncmp(argv[i], "--seed=", 7) == 0) seed_first = strtoull(argv[i] + 7, nullptr, 10);
        else if (strncmp(argv[i], "--seeds=", 8) == 0) seed_count = strtoull(argv[i] + 8, nullptr, 10);
        else if (strncmp(argv[i], "--filter=", 9) == 0) filter = argv[i] + 9;
        else if (strcmp(argv[i], "--sqpoll") == 0) sqpoll = true;
        else if (strcmp(argv[i], "--no-fork") == 0) forked = false;
        else if (strcmp(argv[i], "--list") == 0) listed = true;
        else return usage();
    }
    const int n = tests_open(backend, filter);
    if (n < 0) return usage();
    if (!simulated) seed_count = 1;

    if (listed) {
        for (int i = 0; i < n; i++) printf("%s %s\n", group_of(in_order[i]), in_order[i]->name);
        return 0;
    }
    for (int from = 0, to = 0; from < n; from = to) {
        while (to < n && (!forked || strcmp(in_order[from]->file, in_order[to]->file) == 0)) to++;
        if (forked) group_run(from, to);
        else tests_run(from, to, CK_NOFORK);
    }

    int failed = 0, skipped = 0;
    for (int i = 0; i < n; i++) {
        const report *one = &reports[in_order[i]->number];
        failed += one->failed;
        if (!one->skipped || one->failed) continue;
        printf("skip %s: %s\n", in_order[i]->name, one->reason);
        skipped++;
    }
    printf("api[%s]: %d passed, %d failed, %d skipped\n", on_kqueue() ? "kqueue-model" : backend, n - failed - skipped, failed, skipped);
    return failed == 0 ? 0 : 1;
}

}
