// Callbacks: each that the test gives to the library is replaced by one of ours with a record behind arg, which runs the
// test's own behind a landing place and knows whether it may come at all, and whether it came.
//
// A record is for one start. Records are never freed: a run is short, and a late callback is to find its record.
#include "inject.h"

#include <pthread.h>

namespace inject {

enum class last : uint8_t {
    once,  // one-shot: the only call is the last
    error, // a continuous read: n < 0
    ended, // a listener: MIO_ECANCELED or MIO_EBADF
    never, // timers, hooks, wakeups, watermarks: nothing is promised but silence after an abandon
};

struct told {
    const char *what;
    last when;
    void (*cb)(); // the test's, of the type that `what` has
    void *arg;
    const mio_loop_t *loop;
    const mio_handle_t *handle;
    mio_req_t id;
    bool taken, over, abandoned;
    bool leaves; // a move: its handle is another's as soon as the stream has left
    int calls;
    told *next;
};

static told *records;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t last_ns;

void told_note_callback() { __atomic_store_n(&last_ns, clock_ns(), __ATOMIC_RELAXED); }
int64_t told_last_ns() { return __atomic_load_n(&last_ns, __ATOMIC_RELAXED); }

template <typename type> static told *told_new(const char *what, last when, type cb, void *arg, const mio_loop_t *loop,
                                               const mio_handle_t *handle) {
    told *t = new told();
    t->what = what;
    t->when = when;
    t->cb = reinterpret_cast<void (*)()>(cb);
    t->arg = arg;
    t->loop = loop;
    t->handle = handle;
    t->taken = true; // a post may run before its start has returned
    pthread_mutex_lock(&lock);
    t->next = records;
    records = t;
    pthread_mutex_unlock(&lock);
    return t;
}

// After the start: was it taken?
template <typename type> static type told_started(told *t, type result) {
    if (result < 0) t->taken = false;
    else t->id = static_cast<mio_req_t>(result);
    return result;
}

template <typename type> static type cb_of(const told *t) { return reinterpret_cast<type>(t->cb); }

static void told_over(told *t) {
    if (t->over) run_fail("%s calls back after its last call", t->what);
    t->over = true;
}

// Runs the test's callback, up to its end or to an assertion.
template <typename function> static void callback_run(told *t, function body) {
    told_note_callback();
    if (t->abandoned && !t->leaves) run_fail("%s calls back after an abandon", t->what);
    if (!t->taken) run_fail("%s calls back although it was refused", t->what);
    t->calls++;
    if (broken && !in_child && is_test_thread) {
        loops_stop();
        return;
    }
    jmp_buf here;
    jmp_buf *volatile before = landing;
    const char *volatile inside = mine->inside;
    landing = &here;
    if (is_test_thread && !in_child) mine->inside = nullptr;
    if (setjmp(here) == 0) body();
    landing = before;
    if (is_test_thread && !in_child) mine->inside = inside;
}

// --- ours -----------------------------------------------------------------------------------------------------------

static void on_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    told *t = static_cast<told *>(arg);
    if (t->over) run_fail("%s calls back after its last call", t->what);
    if (t->when == last::once || n < 0) told_over(t);
    owned_bufs(buf, 1, 1);
    callback_run(t, [=] { cb_of<mio_read_cb>(t)(stream, n, buf, t->arg); });
    owned_bufs(buf, 1, -1);
}

static void on_written(mio_stream_t *stream, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    owned_bufs(bufs, n, 1);
    callback_run(t, [=] { cb_of<mio_write_cb>(t)(stream, status, sent, bufs, n, t->arg); });
    owned_bufs(bufs, n, -1);
}

static void on_stream(mio_stream_t *stream, int status, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    callback_run(t, [=] { cb_of<mio_stream_cb>(t)(stream, status, t->arg); });
}

static void on_host(mio_stream_t *stream, int status, const mio_connect_tried_t *tried, unsigned n, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    callback_run(t, [=] { cb_of<mio_connect_host_cb>(t)(stream, status, tried, n, t->arg); });
}

static void on_resolved(mio_loop_t *loop, int status, mio_addrs_t *addrs, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    callback_run(t, [=] { cb_of<mio_resolve_cb>(t)(loop, status, addrs, t->arg); });
}

static void on_names(mio_loop_t *loop, int status, const char *host, const char *service, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    callback_run(t, [=] { cb_of<mio_resolve_addr_cb>(t)(loop, status, host, service, t->arg); });
}

