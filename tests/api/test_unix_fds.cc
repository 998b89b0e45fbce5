// Descriptors that travel: none lost, none left open, each told of once; whatever becomes of the write, of the stream, and
// of whoever should take them. That none is left open is what the harness looks at when a test is over.
#include "unix.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

namespace {

constexpr unsigned MOST = MIO_UNIX_FDS_MAX;
#define PASSING_ONLY KERNEL_ONLY("a simulated world passes no descriptors")

struct duo {
    mio_stream_t *a, *b;
};

duo open_pair(mio_loop_t *loop, enum mio_unix_type type = MIO_UNIX_STREAM) {
    duo d = {};
    assert_is(mio_unix_pair(loop, nullptr, type, &d.a, &d.b), 0);
    return d;
}

// Reading ends of one pipe, so that each is known again by its inode.
struct pile {
    int fds[MOST];
    ino_t inode;
};
void pile_make(pile *p, unsigned n) {
    int ends[2];
    assert_is(pipe2(ends, O_CLOEXEC), 0);
    struct stat about;
    assert_is(fstat(ends[0], &about), 0);
    p->inode = about.st_ino;
    p->fds[0] = ends[0];
    assert_is(close(ends[1]), 0);
    for (unsigned i = 1; i < n; i++) {
        p->fds[i] = dup(ends[0]);
        ck_assert_int_ge(p->fds[i], 0);
    }
}
void pile_close(pile *p, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        if (p->fds[i] >= 0) assert_is(close(p->fds[i]), 0);
}

struct taker {
    int calls, status;
    unsigned n, most_at_once;
    uint64_t bytes_before; // of the stream, that were read when they came
    ino_t inode;           // 0: do not look
    inbox in;
    bool stop, keeps, abandons, closes;
};

void take(mio_stream_t *stream, int status, int *fds, unsigned n, void *arg) {
    if (is_over()) return;
    taker *t = static_cast<taker *>(arg);
    t->calls++;
    t->status = status;
    t->n += n;
    if (n > t->most_at_once) t->most_at_once = n;
    t->bytes_before = t->in.received;
    for (unsigned i = 0; i < n; i++) {
        struct stat about;
        assert_is(fstat(fds[i], &about), 0);
        if (t->inode != 0) assert_is(about.st_ino, t->inode);
        assert_is(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        if (!t->keeps) continue; // the library closes it
        assert_is(close(fds[i]), 0);
        fds[i] = -1;
    }
    if (t->stop) mio_loop_stop(mio_handle_loop(stream));
    if (t->closes) assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    if (t->abandons) mio_handle_abandon(stream);
}

mio_req_t send_pile(mio_loop_t *loop, mio_stream_t *to, pile *p, unsigned n, size_t bytes, uint64_t offset, outcome *told) {
    mio_buf_t buf = pattern_buf(loop, bytes, offset);
    const mio_req_t id = mio_unix_write_fds(to, &buf, 1, p->fds, n, told == nullptr ? nullptr : write_told, told);
    if (id > 0) {
        for (unsigned i = 0; i < n; i++) assert_is(p->fds[i], -1);
    } else {
        mio_buf_release(&buf);
    }
    return id;
}

}

TEST(passing_descriptors_answers_each_mistake) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    pair tcp = connect_pair(loop);
    pile p;
    pile_make(&p, 2);
    mio_buf_t buf = text_buf(loop, "x");
    assert_is(mio_unix_write_fds(nullptr, &buf, 1, p.fds, 1, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_unix_write_fds(tcp.client, &buf, 1, p.fds, 1, nullptr, nullptr), MIO_ENOTSUP);
    assert_is(mio_unix_write_fds(d.a, nullptr, 1, p.fds, 1, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_unix_write_fds(d.a, &buf, 1, nullptr, 1, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_unix_write_fds(d.a, &buf, 1, p.fds, 0, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_unix_write_fds(d.a, &buf, 1, p.fds, MOST + 1, nullptr, nullptr), MIO_EINVAL);
    mio_buf_t empty = buf;
    empty.len = 0;
    assert_is(mio_unix_write_fds(d.a, &empty, 1, p.fds, 1, nullptr, nullptr), MIO_EINVAL);
    int negative[] = {p.fds[0], -1};
    assert_is(mio_unix_write_fds(d.a, &buf, 1, negative, 2, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_unix_take_fds(nullptr, 1, take, nullptr), MIO_EINVAL);
    assert_is(mio_unix_take_fds(d.a, 0, take, nullptr), MIO_EINVAL);
    assert_is(mio_unix_take_fds(d.a, MOST + 1, take, nullptr), MIO_EINVAL);
    assert_is(mio_unix_take_fds(tcp.client, 1, take, nullptr), MIO_ENOTSUP);
    ck_assert_int_gt(mio_stream_shutdown(d.a, nullptr, nullptr), 0);
    assert_is(mio_unix_write_fds(d.a, &buf, 1, p.fds, 1, nullptr, nullptr), MIO_EPIPE);
    assert_is(mio_handle_close(d.a, nullptr, nullptr), 0);
    assert_is(mio_unix_write_fds(d.a, &buf, 1, p.fds, 1, nullptr, nullptr), MIO_EBADF);
    assert_is(mio_unix_take_fds(d.a, 1, take, nullptr), MIO_EBADF);
    mio_buf_release(&buf);
    pile_close(&p, 2); // all still ours
}

TEST(a_simulated_world_says_that_it_passes_none) {
    SIM_ONLY("kernels do");
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    mio_buf_t buf = text_buf(loop, "x");
    int fd = 7;
    assert_is(mio_unix_write_fds(d.a, &buf, 1, &fd, 1, nullptr, nullptr), MIO_ENOTSUP);
    assert_is(mio_unix_take_fds(d.a, 1, take, nullptr), MIO_ENOTSUP);
    assert_is(fd, 7);
    mio_buf_release(&buf);
}

TEST(without_memory_descriptors_stay_ours) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    pile p;
    pile_make(&p, 3);
    counting *memory = loop_counting(loop);
    for (int nth = 1; nth < 20; nth++) {
        mio_buf_t buf = text_buf(loop, "x");
        memory->fail_at = nth;
        const mio_req_t id = mio_unix_write_fds(d.a, &buf, 1, p.fds, 3, nullptr, nullptr);
        memory->fail_at = 0;
        mio_buf_release(&buf);
        if (id > 0) break;
        assert_is(id, MIO_ENOMEM);
        ck_assert_int_ge(p.fds[0], 0);
    }
    assert_is(p.fds[2], -1);
    for (int nth = 1; nth < 20; nth++) {
        memory->fail_at = nth;
        const int error = mio_unix_take_fds(d.b, 3, take, nullptr);
        memory->fail_at = 0;
        if (error == 0) return;
        assert_is(error, MIO_ENOMEM);
    }
    ck_abort_msg("never enough memory");
}

TEST(as_many_as_the_system_takes_travel_at_once_and_are_told_before_their_byte) {
    PASSING_ONLY;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 3 * MOST) SKIP("too few descriptors allowed");
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    pile p;
    pile_make(&p, MOST);
    taker t = {};
    t.inode = p.inode;
    t.in.stop_at = 2000;
    assert_is(mio_unix_take_fds(d.b, MOST, take, &t), 0);
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &t.in), 0);
    mio_buf_t first = pattern_buf(loop, 1000, 0);
    ck_assert_int_gt(mio_stream_write(d.a, &first, 1, nullptr, nullptr), 0);
    outcome told = {};
    ck_assert_int_gt(send_pile(loop, d.a, &p, MOST, 1000, 1000, &told), 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(t.calls, 1);
    assert_is(t.status, 0);
    assert_is(t.n, MOST);
    ck_assert_uint_le(t.bytes_before, 1000);
    assert_is(told.status, 0);
    assert_is(told.sent, 1000);
    ck_assert(!t.in.wrong);
}

TEST(each_message_ends_a_receive_and_none_is_forgotten) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    taker t = {};
    t.keeps = true;
    constexpr int ROUNDS = 20;
    t.in.stop_at = ROUNDS * 30;
    assert_is(mio_unix_take_fds(d.b, 4, take, &t), 0);
    // All of it lies in the socket before the first read: a read stops behind each message (no edge comes for the rest).
    for (int i = 0; i < ROUNDS; i++) {
        pile p;
        pile_make(&p, 2);
        ck_assert_int_gt(send_pile(loop, d.a, &p, 2, 10, static_cast<uint64_t>(i) * 30, nullptr), 0);
        mio_buf_t between = pattern_buf(loop, 20, static_cast<uint64_t>(i) * 30 + 10);
        ck_assert_int_gt(mio_stream_write(d.a, &between, 1, nullptr, nullptr), 0);
    }
    run_for(loop, 2 * MIO_MILLISECOND);
    assert_is(mio_stream_queued_bytes(d.a), 0);
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &t.in), 0);
    run_to_stop(loop);
    assert_is(t.calls, ROUNDS);
    assert_is(t.n, 2 * ROUNDS);
    assert_is(t.most_at_once, 2);
    ck_assert(!t.in.wrong);
}

