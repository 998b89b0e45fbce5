// Pipes, FIFOs, and descriptors whatever they are, as streams.
//
// Decides how a descriptor that may be somebody else's, too, is read and written without ever waiting:
//
//   what it is               how
//   socket                   as any other: MSG_DONTWAIT
//   made or opened here      O_NONBLOCK: its open file is ours
//   nonblocking already      as it is
//   pipe, FIFO to read       RWF_NOWAIT, if this kernel knows it of this very open file: of pipes, but of no FIFO, nor of
//                            a pipe that was opened by its name in /proc. Opened once more it would not tell the end to
//                            who waits if its last writer had left before
//   pipe, FIFO to write      opened once more, nonblocking: that open file is ours
//   terminal                 the same
//   regular file, disk       by the workers, whom it may keep waiting (stream_disk.cc)
//   the rest                 O_NONBLOCK is set, and put back later (tty_restore.cc)
//
// 0, 1 and 2 are the program's for ever, and other libraries': a stream over one has a duplicate.

#include "io/stream.h"
#include "io/tty_restore.h"

#include <mio/error.h>
#include <mio/pipe.h>

#include <fcntl.h>
#include <sys/stat.h>

namespace mio {

constexpr int STANDARD_LAST = 2;

// --- ours -----------------------------------------------------------------------------------------------------------

static stream *file_stream(loop *l, int fd, int status, uint16_t what) {
    stream *s = stream_create(l, fd);
    if (s == nullptr) return nullptr;
    stream_set_kind(s, static_cast<uint16_t>(CHANNEL_FILE | what));
    if ((status & O_ACCMODE) == O_RDONLY) s->bits |= STREAM_NO_WRITE;
    if ((status & O_ACCMODE) == O_WRONLY) s->bits |= STREAM_NO_READ;
    return s;
}

static int pipe_make(const loop *l, int ends[2]) {
    int error = l->calls->pipe_cloexec(ends);
    if (error < 0) return error;
    error = l->calls->set_nonblocking(ends[0]);
    if (error == 0) error = l->calls->set_nonblocking(ends[1]);
    if (error == 0) return 0;
    l->calls->close(ends[0]);
    l->calls->close(ends[1]);
    return error;
}

// --- somebody's -----------------------------------------------------------------------------------------------------

// Reads to nowhere: nothing is taken out, whatever it holds.
static bool nowait_works(const loop *l, int fd) {
    const ssize_t answer = l->calls->read_nowait(fd, nullptr, 1);
    return answer == 0 || answer == MIO_EAGAIN || answer == MIO_EFAULT;
}

static bool is_disk(const fd_facts *facts) { return S_ISREG(facts->mode) || S_ISBLK(facts->mode); }

struct adopted {
    int fd;        // the stream's
    int status;    // how it was opened, and whether it waits
    uint16_t what; // CHANNEL_NOWAIT, or nothing
    bool changes;  // O_NONBLOCK is to be set and put back
    bool disk;     // STREAM_DISK
};

// The descriptor that the stream will have: another one for what is opened once more and for the standard ones, else the same.
static int adopt_choose(const loop *l, int fd, const fd_facts *facts, adopted *out) {
    const bool disk = is_disk(facts);
    int status = facts->status;
    const bool waits = (status & O_NONBLOCK) == 0 || (!disk && kept_status_shared(l->calls, fd, &status));
    *out = adopted{fd, status, 0, !disk && waits, disk};
    const bool fifo = S_ISFIFO(facts->mode);
    const int access = facts->status & O_ACCMODE;
    if (out->changes && fifo && access != O_WRONLY && nowait_works(l, fd)) {
        out->what = CHANNEL_NOWAIT;
        out->changes = false;
    }
    if (out->changes && (facts->tty || (fifo && access != O_RDONLY))) {
        const int again = l->calls->reopen(fd);
        if (again >= 0) {
            out->fd = again;
            out->changes = false;
            return 0;
        }
    }
    if (fd > STANDARD_LAST) return 0;
    const int copy = l->calls->dup_cloexec(fd);
    if (copy < 0) return copy;
    out->fd = copy;
    return 0;
}

static int adopt_change(loop *l, stream *s, int status) {
    extension *extra = handle_extend(s);
    if (extra == nullptr) return MIO_ENOMEM;
    extra->kept_status = kept_status_note(s->fd, status);
    if (extra->kept_status == nullptr) return MIO_ENOBUFS;
    s->flags = static_cast<uint16_t>(s->flags | CHANNEL_RESTORED);
    return l->calls->set_nonblocking(s->fd);
}

// A stream over what was chosen; an error, and nothing was changed.
static int adopt_make(loop *l, const adopted *chosen, stream **out) {
    stream *s = file_stream(l, chosen->fd, chosen->status, chosen->what);
    if (s == nullptr) return MIO_ENOMEM;
    if (chosen->disk) s->bits |= STREAM_DISK;
    const int error = chosen->changes ? adopt_change(l, s, chosen->status) : 0;
    if (error == 0) {
        *out = s;
        return 0;
    }
    if ((s->flags & CHANNEL_RESTORED) != 0) channel_restore(l, s);
    s->fd = -1;
    handle_abandon(s);
    return error;
}

static int adopt_file(loop *l, int fd, const fd_facts *facts, stream **out) {
    adopted chosen;
    int error = adopt_choose(l, fd, facts, &chosen);
    if (error < 0) return error;
    error = adopt_make(l, &chosen, out);
    if (error < 0 && chosen.fd != fd) l->calls->close(chosen.fd);
    if (error == 0 && chosen.fd != fd && fd > STANDARD_LAST) l->calls->close(fd); // the other one stands for it
    return error;
}

static int adopt_socket(mio_loop_t *public_loop, int fd, mio_stream_t **out) {
    if (fd > STANDARD_LAST) return mio_stream_adopt(public_loop, fd, nullptr, 0, out);
    const loop *l = loop_of(public_loop);
    const int copy = l->calls->dup_cloexec(fd);
    if (copy < 0) return copy;
    const int error = mio_stream_adopt(public_loop, copy, nullptr, 0, out);
    if (error < 0) l->calls->close(copy);
    return error;
}

}

