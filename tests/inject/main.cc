// The command line, the plans, the processes, the sum.
//
//   inject --backend=io_uring|epoll|sim [--filter=TEXT] [--share=PPM] [--most=N] [--longest=MS] [--from] [--jobs=N]
//          [--verbose]
//   inject --backend=... --test=NAME --fail=CALL:N[:ERROR][:from]
//
// First every test runs once with nothing injected: how often it makes which call, and that it passes here, too. Then
// each of its plans with the chance of --share, in parts per million, drawn from the plan itself: the same plans every
// time. --most: of one call at most the first N. --from: each also with all after it. A test that takes longer than
// --longest is left out, and said so.
#include "inject.h"

#include "api/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace inject {

void run_prepare();

constexpr int JOBS_MAX = 16;
constexpr int64_t LIMIT_NS = 5 * MIO_SECOND;        // of a run that waits by itself
constexpr int64_t HANG_NS = 100 * MIO_SECOND;       // in the library, or that must pass: the limits of a run add up to less
constexpr int TESTS_MAX = 1024;

struct job {
    pid_t process; // 0: none
    int test;
    plan p;
    slot *shared;
    int64_t began_ns;
    bool is_its_own; // the test waits, and not in the library
};

struct known_test {
    const api::test_case *test;
    uint64_t counts[KINDS];
    bool runs; // it passes when nothing is injected
    bool memory_left, fds_left;
};

static const char *backend = "epoll", *program;
static uint64_t share_ppm = 1000000, most = UINT64_MAX;
static int64_t longest_ns = 700 * MIO_MILLISECOND;
static bool and_from, verbose;
static int jobs_wanted = 1;
static job jobs[JOBS_MAX];
static known_test known[TESTS_MAX];
static uint64_t outcomes[6], injected, left_out;

// --- processes ------------------------------------------------------------------------------------------------------

static void plan_text(char *to, size_t size, const plan *p) {
    const char *name = p->allocation ? "allocation" : test::call_name(p->which);
    snprintf(to, size, "%s:%llu:%d%s", name, static_cast<unsigned long long>(p->nth), p->error, p->from ? ":from" : "");
}

static void job_start(job *j, int number, const plan *p) {
    j->test = number;
    j->p = *p;
    *j->shared = slot();
    j->shared->memory_left = known[number].memory_left;
    j->shared->fds_left = known[number].fds_left;
    j->began_ns = clock_ns();
    fflush(nullptr);
    j->process = fork();
    if (j->process < 0) {
        perror("fork");
        exit(2);
    }
    if (j->process > 0) {
        setpgid(j->process, j->process);
        return;
    }
    setpgid(0, 0);
    if (!verbose) {
        const int nowhere = open("/dev/null", O_WRONLY);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        close(nowhere);
    }
    mine = j->shared;
    run_test(known[number].test->number, p);
}

static const char *const outcome_names[] = {"ended", "passed", "asserted", "stalled", "unchecked", "failed"};

static void failure_print(const job *j, const char *why) {
    char text[100];
    plan_text(text, sizeof text, &j->p);
    const char *name = known[j->test].test->name;
    if (j->p.nth == 0) printf("FAIL %s, nothing injected: %s\n", name, why);
    else printf("FAIL %s, %s: %s\n", name, text, why);
    if (j->shared->asserted[0] != '\0') printf("     %s\n", j->shared->asserted);
    printf("     again: %s --backend=%s --test=%s --fail=%s --verbose\n", program, backend, name, text);
}

// What came of it; nullptr: nothing bad.
static const char *job_verdict(job *j, int status, bool late) {
    static char why[500];
    slot *s = j->shared;
    if (s->result == outcome::failed) return s->message;
    if (late && j->is_its_own) {
        s->result = outcome::stalled;
        return nullptr;
    }
    if (late) snprintf(why, sizeof why, "hangs in %s", s->inside == nullptr ? "the test" : s->inside);
    else if (WIFSIGNALED(status)) snprintf(why, sizeof why, "ended by signal %d in %s", WTERMSIG(status), s->inside == nullptr ? "the test" : s->inside);
    else if (WEXITSTATUS(status) != 0) snprintf(why, sizeof why, "ended with status %d", WEXITSTATUS(status));
    else if (s->result == outcome::running) snprintf(why, sizeof why, "ended by itself");
    else if (s->happened && s->result != outcome::passed && is_never_noticed(&j->p)) snprintf(why, sizeof why, "noticed what nobody may notice");
    else return nullptr;
    return why;
}