struct told_work { // never freed, as its record
    mio_work_fn fn;
    told *of;
};

static void on_worker(void *arg) { // on its thread: the test's function, with the test's argument
    const auto *w = static_cast<const told_work *>(arg);
    w->fn(w->of->arg);
}

static void on_work(mio_loop_t *loop, int status, void *arg) {
    told *t = static_cast<const told_work *>(arg)->of;
    told_over(t);
    callback_run(t, [=] { cb_of<mio_work_cb>(t)(loop, status, t->arg); });
}

static void on_mark(mio_stream_t *stream, int above, void *arg) {
    told *t = static_cast<told *>(arg);
    callback_run(t, [=] { cb_of<mio_watermark_cb>(t)(stream, above, t->arg); });
}

static void on_detached(mio_stream_t *stream, int status, int fd, mio_buf_t *unread, unsigned n, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    owned_fd(fd, true);
    owned_bufs(unread, n, 1);
    callback_run(t, [=] { cb_of<mio_detach_cb>(t)(stream, status, fd, unread, n, t->arg); });
    owned_bufs(unread, n, -1);
}

static void on_moved(mio_loop_t *loop, int status, mio_stream_t *stream, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    callback_run(t, [=] { cb_of<mio_move_cb>(t)(loop, status, stream, t->arg); });
}

static void on_closed(mio_handle_t *handle, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    for (told *r = records; r != nullptr; r = r->next)
        if (r->handle == handle && r != t && r->taken && !r->over && !r->abandoned && r->when != last::never && !r->leaves)
            run_fail("the close is told before %s", r->what);
    callback_run(t, [=] { cb_of<mio_close_cb>(t)(handle, t->arg); });
}

static void on_accepted(mio_listener_t *listener, int status, mio_stream_t *stream, void *arg) {
    told *t = static_cast<told *>(arg);
    if (t->over) run_fail("%s calls back after its last call", t->what);
    if (status == MIO_ECANCELED || status == MIO_EBADF) told_over(t);
    callback_run(t, [=] { cb_of<mio_listener_cb>(t)(listener, status, stream, t->arg); });
}

static void on_descriptors(mio_stream_t *stream, int status, int *fds, unsigned n, void *arg) {
    told *t = static_cast<told *>(arg);
    callback_run(t, [=] { cb_of<mio_unix_fds_cb>(t)(stream, status, fds, n, t->arg); });
}

static void on_datagram(mio_udp_t *udp, int status, mio_datagram_t *datagram, void *arg) {
    told *t = static_cast<told *>(arg);
    if (t->over) run_fail("%s calls back after its last call", t->what);
    if (status == MIO_ECANCELED || status == MIO_EBADF) told_over(t);
    owned_bufs(&datagram->buf, 1, 1);
    callback_run(t, [=] { cb_of<mio_datagram_cb>(t)(udp, status, datagram, t->arg); });
    owned_bufs(&datagram->buf, 1, -1);
}

// Of a batch one record stands for all: how many calls come is the test's affair.
static void on_datagram_sent(mio_udp_t *udp, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    told *t = static_cast<told *>(arg);
    if (t->when == last::once) told_over(t);
    owned_bufs(bufs, n, 1);
    callback_run(t, [=] { cb_of<mio_datagram_sent_cb>(t)(udp, status, sent, bufs, n, t->arg); });
    owned_bufs(bufs, n, -1);
}

static void on_udp_detached(mio_udp_t *udp, int status, int fd, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    owned_fd(fd, true);
    callback_run(t, [=] { cb_of<mio_udp_detach_cb>(t)(udp, status, fd, t->arg); });
}

static void on_timer(mio_timer_t *timer, void *arg) {
    told *t = static_cast<told *>(arg);
    callback_run(t, [=] { cb_of<mio_timer_cb>(t)(timer, t->arg); });
}

static void on_hook(mio_hook_t *hook, void *arg) {
    told *t = static_cast<told *>(arg);
    callback_run(t, [=] { cb_of<mio_hook_cb>(t)(hook, t->arg); });
}

static void on_wakeup(mio_wakeup_t *wakeup, void *arg) {
    told *t = static_cast<told *>(arg);
    callback_run(t, [=] { cb_of<mio_wakeup_cb>(t)(wakeup, t->arg); });
}

