// A child process: bytes through it, a deadline, and how it ended.
//
//   process                        shows itself: sort(1) sorts three lines, sleep(1) does not end in time
//   process SECONDS PROGRAM ...    runs PROGRAM so long at most, its output is this one's
#include <mio.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

struct job {
    const char *name;
    mio_timer_t *deadline; // or NULL
};

static char output[256]; // of sort
static size_t output_length;
static mio_process_exit_t last;

static void on_exit(mio_process_t *process, const mio_process_exit_t *how, void *arg) {
    job *of = static_cast<job *>(arg);
    const char *name = of->name;
    last = *how;
    if (of->deadline != nullptr) mio_handle_close(of->deadline, nullptr, nullptr);
    if (how->error < 0) printf("%s did not run: %s\n", name, mio_error_text(how->error));
    else if (how->signal != 0) printf("%s was ended by signal %d\n", name, how->signal);
    else printf("%s ended with status %d, after %lld us of processor time\n", name, how->status,
                static_cast<long long>((how->user_ns + how->system_ns) / MIO_MICROSECOND));
    mio_handle_close(process, nullptr, nullptr);
}

static void on_deadline(mio_timer_t *, void *arg) { // on_exit closes the timer: the process is there
    mio_process_kill(static_cast<mio_process_t *>(arg), SIGKILL);
}

static void on_written(mio_stream_t *input, int, int64_t, mio_buf_t *, unsigned, void *) {
    mio_handle_close(input, nullptr, nullptr); // the end of its input
}

static void on_output(mio_stream_t *from, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0) {
        mio_handle_close(from, nullptr, nullptr);
        return;
    }
    for (size_t i = 0; i < buf->len && output_length < sizeof output - 1; i++) output[output_length++] = buf->base[i];
}

static int sort_lines(mio_loop_t *loop) {
    const char *const arguments[] = {"sort", nullptr};
    mio_stdio_t stdio[3] = {};
    stdio[0].kind = stdio[1].kind = MIO_STDIO_STREAM;
    stdio[2].kind = MIO_STDIO_INHERIT;
    mio_process_options_t options = MIO_PROCESS_OPTIONS_INIT;
    options.file = "sort";
    options.flags = MIO_PROCESS_PATH;
    options.argv = arguments;
    options.stdio = stdio;
    options.stdio_count = 3;
    mio_process_t *process;
    static job sorting = {"sort", nullptr};
    static char lines[] = "one\ntwo\nthree\n";
    const int error = mio_process_spawn(loop, &options, on_exit, &sorting, &process);
    if (error < 0) return error;
    mio_buf_t input = mio_buf_borrow(lines, sizeof lines - 1);
    if (mio_stream_write(stdio[0].stream, &input, 1, on_written, nullptr) < 0) return 1;
    return mio_stream_read_start(stdio[1].stream, 0, on_output, nullptr) < 0 ? 1 : 0;
}

// arguments: the program and what it is given, NULL at the end.
static int run_for(mio_loop_t *loop, char **arguments, int64_t within_ns) {
    mio_stdio_t stdio[3] = {};
    for (mio_stdio_t &each : stdio) each.kind = MIO_STDIO_INHERIT;
    mio_process_options_t options = MIO_PROCESS_OPTIONS_INIT;
    options.file = arguments[0];
    options.flags = MIO_PROCESS_PATH;
    options.argv = arguments;
    options.stdio = stdio;
    options.stdio_count = 3;
    mio_process_t *process;
    static job running;
    running.name = arguments[0];
    int error = mio_timer_create(loop, &running.deadline);
    if (error == 0) error = mio_process_spawn(loop, &options, on_exit, &running, &process);
    if (error == 0) error = mio_timer_start(running.deadline, within_ns, 0, on_deadline, process);
    return error;
}

int main(int argc, char **argv) {
    mio_loop_t *loop;
    if (argc == 2 || (argc > 2 && atof(argv[1]) <= 0)) {
        fprintf(stderr, "process: usage: process [SECONDS PROGRAM ...]\n");
        return 2;
    }
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    int error;
    if (argc > 2) {
        error = run_for(loop, argv + 2, static_cast<int64_t>(atof(argv[1]) * 1e9));
        if (error == 0) error = mio_loop_run(loop);
    } else {
        static char sleeper[] = "sleep", time[] = "1000";
        char *arguments[] = {sleeper, time, nullptr};
        error = sort_lines(loop);
        if (error == 0) error = mio_loop_run(loop);
        if (error == 0) error = run_for(loop, arguments, 50 * MIO_MILLISECOND);
        if (error == 0) error = mio_loop_run(loop);
        printf("%s", output);
        if (strcmp(output, "one\nthree\ntwo\n") != 0 || last.signal != SIGKILL) error = 1;
    }
    if (error != 0) fprintf(stderr, "process: %s\n", mio_error_text(error));
    if (mio_loop_destroy(loop, MIO_FOREVER) != 0 || error != 0) return 1;
    return argc > 2 ? (last.error < 0 || last.signal != 0 ? 1 : last.status) : 0;
}
