// Diagnosis: the watchdog of slow callbacks and the log.
#include "harness.h"

#include <sys/resource.h>
#include <unistd.h>

using namespace api;

struct barks {
    int calls;
    char what[64], name[64];
    int64_t elapsed_ns;
    mio_handle_t *handle;
};

static void bark(mio_loop_t *loop, mio_handle_t *handle, const char *what, int64_t elapsed_ns, void *arg) {
    barks *seen = static_cast<barks *>(arg);
    ck_assert_ptr_nonnull(loop);
    seen->calls++;
    seen->handle = handle;
    seen->elapsed_ns = elapsed_ns;
    snprintf(seen->what, sizeof seen->what, "%s", what);
    snprintf(seen->name, sizeof seen->name, "%s", mio_handle_name(handle)); // [in diagnostics]
}

TEST(the_watchdog_names_a_slow_callback) {
    KERNEL_ONLY("virtual time does not pass while a callback works");
    static barks seen;
    seen = {};
    mio_loop_options_t options = loop_options();
    options.watchdog = bark;
    options.watchdog_arg = &seen;
    options.watchdog_ns = 20 * MIO_MILLISECOND;
    mio_loop_t *loop = loop_open_with(&options);
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_handle_set_name(timer, "the slow one"), 0);
    assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *, void *) {}, nullptr), 0);
    run_to_end(loop);
    assert_is(seen.calls, 0);
    assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *, void *) { busy_ns(40 * MIO_MILLISECOND); }, nullptr), 0);
    run_to_end(loop);
    assert_is(seen.calls, 1);
    ck_assert_str_eq(seen.what, "timer");
    ck_assert_str_eq(seen.name, "the slow one");
    ck_assert_ptr_eq(seen.handle, timer);
    ck_assert_int_ge(seen.elapsed_ns, 40 * MIO_MILLISECOND);
    ck_assert_int_ge(metrics(loop).slowest_callback_ns, 40 * MIO_MILLISECOND);
    assert_is(mio_remote_post(mio_loop_remote(loop), [](mio_loop_t *, int, void *) { busy_ns(40 * MIO_MILLISECOND); }, nullptr), 0);
    run_to_end(loop);
    assert_is(seen.calls, 2);
    ck_assert_ptr_null(seen.handle); // a post has none
}

TEST(the_watchdog_survives_a_handle_abandoned_in_its_slow_callback) {
    KERNEL_ONLY("virtual time does not pass while a callback works");
    static barks seen;
    seen = {};
    mio_loop_options_t options = loop_options();
    options.watchdog = bark;
    options.watchdog_arg = &seen;
    options.watchdog_ns = 5 * MIO_MILLISECOND;
    mio_loop_t *loop = loop_open_with(&options);
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *self, void *) {
        mio_handle_abandon(self);
        busy_ns(15 * MIO_MILLISECOND);
    }, nullptr), 0);
    run_to_end(loop);
    assert_is(seen.calls, 1);
    ck_assert_ptr_null(seen.handle);
}

struct log_lines {
    int calls;
    bool wrong;
};

TEST(the_log_speaks_instead_of_printing) {
    static log_lines seen;
    seen = {};
    mio_loop_options_t options = loop_options();
    options.log = [](mio_loop_t *, enum mio_log_level level, const char *text, void *arg) {
        log_lines *to = static_cast<log_lines *>(arg);
        to->calls++;
        if (level < MIO_LOG_ERROR || level > MIO_LOG_DEBUG || text == nullptr || text[0] == 0) to->wrong = true;
    };
    options.log_arg = &seen;
    int ends[2];
    assert_is(pipe(ends), 0);
    const int out = dup(1), error = dup(2);
    assert_is(dup2(ends[1], 1), 1);
    assert_is(dup2(ends[1], 2), 2);
    mio_loop_t *loop = loop_open_with(&options); // a whole life, with mistakes in it
    pair streams = connect_pair(loop);
    mio_handle_close(nullptr, nullptr, nullptr);
    mio_stream_read_stop(streams.client);
    assert_is(mio_tcp_linger(streams.server, 0), 0);
    assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
    mio_buf_t bytes = pattern_buf(loop, 100000, 0);
    mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr);
    run_for(loop, 5 * MIO_MILLISECOND);
    loop_close(loop);
    dup2(out, 1);
    dup2(error, 2);
    close(out);
    close(error);
    close(ends[1]);
    char text[256];
    assert_is(read(ends[0], text, sizeof text), 0); // not a byte on standard output or error
    close(ends[0]);
    ck_assert(!seen.wrong);
    ck_assert_int_ge(seen.calls, 1); // of the backend that was chosen, at least
}