static void job_over(job *j, int status, bool late) {
    kill(-j->process, SIGKILL); // children of its own
    j->process = 0;
    slot *s = j->shared;
    known_test *t = &known[j->test];
    const char *why = job_verdict(j, status, late);
    const int64_t took_ns = clock_ns() - j->began_ns;
    if (j->p.nth == 0) {
        memcpy(t->counts, s->counts, sizeof t->counts);
        t->memory_left = s->memory_left;
        t->fds_left = s->fds_left;
        t->runs = why == nullptr && s->result == outcome::passed && !s->skipped && took_ns < longest_ns;
        if (late || took_ns >= longest_ns) {
            left_out++;
            if (verbose) printf("%s is left out: it takes long\n", t->test->name);
            return;
        }
        if (why == nullptr && s->result != outcome::passed) why = "fails with nothing injected";
    }
    if (why != nullptr) {
        failure_print(j, why);
        outcomes[static_cast<unsigned>(outcome::failed)]++;
        return;
    }
    if (j->p.nth == 0) return;
    if (s->happened) injected++;
    outcomes[static_cast<unsigned>(s->result)]++;
    if (!verbose) return;
    char text[100];
    plan_text(text, sizeof text, &j->p);
    printf("%s %s, %lld ms: %s%s %s\n", t->test->name, text, static_cast<long long>(took_ns / MIO_MILLISECOND), outcome_names[static_cast<unsigned>(s->result)], s->happened ? "" : " (never came)", s->asserted);
}

static job *job_of(pid_t process) {
    for (job &j : jobs)
        if (j.process == process) return &j;
    return nullptr;
}

// Until one of them is free.
static job *job_wait(int allowed) {
    for (;;) {
        int status, running = 0;
        pid_t ended;
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
            job *j = job_of(ended);
            if (j != nullptr) job_over(j, status, false);
        }
        job *free_one = nullptr;
        for (int i = 0; i < jobs_wanted; i++) {
            job *j = &jobs[i];
            j->is_its_own = j->shared->inside == nullptr && !is_never_noticed(&j->p);
            if (j->process != 0 && clock_ns() - j->began_ns > (j->is_its_own ? LIMIT_NS : HANG_NS)) {
                kill(-j->process, SIGKILL);
                while (waitpid(j->process, &status, 0) < 0 && errno == EINTR) {
                }
                job_over(j, status, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); // else it had ended
            }
            if (j->process == 0) free_one = j;
            else running++;
        }
        if (running <= allowed && free_one != nullptr) return free_one;
        const struct timespec a_moment = {0, 200000};
        nanosleep(&a_moment, nullptr);
    }
}

// --- plans ----------------------------------------------------------------------------------------------------------

static bool is_drawn(const char *name, const plan *p) {
    uint64_t x = 1469598103934665603u;
    for (; *name != '\0'; name++) x = (x ^ static_cast<unsigned char>(*name)) * 1099511628211u;
    x ^= p->nth * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(p->error) * 0xd6e8feb86659fd93u;
    x ^= (static_cast<uint64_t>(p->which) << 8) + (p->allocation ? 2 : 0) + (p->from ? 1 : 0);
    x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 29)) * 0x94d049bb133111ebu;
    return (x >> 20) % 1000000 < share_ppm;
}

static void plan_try(int number, const plan *p) {
    if (!is_drawn(known[number].test->name, p)) return;
    job_start(job_wait(jobs_wanted - 1), number, p);
}

static void plans_of_call(int number, bool allocation, test::call which, uint64_t count, int error) {
    if (count > most) count = most;
    for (uint64_t nth = 1; nth <= count; nth++)
        for (int from = 0; from <= (and_from ? 1 : 0); from++) {
            if (from != 0 && error == EINTR) continue; // for ever: no kernel does, and what is interrupted is done again
            const plan p = {allocation, which, nth, error, from != 0};
            plan_try(number, &p);
        }
}

