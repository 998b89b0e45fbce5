// Terminals: what a stream may ask of one, and that all it changed is put back (tty_restore.cc keeps how it was).

#include "io/stream.h"
#include "io/tty_restore.h"

#include <mio/error.h>
#include <mio/tty.h>

#include <sys/ioctl.h>

namespace mio {

void channel_restore(loop *l, channel *c) {
    extension *extra = c->extra;
    c->flags = static_cast<uint16_t>(c->flags & ~CHANNEL_RESTORED);
    if (extra->kept_modes != nullptr) {
        (void)l->calls->tty_set(c->fd, &extra->kept_modes->modes); // hung up: there is nothing to put back
        kept_forget(extra->kept_modes);
        extra->kept_modes = nullptr;
    }
    if (extra->kept_status != nullptr) {
        kept_status_put_back(l->calls, c->fd, extra->kept_status);
        extra->kept_status = nullptr;
    }
}

static int tty_check(const stream *s) {
    const int error = stream_check(s);
    if (error < 0) return error;
    if ((s->flags & CHANNEL_FILE) == 0) return MIO_ENOTTY;
    return s->fd < 0 ? static_cast<int>(MIO_ENOTCONN) : 0;
}

static int mode_raw(stream *s) {
    loop *l = s->on;
    struct termios now;
    int error = l->calls->tty_get(s->fd, &now);
    if (error < 0) return error;
    extension *extra = handle_extend(s);
    if (extra == nullptr) return MIO_ENOMEM;
    if (extra->kept_modes == nullptr) {
        fd_facts facts;
        error = l->calls->facts(s->fd, &facts);
        if (error < 0) return error;
        extra->kept_modes = kept_modes_note(s->fd, facts.device, &now);
        if (extra->kept_modes == nullptr) return MIO_ENOBUFS;
        s->flags = static_cast<uint16_t>(s->flags | CHANNEL_RESTORED);
    }
    struct termios raw = extra->kept_modes->modes;
    cfmakeraw(&raw);
    do error = l->calls->tty_set(s->fd, &raw);
    while (error == MIO_EINTR);
    return error;
}

static int mode_normal(stream *s) {
    extension *extra = s->extra;
    if (extra == nullptr || extra->kept_modes == nullptr) {
        struct termios now;
        return s->on->calls->tty_get(s->fd, &now); // nothing to do, if it is one
    }
    int error;
    do error = s->on->calls->tty_set(s->fd, &extra->kept_modes->modes);
    while (error == MIO_EINTR);
    if (error < 0) return error;
    kept_forget(extra->kept_modes);
    extra->kept_modes = nullptr;
    if (extra->kept_status == nullptr) s->flags = static_cast<uint16_t>(s->flags & ~CHANNEL_RESTORED);
    return 0;
}

}

using namespace mio;

int mio_tty_set_mode(mio_stream_t *public_stream, enum mio_tty_mode mode) {
    stream *s = ours<stream>(public_stream);
    const int error = tty_check(s);
    if (error < 0) return error;
    if ((s->bits & STREAM_DETACHING) != 0) return MIO_EBUSY; // what is changed here is put back here
    if (mode == MIO_TTY_RAW) return mode_raw(s);
    return mode == MIO_TTY_NORMAL ? mode_normal(s) : static_cast<int>(MIO_EINVAL);
}

int mio_tty_size(const mio_stream_t *public_stream, unsigned *columns, unsigned *rows) {
    const stream *s = ours<stream>(public_stream);
    int error = tty_check(s);
    if (error < 0) return error;
    if (columns == nullptr || rows == nullptr) return MIO_EINVAL;
    struct winsize size;
    error = s->on->calls->tty_size(s->fd, &size);
    if (error < 0) return error;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return 0;
}
