// Files: each operation as it should go, and each as it should fail. What may happen to requests in flight is in
// test_fs_end.cc. Every test has a folder of its own; on sim it lies in the world's memory.
#include "fs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

TEST(fs_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const char *path = room.path("x");
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, 16, &buf), 0);
    const auto cb = [](mio_loop_t *, int, void *) {};
    const auto open_cb = [](mio_loop_t *, int, void *) {};
    const auto read_cb = [](mio_loop_t *, int64_t, mio_buf_t *, unsigned, void *) {};
    const auto write_cb = [](mio_loop_t *, int, int64_t, mio_buf_t *, unsigned, void *) {};
    const auto stat_cb = [](mio_loop_t *, int, const mio_fs_facts_t *, void *) {};
    const auto space_cb = [](mio_loop_t *, int, const mio_fs_space_t *, void *) {};
    const auto path_cb = [](mio_loop_t *, int, const char *, void *) {};
    const auto temp_cb = [](mio_loop_t *, int, const char *, void *) {};
    const auto dir_cb = [](mio_loop_t *, int, const mio_fs_entry_t *, unsigned, void *) {};
    const auto copy_cb = [](mio_loop_t *, int, int64_t, void *) {};
    assert_is(mio_fs_open(nullptr, path, O_RDONLY, 0, open_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_open(loop, nullptr, O_RDONLY, 0, open_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_open(loop, path, O_RDONLY, 0, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_fs_close(nullptr, 3, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_close(loop, -1, cb, nullptr), MIO_EBADF);
    assert_is(mio_fs_read(nullptr, 3, &buf, 1, 0, read_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_read(loop, 3, nullptr, 1, 0, read_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_read(loop, 3, &buf, 0, 0, read_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_read(loop, 3, &buf, MIO_BUFS_MAX + 1, 0, read_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_read(loop, 3, &buf, 1, -2, read_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_read(loop, 3, &buf, 1, 0, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_fs_read(loop, -1, &buf, 1, 0, read_cb, nullptr), MIO_EBADF);
    assert_is(mio_fs_write(loop, -1, &buf, 1, 0, write_cb, nullptr), MIO_EBADF);
    assert_is(mio_fs_write(loop, 3, &buf, 1, INT64_MIN, write_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_write(loop, 3, &buf, 1, 0, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_fs_fsync(loop, -1, cb, nullptr), MIO_EBADF);
    assert_is(mio_fs_fdatasync(loop, -1, cb, nullptr), MIO_EBADF);
    assert_is(mio_fs_stat(loop, nullptr, stat_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_stat(loop, path, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_fs_lstat(loop, nullptr, stat_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_fstat(loop, -1, stat_cb, nullptr), MIO_EBADF);
    assert_is(mio_fs_truncate(loop, path, -1, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_ftruncate(loop, 3, -1, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_allocate(loop, 3, 0, 0, 0, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_allocate(loop, 3, 0, -1, 1, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_allocate(loop, 3, 0, INT64_MAX, 1, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_allocate(loop, 3, 4, 0, 1, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_rename(loop, path, nullptr, 0, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_rename(loop, path, path, 3, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_unlink(loop, nullptr, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_mkdir(loop, nullptr, 0, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_mkdir_all(loop, nullptr, 0, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_rmdir(loop, nullptr, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_remove_all(loop, nullptr, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_link(loop, path, nullptr, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_symlink(loop, nullptr, path, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_readlink(loop, nullptr, path_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_realpath(loop, path, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_fs_readdir(loop, 3, 511, dir_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_readdir(loop, 3, (16 << 20) + 1, dir_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_readdir(loop, -1, 0, dir_cb, nullptr), MIO_EBADF);
    assert_is(mio_fs_chmod(loop, path, 010000, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_fchmod(loop, 3, 010000, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_chown(loop, nullptr, 0, 0, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_lchown(loop, nullptr, 0, 0, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_fchown(loop, -1, 0, 0, cb, nullptr), MIO_EBADF);
    assert_is(mio_fs_utimes(loop, nullptr, 0, 0, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_lutimes(loop, nullptr, 0, 0, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_futimes(loop, -1, 0, 0, cb, nullptr), MIO_EBADF);
    assert_is(mio_fs_access(loop, path, 8, cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_temp_file(loop, room.path("noXXXXX"), temp_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_temp_file(loop, nullptr, temp_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_temp_folder(loop, "XXXXX", path_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_copy(loop, path, path, 6, copy_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_copy(loop, path, path, 8, copy_cb, nullptr), MIO_EINVAL);
    assert_is(mio_fs_copy(loop, path, path, 0, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_fs_statfs(loop, nullptr, space_cb, nullptr), MIO_EINVAL);
    ck_assert_ptr_nonnull(buf.base);
    mio_buf_release(&buf);
    assert_is(metrics(loop).requests, 0);
}

TEST(fs_refuses_buffers_that_it_could_not_give_back) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.open("x", O_RDWR | O_CREAT);
    const auto read_cb = [](mio_loop_t *, int64_t, mio_buf_t *, unsigned, void *) { ck_abort(); };
    const auto write_cb = [](mio_loop_t *, int, int64_t, mio_buf_t *, unsigned, void *) { ck_abort(); };
    char memory[16] = "fifteen letters";
    mio_buf_t borrowed[2] = {};
    assert_is(mio_buf_alloc(loop, 16, &borrowed[0]), 0);
    borrowed[0].len = 4;
    borrowed[1] = mio_buf_borrow(memory, 15);
    assert_is(mio_fs_write(loop, fd, borrowed, 2, 0, write_cb, nullptr), MIO_EINVAL);
    ck_assert_ptr_nonnull(borrowed[0].base);
    ck_assert_ptr_eq(borrowed[1].base, memory);
    borrowed[1] = mio_buf_space(memory, 16);
    assert_is(mio_fs_read(loop, fd, borrowed, 2, 0, read_cb, nullptr), MIO_EINVAL);
    mio_buf_t empty = {};
    assert_is(mio_fs_read(loop, fd, &empty, 1, 0, read_cb, nullptr), MIO_EINVAL);
    borrowed[0].len = borrowed[0].cap;
    assert_is(mio_fs_read(loop, fd, borrowed, 1, 0, read_cb, nullptr), MIO_ENOBUFS);
    mio_buf_release(&borrowed[0]);
    mio_buf_owner_t owner = MIO_BUF_OWNER_INIT([](mio_buf_owner_t *, char *, size_t) {});
    mio_buf_t first = mio_buf_wrap(memory, sizeof memory, &owner), second = {};
    assert_is(mio_buf_share(&first, &second), 0);
    assert_is(mio_fs_read(loop, fd, &first, 1, 0, read_cb, nullptr), MIO_EINVAL);
    mio_buf_release(&second);
    mio_buf_release(&first);
    room.close(fd);
}

TEST(fs_writes_and_reads_at_a_position) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.open("file", O_RDWR | O_CREAT | O_EXCL, 0640);
    assert_is(room.write(fd, "hello, world", 0), 0);
    assert_is(room.write(fd, "W", 7), 0);
    ck_assert_str_eq(room.read(fd, 5, 0), "hello");
    ck_assert_str_eq(room.read(fd, 100, 7), "World");
    assert_is(room.end_of_read(fd, 100, 12), MIO_EOF);
    assert_is(room.end_of_read(fd, 100, 1000), MIO_EOF);
    assert_is(room.write(fd, "far", 100000), 0); // a hole in between
    assert_is(room.facts("file").size, 100003);
    assert_is(room.facts("file").mode & 0777, 0640);
    room.close(fd);
}

TEST(fs_reads_and_writes_on_from_the_files_own_position) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.open("file", O_RDWR | O_CREAT);
    assert_is(room.write(fd, "one ", -1), 0);
    assert_is(room.write(fd, "two", -1), 0);
    assert_is(room.end_of_read(fd, 10, -1), MIO_EOF);
    room.close(fd);
    const int again = room.open("file", O_RDONLY);
    ck_assert_str_eq(room.read(again, 4, -1), "one ");
    ck_assert_str_eq(room.read(again, 10, -1), "two");
    room.close(again);
    const int appends = room.open("file", O_WRONLY | O_APPEND);
    assert_is(room.write(appends, "!", -1), 0);
    room.close(appends);
    assert_is(room.facts("file").size, 8);
}

struct transfer {
    int64_t result, moved;
    unsigned n;
    bool right;
    int calls;
};

TEST(fs_moves_many_buffers_in_one_request) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.open("file", O_RDWR | O_CREAT);
    constexpr unsigned N = MIO_BUFS_MAX;
    mio_buf_t bufs[N] = {};
    uint64_t total = 0;
    for (unsigned i = 0; i < N; i++) {
        bufs[i] = pattern_buf(loop, 1 + i * 31, total); // one of them ends where the next begins
        total += 1 + i * 31;
    }
    transfer wrote = {};
    const auto written = [](mio_loop_t *, int status, int64_t n, mio_buf_t *all, unsigned count, void *arg) {
        transfer *t = static_cast<transfer *>(arg);
        *t = {status, n, count, true, t->calls + 1};
        for (unsigned i = 0; i < count; i++) t->right = t->right && all[i].len == 1 + i * 31;
    };
    assert_ok(mio_fs_write(loop, fd, bufs, N, 0, written, &wrote));
    for (const mio_buf_t &buf : bufs) ck_assert_ptr_null(buf.base);
    run_to_end(loop);
    assert_is(wrote.calls, 1);
    assert_is(wrote.result, 0);
    assert_is(wrote.moved, total);
    assert_is(wrote.n, N);
    ck_assert(wrote.right);

    for (unsigned i = 0; i < N; i++) {
        assert_is(mio_buf_alloc(loop, 1 + i * 31 + 5, &bufs[i]), 0);
        memcpy(bufs[i].base, "front", 5);
        bufs[i].len = 5; // a read appends
    }
    transfer got = {};
    const auto read = [](mio_loop_t *, int64_t n, mio_buf_t *all, unsigned count, void *arg) {
        transfer *t = static_cast<transfer *>(arg);
        *t = {n, n, count, true, t->calls + 1};
        uint64_t at = 0;
        for (unsigned i = 0; i < count; i++) {
            t->right = t->right && all[i].len == all[i].cap && memcmp(all[i].base, "front", 5) == 0 &&
                       pattern_is(all[i].base + 5, all[i].len - 5, at);
            at += all[i].len - 5;
        }
    };
    assert_ok(mio_fs_read(loop, fd, bufs, N, 0, read, &got));
    run_to_end(loop);
    assert_is(got.calls, 1);
    assert_is(got.result, total);
    ck_assert(got.right);
    room.close(fd);
}

TEST(fs_hands_a_buffer_on_from_a_read_into_a_write) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    struct copier {
        int from, to;
        int64_t at;
        int status;
    } self = {room.file("from", 300000), room.open("to", O_RDWR | O_CREAT), 0, 1};
    static mio_fs_read_cb on_read;
    static mio_fs_write_cb on_written;
    on_written = [](mio_loop_t *l, int status, int64_t n, mio_buf_t *bufs, unsigned count, void *arg) {
        copier *c = static_cast<copier *>(arg);
        assert_is(status, 0);
        c->at += n;
        bufs[0].len = 0; // the same memory again
        assert_ok(mio_fs_read(l, c->from, bufs, count, c->at, on_read, arg));
    };
    on_read = [](mio_loop_t *l, int64_t n, mio_buf_t *bufs, unsigned count, void *arg) {
        copier *c = static_cast<copier *>(arg);
        if (n < 0) c->status = static_cast<int>(n);
        else assert_ok(mio_fs_write(l, c->to, bufs, count, c->at, on_written, arg));
    };
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, 70000, &buf), 0);
    assert_ok(mio_fs_read(loop, self.from, &buf, 1, 0, on_read, &self));
    run_to_end(loop);
    assert_is(self.status, MIO_EOF);
    assert_is(self.at, 300000);
    room.close(self.from);
    room.close(self.to);
    ck_assert(room.is_file("to", 300000));
}

TEST(fs_reads_into_wrapped_memory_and_writes_what_is_shared) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.open("file", O_RDWR | O_CREAT);
    mio_buf_t a = text_buf(loop, "shared"), b = {};
    assert_is(mio_buf_share(&a, &b), 0);
    int status[2] = {1, 1};
    const auto written = [](mio_loop_t *, int s, int64_t, mio_buf_t *, unsigned, void *arg) { *static_cast<int *>(arg) = s; };
    assert_ok(mio_fs_write(loop, fd, &a, 1, 0, written, &status[0]));
    assert_ok(mio_fs_write(loop, fd, &b, 1, 6, written, &status[1]));
    run_to_end(loop);
    assert_is(status[0], 0);
    assert_is(status[1], 0);
    static char memory[32];
    static int released;
    released = 0;
    mio_buf_owner_t owner = MIO_BUF_OWNER_INIT([](mio_buf_owner_t *, char *, size_t) { released++; });
    mio_buf_t wrapped = mio_buf_wrap(memory, sizeof memory, &owner);
    assert_ok(mio_fs_read(loop, fd, &wrapped, 1, 0, [](mio_loop_t *, int64_t n, mio_buf_t *, unsigned, void *) { assert_is(n, 12); }, nullptr));
    run_to_end(loop);
    assert_is(released, 1);
    assert_is(memcmp(memory, "sharedshared", 12), 0);
    room.close(fd);
}

TEST(fs_opens_fail_as_they_should) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    room.close(room.file("file", 1));
    assert_is(room.mkdir("folder"), 0);
    assert_is(room.try_open("nothing", O_RDONLY), MIO_ENOENT);
    assert_is(room.try_open("file", O_RDWR | O_CREAT | O_EXCL), MIO_EEXIST);
    assert_is(room.try_open("folder", O_WRONLY), MIO_EISDIR);
    assert_is(room.try_open("file", O_RDONLY | O_DIRECTORY), MIO_ENOTDIR);
    assert_is(room.try_open("file/below", O_RDONLY), MIO_ENOTDIR);
    assert_is(room.symlink("round", "round"), 0);
    assert_is(room.try_open("round", O_RDONLY), MIO_ELOOP);
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_is(room.try_open(name, O_RDONLY), MIO_ENAMETOOLONG);
    static char path[9000]; // longer than any system takes
    memset(path, '/', sizeof path - 1);
    struct told { int fd; } result = {1};
    assert_ok(mio_fs_open(loop, path, O_RDONLY, 0, [](mio_loop_t *, int fd, void *arg) { static_cast<told *>(arg)->fd = fd; }, &result));
    run_to_end(loop);
    assert_is(result.fd, MIO_ENAMETOOLONG);
    assert_is(room.close_status(987654), MIO_EBADF);
}

TEST(fs_transfers_fail_as_they_should) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    room.close(room.file("file", 10));
    const int reads = room.open("file", O_RDONLY), writes = room.open("file", O_WRONLY);
    assert_is(room.write(reads, "x", 0), MIO_EBADF);
    assert_is(room.end_of_read(writes, 5, 0), MIO_EBADF);
    const int folder = room.open(".", O_RDONLY | O_DIRECTORY);
    assert_is(room.end_of_read(folder, 5, 0), MIO_EISDIR);
    room.close(folder);
    room.close(reads);
    room.close(writes);
    assert_is(room.end_of_read(987654, 5, 0), MIO_EBADF);
    assert_is(room.write(987654, "x", 0), MIO_EBADF);
}

TEST(fs_syncs) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.file("file", 10000);
    outcome_of o;
    assert_ok(mio_fs_fsync(loop, fd, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_ok(mio_fs_fdatasync(loop, fd, o.cb, &o));
    assert_is(o.await(loop), 0);
    room.close(fd);
    assert_ok(mio_fs_fsync(loop, 987654, o.cb, &o));
    assert_is(o.await(loop), MIO_EBADF);
}

TEST(fs_tells_facts) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.file("file", 5000);
    assert_is(room.symlink("file", "link"), 0);
    const mio_fs_facts_t file = room.facts("file"), through = room.facts("link"), link = room.lfacts("link");
    ck_assert(S_ISREG(file.mode));
    assert_is(file.size, 5000);
    assert_is(file.links, 1);
    ck_assert_uint_gt(file.inode, 0);
    ck_assert_int_gt(file.mtime_ns, 1500000000 * MIO_SECOND);
    ck_assert_int_ge(file.ctime_ns, file.mtime_ns);
    assert_is(through.inode, file.inode);
    ck_assert(S_ISLNK(link.mode));
    assert_is(link.size, 4);
    ck_assert_uint_ne(link.inode, file.inode);
    const mio_fs_facts_t opened = room.ffacts(fd);
    assert_is(opened.inode, file.inode);
    assert_is(opened.size, 5000);
    assert_is(opened.device_major, file.device_major);
    ck_assert(S_ISDIR(room.facts(".").mode));
    room.close(fd);
    assert_is(room.facts_error("nothing"), MIO_ENOENT);
    assert_is(room.facts_error("file/below"), MIO_ENOTDIR);
    struct told { int status; bool null; } result = {1, false};
    const auto cb = [](mio_loop_t *, int status, const mio_fs_facts_t *f, void *arg) { *static_cast<told *>(arg) = {status, f == nullptr}; };
    assert_ok(mio_fs_fstat(loop, 987654, cb, &result));
    run_to_end(loop);
    assert_is(result.status, MIO_EBADF);
    ck_assert(result.null);
}

TEST(fs_changes_sizes) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    const int fd = room.file("file", 5000);
    outcome_of o;
    assert_ok(mio_fs_ftruncate(loop, fd, 100, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_is(room.facts("file").size, 100);
    assert_ok(mio_fs_truncate(loop, room.path("file"), 7000, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_is(room.facts("file").size, 7000);
    ck_assert_str_eq(room.read(fd, 3, 6997), ""); // zeroes
    assert_ok(mio_fs_allocate(loop, fd, 0, 6000, 4000, o.cb, &o));
    const int allocated = o.await(loop);
    ck_assert(allocated == 0 || allocated == MIO_ENOTSUP); // not every file system can
    if (allocated == 0) assert_is(room.facts("file").size, 10000);
    room.close(fd);
    assert_ok(mio_fs_truncate(loop, room.path("nothing"), 1, o.cb, &o));
    assert_is(o.await(loop), MIO_ENOENT);
    assert_ok(mio_fs_truncate(loop, room.path("."), 1, o.cb, &o));
    assert_is(o.await(loop), MIO_EISDIR);
    assert_ok(mio_fs_ftruncate(loop, 987654, 1, o.cb, &o));
    assert_is(o.await(loop), MIO_EBADF);
    assert_ok(mio_fs_allocate(loop, 987654, 0, 0, 1, o.cb, &o));
    assert_is(o.await(loop), MIO_EBADF);
}
