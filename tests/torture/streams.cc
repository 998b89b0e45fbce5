// One seed from its world to its end, and the command line.
//
//   torture [--backend=sim|epoll|io_uring|kqueue] [--seeds=FIRST[:COUNT]] [--nouns=LIST] [--oom] [--verbose]
//
// A seed has some of the nouns of nouns.h, or of those that --nouns names; without any (--nouns=none) it is the program
// of streams alone. Seeds run in processes of a hundred, so that one that ends by a panic or takes too long costs no other. A failure
// says the seed and how to run it again. The last line is "torture[BACKEND]: N passed, N failed, N skipped". On epoll
// the time and the kernel are real: a seed is the same program there, not the same run.
#include "nouns.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace torture {

constexpr unsigned SEED_LIMIT_S = 200;
constexpr int NOUN_TRIES = 5000; // of a few milliseconds: a kernel's workers take their time
constexpr int64_t ROUND_NS = 500 * MIO_MICROSECOND; // of all loops, on a kernel
constexpr uint64_t SEEDS_A_PROCESS = 100;
constexpr uint64_t SEEDS_A_REPEAT = 16; // one of so many runs twice in its world, to the same end

static bool simulated = true, without_memory;
static uint32_t nouns_wanted = ~0u;
static const char *nouns_text = "all";
static const char *backend_name = "sim";

// --- its world ------------------------------------------------------------------------------------------------------

static enum mio_backend kernel_backend() {
    if (strcmp(backend_name, "epoll") == 0) return MIO_BACKEND_EPOLL;
    return strcmp(backend_name, "kqueue") == 0 ? MIO_BACKEND_KQUEUE : MIO_BACKEND_IO_URING;
}

static void loop_open(unsigned which) {
    mio_loop_t **loop = &now.loops[which];
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.sim = now.world;
    if (!now.sim) options.backend = kernel_backend();
    if (chance(40)) {
        options.buffer_block = 4096;
        options.buffer_max_bytes = 8192 + 4096 * below(3u);
        now.buffer_max[which] = options.buffer_max_bytes;
    }
    if (chance(30)) options.completions = 64;
    if (chance(50)) {
        options.write_high = 1000;
        options.write_low = 200;
    }
    if (chance(30)) options.write_queue_max = 20000;
    say("loop %u holds %zu", which, now.buffer_max[which]);
    options.workers = workers_open();
    int error;
    do error = mio_loop_create(loop, &options);
    while (error == MIO_ENOMEM && now.no_memory);
    mio_workers_release(options.workers);
    if (error < 0) fail("no loop: %s", mio_error_name(error));
}

static void run_open() {
    now.loop_count = 1 + below(2u);
    for (unsigned i = 0; i < now.loop_count; i++) loop_open(i);
    listeners_open();
    nouns_open();
    for (int i = 0; i < 3; i++) act_connect();
    int error;
    do error = mio_timer_create(now.loops[0], &now.tick);
    while (error == MIO_ENOMEM && now.no_memory);
    if (error < 0 || mio_timer_start(now.tick, 0, MIO_MILLISECOND, told_tick, nullptr) < 0) fail("no timer");
    faults_schedule();
}

// --- time passes ----------------------------------------------------------------------------------------------------

uint64_t turns() {
    uint64_t sum = 0;
    for (unsigned i = 0; i < now.loop_count; i++) {
        mio_loop_metrics_t metrics = MIO_LOOP_METRICS_INIT;
        mio_loop_metrics(now.loops[i], &metrics);
        sum += metrics.turns;
    }
    return sum;
}

static bool pass_simulated(int64_t duration_ns) {
    const int64_t until_ns = mio_sim_now_ns(now.world) + duration_ns;
    int64_t step_ns = 10 * MIO_MILLISECOND; // longer and longer: less and less happens
    for (int64_t left_ns = duration_ns; left_ns > 0; left_ns = until_ns - mio_sim_now_ns(now.world)) {
        const int64_t before_ns = mio_sim_now_ns(now.world);
        const uint64_t before = turns();
        const int result = mio_sim_run(now.world, left_ns < step_ns ? left_ns : step_ns);
        if (result == 0) return false;
        if (result != MIO_ETIMEDOUT) fail("the world's run gives %d", result);
        if (turns() - before > 3000 + relays_may_look(step_ns))
            fail("%llu turns in %lld ns: it spins", static_cast<unsigned long long>(turns() - before),
                 static_cast<long long>(step_ns));
        if (duration_ns > MIO_SECOND) step_ns += step_ns / 4;
        if (mio_sim_now_ns(now.world) == before_ns) return true; // nothing can happen any more
    }
    return true;
}

static int64_t clock_ns() {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * MIO_SECOND + at.tv_nsec;
}

