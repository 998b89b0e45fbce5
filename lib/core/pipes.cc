// Pipes of a loop. One with bytes in it is closed, not kept: nobody may ever find another's bytes in his own.
#include "core/pipes.h"

#include "core/loop.h"

#include <mio/error.h>

namespace mio {

static void pipe_close(loop *l, const pipe_ends *ends) {
    (void)l->calls->close(ends->in); // there is nothing that could be lost
    (void)l->calls->close(ends->out);
}

int pipes_take(loop *l, pipe_ends *out) {
    struct pipes *p = &l->pipes;
    if (p->useless) return MIO_ENOSYS;
    if (p->taken == PIPES_MOST) return MIO_EMFILE;
    if (p->kept_count != 0) {
        *out = p->kept[--p->kept_count];
    } else {
        int ends[2];
        const int error = l->calls->pipe_cloexec(ends);
        if (error < 0) return error;
        *out = pipe_ends{ends[1], ends[0]};
    }
    p->taken++;
    return 0;
}

void pipes_give(loop *l, const pipe_ends *ends, bool empty) {
    struct pipes *p = &l->pipes;
    mio_assert(p->taken != 0);
    p->taken--;
    if (empty && p->kept_count != PIPES_KEPT) p->kept[p->kept_count++] = *ends;
    else pipe_close(l, ends);
}

void pipes_refuse(loop *l) {
    l->pipes.useless = true;
    pipes_close(l);
}

void pipes_close(loop *l) {
    struct pipes *p = &l->pipes;
    while (p->kept_count != 0) pipe_close(l, &p->kept[--p->kept_count]);
}

}