static void on_post(mio_loop_t *loop, int status, void *arg) {
    told *t = static_cast<told *>(arg);
    told_over(t);
    callback_run(t, [=] { cb_of<mio_post_cb>(t)(loop, status, t->arg); });
}

static void on_line(const char *line, void *arg) {
    told *t = static_cast<told *>(arg);
    callback_run(t, [=] { cb_of<mio_dump_cb>(t)(line, t->arg); });
}

static void on_report(const char *backend, int verdict, const char *reason, const char *remedy, void *arg) {
    told *t = static_cast<told *>(arg);
    callback_run(t, [=] { cb_of<mio_backend_report_cb>(t)(backend, verdict, reason, remedy, t->arg); });
}

// --- abandons and the end -------------------------------------------------------------------------------------------

void told_abandon_handle(const mio_handle_t *handle) {
    for (told *t = records; handle != nullptr && t != nullptr; t = t->next)
        if (t->handle == handle && t->taken && !t->over) t->abandoned = true;
}

void told_abandon_request(const mio_loop_t *loop, mio_req_t id) {
    for (told *t = records; t != nullptr; t = t->next)
        if (t->id == id && t->loop == loop && !t->over) t->abandoned = true;
}

void told_examine() {
    for (const told *t = records; t != nullptr; t = t->next) {
        if (!t->taken || t->abandoned || t->over || t->when == last::never) continue;
        run_fail("%s never called back for the last time", t->what);
    }
}

static const mio_loop_t *loop_of(const mio_handle_t *handle) { return handle == nullptr ? nullptr : mio_handle_loop(handle); }

// --- for starts elsewhere -------------------------------------------------------------------------------------------

void *told_once(const char *what, void (*cb)(), void *arg, const mio_loop_t *loop) {
    return told_new(what, last::once, cb, arg, loop, nullptr);
}
mio_req_t told_taken(void *record, mio_req_t result) { return told_started(static_cast<told *>(record), result); }
void told_call(void *record, void (*body)(void (*cb)(), void *arg, const void *with), const void *with) {
    told *t = static_cast<told *>(record);
    told_over(t);
    callback_run(t, [=] { body(t->cb, t->arg, with); });
}

}

using namespace inject;