// Time alone says nothing, it passes while the machine is elsewhere: about as many rounds without work belong to it. But
// there is always some work where an idle hook runs, or where nobody reads what a poll tells of.
static bool pass_real(int64_t duration_ns) {
    const int64_t until_ns = clock_ns() + duration_ns, wanted = duration_ns / (4 * ROUND_NS) + 1;
    int64_t idle = 0, rounds = 0;
    bool alive = true;
    while (alive && (clock_ns() < until_ns || (idle < wanted && rounds < 20 * wanted))) {
        const int64_t began_ns = clock_ns();
        alive = false;
        for (unsigned i = 0; i < now.loop_count; i++) {
            const int result = mio_loop_run_once(now.loops[i], ROUND_NS);
            if (result < 0) fail("the loop's run gives %d", result);
            if (result != 0) alive = true;
        }
        rounds++;
        if (clock_ns() - began_ns >= ROUND_NS) idle++;
    }
    return alive;
}

// false: nothing is alive.
static bool pass(int64_t simulated_ns, int64_t real_ns) {
    return now.sim ? pass_simulated(simulated_ns) : pass_real(real_ns);
}

// --- what must hold when it is quiet --------------------------------------------------------------------------------

static bool is_stuck(const request *r) {
    return r->what == kind::shutdown || r->what == kind::detach || r->what == kind::move;
}

// What should not be so any more on it; nullptr: nothing.
static const char *connection_trouble(const connection *c) {
    static char text[100];
    if (c->dead || c->closing || !connection_is_followed(c)) return nullptr;
    const request *head = lane_first(&c->writes);
    bool writes = false, connects = false, deadline = false;
    for (const request *r = c->writes.first; r != nullptr; r = r->next) {
        if (!r->abandoned && r->what == kind::write) writes = true;
        if (!r->abandoned && !r->done && r->deadline) deadline = true;
        if (r->what == kind::connect) connects = true;
    }
    if (connects) deadline = head != nullptr && head->what == kind::connect && head->deadline; // the others wait for it
    if (deadline) return "a deadline has passed unheard";
    if (connects) return nullptr;
    if (head != nullptr && is_stuck(head)) {
        snprintf(text, sizeof text, "request %d hangs", head->number);
        return text;
    }
    if (c->moving) return nullptr; // the stream may be gone
    const size_t queued = mio_stream_queued_bytes(c->stream);
    if (writes || queued == 0) return nullptr;
    snprintf(text, sizeof text, "%zu bytes are queued and there is no write", queued);
    return text;
}

static bool move_hangs(const connection *c) { return c->moving && !c->dead && !c->lends && connection_is_followed(c); }

// All that hangs where it still does so after a long time. A world has had all the time it needs.
static bool streams_are_over() {
    for (int i = 0; i < now.connection_count; i++)
        if (connection_trouble(now.connections[i]) != nullptr) return false;
    return others_are_over() && listeners_are_over();
}

// Until nothing more is to be told but what waits for buffers.
static void nouns_wait() {
    for (int i = 0; i < NOUN_TRIES && !nouns_are_over(); i++) pass(MIO_SECOND, 3 * MIO_MILLISECOND);
}

// On a kernel something may come late, but not again and again.
static void spin_check() {
    uint64_t took = 0;
    for (int i = 0; i < (now.sim ? 1 : 20); i++) {
        const uint64_t before = turns();
        pass(100 * MIO_MILLISECOND, 20 * MIO_MILLISECOND);
        took = turns() - before;
        if (took <= 400 * now.loop_count) return;
    }
    fail("%llu turns while nothing happens", static_cast<unsigned long long>(took));
}

static void run_quiet() {
    pass(200 * MIO_MILLISECOND, 60 * MIO_MILLISECOND);
    now.stopping = true;
    mio_timer_stop(now.tick);
    others_quiet();
    nouns_quiet();
    strays_return();
    held_release(101);
    pass((now.faulted ? 200 : 10) * MIO_SECOND, 60 * MIO_MILLISECOND);
    nouns_wait();
    held_release(101);
    spin_check();
    held_release(101);
    nouns_wait(); // who waited for just these
    for (int i = 0; i < NOUN_TRIES && !now.sim && !streams_are_over(); i++) pass_real(3 * MIO_MILLISECOND);
    for (int i = 0; i < now.connection_count; i++) {
        const char *trouble = connection_trouble(now.connections[i]);
        if (trouble != nullptr) fail("c%d: %s", now.connections[i]->number, trouble);
    }
    others_check();
    nouns_check();
    listeners_check();
    channels_compare(false);
}