TEST(a_reader_that_takes_none_does_not_stall_at_them) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    inbox in = {};
    in.stop_at = 10 * 110;
    for (int i = 0; i < 10; i++) {
        pile p;
        pile_make(&p, 1);
        ck_assert_int_gt(send_pile(loop, d.a, &p, 1, 100, static_cast<uint64_t>(i) * 110, nullptr), 0);
        mio_buf_t between = pattern_buf(loop, 10, static_cast<uint64_t>(i) * 110 + 100);
        ck_assert_int_gt(mio_stream_write(d.a, &between, 1, nullptr, nullptr), 0);
    }
    run_for(loop, 2 * MIO_MILLISECOND);
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &in), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
}

TEST(one_shot_reads_get_them_too) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    taker t = {};
    assert_is(mio_unix_take_fds(d.b, 9, take, &t), 0);
    mio_buf_t room = {};
    assert_is(mio_buf_alloc(loop, 100, &room), 0);
    outcome told = {};
    told.stop = true;
    ck_assert_int_gt(mio_stream_read_exact(d.b, &room, 30, read_told, &told), 0);
    for (int i = 0; i < 3; i++) {
        pile p;
        pile_make(&p, 3);
        ck_assert_int_gt(send_pile(loop, d.a, &p, 3, 10, 0, nullptr), 0);
    }
    run_to_stop(loop);
    assert_is(told.status, 30);
    assert_is(t.calls, 3);
    assert_is(t.n, 9);
}

