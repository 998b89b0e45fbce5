#include "fs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

namespace api {

void outcome_of::cb(mio_loop_t *, int told, void *arg) {
    outcome_of *self = static_cast<outcome_of *>(arg);
    self->status = told;
    self->calls++;
}

int outcome_of::await(mio_loop_t *loop) {
    run_to_end(loop);
    assert_is(calls, 1);
    calls = 0;
    return status;
}

struct told {
    int status, calls;
    char path[4200];
    mio_fs_facts_t facts;
    std::vector<std::string> names;
};

static void told_path(mio_loop_t *, int status, const char *path, void *arg) {
    told *t = static_cast<told *>(arg);
    t->status = status;
    t->calls++;
    if (path != nullptr) snprintf(t->path, sizeof t->path, "%s", path);
}

fs_room::fs_room(mio_loop_t *on) : loop(on) {
    const char *parent = on_sim() ? nullptr : getenv("TMPDIR");
    char pattern[120];
    snprintf(pattern, sizeof pattern, "%s/mio-fs-XXXXXX", parent == nullptr || strlen(parent) > 80 ? "/tmp" : parent);
    told t = {};
    assert_ok(mio_fs_temp_folder(loop, pattern, told_path, &t));
    run_to_end(loop);
    assert_is(t.status, 0);
    snprintf(folder, sizeof folder, "%s", t.path);
}

fs_room::~fs_room() {
    outcome_of o;
    assert_ok(mio_fs_remove_all(loop, folder, o.cb, &o));
    assert_is(o.await(loop), 0);
}

const char *fs_room::path(const char *name) {
    static char ring[8][600];
    static int at;
    char *to = ring[at++ % 8];
    snprintf(to, sizeof ring[0], "%s/%s", folder, name);
    return to;
}

static void told_fd(mio_loop_t *, int fd, void *arg) {
    told *t = static_cast<told *>(arg);
    t->status = fd;
    t->calls++;
}

int fs_room::open(const char *name, int flags, unsigned mode) {
    told t = {};
    assert_ok(mio_fs_open(loop, path(name), flags, mode, told_fd, &t));
    run_to_end(loop);
    assert_is(t.calls, 1);
    ck_assert_msg(t.status >= 0, "open of %s: %s", name, mio_error_name(t.status));
    return t.status;
}

int fs_room::try_open(const char *name, int flags) {
    told t = {};
    assert_ok(mio_fs_open(loop, path(name), flags, 0644, told_fd, &t));
    run_to_end(loop);
    assert_is(t.calls, 1);
    if (t.status >= 0) close(t.status);
    return t.status < 0 ? t.status : 0;
}

int fs_room::close_status(int fd) {
    outcome_of o;
    assert_ok(mio_fs_close(loop, fd, o.cb, &o));
    return o.await(loop);
}

void fs_room::close(int fd) { assert_is(close_status(fd), 0); }

struct wrote {
    int status, calls;
    int64_t n;
};
static void told_written(mio_loop_t *, int status, int64_t n, mio_buf_t *, unsigned, void *arg) {
    wrote *w = static_cast<wrote *>(arg);
    *w = {status, w->calls + 1, n};
}

static int write_buf(mio_loop_t *loop, int fd, mio_buf_t buf, int64_t offset) {
    wrote w = {};
    const size_t n = buf.len;
    assert_ok(mio_fs_write(loop, fd, &buf, 1, offset, told_written, &w));
    run_to_end(loop);
    assert_is(w.calls, 1);
    if (w.status == 0) assert_is(w.n, n);
    return w.status;
}

int fs_room::write(int fd, const char *text, int64_t offset) { return write_buf(loop, fd, text_buf(loop, text), offset); }

int fs_room::file(const char *name, uint64_t size) {
    const int fd = open(name, O_RDWR | O_CREAT | O_TRUNC);
    for (uint64_t at = 0; at < size;) {
        const size_t n = size - at < 65536 ? static_cast<size_t>(size - at) : 65536;
        assert_is(write_buf(loop, fd, pattern_buf(loop, n, at), static_cast<int64_t>(at)), 0);
        at += n;
    }
    return fd;
}

struct got {
    int64_t n;
    int calls;
    char *to;
    size_t size;
};
static void told_read(mio_loop_t *, int64_t n, mio_buf_t *bufs, unsigned, void *arg) {
    got *g = static_cast<got *>(arg);
    g->n = n;
    g->calls++;
    if (n > 0 && g->to != nullptr) memcpy(g->to, bufs[0].base, static_cast<size_t>(n) < g->size ? static_cast<size_t>(n) : g->size);
}

static int64_t read_some(mio_loop_t *loop, int fd, size_t most, int64_t offset, char *to, size_t size) {
    got g = {0, 0, to, size};
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, most, &buf), 0);
    assert_ok(mio_fs_read(loop, fd, &buf, 1, offset, told_read, &g));
    ck_assert_ptr_null(buf.base);
    run_to_end(loop);
    assert_is(g.calls, 1);
    return g.n;
}