// Who does not read holds what it was sent, and others may wait for it: when it has gone, these go on.
static void run_relieve() {
    bool waits = false;
    for (unsigned i = 0; i < now.loop_count; i++) waits |= reading_waits(now.loops[i]);
    if (!waits) return;
    say("relief");
    act_close_all(false);
    pass(10 * MIO_SECOND, 20 * MIO_MILLISECOND);
    nouns_wait();
    nouns_check();
    for (unsigned i = 0; i < now.loop_count; i++) say("loop %u %s", i, reading_waits(now.loops[i]) ? "still waits" : "reads");
}

// Whatever has happened, the listeners still work.
static void run_probe() {
    listeners_resume();
    pass(10 * MIO_SECOND, 5 * MIO_MILLISECOND);
    probes_start();
    for (int i = 0; i < 1000 && !probes_over(); i++) pass(MIO_SECOND, 3 * MIO_MILLISECOND);
    probes_check();
}

static void moves_cancel() {
    for (int i = 0; i < now.connection_count; i++) {
        const connection *c = now.connections[i];
        if (c->dead || !c->moving) continue;
        for (request *r = c->writes.first; r != nullptr; r = r->next) {
            if (r->abandoned) continue;
            r->cancelled = true;
            CALL(mio_req_cancel(c->loop, r->id));
        }
    }
    pass(3000 * MIO_SECOND, 100 * MIO_MILLISECOND);
    int at = 0;
    for (int i = 0; i < NOUN_TRIES; i++) {
        for (at = 0; at < now.connection_count && !move_hangs(now.connections[at]);) at++;
        if (at == now.connection_count) return;
        pass(MIO_SECOND, 3 * MIO_MILLISECOND);
    }
    fail("the cancelled move of c%d hangs", now.connections[at]->number);
}

// --- its end --------------------------------------------------------------------------------------------------------

static void run_close() {
    const uint32_t how = below(3u); // closing, finishing, destroying with all still open
    if (how == 2) return;
    for (int i = 0; i < now.connection_count && now.silent; i++) { // it would wait for the peer for ever
        connection *c = now.connections[i];
        if (c->patient && !c->dead) connection_abandon(c);
    }
    act_close_all(how == 1);
    others_close();
    nouns_close();
    listeners_close();
    mio_handle_close(now.tick, nullptr, nullptr);
    if (!pass(1000 * MIO_SECOND, 30 * MIO_SECOND)) return;
    for (int i = 0; i < now.connection_count; i++)
        if (!now.connections[i]->dead) fail("c%d does not close", i);
    fail("all is closed, but something is alive");
}

static bool anybody_lends() {
    for (int i = 0; i < now.connection_count; i++)
        if (now.connections[i]->lends) return true;
    return false;
}

// What one loop has lent may wait for the end of a peer on the other one: then they are destroyed by turns. Returns the
// digest of a world.
static uint64_t run_destroy() {
    held_release(101);
    now.destroying = true;
    const int64_t each_ns = anybody_lends() ? MIO_MILLISECOND : MIO_FOREVER;
    bool over[2] = {};
    for (unsigned tries = 0; tries < (now.sim ? 1000 : 20000) && !(over[0] && over[now.loop_count - 1]); tries++)
        for (unsigned i = 0; i < now.loop_count; i++)
            if (!over[i]) over[i] = mio_loop_destroy(now.loops[i], each_ns) == 0;
    for (unsigned i = 0; i < now.loop_count; i++)
        if (!over[i]) fail("destroy of loop %u leaves something", i);
    held_release(101);
    for (const request *r = now.requests; r != nullptr; r = r->next_of_all)
        if (!r->done && !r->abandoned) fail("request %d never called back", r->number);
    channels_compare(true);
    nouns_clear();
    others_clear();
    listeners_clear();
    if (now.wrapped != 0) fail("%d wrapped buffers were not released", now.wrapped);
    if (!now.sim) return 0;
    const int fds = mio_sim_open_fds(now.world);
    if (fds != now.stranded) fail("%d descriptors are left, %d by the program", fds, now.stranded);
    const uint64_t trace = mio_sim_trace_hash(now.world);
    if (mio_sim_destroy(now.world) != 0) fail("the world does not end");
    return trace;
}

constexpr int FDS_MAX = 1024;

// How many descriptors this process has.
static int fds_open() {
    int n = 0;
    for (int fd = 0; fd < FDS_MAX; fd++)
        if (fcntl(fd, F_GETFD) >= 0) n++;
    return n;
}