// What the kernel wrote into a read's buffer is that read's, whatever is done to it where the descriptors are told.
TEST(a_read_that_is_cancelled_at_its_descriptors_has_its_bytes) {
    PASSING_ONLY;
    for (int type = 0; type < 2; type++) {
        mio_loop_t *loop = loop_open();
        duo d = open_pair(loop, type == 0 ? MIO_UNIX_STREAM : MIO_UNIX_SEQPACKET);
        static mio_req_t first_id;
        static int calls, cancelled;
        calls = cancelled = 0;
        assert_is(mio_unix_take_fds(d.b, 1, [](mio_stream_t *stream, int, int *, unsigned, void *) {
            if (is_over()) return;
            calls++;
            cancelled = mio_req_cancel(mio_handle_loop(stream), first_id);
        }, nullptr), 0);
        mio_buf_t rooms[2] = {};
        assert_is(mio_buf_alloc(loop, 16, &rooms[0]), 0);
        assert_is(mio_buf_alloc(loop, 1, &rooms[1]), 0);
        rooms[0].cap = 16;
        rooms[1].cap = 1;
        outcome first = {}, second = {};
        first.stop = true;
        first_id = mio_stream_read(d.b, &rooms[0], read_told, &first);
        ck_assert_int_gt(first_id, 0);
        ck_assert_int_gt(mio_stream_read(d.b, &rooms[1], read_told, &second), 0);
        run_for(loop, MIO_MILLISECOND);
        pile p;
        pile_make(&p, 1);
        ck_assert_int_gt(send_pile(loop, d.a, &p, 1, 10, 0, nullptr), 0);
        run_to_stop(loop);
        assert_is(calls, 1);
        assert_is(cancelled, MIO_EALREADY);
        assert_is(first.status, 10);
        assert_is(first.len, 10);
        run_for(loop, MIO_MILLISECOND);
        assert_is(second.calls, 0); // it still waits
        loop_close(loop);
    }
}

TEST(they_leave_with_the_first_byte_of_a_write_that_goes_in_pieces) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    pile p;
    pile_make(&p, 5);
    taker t = {};
    t.inode = p.inode;
    t.in.stop_at = NARROW_ROOM + 100;
    outcome told = {};
    assert_is(mio_unix_take_fds(d.b, 5, take, &t), 0);
    mio_buf_t first = pattern_buf(loop, 100, 0);
    ck_assert_int_gt(mio_stream_write(d.a, &first, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(send_pile(loop, d.a, &p, 5, NARROW_ROOM, 100, &told), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told.calls, 0); // the rest waits for room
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &t.in), 0);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(t.calls, 1); // not once more with a later piece
    assert_is(t.n, 5);
    ck_assert_uint_le(t.bytes_before, 100);
    assert_is(told.status, 0);
    assert_is(told.sent, NARROW_ROOM);
    ck_assert(!t.in.wrong);
}

