// What is in a file: reads, writes and truncations, several at a time, on several descriptors of one file.
//
// One change of a file is under way at a time. What is read beside it is, byte by byte, what was there before or what was
// there after; what is read when there is none is exactly what the model has. A write that ends in its middle has written
// so many bytes as it says, and no more.
#include "files.h"

namespace torture {

constexpr size_t LEN_MAX = 60000;

// --- the model ------------------------------------------------------------------------------------------------------

static void bytes_set(bytes *to, const bytes *from) {
    to->len = 0;
    bytes_append(to, from->at, from->len);
}

void file_resize(file *f, size_t len) {
    if (len < f->now_.len) f->now_.len = len;
    while (f->now_.len < len) {
        static const char zeroes[512] = {};
        const size_t n = len - f->now_.len;
        bytes_append(&f->now_, zeroes, n < sizeof zeroes ? n : sizeof zeroes);
    }
}

bool file_may_change(const file *f) { return f != nullptr && !f->changing && f->copying == 0; }

void file_change_begin(fs_op *op, file *f) {
    op->changes = f;
    f->changing = true;
    f->changes++;
    bytes_set(&f->before, &f->now_);
}

static void file_write(file *f, int64_t offset, const char *from, size_t n) {
    if (n == 0) return;
    const size_t at = static_cast<size_t>(offset);
    if (f->now_.len < at + n) file_resize(f, at + n);
    memcpy(f->now_.at + at, from, n);
}

// --- buffers --------------------------------------------------------------------------------------------------------

static void bufs_note(fs_op *op, const mio_buf_t *bufs, unsigned n) {
    op->n = n;
    for (unsigned i = 0; i < n; i++) op->was[i] = bufs[i];
}

static void bufs_back(const fs_op *op, mio_buf_t *bufs, unsigned n, bool read) {
    if (n != op->n) fail("%s %d: %u buffers of %u", op->what, op->number, n, op->n);
    for (unsigned i = 0; i < n; i++) {
        if (bufs[i].base != op->was[i].base) fail("%s %d: buffer %u is another", op->what, op->number, i);
        if (read ? bufs[i].len < op->was[i].len || bufs[i].len > bufs[i].cap : bufs[i].len != op->was[i].len)
            fail("%s %d: buffer %u has another length", op->what, op->number, i);
        if (chance(50)) mio_buf_release(&bufs[i]);
        else if (chance(20)) buf_hold(&bufs[i]);
    }
}

// --- writing --------------------------------------------------------------------------------------------------------

static void told_fs_write(mio_loop_t *, int status, int64_t written, mio_buf_t *bufs, unsigned n, void *arg) {
    auto *op = static_cast<fs_op *>(arg);
    fs_told(op, status);
    if (written < 0 || written > op->length || (status == 0 && written != op->length))
        fail("fs write %d: status %d, %lld of %lld", op->number, status, static_cast<long long>(written),
             static_cast<long long>(op->length));
    say("  %lld of %lld bytes at %lld", static_cast<long long>(written), static_cast<long long>(op->length), static_cast<long long>(op->offset));
    const bool leaked = status == MIO_ESHUTDOWN; // the kernel has them still
    if (!leaked) bufs_back(op, bufs, n, false);
    file_write(op->changes, op->offset, op->data.at, static_cast<size_t>(written));
    fs_end(op, !leaked);
    act_some(nullptr, below(3u));
}

void file_write_act(opened *on) {
    file *f = on->of;
    if (!file_may_change(f)) return;
    fs_op *op = fs_new(fs_what::write, "fs write");
    op->on = on;
    op->offset = below(f->now_.len + 200);
    mio_buf_t bufs[FS_BUFS];
    const unsigned n = 1 + (chance(40) ? below(FS_BUFS) : 0);
    for (unsigned i = 0; i < n; i++) {
        const size_t len = chance(10) ? 0 : 1 + (chance(80) ? below(500u) : below(9000u));
        bufs[i] = buf_owned(op->loop, len + 1);
        for (size_t k = 0; k < len; k++) bufs[i].base[k] = static_cast<char>('A' + below(20u));
        bufs[i].len = len;
        bytes_append(&op->data, bufs[i].base, len);
    }
    op->length = static_cast<int64_t>(op->data.len);
    if (op->data.len + static_cast<size_t>(op->offset) > LEN_MAX) op->offset = 0;
    bufs_note(op, bufs, n);
    file_change_begin(op, f);
    const mio_req_t id = CALL(mio_fs_write(op->loop, on->fd, bufs, n, op->offset, told_fs_write, op));
    for (unsigned i = 0; i < n; i++) {
        if ((bufs[i].base != nullptr) != (id < 0)) fail("fs write gives %lld, and buffer %u", static_cast<long long>(id), i);
        mio_buf_release(&bufs[i]);
    }
    fs_taken(op, id);
}

// --- reading --------------------------------------------------------------------------------------------------------

// What may stand at that place for a read that began when there had been `seen` changes?
static bool may_be(const file *f, int seen, size_t at, char byte) {
    if (!f->followed || f->changes > seen + 1) return true; // more than one change beside it
    if (at < f->now_.len && f->now_.at[at] == byte) return true;
    const bool one = f->changing || f->changes > seen;
    if (!one) return false;
    if (f->changing) return true; // what comes to be there is known when it has ended
    return (at < f->before.len && f->before.at[at] == byte) || byte == 0;
}

static void read_check(const fs_op *op, int64_t n, bool early) {
    const file *f = op->reads;
    const bool quiet = f->followed && !f->changing && f->changes == op->seen;
    const int64_t left = static_cast<int64_t>(f->now_.len) - op->offset;
    int64_t wanted = op->length < left ? op->length : left;
    if (wanted <= 0) wanted = MIO_EOF;
    if (quiet && !early && !fs_misfortune(n) && n != wanted)
        fail("fs read %d: %lld, and %lld were there", op->number, static_cast<long long>(n), static_cast<long long>(wanted));
    if (n == 0 || n > op->length) fail("fs read %d: %lld", op->number, static_cast<long long>(n));
}

static void told_fs_read(mio_loop_t *, int64_t n, mio_buf_t *bufs, unsigned nbufs, void *arg) {
    auto *op = static_cast<fs_op *>(arg);
    const bool early = fs_told(op, n < 0 ? n : 0) || op->cancelled || op->deadline;
    if (n == MIO_ESHUTDOWN) {
        fs_end(op, false);
        return;
    }
    read_check(op, n, early);
    int64_t at = op->offset, got = 0;
    for (unsigned i = 0; i < nbufs && i < op->n; i++) {
        const size_t old = op->was[i].len;
        for (size_t k = old; k < bufs[i].len; k++, at++, got++)
            if (!may_be(op->reads, op->seen, static_cast<size_t>(at), bufs[i].base[k]))
                fail("fs read %d: byte %lld of the file is another", op->number, static_cast<long long>(at));
        if (bufs[i].len < bufs[i].cap && i + 1 < nbufs && bufs[i + 1].len > op->was[i + 1].len)
            fail("fs read %d: buffer %u is not full, and the next has bytes", op->number, i);
    }
    if (got != (n > 0 ? n : 0)) fail("fs read %d: %lld, and %lld in the buffers", op->number, static_cast<long long>(n),
                                     static_cast<long long>(got));
    bufs_back(op, bufs, nbufs, true);
    fs_end(op, true);
    act_some(nullptr, below(3u));
}

void file_read_act(opened *on) {
    fs_op *op = fs_new(fs_what::read, "fs read");
    op->on = on;
    op->reads = on->of;
    op->seen = on->of->changes - (on->of->changing ? 1 : 0);
    op->offset = below(on->of->now_.len + 20);
    mio_buf_t bufs[FS_BUFS];
    const unsigned n = 1 + (chance(40) ? below(FS_BUFS) : 0);
    for (unsigned i = 0; i < n; i++) {
        const size_t room = 1 + (chance(70) ? below(400u) : below(70000u)), before = chance(20) ? below(50u) : 0;
        bufs[i] = buf_owned(op->loop, room + before);
        bufs[i].len = before;
        bufs[i].cap = room + before; // of more than was asked for
        op->length += static_cast<int64_t>(room);
    }
    bufs_note(op, bufs, n);
    const mio_req_t id = CALL(mio_fs_read(op->loop, on->fd, bufs, n, op->offset, told_fs_read, op));
    for (unsigned i = 0; i < n; i++) {
        if ((bufs[i].base != nullptr) != (id < 0)) fail("fs read gives %lld, and buffer %u", static_cast<long long>(id), i);
        mio_buf_release(&bufs[i]);
    }
    fs_taken(op, id);
}

// --- truncating -----------------------------------------------------------------------------------------------------

static void told_truncate(mio_loop_t *, int status, void *arg) {
    auto *op = static_cast<fs_op *>(arg);
    const bool unknown = fs_told(op, status);
    if (status == 0) file_resize(op->changes, static_cast<size_t>(op->length));
    fs_end(op, !unknown);
    act_some(nullptr, below(2u));
}

void file_truncate_act(opened *on) {
    if (!file_may_change(on->of)) return;
    fs_op *op = fs_new(fs_what::truncate, "ftruncate");
    op->on = on;
    op->length = below(on->of->now_.len + 500);
    file_change_begin(op, on->of);
    fs_taken(op, CALL(mio_fs_ftruncate(op->loop, on->fd, op->length, told_truncate, op)));
}

}