static void plans_of_test(int number) {
    const known_test *t = &known[number];
    plans_of_call(number, true, test::call::alloc, t->counts[test::CALLS], ENOMEM);
    for (unsigned i = 0; i < test::CALLS; i++) {
        const auto which = static_cast<test::call>(i);
        if (test::call_allocates(which)) continue;
        for (const int *error = errors_of(which); *error != 0; error++) plans_of_call(number, false, which, t->counts[i], *error);
    }
}

static bool plan_parse(const char *text, plan *p) {
    *p = {};
    const char *colon = strchr(text, ':');
    if (colon == nullptr) return false;
    const auto len = static_cast<size_t>(colon - text);
    p->allocation = strncmp(text, "allocation", len) == 0;
    bool found = p->allocation;
    for (unsigned i = 0; i < test::CALLS && !found; i++) {
        p->which = static_cast<test::call>(i);
        found = strlen(test::call_name(p->which)) == len && strncmp(text, test::call_name(p->which), len) == 0;
    }
    char *rest;
    p->nth = strtoull(colon + 1, &rest, 10);
    p->error = *rest == ':' ? static_cast<int>(strtol(rest + 1, &rest, 10)) : ENOMEM;
    p->from = strcmp(rest, ":from") == 0;
    return found;
}

// --- the run --------------------------------------------------------------------------------------------------------

static int usage() {
    fprintf(stderr, "usage: inject --backend=io_uring|epoll|sim [--filter=TEXT] [--share=PPM] [--most=N] [--longest=MS] [--from]\n"
                    "              [--jobs=N] [--test=NAME --fail=CALL:N[:ERROR][:from]] [--verbose]\n");
    return 2;
}

// One executes this program anew, and those of guard mode die in children of their own.
static bool ends_processes(const api::test_case *test) {
    return strcmp(test->name, "a_setuid_program_ignores_the_environment") == 0 || strstr(test->file, "test_guard.") != nullptr;
}

// An assertion that fails leaves a test where it stands. These hold something of their own then (threads that wait for
// them, open files, a second loop's memory), or are told of the failure by a callback out of mio_loop_destroy.
static bool holds_its_own(const api::test_case *test) {
    static const char *const files[] = {"test_work.", "test_stream_file."};
    static const char *const names[] = {
        "a_loop_ends_its_connect_hosts_with_itself",
        "many_connect_hosts_run_at_once",
        "numeric_hosts_of_both_families_are_connected",
        "connect_host_without_descriptors_is_told_by_the_callback",
        "connect_host_is_closed_or_abandoned_in_its_callback",
        "an_answer_that_is_taken_outlives_its_loop",
        "a_signal_closes_abandons_or_restarts_itself_in_its_callback",
        "a_stopped_signal_that_closes_in_its_call_ends",
        "a_signal_that_is_started_and_stopped_again_in_its_call_ends_once",
        "watches_are_closed_by_whoever_is_told_first",
        "a_destroyed_loop_tells_its_relays",
        "a_relay_with_bytes_in_its_pipe_is_begun_again",
        "a_stream_moves_to_a_loop_on_another_thread",
        "a_peer_that_died_holds_the_buffers_and_nothing_else", // the kernel holds them, for minutes
        "an_export_shows_the_metrics_until_the_loop_ends",     // the loop does not sleep here
    };
    for (const char *file : files)
        if (strstr(test->file, file) != nullptr) return true;
    for (const char *name : names)
        if (strcmp(test->name, name) == 0) return true;
    return false;
}

