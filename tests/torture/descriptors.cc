// Descriptors that travel through pairs of unix streams.
//
// The model of a direction is the bytes that were written and, at some of them, the files whose descriptors left with
// them, known by their inodes. Whoever takes descriptors is told of each file once, in order, before the byte that it came
// with; where nobody takes them they are closed. How many descriptors are open is compared at the end of the seed.
#include "nouns.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace torture {

constexpr int PAIRS_MAX = 3, WRITES_MAX = 60, PASSED_MAX = 200, FDS_MAX = 3, KEPT_MAX = 20;

struct passed { // with one byte
    size_t at;
    ino_t files[FDS_MAX];
    unsigned n;
};

struct end;

struct sent { // one write
    end *of;
    unsigned n;
    ino_t files[FDS_MAX];
    char *base;
    size_t len;
    bool done;
    sent *next, *next_of_all;
};

struct end {
    mio_stream_t *stream;
    mio_loop_t *loop;
    end *other;
    bool closing, dead, abandoned, reading, takes;
    size_t written, read;  // bytes that the kernel took, that were read
    bool broken;           // a write ended in its middle: what comes is not known any more
    passed gone[PASSED_MAX];
    int gone_count, told;  // told: to the other end
    sent *first, *last;
    end *next;
};

static end *ends;
static sent *sents;
static int pair_count, write_count, kept_count;
static int kept[KEPT_MAX];

static bool is_usable(const end *e) { return !e->closing && !e->dead && !e->abandoned; }

static ino_t file_of(int fd) {
    struct stat facts;
    if (fstat(fd, &facts) < 0) fail("descriptor %d is not open", fd);
    return facts.st_ino;
}

// --- told -----------------------------------------------------------------------------------------------------------

static void told_fds(mio_stream_t *stream, int status, int *fds, unsigned n, void *arg) {
    auto *e = static_cast<end *>(arg);
    end *from = e->other;
    told_outside("descriptors");
    if (e->dead || e->abandoned || stream != e->stream) fail("descriptors are told of after the end");
    if (status != 0) fail("descriptors come with %s", mio_error_name(status));
    for (unsigned i = 0; i < n; i++) file_of(fds[i]);
    // The write may not have called back yet: then its bytes are not known to be gone.
    const passed *p = from->told < from->gone_count ? &from->gone[from->told] : nullptr;
    if (p != nullptr && !from->broken) {
        if (p->n != n) fail("%u descriptors of %u", n, p->n);
        for (unsigned i = 0; i < n; i++)
            if (file_of(fds[i]) != p->files[i]) fail("a descriptor of another file");
        if (e->read > p->at) fail("descriptors come behind their byte: %zu, %zu", p->at, e->read);
    }
    from->told++;
    for (unsigned i = 0; i < n && kept_count < KEPT_MAX; i++) {
        if (!chance(40)) continue;
        kept[kept_count++] = fds[i];
        fds[i] = -1;
    }
    if (chance(5) && !now.no_abandons) {
        e->abandoned = true;
        CALL_VOID(mio_handle_abandon(e->stream));
        return;
    }
    act_some(nullptr, below(2u));
}

static void told_bytes(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    auto *e = static_cast<end *>(arg);
    told_outside("a read");
    if (e->dead || e->abandoned || !e->reading) fail("an end reads after its end");
    if (n > 0) {
        for (size_t i = 0; i < buf->len; i++)
            if (!e->other->broken && buf->base[i] != static_cast<char>('a' + (e->read + i) % 26)) fail("byte %zu is another", e->read + i);
        e->read += buf->len;
    } else {
        e->reading = false;
        if (n != MIO_EOF && n != MIO_ECANCELED && n != MIO_ECONNRESET && n != MIO_ENOTCONN &&
            !(n == MIO_EPIPE && now.sim) && !(n == MIO_ETIMEDOUT && now.faulted) && !is_want(n))
            fail("a read ends with %s", mio_error_name(n));
    }
    act_some(nullptr, below(2u));
}

