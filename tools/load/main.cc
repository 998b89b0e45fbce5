// mio-load: puts an echo server under load and says how fast it answered. The main thread has a loop of its own: it
// waits for the workers (their posts), starts them together, and prints the progress; they do the work.
#include "load/report.h"

#include <cstdio>
#include <memory>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

namespace load {

struct crew {
    options asked;
    pattern bytes;
    mio_loop_t *loop;
    std::vector<std::unique_ptr<worker>> workers;
    std::vector<std::thread> threads;
    unsigned ramped, over;
    uint64_t answered;                        // when the progress line was last printed
    int second;
};

static crew *the_crew; // for posts, which carry the worker

// On a worker's loop.
static void on_go(mio_loop_t *, int status, void *arg) {
    if (status == 0) worker_go(static_cast<worker *>(arg));
}

// On the main loop: the next three.
static void on_ramped(mio_loop_t *, int, void *) {
    if (++the_crew->ramped < the_crew->workers.size()) return;
    for (auto &w : the_crew->workers) {
        // Out of memory: this worker will not start, nor end by itself.
        if (mio_remote_post(w->remote, on_go, w.get()) < 0) mio_loop_stop(w->loop);
    }
}

static void on_over(mio_loop_t *loop, int, void *) {
    if (++the_crew->over == the_crew->workers.size()) mio_loop_hold(loop, -1);
}

static void on_second(mio_timer_t *, void *) {
    uint64_t answered = 0;
    for (auto &w : the_crew->workers) answered += w->answered.load(std::memory_order_relaxed);
    progress_print(++the_crew->second, answered - the_crew->answered, the_crew->asked.connections);
    the_crew->answered = answered;
}

static void run(worker *w) {
    const int status = worker_begin(w);
    const int run_status = status < 0 ? status : mio_loop_run(w->loop);
    if (run_status != 0) { // never in a healthy run: it did not end by itself
        w->found.errors[run_status < 0 ? mio_error_name(run_status) : "STOPPED"]++;
        mio_remote_post(w->boss, on_over, w);
    }
}

static int create_loop(const options *asked, mio_loop_t **out) {
    mio_loop_options_t wanted = MIO_LOOP_OPTIONS_INIT;
    wanted.backend = asked->backend;
    wanted.write_queue_max = (asked->size * asked->pipeline + (1 << 20)) * 2;
    const int status = mio_loop_create(out, &wanted);
    if (status < 0) fprintf(stderr, "mio-load: no loop: %s\n", mio_error_text(status));
    return status;
}

// Each connection is a descriptor, each loop a few.
static bool raise_limit(const options *asked) {
    struct rlimit limit;
    const rlim_t wanted = asked->connections + 16 * (asked->threads + 2);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted) return true;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (limit.rlim_cur >= wanted && setrlimit(RLIMIT_NOFILE, &limit) == 0) return true;
    fprintf(stderr, "mio-load: %u connections need %llu descriptors: raise the limit (ulimit -n)\n", asked->connections,
            static_cast<unsigned long long>(wanted));
    return false;
}

static void sum_up(const crew *c, summary *s) {
    s->asked = &c->asked;
    s->connected = 0;
    for (const auto &w : c->workers) {
        const results *found = &w->found;
        histogram_add(&s->found.latency, &found->latency);
        s->found.requests += found->requests;
        s->found.unsent += found->unsent;
        for (const auto &error : found->errors) s->found.errors[error.first] += error.second;
        for (const auto &error : found->connect_errors) s->found.connect_errors[error.first] += error.second;
        if (found->elapsed_ns > s->found.elapsed_ns) s->found.elapsed_ns = found->elapsed_ns;
        for (const connection &conn : w->connections) s->connected += conn.ready;
    }
}

static int load_main(int argc, char **argv) {
    crew c = {};
    the_crew = &c;
    const int exit_status = options_parse(argc, argv, &c.asked);
    if (exit_status != OPTIONS_GO_ON) return exit_status;
    if (!raise_limit(&c.asked)) return 2;
    if (create_loop(&c.asked, &c.loop) < 0) return 2;
    mio_loop_hold(c.loop, +1); // until every worker is over
    pattern_make(&c.bytes, c.asked.size);

    for (unsigned i = 0; i < c.asked.threads; i++) {
        c.workers.push_back(std::make_unique<worker>());
        worker *w = c.workers.back().get();
        w->asked = &c.asked;
        w->bytes = &c.bytes;
        w->index = i;
        w->boss = mio_loop_remote(c.loop);
        w->on_ramped = on_ramped;
        w->on_over = on_over;
        if (create_loop(&c.asked, &w->loop) < 0) return 2; // no thread runs yet
        w->remote = mio_loop_remote(w->loop);
    }
    mio_timer_t *every_second;
    if (!c.asked.quiet && isatty(STDERR_FILENO) && mio_timer_create(c.loop, &every_second) == 0) {
        mio_timer_start(every_second, MIO_SECOND, MIO_SECOND, on_second, nullptr);
        mio_handle_unref(every_second);
    }
    for (auto &w : c.workers) c.threads.emplace_back(run, w.get());
    mio_loop_run(c.loop);
    for (std::thread &thread : c.threads) thread.join();
    if (c.second > 0) progress_clear();

    auto all = std::make_unique<summary>();
    all->backend = mio_loop_backend(c.workers[0]->loop);
    sum_up(&c, all.get());
    report_print(all.get());
    int left = mio_loop_destroy(c.loop, MIO_SECOND);
    for (auto &w : c.workers) left += mio_loop_destroy(w->loop, MIO_SECOND);
    if (left != 0) fprintf(stderr, "mio-load: a loop did not end cleanly\n");
    return left != 0 ? 1 : report_status(all.get());
}

}

int main(int argc, char **argv) { return load::load_main(argc, argv); }