static uint64_t seed_run(uint64_t seed) {
    now.seed = seed;
    now.random = seed * 0x9e3779b97f4a7c15u + 12345;
    now.sim = simulated;
    now.no_memory = without_memory;
    now.accepts_ahead = strcmp(backend_name, "io_uring") == 0;
    for (int i = 0; i < 5; i++) below(2u);
    now.deadlines = chance(25);
    now.no_abandons = chance(40);
    now.nouns = nouns_of(seed) & nouns_wanted;
    const int fds = now.sim ? 0 : fds_open();
    if (now.sim) world_open();
    run_open();
    run_quiet();
    run_probe();
    moves_cancel();
    run_relieve();
    run_close();
    const uint64_t trace = run_destroy();
    for (int i = 0; i < 20000 && !now.sim && fds_open() != fds; i++) usleep(1000); // a worker was left behind with one
    if (!now.sim && fds_open() != fds) fail("%d descriptors before, %d after", fds, fds_open());
    model_clear();
    return trace;
}

// --- all seeds ------------------------------------------------------------------------------------------------------

struct progress { // shared with the process that runs the seeds
    uint64_t next; // the first seed that has not passed
};

static void seeds_process(progress *shared, uint64_t end) {
    signal(SIGPIPE, SIG_IGN);
    while (shared->next < end) {
        alarm(SEED_LIMIT_S);
        const uint64_t trace = seed_run(shared->next);
        if (simulated && shared->next % SEEDS_A_REPEAT == 0 && seed_run(shared->next) != trace) {
            now.seed = shared->next;
            fail("the same world ends otherwise");
        }
        shared->next++;
    }
    alarm(0);
    exit(0); // a leak checker has its say here
}

// How many of the seeds failed.
static uint64_t seeds_run(progress *shared, uint64_t end, const char *program) {
    uint64_t failed = 0;
    while (shared->next < end) {
        const uint64_t first = shared->next, last = end - first > SEEDS_A_PROCESS ? first + SEEDS_A_PROCESS : end;
        fflush(stdout);
        const pid_t child = fork();
        if (child < 0) return end - first + failed;
        if (child == 0) seeds_process(shared, last);
        int status = 0;
        while (waitpid(child, &status, 0) < 0) {
        }
        if (status == 0) continue;
        failed++;
        const char *why = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "took too long" : "failed";
        const bool at_end = shared->next == last; // all passed, and the process had something to say about it
        const uint64_t from = at_end ? first : shared->next, n = at_end ? last - first : 1;
        printf("FAIL seed %llu: %s; again: %s --backend=%s%s%s%s --seeds=%llu:%llu --verbose\n",
               static_cast<unsigned long long>(from), why, program, backend_name,
               without_memory ? " --oom" : "", nouns_wanted != ~0u ? " --nouns=" : "",
               nouns_wanted != ~0u ? nouns_text : "", static_cast<unsigned long long>(from),
               static_cast<unsigned long long>(n));
        if (!at_end) shared->next++;
    }
    return failed;
}

static int usage() {
    fprintf(stderr, "usage: torture [--backend=sim|epoll|io_uring|kqueue] [--seeds=FIRST[:COUNT]] [--nouns=all|none|NAME,...] [--oom]"
                    " [--verbose]\n");
    return 2;
}

static int main_run(int argc, char **argv) {
    uint64_t first = 1, count = 100;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--seeds=", 8) == 0) {
            char *rest = nullptr;
            first = strtoull(argv[i] + 8, &rest, 10);
            count = *rest == ':' ? strtoull(rest + 1, &rest, 10) : 1;
            if (*rest != '\0') return usage();
        } else if (strncmp(argv[i], "--backend=", 10) == 0) {
            backend_name = argv[i] + 10;
            simulated = strcmp(backend_name, "sim") == 0;
            if (!simulated && strcmp(backend_name, "epoll") != 0 && strcmp(backend_name, "io_uring") != 0 &&
                strcmp(backend_name, "kqueue") != 0) return usage();
        }
        else if (strncmp(argv[i], "--nouns=", 8) == 0) {
            nouns_text = argv[i] + 8;
            if (!nouns_known(nouns_text, &nouns_wanted)) return usage();
        }
        else if (strcmp(argv[i], "--oom") == 0) without_memory = true;
        else if (strcmp(argv[i], "--verbose") == 0) verbose = true;
        else return usage();
    }
    if (without_memory && !simulated) return usage(); // the simulated world is where memory fails
    void *page = mmap(nullptr, sizeof(progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 2;
    auto *shared = static_cast<progress *>(page);
    shared->next = first;
    if (!simulated) root_make();
    const uint64_t failed = seeds_run(shared, first + count, argv[0]);
    if (!simulated) root_remove();
    printf("torture[%s]: %llu passed, %llu failed, 0 skipped\n", without_memory ? "oom" : strcmp(backend_name, "kqueue") == 0 ? "kqueue-model" : backend_name,
           static_cast<unsigned long long>(count - failed),
           static_cast<unsigned long long>(failed));
    return failed == 0 ? 0 : 1;
}

}

int main(int argc, char **argv) { return torture::main_run(argc, argv); }