static void told_passed(mio_stream_t *, int status, int64_t done, mio_buf_t *bufs, unsigned n, void *arg) {
    auto *s = static_cast<sent *>(arg);
    end *e = s->of;
    told_outside("a write");
    if (s->done || e->dead || e->abandoned || e->first != s) fail("a write of descriptors calls back twice, late or out of order");
    s->done = true;
    e->first = s->next;
    if (n != 1 || bufs[0].base != s->base || bufs[0].len != s->len) fail("a write of descriptors has another buffer");
    if (done < 0 || done > static_cast<int64_t>(s->len) || (status == 0) != (done == static_cast<int64_t>(s->len)))
        fail("a write of descriptors: status %d, %lld of %zu", status, static_cast<long long>(done), s->len);
    if (done > 0 && s->n > 0 && e->gone_count < PASSED_MAX) {
        // What was told meanwhile was this one.
        passed *p = &e->gone[e->gone_count++];
        p->at = e->written;
        p->n = s->n;
        memcpy(p->files, s->files, sizeof p->files);
    }
    e->written += static_cast<size_t>(done);
    if (status != 0) e->broken = true; // later ones begin elsewhere
    act_some(nullptr, below(2u));
}

static void told_end_closed(mio_handle_t *, void *arg) {
    auto *e = static_cast<end *>(arg);
    told_outside("a close");
    if (e->dead || e->abandoned || e->reading || e->first != nullptr) fail("an end closes before its requests are told");
    e->dead = true;
}

// --- done -----------------------------------------------------------------------------------------------------------

static end *end_new(mio_loop_t *loop, mio_stream_t *stream) {
    auto *e = static_cast<end *>(calloc(1, sizeof(end)));
    e->loop = loop;
    e->stream = stream;
    e->next = ends;
    ends = e;
    return e;
}

static void pair_open_act() {
    mio_loop_t *loops[2] = {some_loop(), some_loop()};
    mio_stream_t *a = nullptr, *b = nullptr;
    pair_count++;
    const int error = CALL(mio_unix_pair(loops[0], loops[1], MIO_UNIX_STREAM, &a, &b));
    if (error < 0) {
        if (!may_refuse(error)) fail("no pair: %s", mio_error_name(error));
        return;
    }
    end *one = end_new(loops[0], a), *other = end_new(loops[1], b);
    one->other = other;
    other->other = one;
    end *const both[] = {one, other};
    for (end *e : both) { // before anything is read
        e->takes = chance(80);
        const int taken = e->takes ? CALL(mio_unix_take_fds(e->stream, MIO_UNIX_FDS_MAX, told_fds, e)) : 0;
        if (now.sim ? e->takes && taken != MIO_ENOTSUP : taken != 0 && !may_refuse(taken)) fail("take_fds gives %d", taken);
        if (!e->takes || taken != 0) e->takes = false;
    }
}

