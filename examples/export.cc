// A loop that shows what it does to others: run mio-top beside it. It ticks a thousand times a second, and now and then a
// callback takes its time.
//
//   export [SECONDS]       default 10; prints the file, and at the end what a reader of it sees
#include <mio.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <unistd.h>

struct program {
    mio_timer_t *tick, *end;
    int ticks;
};

static void on_tick(mio_timer_t *, void *arg) {
    auto *p = static_cast<program *>(arg);
    if (++p->ticks % 100 != 0) return;
    const struct timespec slow = {0, 5 * 1000 * 1000};   // who blocks a loop is seen in LONGEST
    nanosleep(&slow, nullptr);
}

static void on_end(mio_timer_t *end, void *arg) {
    auto *p = static_cast<program *>(arg);
    mio_handle_close(p->tick, nullptr, nullptr);
    mio_handle_close(end, nullptr, nullptr);
}

static int failed(const char *what, int error) {
    fprintf(stderr, "export: %s: %s\n", what, mio_error_text(error));
    return 1;
}

int main(int argc, char **argv) {
    char *text_end = nullptr;
    const double seconds = argc == 2 ? strtod(argv[1], &text_end) : 10;
    if (argc > 2 || (argc == 2 && (*text_end != 0 || text_end == argv[1] || seconds <= 0 || seconds > 1e6))) {
        fprintf(stderr, "usage: export [SECONDS]\n");
        return 2;
    }
    mio_loop_t *loop;
    int error = mio_loop_create(&loop, nullptr);
    if (error < 0) return failed("no loop", error);
    char path[64];
    snprintf(path, sizeof path, "/tmp/export-example.%d", static_cast<int>(getpid()));
    error = mio_loop_export(loop, "example", path);      // NULL instead of a path: mio-top finds it by itself
    if (error < 0) return failed(path, error);
    printf("mio-top %s\n", path);
    fflush(stdout);

    program p = {};
    if ((error = mio_timer_create(loop, &p.tick)) < 0 || (error = mio_timer_create(loop, &p.end)) < 0 ||
        (error = mio_timer_start(p.tick, 0, MIO_MILLISECOND, on_tick, &p)) < 0 ||
        (error = mio_timer_start(p.end, static_cast<int64_t>(seconds * 1e9), 0, on_end, &p)) < 0)
        return failed("no timer", error);
    error = mio_loop_run(loop);
    if (error < 0) return failed("the loop", error);

    mio_export_t seen = MIO_EXPORT_INIT;
    error = mio_export_read(path, &seen);
    if (error < 0) return failed(path, error);
    printf("%s on %s: %llu callbacks, the longest of late %.1f ms, %.0f %% asleep\n", seen.name, seen.backend,
           static_cast<unsigned long long>(seen.metrics.callbacks), static_cast<double>(seen.slowest_ns) / 1e6,
           100.0 * static_cast<double>(seen.asleep_ns) / static_cast<double>(seen.written_ns - seen.exported_ns));
    return mio_loop_destroy(loop, MIO_SECOND) == 0 ? 0 : 1;
}