TEST(writes_that_end_early_close_theirs) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 5; how++) {
        duo d = open_pair(loop);
        pile first, second;
        pile_make(&first, 3);
        pile_make(&second, 3);
        outcome told[2] = {};
        ck_assert_int_gt(send_pile(loop, d.a, &first, 3, NARROW_ROOM, 0, &told[0]), 0);
        const mio_req_t id = send_pile(loop, d.a, &second, 3, 100, 0, &told[1]);
        ck_assert_int_gt(id, 0);
        if (how != 0) run_for(loop, MIO_MILLISECOND); // the first one's left with its first byte
        switch (how) {
        case 0:
        case 1: assert_is(mio_req_cancel(loop, id), 0); break;
        case 2: assert_is(mio_req_abandon(loop, id), 0); break;
        case 3: assert_is(mio_handle_close(d.a, nullptr, nullptr), 0); break;
        case 4: mio_handle_abandon(d.a); break;
        }
        run_for(loop, MIO_MILLISECOND);
        const bool silent = how == 2 || how == 4;
        if (how == 2) mio_handle_abandon(d.a); // the request was silent, not its stream
        else if (!silent && how != 3) assert_is(mio_handle_close(d.a, nullptr, nullptr), 0);
        mio_handle_abandon(d.b);
        run_for(loop, MIO_MILLISECOND);
        assert_is(told[1].calls, silent ? 0 : 1);
        if (!silent) assert_is(told[1].status, MIO_ECANCELED);
        assert_is(told[1].sent, 0);
    }
}

TEST(a_peer_that_is_gone_costs_no_descriptor) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    mio_handle_abandon(d.b);
    run_for(loop, MIO_MILLISECOND);
    pile p;
    pile_make(&p, 3);
    outcome told = {};
    told.stop = true;
    ck_assert_int_gt(send_pile(loop, d.a, &p, 3, 100, 0, &told), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_EPIPE);
    pile_make(&p, 1);
    assert_is(send_pile(loop, d.a, &p, 1, 100, 0, nullptr), MIO_EPIPE);
    pile_close(&p, 1);
}

TEST(a_descriptor_that_is_not_open_is_told_by_the_callback) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    mio_buf_t buf = text_buf(loop, "x");
    int wrong = 0x3fffffff;
    outcome told = {};
    told.stop = true;
    ck_assert_int_gt(mio_unix_write_fds(d.a, &buf, 1, &wrong, 1, write_told, &told), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_EBADF);
    assert_is(told.sent, 0);
}

TEST(what_lies_unread_in_a_socket_goes_with_it) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 3; how++) {
        duo d = open_pair(loop);
        taker t = {};
        t.keeps = true;
        assert_is(mio_unix_take_fds(d.b, 3, take, &t), 0);
        pile p;
        pile_make(&p, 3);
        ck_assert_int_gt(send_pile(loop, d.a, &p, 3, 10, 0, nullptr), 0);
        if (how == 1) ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &t.in), 0);
        if (how == 2) { // received, and its end comes in the same batch
            static mio_stream_t *victim;
            victim = d.b;
            ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &t.in), 0);
            for (int i = 0; i < 1000 && t.in.received == 0 && mio_stream_queued_bytes(d.a) != 0; i++)
                assert_ok(mio_loop_run_once(loop, 0));
            mio_handle_abandon(victim);
        } else {
            run_for(loop, MIO_MILLISECOND);
            mio_handle_abandon(d.b);
        }
        run_for(loop, MIO_MILLISECOND);
        mio_handle_abandon(d.a);
        assert_is(t.calls, how == 1 ? 1 : t.calls);
    }
}

TEST(more_than_were_asked_for_are_told_and_closed) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    enum mio_unix_type types[] = {MIO_UNIX_STREAM, MIO_UNIX_SEQPACKET};
    for (enum mio_unix_type type : types) {
        duo d = open_pair(loop, type);
        const size_t before = open_descriptors();
        taker t = {};
        t.stop = true;
        t.keeps = true;
        assert_is(mio_unix_take_fds(d.b, 3, take, &t), 0);
        ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &t.in), 0);
        pile p;
        pile_make(&p, 10);
        ck_assert_int_gt(send_pile(loop, d.a, &p, 10, 10, 0, nullptr), 0);
        run_to_stop(loop);
        assert_is(t.status, MIO_EMSGSIZE);
        assert_is(t.n, 3);
        run_for(loop, MIO_MILLISECOND);
        assert_is(open_descriptors(), before);
        assert_is(t.in.received, 10);
    }
}