extern "C" {

// --- reading --------------------------------------------------------------------------------------------------------

mio_req_t WRAPPED(mio_stream_read_start)(mio_stream_t *stream, unsigned flags, mio_read_cb cb, void *arg) {
    inside_call here("mio_stream_read_start");
    if (cb == nullptr) return mio_stream_read_start(stream, flags, cb, arg);
    told *t = told_new("a continuous read", last::error, cb, arg, loop_of(stream), stream);
    return told_started(t, mio_stream_read_start(stream, flags, on_read, t));
}

// A start that takes one buffer: it is the library's from now on, or still the test's.
#define START_READ(call)                                                                \
    const mio_buf_t given = buf == nullptr ? mio_buf_t() : *buf;                        \
    told *t = told_new("a read", last::once, cb, arg, loop_of(stream), stream);         \
    const mio_req_t id = told_started(t, call);                                         \
    if (id > 0) owned_buf(&given, -1);                                                  \
    return id

mio_req_t WRAPPED(mio_stream_read)(mio_stream_t *stream, mio_buf_t *buf, mio_read_cb cb, void *arg) {
    inside_call here("mio_stream_read");
    if (cb == nullptr) return mio_stream_read(stream, buf, cb, arg);
    START_READ(mio_stream_read(stream, buf, on_read, t));
}
mio_req_t WRAPPED(mio_stream_read_exact)(mio_stream_t *stream, mio_buf_t *buf, size_t n, mio_read_cb cb, void *arg) {
    inside_call here("mio_stream_read_exact");
    if (cb == nullptr) return mio_stream_read_exact(stream, buf, n, cb, arg);
    START_READ(mio_stream_read_exact(stream, buf, n, on_read, t));
}
mio_req_t WRAPPED(mio_stream_read_until)(mio_stream_t *stream, mio_buf_t *buf, const void *delimiter, size_t len,
                                         size_t limit, mio_read_cb cb, void *arg) {
    inside_call here("mio_stream_read_until");
    if (cb == nullptr) return mio_stream_read_until(stream, buf, delimiter, len, limit, cb, arg);
    START_READ(mio_stream_read_until(stream, buf, delimiter, len, limit, on_read, t));
}
int WRAPPED(mio_stream_unread)(mio_stream_t *stream, mio_buf_t *buf) {
    const mio_buf_t given = buf == nullptr ? mio_buf_t() : *buf;
    const int error = mio_stream_unread(stream, buf);
    if (error == 0) owned_buf(&given, -1);
    return error;
}

// --- writing --------------------------------------------------------------------------------------------------------

static mio_req_t write_start(mio_stream_t *stream, mio_buf_t *bufs, unsigned n, unsigned flags, bool flagged,
                             mio_write_cb cb, void *arg) {
    inside_call here("mio_stream_write");
    mio_buf_t given[MIO_BUFS_MAX] = {};
    for (unsigned i = 0; bufs != nullptr && i < n && i < MIO_BUFS_MAX; i++) given[i] = bufs[i];
    told *t = cb == nullptr ? nullptr : told_new("a write", last::once, cb, arg, loop_of(stream), stream);
    const mio_write_cb ours = t == nullptr ? nullptr : on_written;
    const mio_req_t id = flagged ? mio_stream_write_flags(stream, bufs, n, flags, ours, t)
                                 : mio_stream_write(stream, bufs, n, ours, t);
    if (t != nullptr) told_started(t, id);
    if (id > 0) owned_bufs(given, n, -1);
    return id;
}
mio_req_t WRAPPED(mio_stream_write)(mio_stream_t *stream, mio_buf_t *bufs, unsigned n, mio_write_cb cb, void *arg) {
    return write_start(stream, bufs, n, 0, false, cb, arg);
}
mio_req_t WRAPPED(mio_stream_write_flags)(mio_stream_t *stream, mio_buf_t *bufs, unsigned n, unsigned flags,
                                          mio_write_cb cb, void *arg) {
    return write_start(stream, bufs, n, flags, true, cb, arg);
}
mio_req_t WRAPPED(mio_unix_write_fds)(mio_stream_t *stream, mio_buf_t *bufs, unsigned n, int *fds, unsigned nfds,
                                      mio_write_cb cb, void *arg) {
    inside_call here("mio_unix_write_fds");
    mio_buf_t given[MIO_BUFS_MAX] = {};
    int travel[MIO_UNIX_FDS_MAX] = {};
    for (unsigned i = 0; bufs != nullptr && i < n && i < MIO_BUFS_MAX; i++) given[i] = bufs[i];
    for (unsigned i = 0; fds != nullptr && i < nfds && i < MIO_UNIX_FDS_MAX; i++) travel[i] = fds[i];
    told *t = cb == nullptr ? nullptr : told_new("a write", last::once, cb, arg, loop_of(stream), stream);
    const mio_req_t id = mio_unix_write_fds(stream, bufs, n, fds, nfds, t == nullptr ? nullptr : on_written, t);
    if (t != nullptr) told_started(t, id);
    if (id < 0) return id;
    owned_bufs(given, n, -1);
    for (unsigned i = 0; i < nfds; i++) owned_fd(travel[i], false);
    return id;
}
int WRAPPED(mio_unix_take_fds)(mio_stream_t *stream, unsigned most, mio_unix_fds_cb cb, void *arg) {
    inside_call here("mio_unix_take_fds");
    if (cb == nullptr) return mio_unix_take_fds(stream, most, cb, arg);
    told *t = told_new("descriptors", last::never, cb, arg, loop_of(stream), stream);
    const int error = mio_unix_take_fds(stream, most, on_descriptors, t);
    if (error < 0) t->taken = false;
    return error;
}
mio_req_t WRAPPED(mio_stream_shutdown)(mio_stream_t *stream, mio_stream_cb cb, void *arg) {
    inside_call here("mio_stream_shutdown");
    if (cb == nullptr) return mio_stream_shutdown(stream, cb, arg);
    told *t = told_new("a shutdown", last::once, cb, arg, loop_of(stream), stream);
    return told_started(t, mio_stream_shutdown(stream, on_stream, t));
}
int WRAPPED(mio_stream_set_watermarks)(mio_stream_t *stream, size_t low, size_t high, mio_watermark_cb cb, void *arg) {
    if (cb == nullptr) return mio_stream_set_watermarks(stream, low, high, cb, arg);
    told *t = told_new("a watermark", last::never, cb, arg, loop_of(stream), stream);
    const int error = mio_stream_set_watermarks(stream, low, high, on_mark, t);
    if (error < 0) t->taken = false;
    return error;
}

// --- coming, going, moving ------------------------------------------------------------------------------------------

mio_req_t WRAPPED(mio_tcp_connect)(mio_loop_t *loop, const mio_addr_t *addr, const mio_connect_options_t *options,
                                   mio_connect_cb cb, void *arg, mio_stream_t **out) {
    inside_call here("mio_tcp_connect");
    if (cb == nullptr) return mio_tcp_connect(loop, addr, options, cb, arg, out);
    told *t = told_new("a connect", last::once, cb, arg, loop, nullptr);
    const mio_req_t id = told_started(t, mio_tcp_connect(loop, addr, options, on_stream, t, out));
    if (id > 0) t->handle = *out;
    return id;
}
mio_req_t WRAPPED(mio_tcp_connect_host)(mio_loop_t *loop, const char *host, size_t host_len, int port,
                                        const mio_connect_host_options_t *options, mio_connect_host_cb cb, void *arg,
                                        mio_stream_t **out) {
    inside_call here("mio_tcp_connect_host");
    if (cb == nullptr) return mio_tcp_connect_host(loop, host, host_len, port, options, cb, arg, out);
    told *t = told_new("a connect by name", last::once, cb, arg, loop, nullptr);
    const mio_req_t id = told_started(t, mio_tcp_connect_host(loop, host, host_len, port, options, on_host, t, out));
    if (id > 0) t->handle = *out;
    return id;
}
mio_req_t WRAPPED(mio_resolve_host)(mio_loop_t *loop, const char *host, size_t host_len, int port,
                                    const mio_resolve_options_t *options, mio_resolve_cb cb, void *arg) {
    inside_call here("mio_resolve_host");
    if (cb == nullptr) return mio_resolve_host(loop, host, host_len, port, options, cb, arg);
    told *t = told_new("a question", last::once, cb, arg, loop, nullptr);
    return told_started(t, mio_resolve_host(loop, host, host_len, port, options, on_resolved, t));
}
mio_req_t WRAPPED(mio_resolve_addr)(mio_loop_t *loop, const mio_addr_t *addr, uint32_t flags, mio_resolve_addr_cb cb,
                                    void *arg) {
    inside_call here("mio_resolve_addr");
    if (cb == nullptr) return mio_resolve_addr(loop, addr, flags, cb, arg);
    told *t = told_new("a question", last::once, cb, arg, loop, nullptr);
    return told_started(t, mio_resolve_addr(loop, addr, flags, on_names, t));
}
mio_req_t WRAPPED(mio_work_start)(mio_loop_t *loop, const mio_work_options_t *options, mio_work_fn fn, mio_work_cb cb,
                                  void *arg) {
    inside_call here("mio_work_start");
    if (cb == nullptr || fn == nullptr) return mio_work_start(loop, options, fn, cb, arg);
    auto *w = new told_work{fn, told_new("work", last::once, cb, arg, loop, nullptr)};
    return told_started(w->of, mio_work_start(loop, options, on_worker, on_work, w));
}
int WRAPPED(mio_tcp_listen)(mio_loop_t *loop, const char *host, int port, const mio_listen_options_t *options,
                            mio_listener_cb cb, void *arg, mio_listener_t **out) {
    inside_call here("mio_tcp_listen");
    if (cb == nullptr) return mio_tcp_listen(loop, host, port, options, cb, arg, out);
    told *t = told_new("a listener", last::ended, cb, arg, loop, nullptr);
    const int error = mio_tcp_listen(loop, host, port, options, on_accepted, t, out);
    if (error < 0) t->taken = false;
    else t->handle = *out;
    return error;
}
mio_req_t WRAPPED(mio_unix_connect)(mio_loop_t *loop, const char *name, size_t len, const mio_unix_connect_options_t *options,
                                    mio_connect_cb cb, void *arg, mio_stream_t **out) {
    inside_call here("mio_unix_connect");
    if (cb == nullptr) return mio_unix_connect(loop, name, len, options, cb, arg, out);
    told *t = told_new("a connect", last::once, cb, arg, loop, nullptr);
    const mio_req_t id = told_started(t, mio_unix_connect(loop, name, len, options, on_stream, t, out));
    if (id > 0) t->handle = *out;
    return id;
}
int WRAPPED(mio_unix_listen)(mio_loop_t *loop, const char *name, size_t len, const mio_unix_listen_options_t *options,
                             mio_listener_cb cb, void *arg, mio_listener_t **out) {
    inside_call here("mio_unix_listen");
    if (cb == nullptr) return mio_unix_listen(loop, name, len, options, cb, arg, out);
    told *t = told_new("a listener", last::ended, cb, arg, loop, nullptr);
    const int error = mio_unix_listen(loop, name, len, options, on_accepted, t, out);
    if (error < 0) t->taken = false;
    else t->handle = *out;
    return error;
}
int WRAPPED(mio_listener_adopt)(mio_loop_t *loop, int fd, mio_listener_cb cb, void *arg, mio_listener_t **out) {
    inside_call here("mio_listener_adopt");
    if (cb == nullptr) return mio_listener_adopt(loop, fd, cb, arg, out);
    told *t = told_new("a listener", last::ended, cb, arg, loop, nullptr);
    const int error = mio_listener_adopt(loop, fd, on_accepted, t, out);
    if (error < 0) {
        t->taken = false;
        return error;
    }
    t->handle = *out;
    owned_fd(fd, false);
    return 0;
}
mio_req_t WRAPPED(mio_stream_detach)(mio_stream_t *stream, mio_detach_cb cb, void *arg) {
    inside_call here("mio_stream_detach");
    if (cb == nullptr) return mio_stream_detach(stream, cb, arg);
    told *t = told_new("a detach", last::once, cb, arg, loop_of(stream), stream);
    return told_started(t, mio_stream_detach(stream, on_detached, t));
}
mio_req_t WRAPPED(mio_stream_move)(mio_stream_t *stream, mio_remote_t *to, mio_move_cb cb, void *arg) {
    inside_call here("mio_stream_move");
    if (cb == nullptr) return mio_stream_move(stream, to, cb, arg);
    told *t = told_new("a move", last::once, cb, arg, loop_of(stream), stream);
    t->leaves = true;
    return told_started(t, mio_stream_move(stream, to, on_moved, t));
}

// A null callback is legal and is told to nobody.
int WRAPPED(mio_handle_close)(mio_handle_t *handle, mio_close_cb cb, void *arg) {
    inside_call here("mio_handle_close");
    if (cb == nullptr) return mio_handle_close(handle, cb, arg);
    told *t = told_new("a close", last::once, cb, arg, loop_of(handle), handle);
    const int error = mio_handle_close(handle, on_closed, t);
    if (error < 0) t->taken = false;
    return error;
}
int WRAPPED(mio_stream_finish)(mio_stream_t *stream, int64_t within_ns, mio_close_cb cb, void *arg) {
    inside_call here("mio_stream_finish");
    if (cb == nullptr) return mio_stream_finish(stream, within_ns, cb, arg);
    told *t = told_new("a finish", last::once, cb, arg, loop_of(stream), stream);
    const int error = mio_stream_finish(stream, within_ns, on_closed, t);
    if (error < 0) t->taken = false;
    return error;
}
void WRAPPED(mio_handle_abandon)(mio_handle_t *handle) {
    inside_call here("mio_handle_abandon");
    told_abandon_handle(handle);
    mio_handle_abandon(handle);
}
int WRAPPED(mio_req_abandon)(mio_loop_t *loop, mio_req_t id) {
    inside_call here("mio_req_abandon");
    const int error = mio_req_abandon(loop, id);
    if (error == 0) told_abandon_request(loop, id);
    return error;
}

// --- datagrams ------------------------------------------------------------------------------------------------------

mio_req_t WRAPPED(mio_udp_recv_start)(mio_udp_t *udp, mio_datagram_cb cb, void *arg) {
    inside_call here("mio_udp_recv_start");
    if (cb == nullptr) return mio_udp_recv_start(udp, cb, arg);
    told *t = told_new("receiving", last::ended, cb, arg, loop_of(udp), udp);
    return told_started(t, mio_udp_recv_start(udp, on_datagram, t));
}
mio_req_t WRAPPED(mio_udp_send)(mio_udp_t *udp, mio_buf_t *bufs, unsigned n, const mio_addr_t *to, mio_datagram_sent_cb cb,
                                void *arg) {
    inside_call here("mio_udp_send");
    mio_buf_t given[MIO_BUFS_MAX] = {};
    for (unsigned i = 0; bufs != nullptr && i < n && n <= MIO_DATAGRAM_BUFS_MAX; i++) given[i] = bufs[i];
    told *t = cb == nullptr ? nullptr : told_new("a datagram", last::once, cb, arg, loop_of(udp), udp);
    const mio_req_t id = mio_udp_send(udp, bufs, n, to, t == nullptr ? nullptr : on_datagram_sent, t);
    if (t != nullptr) told_started(t, id);
    if (id > 0) owned_bufs(given, n, -1);
    return id;
}
int WRAPPED(mio_udp_send_many)(mio_udp_t *udp, mio_datagram_t *datagrams, unsigned n, mio_datagram_sent_cb cb, void *arg,
                               mio_req_t *ids) {
    inside_call here("mio_udp_send_many");
    told *t = cb == nullptr ? nullptr : told_new("a batch", last::never, cb, arg, loop_of(udp), udp);
    for (unsigned i = 0; datagrams != nullptr && i < n; i++) owned_bufs(&datagrams[i].buf, 1, -1);
    const int error = mio_udp_send_many(udp, datagrams, n, t == nullptr ? nullptr : on_datagram_sent, t, ids);
    for (unsigned i = 0; error < 0 && datagrams != nullptr && i < n; i++) owned_bufs(&datagrams[i].buf, 1, 1);
    if (error < 0 && t != nullptr) t->taken = false;
    return error;
}
mio_req_t WRAPPED(mio_udp_detach)(mio_udp_t *udp, mio_udp_detach_cb cb, void *arg) {
    inside_call here("mio_udp_detach");
    if (cb == nullptr) return mio_udp_detach(udp, cb, arg);
    told *t = told_new("a detach", last::once, cb, arg, loop_of(udp), udp);
    return told_started(t, mio_udp_detach(udp, on_udp_detached, t));
}

// --- timers, hooks, wakeups, posts ----------------------------------------------------------------------------------

int WRAPPED(mio_timer_start)(mio_timer_t *timer, int64_t after_ns, int64_t repeat_ns, mio_timer_cb cb, void *arg) {
    if (cb == nullptr) return mio_timer_start(timer, after_ns, repeat_ns, cb, arg);
    told *t = told_new("a timer", last::never, cb, arg, nullptr, timer);
    return mio_timer_start(timer, after_ns, repeat_ns, on_timer, t);
}
int WRAPPED(mio_timer_start_at)(mio_timer_t *timer, int64_t at_ns, int64_t repeat_ns, mio_timer_cb cb, void *arg) {
    if (cb == nullptr) return mio_timer_start_at(timer, at_ns, repeat_ns, cb, arg);
    told *t = told_new("a timer", last::never, cb, arg, nullptr, timer);
    return mio_timer_start_at(timer, at_ns, repeat_ns, on_timer, t);
}
int WRAPPED(mio_hook_start)(mio_hook_t *hook, mio_hook_cb cb, void *arg) {
    if (cb == nullptr) return mio_hook_start(hook, cb, arg);
    told *t = told_new("a hook", last::never, cb, arg, nullptr, hook);
    return mio_hook_start(hook, on_hook, t);
}
int WRAPPED(mio_wakeup_create)(mio_loop_t *loop, mio_wakeup_cb cb, void *arg, mio_wakeup_t **out) {
    if (cb == nullptr) return mio_wakeup_create(loop, cb, arg, out);
    told *t = told_new("a wakeup", last::never, cb, arg, loop, nullptr);
    const int error = mio_wakeup_create(loop, on_wakeup, t, out);
    if (error == 0) t->handle = *out;
    return error;
}
int WRAPPED(mio_remote_post)(mio_remote_t *remote, mio_post_cb cb, void *arg) {
    if (cb == nullptr) return mio_remote_post(remote, cb, arg);
    told *t = told_new("a post", last::once, cb, arg, nullptr, nullptr);
    const int error = mio_remote_post(remote, on_post, t);
    if (error < 0) t->taken = false;
    return error;
}

// --- diagnosis ------------------------------------------------------------------------------------------------------

int WRAPPED(mio_loop_dump)(const mio_loop_t *loop, mio_dump_cb cb, void *arg) {
    if (cb == nullptr) return mio_loop_dump(loop, cb, arg);
    return mio_loop_dump(loop, on_line, told_new("a dump", last::never, cb, arg, loop, nullptr));
}
int WRAPPED(mio_backend_report)(mio_backend_report_cb cb, void *arg) {
    if (cb == nullptr) return mio_backend_report(cb, arg);
    return mio_backend_report(on_report, told_new("a report", last::never, cb, arg, nullptr, nullptr));
}

}
