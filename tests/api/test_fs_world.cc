// Files of a simulated world: whose they are, and what misfortune does to them.
#include "fs.h"

#include <fcntl.h>

using namespace api;

TEST(fs_files_of_a_world_are_its_own_and_the_same_for_the_same_seed) {
    SIM_ONLY("the files of the kernel are what they are");
    mio_loop_t *loop = loop_open(), *other = loop_open();
    fs_room room(loop);
    const int fd = room.file("file", 100);
    ck_assert_int_ge(fd, 1 << 30);
    assert_is(mio_sim_open_fds(world()), 1);
    fs_room beside(other);
    beside.loop = other;
    struct told { int status; uint64_t size; } t = {};
    assert_ok(mio_fs_stat(other, room.path("file"), [](mio_loop_t *, int status, const mio_fs_facts_t *f, void *arg) {
        *static_cast<told *>(arg) = {status, f == nullptr ? 0 : f->size};
    }, &t));
    run_to_end(other);
    assert_is(t.status, 0);
    assert_is(t.size, 100); // one tree for all nodes
    const int64_t now = mio_sim_now_ns(world());
    room.close(fd);
    ck_assert_int_gt(mio_sim_now_ns(world()), now); // it took time
}

TEST(fs_calls_fail_by_a_fault_of_the_world) {
    SIM_ONLY("a disk fails when it wants to");
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.file("file", 100);
    mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
    fault.kind = MIO_SIM_FAIL;
    fault.call = MIO_SIM_CALL_FILE;
    fault.error = MIO_EIO;
    fault.for_ns = MIO_SECOND;
    char text[MIO_SIM_TEXT_MAX];
    ck_assert_int_gt(mio_sim_format(&fault, text, sizeof text), 0);
    ck_assert_ptr_nonnull(strstr(text, "file fails with MIO_EIO"));
    assert_is(mio_sim_schedule(world(), &fault), 0);
    assert_is(room.end_of_read(fd, 10, 0), MIO_EIO);
    assert_is(room.write(fd, "x", 0), MIO_EIO);
    assert_is(room.facts_error("file"), MIO_EIO);
    assert_is(room.mkdir("folder"), MIO_EIO);
    run_for(loop, 2 * MIO_SECOND);
    ck_assert(room.is_file("file", 100)); // nothing has changed
    room.close(fd);
}

TEST(fs_the_disk_of_a_world_is_full) {
    SIM_ONLY("nobody wants to fill a real one");
    mio_sim_t *full = nullptr;
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.disk_bytes = 100000;
    assert_is(mio_sim_create(&full, &options), 0);
    mio_loop_t *loop = nullptr;
    mio_loop_options_t mine = MIO_LOOP_OPTIONS_INIT;
    mine.sim = full;
    assert_is(mio_loop_create(&loop, &mine), 0);
    struct told { int fd, status; int64_t written; mio_loop_t *loop; } t = {-1, 1, 0, loop};
    assert_ok(mio_fs_open(loop, "/tmp/big", O_RDWR | O_CREAT, 0600, [](mio_loop_t *l, int fd, void *arg) {
        told *self = static_cast<told *>(arg);
        self->fd = fd;
        mio_buf_t buf = {};
        assert_is(mio_buf_alloc(l, 150000, &buf), 0);
        memset(buf.base, 'x', buf.cap);
        buf.len = buf.cap;
        assert_ok(mio_fs_write(l, fd, &buf, 1, 0, [](mio_loop_t *, int status, int64_t n, mio_buf_t *, unsigned, void *a) {
            static_cast<told *>(a)->status = status;
            static_cast<told *>(a)->written = n;
        }, self));
    }, &t));
    assert_is(mio_loop_run(loop), 0);
    assert_is(t.status, MIO_ENOSPC);
    ck_assert_int_gt(t.written, 50000); // as much as there was room for
    ck_assert_int_le(t.written, 100000);
    assert_ok(mio_fs_close(loop, t.fd, nullptr, nullptr));
    assert_is(mio_loop_run(loop), 0);
    assert_is(mio_loop_destroy(loop, 0), 0);
    assert_is(mio_sim_destroy(full), 0);
}