TEST(without_descriptors_left_some_are_lost_and_it_is_told) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    taker t = {};
    assert_is(mio_unix_take_fds(d.b, 20, take, &t), 0);
    pile p;
    pile_make(&p, 10);
    ck_assert_int_gt(send_pile(loop, d.a, &p, 10, 10, 0, nullptr), 0);
    run_for(loop, MIO_MILLISECOND); // sent, and ours are closed
    struct rlimit limit, low;
    getrlimit(RLIMIT_NOFILE, &limit);
    low = limit;
    int highest = open("/dev/null", O_RDONLY | O_CLOEXEC); // the lowest free number
    ck_assert_int_ge(highest, 0);
    low.rlim_cur = static_cast<rlim_t>(highest) + 3;
    assert_is(setrlimit(RLIMIT_NOFILE, &low), 0);
    t.in.stop_at = 10;
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &t.in), 0);
    run_to_stop(loop);
    assert_is(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_is(t.calls, 1);
    assert_is(t.status, MIO_EMFILE);
    ck_assert_uint_lt(t.n, 10);
    assert_is(close(highest), 0);
    pile_make(&p, 2); // and the next ones come again
    t.in.stop_at = 20;
    ck_assert_int_gt(send_pile(loop, d.a, &p, 2, 10, 10, nullptr), 0);
    run_to_stop(loop);
    assert_is(t.calls, 2);
    assert_is(t.status, 0);
}

TEST(whoever_takes_them_may_close_or_abandon_the_stream) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 2; how++) {
        duo d = open_pair(loop);
        taker t = {};
        t.closes = how == 0;
        t.abandons = how == 1;
        assert_is(mio_unix_take_fds(d.b, 3, take, &t), 0);
        ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &t.in), 0);
        for (int i = 0; i < 3; i++) {
            pile p;
            pile_make(&p, 3);
            ck_assert_int_gt(send_pile(loop, d.a, &p, 3, 10, 0, nullptr), 0);
        }
        run_for(loop, MIO_MILLISECOND);
        assert_is(t.calls, 1);
        assert_is(t.in.received, 0);
        assert_is(t.in.ends, how == 0 ? 1 : 0);
        mio_handle_abandon(d.a);
    }
}

TEST(they_travel_beside_records_also_empty_ones) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop, MIO_UNIX_SEQPACKET);
    taker t = {};
    assert_is(mio_unix_take_fds(d.b, 3, take, &t), 0);
    static int records, empty;
    records = empty = 0;
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, [](mio_stream_t *stream, int64_t n, mio_buf_t *, void *) {
        if (is_over()) return;
        if (n == 0) empty++;
        if (++records == 4) mio_loop_stop(mio_handle_loop(stream));
    }, nullptr), 0);
    for (int i = 0; i < 4; i++) {
        pile p;
        pile_make(&p, 3);
        mio_buf_t buf = text_buf(loop, "record");
        if (i % 2 == 1) buf.len = 0;
        ck_assert_int_gt(mio_unix_write_fds(d.a, &buf, 1, p.fds, 3, nullptr, nullptr), 0);
    }
    run_to_stop(loop);
    assert_is(records, 4);
    assert_is(empty, 2);
    assert_is(t.calls, 4);
    assert_is(t.n, 12);
}

TEST(taking_may_begin_while_a_read_is_under_way_and_end_again) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    taker t = {};
    ck_assert_int_gt(mio_stream_read_start(d.b, 0, read_into, &t.in), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_unix_take_fds(d.b, 3, take, &t), 0);
    run_for(loop, MIO_MILLISECOND);
    pile p;
    pile_make(&p, 3);
    t.in.stop_at = 10;
    ck_assert_int_gt(send_pile(loop, d.a, &p, 3, 10, 0, nullptr), 0);
    run_to_stop(loop);
    assert_is(t.n, 3);
    assert_is(mio_unix_take_fds(d.b, 3, nullptr, nullptr), 0);
    pile_make(&p, 3);
    t.in.stop_at = 20;
    ck_assert_int_gt(send_pile(loop, d.a, &p, 3, 10, 10, nullptr), 0);
    run_to_stop(loop);
    assert_is(t.calls, 1);
    ck_assert(!t.in.wrong);
}

TEST(a_loop_that_is_destroyed_closes_what_is_under_way) {
    PASSING_ONLY;
    mio_loop_t *loop = loop_open();
    duo d = open_pair(loop);
    taker t = {};
    assert_is(mio_unix_take_fds(d.b, 3, take, &t), 0);
    for (int i = 0; i < 20; i++) {
        pile p;
        pile_make(&p, 3);
        ck_assert_int_gt(send_pile(loop, d.a, &p, 3, 200000, 0, nullptr), 0);
    }
    run_for(loop, MIO_MILLISECOND);
}
