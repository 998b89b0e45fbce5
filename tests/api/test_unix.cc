// Unix sockets: names, listening and connecting, pairs, peers. Records are in test_unix_record.cc, descriptors that travel
// in test_unix_fds.cc.
#include "unix.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

using namespace api;

namespace {

struct server {
    mio_listener_t *listener;
    mio_stream_t *stream;
    int accepted, ends, status;
    bool stop;
};

void accepted(mio_listener_t *listener, int status, mio_stream_t *stream, void *arg) {
    if (is_over()) return;
    server *s = static_cast<server *>(arg);
    if (status == MIO_ECANCELED) {
        s->ends++;
        return;
    }
    s->status = status;
    if (status < 0) return;
    assert_is(mio_handle_keep(stream), 0);
    s->accepted++;
    s->stream = stream;
    if (s->stop) mio_loop_stop(mio_handle_loop(listener));
}

void connected(mio_stream_t *stream, int status, void *arg) { stream_told(stream, status, arg); }

}

TEST(unix_listen_and_connect_answer_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_listener_t *listener = nullptr;
    mio_stream_t *stream = nullptr, *other = nullptr;
    auto never = [](mio_listener_t *, int, mio_stream_t *, void *) {};
    assert_is(mio_unix_listen(nullptr, "x", 0, nullptr, never, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_unix_listen(loop, nullptr, 0, nullptr, never, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_unix_listen(loop, "", 0, nullptr, never, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_unix_listen(loop, "\0", 1, nullptr, never, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_unix_listen(loop, "/a\0b", 4, nullptr, never, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_unix_listen(loop, "x", 0, nullptr, nullptr, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_unix_listen(loop, "x", 0, nullptr, never, nullptr, nullptr), MIO_EINVAL);
    mio_unix_listen_options_t options = MIO_UNIX_LISTEN_OPTIONS_INIT;
    options.backlog = -1;
    assert_is(mio_unix_listen(loop, "x", 0, &options, never, nullptr, &listener), MIO_EINVAL);
    options.backlog = 0;
    options.mode = 010000;
    assert_is(mio_unix_listen(loop, "x", 0, &options, never, nullptr, &listener), MIO_EINVAL);
    options.mode = 0;
    options.type = static_cast<enum mio_unix_type>(7);
    assert_is(mio_unix_listen(loop, "x", 0, &options, never, nullptr, &listener), MIO_EINVAL);
    auto told = [](mio_stream_t *, int, void *) {};
    assert_is(mio_unix_connect(nullptr, "x", 0, nullptr, told, nullptr, &stream), MIO_EINVAL);
    assert_is(mio_unix_connect(loop, nullptr, 0, nullptr, told, nullptr, &stream), MIO_EINVAL);
    assert_is(mio_unix_connect(loop, "", 0, nullptr, told, nullptr, &stream), MIO_EINVAL);
    assert_is(mio_unix_connect(loop, "x", 0, nullptr, nullptr, nullptr, &stream), MIO_EINVAL);
    assert_is(mio_unix_connect(loop, "x", 0, nullptr, told, nullptr, nullptr), MIO_EINVAL);
    mio_unix_connect_options_t how = MIO_UNIX_CONNECT_OPTIONS_INIT;
    how.type = static_cast<enum mio_unix_type>(-1);
    assert_is(mio_unix_connect(loop, "x", 0, &how, told, nullptr, &stream), MIO_EINVAL);
    assert_is(mio_unix_pair(nullptr, nullptr, MIO_UNIX_STREAM, &stream, &other), MIO_EINVAL);
    assert_is(mio_unix_pair(loop, nullptr, static_cast<enum mio_unix_type>(9), &stream, &other), MIO_EINVAL);
    assert_is(mio_unix_pair(loop, nullptr, MIO_UNIX_STREAM, nullptr, &other), MIO_EINVAL);
    assert_is(mio_unix_pair(loop, nullptr, MIO_UNIX_STREAM, &stream, nullptr), MIO_EINVAL);
    mio_unix_credentials_t peer;
    assert_is(mio_unix_peer(nullptr, &peer), MIO_EINVAL);
    pair tcp = connect_pair(loop);
    assert_is(mio_unix_peer(tcp.client, &peer), MIO_EINVAL);
    assert_is(mio_unix_pair(loop, nullptr, MIO_UNIX_STREAM, &stream, &other), 0);
    assert_is(mio_unix_peer(stream, nullptr), MIO_EINVAL);
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    assert_is(mio_unix_peer(stream, &peer), MIO_EBADF);
    ck_assert_ptr_null(listener);
}

TEST(a_name_becomes_an_address_and_is_told_by_it) {
    mio_addr_t at = {};
    const char *name = nullptr;
    assert_is(mio_unix_addr("/run/x.sock", 0, &at), 0);
    assert_is(at.u.any.sa_family, AF_UNIX);
    assert_is(mio_unix_name(&at, &name), 11);
    ck_assert_str_eq(name, "/run/x.sock");
    assert_is(mio_unix_addr("\0abc\0d", 6, &at), 0);
    assert_is(mio_unix_name(&at, &name), 6);
    ck_assert_int_eq(memcmp(name, "\0abc\0d", 6), 0);
    assert_is(mio_unix_addr("x", 0, nullptr), MIO_EINVAL);
    assert_is(mio_unix_addr(nullptr, 0, &at), MIO_EINVAL);
    assert_is(mio_unix_name(nullptr, &name), MIO_EINVAL);
    assert_is(mio_unix_name(&at, nullptr), MIO_EINVAL);
    mio_addr_t ip = {};
    assert_is(mio_addr_parse("127.0.0.1", 80, &ip), 0);
    assert_is(mio_unix_name(&ip, &name), MIO_EAFNOSUPPORT);
    at.len = sizeof(sa_family_t); // a socket without a name
    assert_is(mio_unix_name(&at, &name), 0);
}

static void echo_at(const char *name, size_t len) {
    mio_loop_t *loop = loop_open();
    server s = {};
    assert_is(mio_unix_listen(loop, name, len, nullptr, accepted, &s, &s.listener), 0);
    outcome told = {};
    mio_stream_t *client = nullptr;
    ck_assert_int_gt(mio_unix_connect(loop, name, len, nullptr, connected, &told, &client), 0);
    mio_buf_t early = text_buf(loop, "written before it is connected");
    ck_assert_int_gt(mio_stream_write(client, &early, 1, nullptr, nullptr), 0);
    assert_is(told.calls, 0); // never inside the call
    s.stop = true;
    run_to_stop(loop);
    inbox in = {};
    in.is_text = true;
    in.stop_at = 30;
    ck_assert_int_gt(mio_stream_read_start(s.stream, 0, read_into, &in), 0);
    run_to_stop(loop);
    assert_is(told.calls, 1);
    assert_is(told.status, 0);
    ck_assert_str_eq(in.text, "written before it is connected");
    mio_addr_t at = {}, want = {};
    assert_is(mio_unix_addr(name, len, &want), 0);
    assert_is(mio_stream_peer(client, &at), 0);
    assert_is(at.len, want.len);
    ck_assert_int_eq(memcmp(&at.u, &want.u, at.len), 0);
    assert_is(mio_listener_local(s.listener, &at), 0);
    ck_assert_int_eq(memcmp(&at.u, &want.u, want.len), 0);
    assert_is(mio_stream_local(client, &at), 0);
    const char *none;
    assert_is(mio_unix_name(&at, &none), 0);
    mio_unix_credentials_t peer = {};
    assert_is(mio_unix_peer(client, &peer), 0);
    if (on_sim()) {
        assert_is(peer.pid, mio_sim_node(loop) + 1);
    } else {
        assert_is(peer.pid, getpid());
        assert_is(peer.uid, geteuid());
        assert_is(peer.gid, getegid());
    }
    assert_is(mio_handle_close(s.listener, nullptr, nullptr), 0);
    assert_is(mio_handle_close(client, nullptr, nullptr), 0);
    assert_is(mio_handle_close(s.stream, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(s.ends, 1);
}

TEST(a_stream_over_a_path) {
    unix_place place;
    echo_at(place.path, 0);
}

TEST(a_path_of_107_bytes_fits_and_one_of_108_does_not) {
    unix_place place;
    char path[120];
    const size_t n = strlen(place.folder);
    memset(path, 'p', sizeof path);
    memcpy(path, place.folder, n);
    path[n] = '/';
    path[107] = 0;
    echo_at(path, 0);
    place.forget(path);
    mio_loop_t *loop = loop_open();
    mio_listener_t *listener = nullptr;
    mio_stream_t *stream = nullptr;
    auto never = [](mio_listener_t *, int, mio_stream_t *, void *) {};
    auto told = [](mio_stream_t *, int, void *) {};
    path[107] = 'p';
    path[108] = 0;
    assert_is(mio_unix_listen(loop, path, 0, nullptr, never, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_unix_listen(loop, path, 108, nullptr, never, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_unix_connect(loop, path, 0, nullptr, told, nullptr, &stream), MIO_EINVAL);
    ck_assert_ptr_null(listener);
    ck_assert_ptr_null(stream);
}

TEST(an_abstract_name_needs_no_file_and_ends_with_its_listener) {
    char name[108];
    memset(name, 'n', sizeof name);
    const int n = snprintf(name + 1, 40, "libmio-test-%d-", static_cast<int>(getpid()));
    name[0] = 0;
    name[1 + n] = 0; // one of many bytes like the others
    name[50] = 0;
    echo_at(name, 60);
    echo_at(name, 60);
    echo_at(name, 108);
    mio_addr_t at;
    char longer[109] = {};
    longer[1] = 'x';
    assert_is(mio_unix_addr(longer, 109, &at), MIO_EINVAL);
    assert_is(mio_unix_addr(longer, 108, &at), 0);
}

TEST(a_path_stays_until_it_is_unlinked_and_a_stale_one_can_be_taken_over) {
    unix_place place;
    mio_loop_t *loop = loop_open();
    server first = {}, second = {};
    mio_unix_listen_options_t over = MIO_UNIX_LISTEN_OPTIONS_INIT;
    over.unlink_stale = 1;
    assert_is(mio_unix_listen(loop, place.path, 0, nullptr, accepted, &first, &first.listener), 0);
    assert_is(mio_unix_listen(loop, place.path, 0, nullptr, accepted, &second, &second.listener), MIO_EADDRINUSE);
    assert_is(mio_unix_listen(loop, place.path, 0, &over, accepted, &second, &second.listener), MIO_EADDRINUSE);
    ck_assert_ptr_null(second.listener);
    assert_is(mio_handle_close(first.listener, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(mio_unix_listen(loop, place.path, 0, nullptr, accepted, &second, &second.listener), MIO_EADDRINUSE);
    mio_stream_t *client = nullptr;
    outcome told = {};
    ck_assert_int_gt(mio_unix_connect(loop, place.path, 0, nullptr, connected, &told, &client), 0);
    run_to_end(loop);
    assert_is(told.status, MIO_ECONNREFUSED);
    assert_is(mio_handle_close(client, nullptr, nullptr), 0);
    assert_is(mio_unix_listen(loop, place.path, 0, &over, accepted, &second, &second.listener), 0);
    outcome again = {};
    ck_assert_int_gt(mio_unix_connect(loop, place.path, 0, nullptr, connected, &again, &client), 0);
    second.stop = true;
    run_to_stop(loop);
    assert_is(second.accepted, 1);
}

TEST(what_is_no_socket_is_never_removed) {
    KERNEL_ONLY("a simulated world has no files");
    unix_place place;
    mio_loop_t *loop = loop_open();
    const int fd = open(place.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    assert_is(close(fd), 0);
    server s = {};
    mio_unix_listen_options_t over = MIO_UNIX_LISTEN_OPTIONS_INIT;
    over.unlink_stale = 1;
    assert_is(mio_unix_listen(loop, place.path, 0, &over, accepted, &s, &s.listener), MIO_EADDRINUSE);
    assert_is(access(place.path, F_OK), 0);
}

TEST(a_socket_has_the_mode_that_was_asked_for) {
    KERNEL_ONLY("a simulated world has no files");
    unix_place place;
    mio_loop_t *loop = loop_open();
    server s = {};
    mio_unix_listen_options_t options = MIO_UNIX_LISTEN_OPTIONS_INIT;
    options.mode = 0620;
    const mode_t before = umask(077);
    assert_is(mio_unix_listen(loop, place.path, 0, &options, accepted, &s, &s.listener), 0);
    umask(before);
    struct stat about;
    assert_is(stat(place.path, &about), 0);
    assert_is(about.st_mode & 07777, 0620);
}

TEST(a_listen_that_fails_leaves_nothing_behind) {
    KERNEL_ONLY("a simulated world has no folders");
    unix_place place;
    mio_loop_t *loop = loop_open();
    server s = {};
    char path[120];
    snprintf(path, sizeof path, "%s/none/x", place.folder);
    assert_is(mio_unix_listen(loop, path, 0, nullptr, accepted, &s, &s.listener), MIO_ENOENT);
    counting *memory = loop_counting(loop);
    memory->fail_at = 1;
    assert_is(mio_unix_listen(loop, place.path, 0, nullptr, accepted, &s, &s.listener), MIO_ENOMEM);
    memory->fail_at = 0;
    ck_assert_int_ne(access(place.path, F_OK), 0);
    assert_is(mio_unix_listen(loop, place.path, 0, nullptr, accepted, &s, &s.listener), 0);
}

TEST(connects_that_fail_say_why) {
    unix_place place;
    mio_loop_t *loop = loop_open();
    mio_stream_t *stream = nullptr;
    outcome none = {}, type = {};
    ck_assert_int_gt(mio_unix_connect(loop, place.path, 0, nullptr, connected, &none, &stream), 0);
    outcome written = {};
    mio_buf_t waits = text_buf(loop, "waits");
    ck_assert_int_gt(mio_stream_write(stream, &waits, 1, write_told, &written), 0);
    run_to_end(loop);
    assert_is(none.calls, 1);
    assert_is(none.status, MIO_ENOENT);
    assert_is(written.status, MIO_ENOENT);
    assert_is(mio_stream_fd(stream), MIO_ENOTCONN);
    mio_unix_credentials_t peer;
    assert_is(mio_unix_peer(stream, &peer), MIO_ENOTCONN);
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    server s = {};
    assert_is(mio_unix_listen(loop, place.path, 0, nullptr, accepted, &s, &s.listener), 0);
    mio_unix_connect_options_t records = MIO_UNIX_CONNECT_OPTIONS_INIT;
    records.type = MIO_UNIX_SEQPACKET;
    type.stop = true;
    ck_assert_int_gt(mio_unix_connect(loop, place.path, 0, &records, connected, &type, &stream), 0);
    run_to_stop(loop);
    assert_is(type.status, MIO_EPROTOTYPE);
    assert_is(s.accepted, 0);
}

TEST(a_full_backlog_is_told_at_once) {
    unix_abstract at;
    mio_loop_t *loop = loop_open();
    server s = {};
    mio_unix_listen_options_t options = MIO_UNIX_LISTEN_OPTIONS_INIT;
    options.backlog = 1;
    assert_is(mio_unix_listen(loop, at.name, at.len, &options, accepted, &s, &s.listener), 0);
    assert_is(mio_listener_pause(s.listener), 0);
    run_for(loop, MIO_MILLISECOND); // an accept in the kernel has ended
    static outcome told[8];
    memset(told, 0, sizeof told);
    int full = 0;
    for (outcome &one : told) {
        mio_stream_t *stream;
        one.stop = true;
        ck_assert_int_gt(mio_unix_connect(loop, at.name, at.len, nullptr, connected, &one, &stream), 0);
        run_to_stop(loop);
        run_for(loop, 100 * MIO_MILLISECOND / (on_sim() ? 1 : 100));
        if (one.status == MIO_EAGAIN) full++;
        else assert_is(one.status, 0);
    }
    ck_assert_int_ge(full, 1);
    ck_assert_int_lt(full, 8);
    const int came = 8 - full;
    assert_is(mio_listener_resume(s.listener), 0);
    (void)comes(loop, [&] { return s.accepted >= came; });
    assert_is(s.accepted, came);
}

static int connect_told, connect_status;
static void connect_noted(mio_stream_t *, int status, void *) {
    connect_told++;
    connect_status = status;
}

TEST(a_connect_that_ends_early_is_told_once_or_not_at_all) {
    unix_abstract at;
    mio_loop_t *loop = loop_open();
    server s = {};
    assert_is(mio_unix_listen(loop, at.name, at.len, nullptr, accepted, &s, &s.listener), 0);
    mio_stream_t *stream;
    connect_told = 0;
    mio_req_t id = mio_unix_connect(loop, at.name, at.len, nullptr, connect_noted, nullptr, &stream);
    ck_assert_int_gt(id, 0);
    assert_is(mio_req_cancel(loop, id), 0);
    run_for(loop, 50 * MIO_MILLISECOND);
    assert_is(connect_told, 1);
    assert_is(connect_status, MIO_ECANCELED); // it never left
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    id = mio_unix_connect(loop, at.name, at.len, nullptr, connect_noted, nullptr, &stream);
    ck_assert_int_gt(id, 0);
    outcome closed = {};
    assert_is(mio_handle_close(stream, close_told, &closed), 0);
    run_for(loop, 50 * MIO_MILLISECOND);
    assert_is(connect_told, 2);
    assert_is(connect_status, MIO_ECANCELED);
    assert_is(closed.calls, 1);
    id = mio_unix_connect(loop, at.name, at.len, nullptr, connect_noted, nullptr, &stream);
    ck_assert_int_gt(id, 0);
    mio_handle_abandon(stream);
    id = mio_unix_connect(loop, at.name, at.len, nullptr, connect_noted, nullptr, &stream);
    ck_assert_int_gt(id, 0);
    assert_is(mio_req_abandon(loop, id), 0);
    mio_handle_abandon(stream);
    run_for(loop, 50 * MIO_MILLISECOND);
    assert_is(connect_told, 2);
}

TEST(without_memory_nothing_is_taken) {
    unix_abstract at;
    mio_loop_t *loop = loop_open();
    counting *memory = loop_counting(loop);
    mio_stream_t *a = nullptr, *b = nullptr;
    // The slabs are empty: each of the first starts needs memory.
    memory->fail_at = 1;
    memory->fail_on = true;
    assert_is(mio_unix_pair(loop, nullptr, MIO_UNIX_STREAM, &a, &b), MIO_ENOMEM);
    assert_is(mio_unix_connect(loop, at.name, at.len, nullptr, connect_noted, nullptr, &a), MIO_ENOMEM);
    memory->fail_at = 0;
    memory->fail_on = false;
    ck_assert_ptr_null(a);
    for (int nth = 1; nth < 20; nth++) {
        memory->fail_at = nth;
        const int error = mio_unix_pair(loop, nullptr, MIO_UNIX_SEQPACKET, &a, &b);
        memory->fail_at = 0;
        if (error == 0) return;
        assert_is(error, MIO_ENOMEM);
    }
    ck_abort_msg("never enough memory");
}

TEST(a_pair_talks_both_ways_on_one_loop_and_on_two) {
    mio_loop_t *here = loop_open(), *there = loop_open();
    mio_loop_t *const others[] = {here, there};
    for (mio_loop_t *other : others) {
        mio_stream_t *a = nullptr, *b = nullptr;
        assert_is(mio_unix_pair(here, other == here ? nullptr : other, MIO_UNIX_STREAM, &a, &b), 0);
        ck_assert_ptr_eq(mio_handle_loop(b), other);
        inbox to_a = {}, to_b = {};
        ck_assert_int_gt(mio_stream_read_start(a, MIO_READ_NO_AUTOPAUSE, read_into, &to_a), 0);
        ck_assert_int_gt(mio_stream_read_start(b, MIO_READ_NO_AUTOPAUSE, read_into, &to_b), 0);
        mio_buf_t one = pattern_buf(here, 500000, 0), two = pattern_buf(other, 300000, 0);
        ck_assert_int_gt(mio_stream_write(a, &one, 1, nullptr, nullptr), 0);
        ck_assert_int_gt(mio_stream_shutdown(a, nullptr, nullptr), 0);
        ck_assert_int_gt(mio_stream_write(b, &two, 1, nullptr, nullptr), 0);
        ck_assert_int_gt(mio_stream_shutdown(b, nullptr, nullptr), 0);
        const int64_t end_ns = clock_ns() + patience(EVER);
        while (to_a.ends + to_b.ends < 2 && clock_ns() < end_ns) {
            if (on_sim()) {
                mio_sim_run(world(), MIO_MILLISECOND);
                continue;
            }
            assert_ok(mio_loop_run_once(here, 0));
            if (other != here) assert_ok(mio_loop_run_once(there, 0));
        }
        assert_is(to_a.received, 300000);
        assert_is(to_b.received, 500000);
        ck_assert(!to_a.wrong && !to_b.wrong);
        assert_is(to_a.end, MIO_EOF);
        assert_is(to_b.end, MIO_EOF);
        mio_handle_abandon(a);
        mio_handle_abandon(b);
    }
}

TEST(a_pair_of_the_kernel_has_us_for_a_peer) {
    mio_loop_t *loop = loop_open();
    mio_stream_t *a = nullptr, *b = nullptr;
    assert_is(mio_unix_pair(loop, nullptr, MIO_UNIX_STREAM, &a, &b), 0);
    mio_unix_credentials_t peer = {};
    assert_is(mio_unix_peer(a, &peer), 0);
    if (!on_sim()) {
        assert_is(peer.pid, getpid());
        assert_is(peer.uid, geteuid());
    }
    assert_is(mio_handle_close(b, nullptr, nullptr), 0);
    inbox in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(a, 0, read_into, &in), 0);
    run_to_stop(loop);
    assert_is(in.end, MIO_EOF);
}
