// A GMainContext on a loop: its sources of all kinds, and what they may do to each other, to the loop and to the adapter.
#include <mio/adapters/glib.h>

#include "harness.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

using namespace api;

#if defined(__SANITIZE_THREAD__)
static const bool thread_sanitizer = true;
#elif defined(__has_feature)
static const bool thread_sanitizer = __has_feature(thread_sanitizer);
#else
static const bool thread_sanitizer = false;
#endif

struct guest {
    mio_loop_t *loop;
    GMainContext *context;
    mio_glib_t *glib;
};

static guest *guest_open() {
    auto *w = new guest();
    w->loop = loop_open();
    w->context = g_main_context_new();
    assert_is(mio_glib_open(w->loop, w->context, &w->glib), 0);
    return w;
}

static void guest_close(guest *w) {
    mio_glib_close(w->glib);
    g_main_context_unref(w->context);
    if (w->loop != nullptr) loop_close(w->loop);
    delete w;
}

static GSource *add(guest *w, GSource *source, GSourceFunc call, void *arg) {
    g_source_set_callback(source, call, arg, nullptr);
    g_source_attach(source, w->context);
    g_source_unref(source); // the context has it
    return source;
}

static GSource *add_fd(guest *w, int fd, GIOCondition condition, GUnixFDSourceFunc call, void *arg) {
    return add(w, g_unix_fd_source_new(fd, condition), reinterpret_cast<GSourceFunc>(reinterpret_cast<void (*)()>(call)), arg);
}

static gboolean stop_loop(void *arg) {
    mio_loop_stop(static_cast<guest *>(arg)->loop);
    return G_SOURCE_REMOVE;
}

TEST(opening_answers_each_mistake) {
    KERNEL_ONLY("GLib has descriptors of its own");
    mio_loop_t *loop = loop_open();
    mio_glib_t *glib = nullptr;
    GMainContext *context = g_main_context_new();
    assert_is(mio_glib_open(nullptr, context, &glib), MIO_EINVAL);
    assert_is(mio_glib_open(loop, context, nullptr), MIO_EINVAL);
    mio_glib_close(nullptr);
    assert_is(mio_glib_open(loop, context, &glib), 0);
    run_for(loop, 5 * MIO_MILLISECOND);
    mio_glib_close(glib);
    run_to_end(loop);
    assert_is(mio_glib_open(loop, context, &glib), 0); // and again
    mio_glib_close(glib);
    g_main_context_unref(context);
}