// --- what the user asks ---------------------------------------------------------------------------------------------

using namespace mio;

int mio_pipe_open(mio_loop_t *public_loop, mio_stream_t **reader, mio_stream_t **writer) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (reader == nullptr || writer == nullptr) return MIO_EINVAL;
    int ends[2];
    error = pipe_make(l, ends);
    if (error < 0) return error;
    stream *in = file_stream(l, ends[0], O_RDONLY, 0);
    stream *out = in == nullptr ? nullptr : file_stream(l, ends[1], O_WRONLY, 0);
    if (out == nullptr) {
        if (in != nullptr) handle_abandon(in); // and its descriptor with it
        else l->calls->close(ends[0]);
        l->calls->close(ends[1]);
        return MIO_ENOMEM;
    }
    *reader = theirs<mio_stream_t>(in);
    *writer = theirs<mio_stream_t>(out);
    return 0;
}

int mio_pipe_open_path(mio_loop_t *public_loop, const char *path, unsigned how, mio_stream_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (path == nullptr || out == nullptr || how == 0 || (how & ~3u) != 0) return MIO_EINVAL;
    const int access = how == MIO_PIPE_READ ? O_RDONLY : how == MIO_PIPE_WRITE ? O_WRONLY : O_RDWR;
    int fd;
    do fd = l->calls->open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    while (fd == MIO_EINTR);
    if (fd < 0) return fd;
    fd_facts facts;
    error = l->calls->facts(fd, &facts);
    if (error == 0 && !S_ISFIFO(facts.mode)) error = MIO_EINVAL;
    stream *s = error < 0 ? nullptr : file_stream(l, fd, access, 0);
    if (s == nullptr) {
        l->calls->close(fd);
        return error < 0 ? error : static_cast<int>(MIO_ENOMEM);
    }
    *out = theirs<mio_stream_t>(s);
    return 0;
}

int mio_pipe_adopt(mio_loop_t *public_loop, int fd, mio_stream_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    if (fd < 0) return MIO_EBADF;
    fd_facts facts;
    error = l->calls->facts(fd, &facts);
    if (error < 0) return error;
    if (S_ISSOCK(facts.mode)) return adopt_socket(public_loop, fd, out);
    const bool nameless = (facts.mode & S_IFMT) == 0; // what Linux makes without a file: signalfd(2), eventfd(2), ...
    if (!S_ISFIFO(facts.mode) && !S_ISCHR(facts.mode) && !is_disk(&facts) && !nameless) return MIO_ENOTSUP;
    stream *s = nullptr;
    error = adopt_file(l, fd, &facts, &s);
    if (error == 0) *out = theirs<mio_stream_t>(s);
    return error;
}
