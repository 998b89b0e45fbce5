// <sys/event.h> of the model of kqueue (model.cc): the names of kqueue(2) with FreeBSD's values, as far as they are
// modelled. What is compiled against this on Linux is compiled unchanged against a real one elsewhere.
#pragma once

#include <stdint.h>
#include <time.h>

#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_VNODE (-4)
#define EVFILT_USER (-11)

#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_ENABLE 0x0004
#define EV_DISABLE 0x0008
#define EV_ONESHOT 0x0010
#define EV_CLEAR 0x0020
#define EV_RECEIPT 0x0040
#define EV_DISPATCH 0x0080
#define EV_ERROR 0x4000
#define EV_EOF 0x8000

#define NOTE_LOWAT 0x00000001u
#define NOTE_DELETE 0x0001
#define NOTE_WRITE 0x0002
#define NOTE_EXTEND 0x0004
#define NOTE_ATTRIB 0x0008
#define NOTE_LINK 0x0010
#define NOTE_RENAME 0x0020
#define NOTE_REVOKE 0x0040
#define NOTE_TRIGGER 0x01000000u
#define NOTE_FFLAGSMASK 0x00ffffffu
#define NOTE_FFCTRLMASK 0xc0000000u
#define NOTE_FFNOP 0x00000000u

struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned int fflags;
    int64_t data;
    void *udata;
};

#define EV_SET(kevp, a, b, c, d, e, f)                              \
    do {                                                            \
        struct kevent *kevp_ = (kevp);                              \
        kevp_->ident = static_cast<uintptr_t>(a);                   \
        kevp_->filter = static_cast<short>(b);                      \
        kevp_->flags = static_cast<unsigned short>(c);              \
        kevp_->fflags = static_cast<unsigned int>(d);               \
        kevp_->data = static_cast<int64_t>(e);                      \
        kevp_->udata = reinterpret_cast<void *>(f);                 \
    } while (0)

extern "C" {
int kqueue(void);
int kevent(int kq, const struct kevent *changes, int n, struct kevent *events, int max, const struct timespec *timeout);
}
