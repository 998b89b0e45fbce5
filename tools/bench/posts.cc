// Posts: what one costs the thread that posts while the loop is awake, and how long a post to a sleeping loop and back
// takes. Beside the second, two threads that wake one another through eventfds and nothing else: what the kernel takes.
// Both need two processors of their own; the first also needs the loop to keep up, which one burst at a time lets it.
#include "bench/bench.h"

#include <mio.h>

#include <atomic>
#include <cstdio>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace bench {

constexpr unsigned BURST = 1000;
constexpr unsigned BURSTS = 1000;
constexpr unsigned TRIPS = 20000;

static void expect(int result, int wanted, const char *what) {
    if (result != wanted) fail("%s: %d", what, result);
}

static mio_loop_t *loop_make() {
    mio_loop_t *loop;
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_EPOLL;
    expect(mio_loop_create(&loop, &options), 0, "mio_loop_create");
    expect(mio_loop_hold(loop, 1), 0, "mio_loop_hold");
    return loop;
}

static void *loop_thread(void *loop) {
    expect(mio_loop_run(static_cast<mio_loop_t *>(loop)), MIO_STOPPED, "mio_loop_run");
    return nullptr;
}

static void loop_end(mio_loop_t *loop, pthread_t thread) {
    mio_loop_stop(loop);
    expect(pthread_join(thread, nullptr), 0, "pthread_join");
    expect(mio_loop_destroy(loop, MIO_FOREVER), 0, "mio_loop_destroy");
}

// --- to a loop that is awake ----------------------------------------------------------------------------------------

static std::atomic<unsigned> arrived{0};

static void on_idle(mio_hook_t *, void *) {}
static void on_post(mio_loop_t *, int, void *) {
    arrived.store(arrived.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

static void awake_cell(const settings *with, const char *name) {
    mio_loop_t *loop = loop_make();
    mio_hook_t *idle;
    expect(mio_hook_create(loop, MIO_HOOK_IDLE, &idle), 0, "mio_hook_create");
    expect(mio_hook_start(idle, on_idle, nullptr), 0, "mio_hook_start");
    mio_remote_t *remote = mio_loop_remote(loop);
    pthread_t thread;
    expect(pthread_create(&thread, nullptr, loop_thread, loop), 0, "pthread_create");
    figures posting, whole;
    figures_open(&posting, BURSTS);
    figures_open(&whole, BURSTS);
    for (unsigned burst = 0; burst < BURSTS; burst++) {
        arrived.store(0, std::memory_order_relaxed);
        const int64_t begun_ns = clock_ns();
        for (unsigned i = 0; i < BURST; i++) {
            const int error = mio_remote_post(remote, on_post, nullptr);
            if (__builtin_expect(error < 0, 0)) fail("mio_remote_post: %d", error);
        }
        const int64_t posted_ns = clock_ns();
        while (arrived.load(std::memory_order_acquire) < BURST) sched_yield();
        figures_add(&posting, static_cast<double>(posted_ns - begun_ns) / BURST);
        figures_add(&whole, static_cast<double>(clock_ns() - begun_ns) / BURST);
    }
    report_one(with, name, "post, the sender's time", figures_percentile(&posting, 10), figures_percentile(&posting, 50));
    report_one(with, name, "post, until the last has run", figures_percentile(&whole, 10), figures_percentile(&whole, 50));
    figures_close(&posting);
    figures_close(&whole);
    loop_end(loop, thread);
}

// --- there and back, both asleep ------------------------------------------------------------------------------------

struct ping {
    mio_remote_t *here, *there;
    mio_loop_t *home;
    unsigned left;
    int64_t begun_ns;
    figures *ns;
};

static void on_there(mio_loop_t *, int, void *arg);

static void ping_send(ping *p) {
    p->begun_ns = clock_ns();
    expect(mio_remote_post(p->there, on_there, p), 0, "mio_remote_post");
}

static void on_back(mio_loop_t *, int, void *arg) {
    auto *p = static_cast<ping *>(arg);
    figures_add(p->ns, static_cast<double>(clock_ns() - p->begun_ns));
    if (--p->left == 0) mio_loop_stop(p->home);
    else ping_send(p);
}

static void on_there(mio_loop_t *, int status, void *arg) {
    if (status == 0) expect(mio_remote_post(static_cast<ping *>(arg)->here, on_back, arg), 0, "mio_remote_post");
}

static void asleep_cell(const settings *with, const char *name) {
    mio_loop_t *home = loop_make(), *away = loop_make();
    figures ns;
    figures_open(&ns, TRIPS);
    ping p = {mio_loop_remote(home), mio_loop_remote(away), home, TRIPS, 0, &ns};
    pthread_t thread;
    expect(pthread_create(&thread, nullptr, loop_thread, away), 0, "pthread_create");
    ping_send(&p);
    expect(mio_loop_run(home), MIO_STOPPED, "mio_loop_run");
    report_one(with, name, "post there and back", figures_percentile(&ns, 10), figures_percentile(&ns, 50));
    figures_close(&ns);
    loop_end(away, thread);
    expect(mio_loop_destroy(home, MIO_FOREVER), 0, "mio_loop_destroy");
}

static int doors[2];

static void door_knock(int fd) {
    const uint64_t one = 1;
    if (write(fd, &one, sizeof one) != static_cast<ssize_t>(sizeof one)) fail_errno("write");
}

static void door_wait(int fd) {
    uint64_t count;
    if (read(fd, &count, sizeof count) != static_cast<ssize_t>(sizeof count)) fail_errno("read");
}

static void *door_thread(void *) {
    for (unsigned i = 0; i < TRIPS; i++) {
        door_wait(doors[0]);
        door_knock(doors[1]);
    }
    return nullptr;
}

static void eventfd_cell(const settings *with, const char *name) {
    for (int &fd : doors) {
        fd = eventfd(0, EFD_CLOEXEC);
        if (fd < 0) fail_errno("eventfd");
    }
    figures ns;
    figures_open(&ns, TRIPS);
    pthread_t thread;
    expect(pthread_create(&thread, nullptr, door_thread, nullptr), 0, "pthread_create");
    for (unsigned i = 0; i < TRIPS; i++) {
        const int64_t begun_ns = clock_ns();
        door_knock(doors[0]);
        door_wait(doors[1]);
        figures_add(&ns, static_cast<double>(clock_ns() - begun_ns));
    }
    expect(pthread_join(thread, nullptr), 0, "pthread_join");
    report_one(with, name, "two eventfds there and back", figures_percentile(&ns, 10), figures_percentile(&ns, 50));
    figures_close(&ns);
    for (const int fd : doors) close(fd);
}

void posts_run(const settings *with) {
    const struct {
        const char *name;
        void (*run)(const settings *with, const char *name);
    } cells[] = {{"posts/awake", awake_cell}, {"posts/asleep", asleep_cell}, {"posts/eventfd", eventfd_cell}};
    bool headed = false;
    for (const auto &cell : cells) {
        if (!cell_wanted(with, cell.name)) continue;
        if (with->list) {
            printf("%s\n", cell.name);
            continue;
        }
        if (!headed) {
            report_heading(with, "ns per post; ns for the way there and back");
            report_one_heading(with);
            headed = true;
        }
        cell.run(with, cell.name);
    }
}

}