TEST(a_context_that_another_thread_has_is_refused) {
    KERNEL_ONLY("GLib has descriptors of its own");
    if (thread_sanitizer) SKIP("GLib's locks are unknown to the thread sanitizer");
    mio_loop_t *loop = loop_open();
    static GMainContext *context;
    static int there[2], back[2];
    context = g_main_context_new();
    assert_is(pipe(there), 0);
    assert_is(pipe(back), 0);
    GThread *thread = g_thread_new("owner", [](void *) -> void * {
        char byte = 0;
        ck_assert_int_ne(g_main_context_acquire(context), 0);
        ck_assert_int_eq(write(there[1], "x", 1), 1);
        ck_assert_int_eq(read(back[0], &byte, 1), 1);
        g_main_context_release(context);
        return nullptr;
    }, nullptr);
    mio_glib_t *glib;
    char byte;
    assert_is(read(there[0], &byte, 1), 1); // it has it, until it is told
    assert_is(mio_glib_open(loop, context, &glib), MIO_EBUSY);
    assert_is(write(back[1], "x", 1), 1);
    g_thread_join(thread);
    assert_is(mio_glib_open(loop, context, &glib), 0);
    mio_glib_close(glib);
    for (int i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
    g_main_context_unref(context);
}

TEST(time_outs_and_idle_sources_run_and_the_loop_sleeps) {
    KERNEL_ONLY("GLib has descriptors of its own");
    guest *w = guest_open();
    static int ticks, idles;
    ticks = idles = 0;
    add(w, g_idle_source_new(), [](void *) -> gboolean { return ++idles < 3; }, nullptr);
    add(w, g_timeout_source_new(20), [](void *arg) -> gboolean {
        if (++ticks < 5) return G_SOURCE_CONTINUE;
        return stop_loop(arg);
    }, w);
    const int64_t begun_ns = clock_ns();
    run_to_stop(w->loop);
    ck_assert_int_ge(clock_ns() - begun_ns, 99 * MIO_MILLISECOND);
    assert_is(idles, 3);
    assert_is(ticks, 5);
    ck_assert_uint_lt(metrics(w->loop).turns, 100);
    guest_close(w);
}

TEST(a_source_attached_by_a_callback_of_the_loop_is_seen) {
    KERNEL_ONLY("GLib has descriptors of its own");
    guest *w = guest_open();
    mio_timer_t *timer;
    assert_is(mio_timer_create(w->loop, &timer), 0);
    assert_is(mio_timer_start(timer, 20 * MIO_MILLISECOND, 0, [](mio_timer_t *, void *arg) {
        add(static_cast<guest *>(arg), g_idle_source_new(), stop_loop, arg);
    }, w), 0);
    run_to_stop(w->loop);
    guest_close(w);
}

static gboolean take_byte(int fd, GIOCondition condition, void *arg) {
    ck_assert_int_ne(condition & (G_IO_IN | G_IO_HUP), 0);
    char byte;
    if (read(fd, &byte, 1) == 1) (*static_cast<std::string *>(arg)) += byte;
    return G_SOURCE_CONTINUE;
}

TEST(descriptors_are_told_by_level) {
    KERNEL_ONLY("GLib has descriptors of its own");
    guest *w = guest_open();
    int fds[2];
    std::string got;
    assert_is(pipe(fds), 0);
    GSource *source = add_fd(w, fds[0], G_IO_IN, take_byte, &got);
    assert_is(write(fds[1], "hello", 5), 5);
    while (got.size() < 5) assert_ok(mio_loop_run_once(w->loop, MIO_SECOND));
    ck_assert_str_eq(got.c_str(), "hello");
    const int64_t begun_ns = clock_ns(); // and then it sleeps
    int turns = 0;
    for (; clock_ns() - begun_ns < 100 * MIO_MILLISECOND; turns++) assert_ok(mio_loop_run_once(w->loop, 50 * MIO_MILLISECOND));
    ck_assert_int_lt(turns, 20);
    g_source_destroy(source);
    close(fds[0]);
    close(fds[1]);
    guest_close(w);
}

TEST(two_sources_of_one_descriptor) {
    KERNEL_ONLY("GLib has descriptors of its own");
    guest *w = guest_open();
    static int readable, writable;
    int fds[2];
    readable = writable = 0;
    assert_is(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    add_fd(w, fds[0], G_IO_OUT, [](int fd, GIOCondition, void *) -> gboolean {
        writable++;
        assert_is(write(fd, "x", 1), 1);
        return G_SOURCE_REMOVE;
    }, nullptr);
    GSource *source = add_fd(w, fds[0], G_IO_IN, [](int, GIOCondition, void *arg) -> gboolean {
        readable++;
        return stop_loop(arg);
    }, w);
    g_source_set_priority(source, G_PRIORITY_LOW); // so that GLib names the descriptor twice
    char byte;
    while (recv(fds[1], &byte, 1, MSG_DONTWAIT) != 1) assert_ok(mio_loop_run_once(w->loop, MIO_SECOND));
    assert_is(write(fds[1], "y", 1), 1);
    run_to_stop(w->loop);
    assert_is(readable, 1);
    assert_is(writable, 1);
    close(fds[0]);
    close(fds[1]);
    guest_close(w);
}

// A source goes, its descriptor is closed, and the next one gets the number, while a duplicate keeps the old file open: what
// the kernel was told of the number before must not count.
static void reuse(bool by_the_loop) {
    guest *w = guest_open();
    static struct {
        guest *w;
        int fds[2], dup;
        GSource *source;
        std::string got;
    } one;
    one = {w, {-1, -1}, -1, nullptr, ""};
    assert_is(pipe(one.fds), 0);
    one.source = add_fd(w, one.fds[0], G_IO_IN, take_byte, &one.got);
    for (int i = 0; i < 3; i++) assert_ok(mio_loop_run_once(w->loop, 5 * MIO_MILLISECOND)); // watched
    const auto change = [] {
        const int number = one.fds[0];
        one.dup = dup(number);
        g_source_destroy(one.source);
        close(one.fds[0]);
        close(one.fds[1]);
        assert_is(pipe(one.fds), 0);
        assert_is(one.fds[0], number);
        one.source = add_fd(one.w, number, G_IO_IN, take_byte, &one.got);
    };
    if (by_the_loop) {
        static void (*call)();
        call = change;
        assert_is(mio_remote_post(mio_loop_remote(w->loop), [](mio_loop_t *, int, void *) { call(); }, nullptr), 0);
    } else {
        static void (*call)();
        call = change;
        add(w, g_idle_source_new(), [](void *) -> gboolean {
            call();
            return G_SOURCE_REMOVE;
        }, nullptr);
    }
    for (int i = 0; i < 5; i++) assert_ok(mio_loop_run_once(w->loop, 5 * MIO_MILLISECOND));
    assert_is(write(one.fds[1], "new", 3), 3);
    const int64_t begun_ns = clock_ns();
    while (one.got.size() < 3 && clock_ns() - begun_ns < patience(5 * MIO_SECOND))
        assert_ok(mio_loop_run_once(w->loop, MIO_SECOND));
    ck_assert_str_eq(one.got.c_str(), "new");
    g_source_destroy(one.source);
    close(one.fds[0]);
    close(one.fds[1]);
    close(one.dup);
    guest_close(w);
}

TEST(a_number_comes_again_in_a_source) {
    KERNEL_ONLY("GLib has descriptors of its own");
    reuse(false);
}

TEST(a_number_comes_again_in_a_callback_of_the_loop) {
    KERNEL_ONLY("GLib has descriptors of its own");
    reuse(true);
}

TEST(other_threads_attach_sources) {
    KERNEL_ONLY("GLib has descriptors of its own");
    if (thread_sanitizer) SKIP("GLib's locks are unknown to the thread sanitizer");
    guest *w = guest_open();
    GThread *thread = g_thread_new("guest", [](void *arg) -> void * {
        sleep_ns(30 * MIO_MILLISECOND); // the loop sleeps by then, most likely
        add(static_cast<guest *>(arg), g_idle_source_new(), stop_loop, arg);
        return nullptr;
    }, w);
    run_to_stop(w->loop);
    g_thread_join(thread);
    guest_close(w);
}

TEST(the_adapter_is_closed_in_a_source) {
    KERNEL_ONLY("GLib has descriptors of its own");
    guest *w = guest_open();
    static int after;
    after = 0;
    add(w, g_idle_source_new(), [](void *arg) -> gboolean {
        auto *mine = static_cast<guest *>(arg);
        mio_glib_close(mine->glib);
        mine->glib = nullptr;
        return G_SOURCE_REMOVE;
    }, w);
    add(w, g_timeout_source_new(10), [](void *) -> gboolean {
        after++;
        return G_SOURCE_CONTINUE;
    }, nullptr);
    run_to_end(w->loop);
    ck_assert_ptr_null(w->glib);
    run_for(w->loop, 30 * MIO_MILLISECOND);
    assert_is(after, 0); // the context is nobody's
    assert_is(g_main_context_acquire(w->context), TRUE);
    g_main_context_release(w->context);
    guest_close(w);
}

struct closing_source {
    GSource source;
    guest *mine;
    int asked;
};

static void close_at_the_third(closing_source *s) {
    if (++s->asked < 3 || s->mine->glib == nullptr) return;
    mio_glib_close(s->mine->glib);
    s->mine->glib = nullptr;
}

// A GSource of a program's own, whose prepare or check closes the adapter.
static void closed_by(GSourceFuncs *funcs) {
    guest *w = guest_open();
    GSource *source = g_source_new(funcs, sizeof(closing_source));
    reinterpret_cast<closing_source *>(source)->mine = w;
    g_source_attach(source, w->context);
    g_source_unref(source);
    add(w, g_timeout_source_new(1), [](void *) -> gboolean { return G_SOURCE_CONTINUE; }, nullptr);
    run_to_end(w->loop);
    ck_assert_ptr_null(w->glib);
    guest_close(w);
}

static gboolean never(GSource *, GSourceFunc, void *) { return G_SOURCE_CONTINUE; }

TEST(the_adapter_is_closed_in_a_prepare) {
    KERNEL_ONLY("GLib has descriptors of its own");
    static GSourceFuncs funcs = {};
    funcs.prepare = [](GSource *source, gint *timeout_ms) -> gboolean {
        *timeout_ms = -1;
        close_at_the_third(reinterpret_cast<closing_source *>(source));
        return FALSE;
    };
    funcs.dispatch = never;
    closed_by(&funcs);
}

TEST(the_adapter_is_closed_in_a_check) {
    KERNEL_ONLY("GLib has descriptors of its own");
    static GSourceFuncs funcs = {};
    funcs.check = [](GSource *source) -> gboolean {
        close_at_the_third(reinterpret_cast<closing_source *>(source));
        return FALSE;
    };
    funcs.dispatch = never;
    closed_by(&funcs);
}

// The adapter's reference is the last but the program's, which goes with it: GLib is still under way in the context.
TEST(the_context_goes_in_a_source) {
    KERNEL_ONLY("GLib has descriptors of its own");
    auto *w = new guest();
    w->loop = loop_open();
    w->context = g_main_context_new();
    assert_is(mio_glib_open(w->loop, w->context, &w->glib), 0);
    add(w, g_idle_source_new(), [](void *arg) -> gboolean {
        auto *mine = static_cast<guest *>(arg);
        mio_glib_close(mine->glib);
        g_main_context_unref(mine->context);
        mine->glib = nullptr;
        return G_SOURCE_REMOVE;
    }, w);
    run_to_end(w->loop);
    ck_assert_ptr_null(w->glib);
    loop_close(w->loop);
    delete w;
}

TEST(a_source_iterates_its_context_itself) {
    KERNEL_ONLY("GLib has descriptors of its own");
    guest *w = guest_open();
    static int inner;
    inner = 0;
    add(w, g_timeout_source_new(1), [](void *) -> gboolean { return ++inner < 3; }, nullptr);
    add(w, g_idle_source_new(), [](void *arg) -> gboolean {
        while (inner < 3) g_main_context_iteration(static_cast<guest *>(arg)->context, TRUE);
        return stop_loop(arg);
    }, w);
    run_to_stop(w->loop);
    assert_is(inner, 3);
    guest_close(w);
}

TEST(the_loop_goes_first) {
    KERNEL_ONLY("GLib has descriptors of its own");
    guest *w = guest_open();
    int fds[2];
    std::string got;
    assert_is(pipe(fds), 0);
    GSource *source = add_fd(w, fds[0], G_IO_IN, take_byte, &got);
    for (int i = 0; i < 3; i++) assert_ok(mio_loop_run_once(w->loop, 5 * MIO_MILLISECOND));
    loop_close(w->loop);
    w->loop = nullptr;
    mio_glib_close(w->glib);
    w->glib = nullptr;
    // The context is whole: GLib may iterate it itself.
    assert_is(write(fds[1], "x", 1), 1);
    while (got.empty()) g_main_context_iteration(w->context, TRUE);
    g_source_destroy(source);
    close(fds[0]);
    close(fds[1]);
    guest_close(w);
}

// A descriptor that is a poll's of the same loop cannot be watched twice.
TEST(what_cannot_be_watched_is_looked_at) {
    KERNEL_ONLY("GLib has descriptors of its own");
    guest *w = guest_open();
    int fds[2];
    std::string got;
    mio_poll_t *other;
    assert_is(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_is(mio_poll_open(w->loop, fds[0], &other), 0);
    assert_is(mio_poll_set(other, MIO_POLL_PRI, [](mio_poll_t *, int, unsigned, void *) {}, nullptr), 0);
    assert_ok(mio_loop_run_once(w->loop, 0));
    GSource *source = add_fd(w, fds[0], G_IO_IN, take_byte, &got);
    for (int i = 0; i < 5; i++) assert_ok(mio_loop_run_once(w->loop, 20 * MIO_MILLISECOND));
    assert_is(write(fds[1], "abc", 3), 3);
    const uint64_t turns = metrics(w->loop).turns;
    while (got.size() < 3) assert_ok(mio_loop_run_once(w->loop, MIO_SECOND));
    ck_assert_uint_lt(metrics(w->loop).turns - turns, 1000);
    g_source_destroy(source);
    mio_handle_abandon(other);
    close(fds[0]);
    close(fds[1]);
    guest_close(w);
}

TEST(many_descriptors_come_and_go) {
    KERNEL_ONLY("GLib has descriptors of its own");
    guest *w = guest_open();
    constexpr int N = 40;
    static std::string got[N];
    int fds[N][2];
    GSource *sources[N];
    for (int i = 0; i < N; i++) {
        got[i].clear();
        assert_is(pipe(fds[i]), 0);
        sources[i] = add_fd(w, fds[i][0], G_IO_IN, take_byte, &got[i]);
    }
    assert_ok(mio_loop_run_once(w->loop, 0));
    for (int i = 0; i < N; i++) {
        assert_is(write(fds[i][1], "ab", 2), 2);
        while (got[i].size() < 2) assert_ok(mio_loop_run_once(w->loop, MIO_SECOND));
        g_source_destroy(sources[i]);
        close(fds[i][0]);
        close(fds[i][1]);
    }
    run_for(w->loop, 5 * MIO_MILLISECOND);
    guest_close(w);
}