// A disk on which one call in twenty fails: each request is told of once, what was opened is closed, and the same seed is
// the same run.
struct bad_disk {
    mio_loop_t *loop;
    mio_sim_t *on;
    int opened, closed, told, started, errors;
};

static void bad_closed(mio_loop_t *, int status, void *arg) {
    bad_disk *d = static_cast<bad_disk *>(arg);
    d->told++;
    d->closed++;
    assert_is(status, 0); // a close does not fail here
}

struct bad_file {
    bad_disk *of;
    int fd, number;
};

static void bad_end(bad_file *f) {
    f->of->started++;
    assert_ok(mio_fs_close(f->of->loop, f->fd, bad_closed, f->of));
    free(f);
}

static void bad_told(mio_loop_t *, int status, void *arg) {
    bad_disk *d = static_cast<bad_disk *>(arg);
    d->told++;
    if (status < 0) d->errors++;
}

static void bad_written(mio_loop_t *, int status, int64_t n, mio_buf_t *bufs, unsigned count, void *arg) {
    bad_file *f = static_cast<bad_file *>(arg);
    f->of->told++;
    assert_is(count, 1);
    ck_assert_ptr_nonnull(bufs[0].base);
    if (status == 0) assert_is(n, 5000);
    else f->of->errors++;
    bad_end(f);
}

static void bad_opened(mio_loop_t *l, int fd, void *arg) {
    bad_file *f = static_cast<bad_file *>(arg);
    f->of->told++;
    f->fd = fd;
    if (fd < 0) {
        f->of->errors++;
        free(f);
        return;
    }
    f->of->opened++;
    mio_buf_t buf = pattern_buf(l, 5000, 0);
    f->of->started++;
    const mio_req_t id = mio_fs_write(l, fd, &buf, 1, 0, bad_written, f);
    assert_ok(id);
    if (mio_sim_random(f->of->on) % 4 == 0) {
        const int cancelled = mio_req_cancel(l, id);
        ck_assert(cancelled == 0 || cancelled == MIO_EALREADY);
    }
}

static uint64_t bad_disk_run(uint64_t with_seed) {
    bad_disk d = {};
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.seed = with_seed;
    options.file_error_ppm = 50000;
    options.short_write_ppm = 300000;
    options.disk_bytes = 150000;
    assert_is(mio_sim_create(&d.on, &options), 0);
    mio_loop_options_t mine = MIO_LOOP_OPTIONS_INIT;
    mine.sim = d.on;
    assert_is(mio_loop_create(&d.loop, &mine), 0);
    for (int i = 0; i < 60; i++) {
        char name[64], other[64];
        snprintf(name, sizeof name, "/tmp/file-%d", i % 20);
        snprintf(other, sizeof other, "/tmp/folder-%d/file", i % 7);
        bad_file *f = static_cast<bad_file *>(malloc(sizeof(bad_file)));
        *f = {&d, -1, i};
        assert_ok(mio_fs_open(d.loop, name, O_RDWR | O_CREAT, 0600, bad_opened, f));
        other[13] = 0; // the folder
        assert_ok(mio_fs_mkdir(d.loop, other, 0700, bad_told, &d));
        other[13] = '/';
        assert_ok(mio_fs_rename(d.loop, name, other, 0, bad_told, &d));
        other[13] = 0;
        assert_ok(mio_fs_remove_all(d.loop, other, bad_told, &d));
        d.started += 4;
    }
    assert_is(mio_sim_run(d.on, MIO_MINUTE), 0);
    assert_is(d.told, d.started);
    assert_is(d.opened, d.closed);
    ck_assert_int_gt(d.errors, 0);
    assert_is(mio_sim_open_fds(d.on), 0);
    const uint64_t hash = mio_sim_trace_hash(d.on);
    assert_is(mio_loop_destroy(d.loop, 0), 0);
    assert_is(mio_sim_destroy(d.on), 0);
    return hash;
}

TEST(fs_survives_a_bad_disk_and_the_same_seed_is_the_same_run) {
    SIM_ONLY("a disk fails when it wants to");
    const uint64_t first = bad_disk_run(seed());
    ck_assert_uint_eq(first, bad_disk_run(seed()));
    ck_assert_uint_ne(first, bad_disk_run(seed() + 1000000));
}