static int main_run(int argc, char **argv) {
    const char *filter = "", *only = nullptr, *fail = nullptr;
    program = argv[0];
    if (argc == 2 && strcmp(argv[1], "--probe-environment") == 0) return api::suite_run(argc, argv);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--backend=", 10) == 0) backend = argv[i] + 10;
        else if (strncmp(argv[i], "--filter=", 9) == 0) filter = argv[i] + 9;
        else if (strncmp(argv[i], "--share=", 8) == 0) share_ppm = strtoull(argv[i] + 8, nullptr, 10);
        else if (strncmp(argv[i], "--most=", 7) == 0) most = strtoull(argv[i] + 7, nullptr, 10);
        else if (strncmp(argv[i], "--longest=", 10) == 0) longest_ns = atoll(argv[i] + 10) * MIO_MILLISECOND;
        else if (strncmp(argv[i], "--jobs=", 7) == 0) jobs_wanted = atoi(argv[i] + 7);
        else if (strncmp(argv[i], "--test=", 7) == 0) only = argv[i] + 7;
        else if (strncmp(argv[i], "--fail=", 7) == 0) fail = argv[i] + 7;
        else if (strcmp(argv[i], "--from") == 0) and_from = true;
        else if (strcmp(argv[i], "--verbose") == 0) verbose = true;
        else return usage();
    }
    if (jobs_wanted < 1 || jobs_wanted > JOBS_MAX) return usage();
    api::test_case *const *list;
    const int n = api::suite_open(backend, only != nullptr ? only : filter, &list);
    if (n < 0 || n > TESTS_MAX) return usage();
    on_sim = api::on_sim();
    void *pages = mmap(nullptr, JOBS_MAX * sizeof(slot), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return 2;
    for (int i = 0; i < JOBS_MAX; i++) jobs[i].shared = static_cast<slot *>(pages) + i;
    mine = jobs[0].shared;
    run_prepare();

    uint64_t elsewhere = 0, holding = 0;
    plan nothing = {}, one = {};
    if (fail != nullptr && !plan_parse(fail, &one)) return usage();
    for (int i = 0; i < n; i++) {
        known[i].test = list[i];
        if (only != nullptr && strcmp(list[i]->name, only) != 0) continue;
        if (ends_processes(list[i])) {
            elsewhere++;
            continue;
        }
        if (holds_its_own(list[i])) {
            holding++;
            continue;
        }
        job_start(job_wait(jobs_wanted - 1), i, &nothing);
    }
    job_wait(0);
    int tests = 0;
    for (int i = 0; i < n; i++) {
        if (!known[i].runs) continue;
        tests++;
        if (fail != nullptr) job_start(job_wait(jobs_wanted - 1), i, &one);
        else plans_of_test(i);
    }
    job_wait(0);
    uint64_t runs = 0;
    for (const uint64_t count : outcomes) runs += count;
    const uint64_t failed = outcomes[static_cast<unsigned>(outcome::failed)];
    printf("%d tests, %llu runs, %llu errors injected: %llu not noticed, %llu by an assertion, %llu waited in vain, "
           "%llu not examined\n", tests, static_cast<unsigned long long>(runs), static_cast<unsigned long long>(injected),
           static_cast<unsigned long long>(outcomes[1]), static_cast<unsigned long long>(outcomes[2]),
           static_cast<unsigned long long>(outcomes[3]), static_cast<unsigned long long>(outcomes[4]));
    if (left_out > 0) printf("skip %llu tests that take longer than %lld ms\n", static_cast<unsigned long long>(left_out),
                             static_cast<long long>(longest_ns / MIO_MILLISECOND));
    if (elsewhere > 0) printf("skip %llu tests that look at how other processes end\n", static_cast<unsigned long long>(elsewhere));
    if (holding > 0) printf("skip %llu tests that hold something of their own when they are left\n", static_cast<unsigned long long>(holding));
    printf("inject[%s]: %llu passed, %llu failed, %llu skipped\n", backend, static_cast<unsigned long long>(runs - failed),
           static_cast<unsigned long long>(failed), static_cast<unsigned long long>(left_out + elsewhere + holding));
    return failed == 0 ? 0 : 1;
}

static int scratch_remove(const char *path, const struct stat *, int, struct FTW *) { return remove(path); }

// What tests that were left in their middle have made of files lies in a folder of the run's own.
static int main_scratch(int argc, char **argv) {
    char folder[] = "/tmp/mio-inject-XXXXXX";
    const bool made = mkdtemp(folder) != nullptr;
    if (made) setenv("TMPDIR", folder, 1);
    const int result = main_run(argc, argv);
    if (made) nftw(folder, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
    return result;
}

}

int main(int argc, char **argv) {
    setenv("MIO_TEST_INJECTED", "1", 1); // some tests have threads that wait for what a failed one does not do any more
    return inject::main_scratch(argc, argv);
}