static void pass_act(end *e) {
    if (write_count++ >= WRITES_MAX) return;
    auto *s = static_cast<sent *>(calloc(1, sizeof(sent)));
    s->of = e;
    size_t begins = e->written;
    for (const sent *before = e->first; before != nullptr; before = before->next) begins += before->len;
    mio_buf_t buf = buf_owned(e->loop, 400);
    buf.len = 1 + below(400u);
    for (size_t i = 0; i < buf.len; i++) buf.base[i] = static_cast<char>('a' + (begins + i) % 26);
    s->base = buf.base;
    s->len = buf.len;
    int fds[FDS_MAX];
    const unsigned n = chance(60) ? 1 + below(FDS_MAX + 0u) : 0;
    for (unsigned i = 0; i < n; i++) {
        fds[i] = memfd_create("passed", MFD_CLOEXEC);
        if (fds[i] < 0) fail("no file to be passed");
        s->files[i] = file_of(fds[i]);
    }
    s->n = n;
    const mio_req_t id = n > 0 ? CALL(mio_unix_write_fds(e->stream, &buf, 1, fds, n, told_passed, s))
                               : CALL(mio_stream_write(e->stream, &buf, 1, told_passed, s));
    if (id < 0) {
        if (!may_refuse(id) && id != MIO_EPIPE && id != MIO_ENOBUFS && !(now.sim && n > 0 && id == MIO_ENOTSUP))
            fail("a write of descriptors gives %s", mio_error_name(id));
        mio_buf_release(&buf);
        for (unsigned i = 0; i < n; i++) {
            file_of(fds[i]); // still the program's
            close(fds[i]);
        }
        free(s);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        if (fds[i] != -1) fail("a write left a descriptor with the program");
    s->next_of_all = sents;
    sents = s;
    if (e->first == nullptr) e->first = s;
    else e->last->next = s;
    e->last = s;
    if (chance(8)) CALL(mio_req_cancel(e->loop, id));
}

static void descriptors_act() {
    if (kept_count > 0 && chance(30)) close(kept[--kept_count]);
    end *found = nullptr;
    uint32_t seen = 0;
    for (end *e = ends; e != nullptr; e = e->next)
        if (is_usable(e) && below(++seen) == 0) found = e;
    if (found == nullptr || (pair_count < PAIRS_MAX && chance(10))) {
        if (pair_count < PAIRS_MAX) pair_open_act();
        return;
    }
    const uint32_t which = below(100u);
    if (which < 55) pass_act(found);
    else if (which < 94) {
        const mio_req_t id = CALL(mio_stream_read_start(found->stream, MIO_READ_NO_AUTOPAUSE, told_bytes, found));
        if (id > 0) found->reading = true;
        else if (id != MIO_EBUSY && !may_refuse(id)) fail("an end does not read: %s", mio_error_name(id));
    } else if (which < 97 && !now.no_abandons) {
        found->abandoned = true;
        CALL_VOID(mio_handle_abandon(found->stream));
    } else {
        if (CALL(mio_handle_close(found->stream, told_end_closed, found)) != 0) fail("an end does not close");
        found->closing = true;
    }
}

// --- the end --------------------------------------------------------------------------------------------------------

static bool is_owed(const end *from) {
    const end *e = from->other;
    if (!is_usable(e) || !e->reading || from->broken || now.rough || now.silent || reading_waits(e->loop)) return false;
    if (e->read < from->written) return true;
    return e->takes && from->told < from->gone_count;
}

static bool descriptors_are_over() {
    for (const end *e = ends; e != nullptr; e = e->next)
        if (is_owed(e) || (is_usable(e) && e->first != nullptr && is_usable(e->other) && e->other->reading && !now.silent &&
            !reading_waits(e->other->loop))) return false;
    return true;
}

static void descriptors_check() {
    for (const end *e = ends; e != nullptr; e = e->next) {
        if (is_owed(e)) fail("%zu of %zu bytes came, descriptors %d of %d times", e->other->read, e->written, e->told, e->gone_count);
        if (e->closing && !e->dead) fail("an end does not close");
    }
}

static void descriptors_close() {
    for (end *e = ends; e != nullptr; e = e->next) {
        if (!is_usable(e)) continue;
        if (CALL(mio_handle_close(e->stream, told_end_closed, e)) != 0) fail("an end does not close");
        e->closing = true;
    }
}

static void descriptors_clear() {
    while (ends != nullptr) {
        end *e = ends;
        ends = e->next;
        if (!e->abandoned && (e->first != nullptr || e->reading)) fail("an end was never told of its requests");
        free(e);
    }
    while (sents != nullptr) {
        sent *s = sents;
        sents = s->next_of_all;
        free(s);
    }
    while (kept_count > 0) close(kept[--kept_count]);
    pair_count = write_count = 0;
}

const noun noun_descriptors = {"descriptors", true, nullptr, descriptors_act, nullptr, descriptors_are_over, descriptors_check,
                               descriptors_close, descriptors_clear};

}
