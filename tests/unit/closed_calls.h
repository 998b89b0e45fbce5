// What a closing handle answers costs nothing: no system call, no allocation. On a backend that is named, or in a world,
// which ends with it.
#pragma once

#include "support/cmocka.h"

#include "backend/sim.h"
#include "core/loop.h"
#include "support/failing.h"

#include <mio.h>

#include <string.h>

namespace test {

struct closed_zoo {
    mio_timer_t *timer;
    mio_hook_t *hook;
    mio_wakeup_t *wakeup;
    mio_listener_t *listener;
    mio_stream_t *client, *server;
    int closes;
};

inline void closed_nothing_accepted(mio_listener_t *, int, mio_stream_t *, void *) {}
inline void closed_nothing_read(mio_stream_t *, int64_t, mio_buf_t *, void *) {}
inline void closed_nothing_written(mio_stream_t *, int, int64_t, mio_buf_t *, unsigned, void *) {}
inline void closed_nothing_done(mio_stream_t *, int, void *) {}
inline void closed_count(mio_handle_t *, void *arg) { ++*static_cast<int *>(arg); }

inline void closed_accepted(mio_listener_t *, int status, mio_stream_t *stream, void *arg) {
    if (status != 0) return;
    static_cast<closed_zoo *>(arg)->server = stream;
    mio_handle_keep(stream);
}

inline void closed_stream_answers(mio_loop_t *l, mio_stream_t *s, mio_buf_t *bytes, mio_buf_t *room) {
    mio_addr_t at;
    assert_int_equal(mio_stream_read_start(s, 0, closed_nothing_read, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_read_pause(s), MIO_EBADF);
    assert_int_equal(mio_stream_read_resume(s), MIO_EBADF);
    assert_int_equal(mio_stream_read_stop(s), MIO_EBADF);
    assert_int_equal(mio_stream_read(s, room, closed_nothing_read, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_read_exact(s, room, 5, closed_nothing_read, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_read_until(s, room, "\n", 1, 0, closed_nothing_read, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_unread(s, bytes), MIO_EBADF);
    assert_int_equal(mio_stream_write(s, bytes, 1, closed_nothing_written, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_write_flags(s, bytes, 1, MIO_WRITE_ZEROCOPY, closed_nothing_written, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_try_write(s, "x", 1), MIO_EBADF);
    assert_int_equal(mio_stream_shutdown(s, closed_nothing_done, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_set_watermarks(s, 0, 0, nullptr, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_set_queue_max(s, 1), MIO_EBADF);
    assert_int_equal(mio_stream_set_timeout(s, MIO_TIMEOUT_READ, 1), MIO_EBADF);
    assert_int_equal(mio_stream_finish(s, 0, closed_count, nullptr), MIO_EALREADY);
    assert_int_equal(mio_stream_detach(s, [](mio_stream_t *, int, int, mio_buf_t *, unsigned, void *) {}, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_move(s, mio_loop_remote(l), [](mio_loop_t *, int, mio_stream_t *, void *) {}, nullptr), MIO_EBADF);
    assert_int_equal(mio_stream_local(s, &at), MIO_EBADF);
    assert_int_equal(mio_stream_peer(s, &at), MIO_EBADF);
    assert_int_equal(mio_stream_fd(s), MIO_EBADF);
    assert_int_equal(mio_tcp_nodelay(s, 1), MIO_EBADF);
    assert_int_equal(mio_tcp_keepalive(s, 1, 1, 1), MIO_EBADF);
    assert_int_equal(mio_tcp_linger(s, 0), MIO_EBADF);
    assert_int_equal(mio_tcp_quickack(s, 1), MIO_EBADF);
}

inline void closed_handles_answer_without_a_call(enum mio_backend backend, mio_sim_t *world) {
    const mio::sys *calls = failing_open(world != nullptr ? &mio::sys_sim : &mio::sys_real), *simulated = nullptr;
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = backend;
    options.sim = world;
    mio::loop *made = nullptr;
    const int created = mio::loop_create(&made, &options, world != nullptr ? &mio::sys_real : calls);
    if (created == MIO_ENOTSUP) {
        assert_int_equal(failing_close(), 0);
        skip();
    }
    assert_int_equal(created, 0);
    mio_loop_t *l = mio::loop_public(made);
    closed_zoo zoo = {};
    mio_addr_t at;
    assert_int_equal(mio_tcp_listen(l, "127.0.0.1", 0, nullptr, closed_accepted, &zoo, &zoo.listener), 0);
    assert_int_equal(mio_listener_local(zoo.listener, &at), 0);
    assert_true(mio_tcp_connect(l, &at, nullptr, closed_nothing_done, nullptr, &zoo.client) > 0);
    for (int i = 0; i < 1000 && zoo.server == nullptr; i++) assert_true(mio_loop_run_once(l, 10 * MIO_MILLISECOND) >= 0);
    assert_non_null(zoo.server);
    assert_int_equal(mio_timer_create(l, &zoo.timer), 0);
    assert_int_equal(mio_hook_create(l, MIO_HOOK_CHECK, &zoo.hook), 0);
    assert_int_equal(mio_wakeup_create(l, [](mio_wakeup_t *, void *) {}, nullptr, &zoo.wakeup), 0);
    mio_buf_t bytes = {}, room = {};
    assert_int_equal(mio_buf_alloc(l, 10, &bytes), 0);
    assert_int_equal(mio_buf_alloc(l, 10, &room), 0);
    bytes.len = 10;
    memset(bytes.base, 'b', 10);
    mio_handle_t *const all[] = {zoo.timer, zoo.hook, zoo.wakeup, zoo.listener, zoo.client, zoo.server};
    for (mio_handle_t *handle : all) assert_int_equal(mio_handle_close(handle, closed_count, &zoo.closes), 0);

    if (world != nullptr) { // which gives its loops a table of its own
        simulated = made->calls;
        made->calls = calls;
    }
    failing_forget();
    for (mio_handle_t *handle : all) {
        assert_int_equal(mio_handle_close(handle, closed_count, &zoo.closes), MIO_EALREADY);
        assert_int_equal(mio_handle_ref(handle), MIO_EBADF);
        assert_int_equal(mio_handle_unref(handle), MIO_EBADF);
        assert_int_equal(mio_handle_keep(handle), MIO_EBADF);
        assert_int_equal(mio_handle_set_name(handle, "late"), MIO_EBADF);
    }
    assert_int_equal(mio_timer_start(zoo.timer, 0, 0, [](mio_timer_t *, void *) {}, nullptr), MIO_EBADF);
    assert_int_equal(mio_hook_start(zoo.hook, [](mio_hook_t *, void *) {}, nullptr), MIO_EBADF);
    assert_int_equal(mio_hook_stop(zoo.hook), MIO_EBADF);
    mio_wakeup_send(zoo.wakeup);
    assert_int_equal(mio_listener_pause(zoo.listener), MIO_EBADF);
    assert_int_equal(mio_listener_resume(zoo.listener), MIO_EBADF);
    assert_int_equal(mio_listener_fd(zoo.listener), MIO_EBADF);
    assert_int_equal(mio_listener_local(zoo.listener, &at), MIO_EBADF);
    closed_stream_answers(l, zoo.client, &bytes, &room);
    closed_stream_answers(l, zoo.server, &bytes, &room);
    assert_int_equal(failing_count_all(), 0);
    assert_int_equal(failing_count(call::release) + failing_count(call::unmap), 0);
    if (world != nullptr) made->calls = simulated;

    assert_int_equal(bytes.len, 10); // nothing was taken
    mio_buf_release(&bytes);
    mio_buf_release(&room);
    assert_int_equal(mio_loop_run(l), 0);
    assert_int_equal(zoo.closes, 6);
    assert_int_equal(mio_loop_destroy(l, MIO_FOREVER), 0);
    if (world != nullptr) {
        assert_int_equal(mio_sim_open_fds(world), 0);
        assert_int_equal(mio_sim_destroy(world), 0);
    }
    assert_int_equal(failing_close(), 0);
}

}