bool fs_room::is_file(const char *name, uint64_t size) {
    const int fd = open(name, O_RDONLY);
    static char bytes[65536];
    uint64_t at = 0;
    bool right = true;
    for (;;) {
        const int64_t n = read_some(loop, fd, sizeof bytes, static_cast<int64_t>(at), bytes, sizeof bytes);
        if (n == MIO_EOF) break;
        ck_assert_int_gt(n, 0);
        right = right && pattern_is(bytes, static_cast<size_t>(n), at);
        at += static_cast<uint64_t>(n);
    }
    close(fd);
    return right && at == size;
}

const char *fs_room::read(int fd, size_t most, int64_t offset) {
    static char text[256];
    memset(text, 0, sizeof text);
    const int64_t n = read_some(loop, fd, most, offset, text, sizeof text - 1);
    ck_assert_msg(n > 0, "read: %s", mio_error_name(n));
    return text;
}

int64_t fs_room::end_of_read(int fd, size_t most, int64_t offset) { return read_some(loop, fd, most, offset, nullptr, 0); }

int fs_room::mkdir(const char *name) {
    outcome_of o;
    assert_ok(mio_fs_mkdir(loop, path(name), 0755, o.cb, &o));
    return o.await(loop);
}

int fs_room::symlink(const char *target, const char *name) {
    outcome_of o;
    assert_ok(mio_fs_symlink(loop, target, path(name), o.cb, &o));
    return o.await(loop);
}

int fs_room::unlink(const char *name) {
    outcome_of o;
    assert_ok(mio_fs_unlink(loop, path(name), o.cb, &o));
    return o.await(loop);
}

static void told_facts(mio_loop_t *, int status, const mio_fs_facts_t *facts, void *arg) {
    told *t = static_cast<told *>(arg);
    t->status = status;
    t->calls++;
    if (facts != nullptr) t->facts = *facts;
}

static mio_fs_facts_t facts_of(mio_loop_t *loop, const told *t) {
    run_to_end(loop);
    assert_is(t->calls, 1);
    assert_is(t->status, 0);
    return t->facts;
}

mio_fs_facts_t fs_room::facts(const char *name) {
    told t = {};
    assert_ok(mio_fs_stat(loop, path(name), told_facts, &t));
    return facts_of(loop, &t);
}
mio_fs_facts_t fs_room::lfacts(const char *name) {
    told t = {};
    assert_ok(mio_fs_lstat(loop, path(name), told_facts, &t));
    return facts_of(loop, &t);
}
mio_fs_facts_t fs_room::ffacts(int fd) {
    told t = {};
    assert_ok(mio_fs_fstat(loop, fd, told_facts, &t));
    return facts_of(loop, &t);
}

int fs_room::facts_error(const char *name) {
    told t = {};
    assert_ok(mio_fs_lstat(loop, path(name), told_facts, &t));
    run_to_end(loop);
    assert_is(t.calls, 1);
    return t.status;
}

static void told_entries(mio_loop_t *, int status, const mio_fs_entry_t *entries, unsigned n, void *arg) {
    told *t = static_cast<told *>(arg);
    t->status = status;
    t->calls++;
    if (status < 0) assert_is(n, 0);
    else ck_assert_uint_gt(n, 0);
    for (unsigned i = 0; i < n; i++) t->names.push_back(entries[i].name);
}

unsigned fs_room::entries(const char *name, char *names, size_t size) {
    const int fd = open(name, O_RDONLY | O_DIRECTORY);
    told t = {};
    while (t.status == 0) {
        assert_ok(mio_fs_readdir(loop, fd, 0, told_entries, &t));
        run_to_end(loop);
    }
    assert_is(t.status, MIO_EOF);
    close(fd);
    std::sort(t.names.begin(), t.names.end());
    std::string all;
    for (const std::string &one : t.names) all += (all.empty() ? "" : " ") + one;
    if (size != 0) snprintf(names, size, "%s", all.c_str());
    return static_cast<unsigned>(t.names.size());
}

}
