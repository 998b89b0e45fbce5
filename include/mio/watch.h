/* Watches: what happens to a file or a folder, told on the loop.
 * SPDX-License-Identifier: MIT
 *
 * A folder is watched with the names in it, not with the folders below: those are watched by a watch each. It is the file
 * that is watched, not its name: who wants to know of a file that is replaced (editors, package managers and most programs
 * write a new one and rename it over the old) watches its folder, for MIO_WATCH_REPLACED, and compares names.
 *
 * Linux (inotify(7)): files of the own kernel's; what other machines do on a network file system is not told, nor writes to
 * a mapping. macOS and BSD (EVFILT_VNODE, kqueue(2)): of a folder it is told that its names changed, as OVERFLOW, not
 * which; each watch takes a descriptor. In a simulated world there are no files: MIO_ENOTSUP. */
#ifndef MIO_WATCH_H
#define MIO_WATCH_H

#include <mio/base.h>

enum mio_watch_what MIO_ENUM_ {
    MIO_WATCH_CREATED = 1,     /* a name appeared: created, linked; moved in, where RENAMED is not asked for */
    MIO_WATCH_CHANGED = 2,     /* contents were written or truncated; told of many writes at once, or of each */
    MIO_WATCH_WRITTEN = 4,     /* who had it open for writing has closed it: the contents are whole. Linux only */
    MIO_WATCH_REMOVED = 8,     /* a name went, or the watched one itself (""); moved out, where RENAMED is not asked for */
    MIO_WATCH_RENAMED = 16,    /* a name became another one, came from elsewhere (name NULL) or went there (new_name NULL) */
    MIO_WATCH_ATTRIBUTES = 32, /* mode, owner, times, number of links */
    MIO_WATCH_OVERFLOW = 64    /* always told: the kernel's queue was full, and events are lost. Look at everything anew */
};
/* What may give a name in a folder new, whole contents. */
#define MIO_WATCH_REPLACED (MIO_WATCH_CREATED | MIO_WATCH_WRITTEN | MIO_WATCH_RENAMED)
#define MIO_WATCH_ALL 63

/* The names are the library's, until the callback returns; relative to the watched folder; "" is what is watched itself,
 * NULL unknown or none. */
typedef struct mio_watch_event {
    int what;             /* one of MIO_WATCH_CREATED ... MIO_WATCH_OVERFLOW */
    int is_folder;        /* what it happened to is one; 0 where that is not known */
    const char *name;     /* RENAMED: the old one */
    const char *new_name; /* RENAMED only */
} mio_watch_event_t;

/* status 0: event. status < 0: event is NULL. MIO_ECANCELED (the watch is being closed) and MIO_ENOENT (what was watched
 * is gone: removed and nobody has it open any more, or its file system unmounted) are the last call; any other is a report:
 * for want of memory or descriptors nothing is told for a while, and what happens meanwhile is told later. */
typedef void (*mio_watch_cb)(mio_watch_t *watch, int status, const mio_watch_event_t *event, void *arg);

MIO_BEGIN

/* Watches path (copied; a symbolic link is followed) for what (MIO_WATCH_..., or'ed). The path is looked up before this
 * returns, which on a network file system may wait. A watch keeps the loop going (mio_handle_unref).
 * MIO_EINVAL: no path, no cb, nothing asked for or something unknown. What inotify_add_watch(2) says: MIO_ENOENT,
 * MIO_EACCES, MIO_ENOTDIR, MIO_ENAMETOOLONG, MIO_ELOOP; MIO_ENOSPC: the user's watches are exhausted
 * (fs.inotify.max_user_watches); MIO_EMFILE: so are the user's watchers, of which a loop with watches has one
 * (fs.inotify.max_user_instances), or descriptors; MIO_ENFILE; MIO_ENOMEM. MIO_ENOTSUP: a simulated world, or a kernel
 * without. MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API MIO_CHECK_RESULT int mio_watch_open(mio_loop_t *loop, const char *path, unsigned what, mio_watch_cb cb, void *arg,
                                            mio_watch_t **out);

MIO_END

#endif
