/* Buffers: memory with exactly one owner at any time.
 * SPDX-License-Identifier: MIT
 *
 * Moving in: a start function that succeeds empties the caller's structs; one that fails leaves them as they were.
 * Moving out: a callback gets its buffer back. Keep it with mio_buf_take, pass it on to a start function, or do
 * nothing: what is still in it when the callback returns goes back to where it came from.
 * Copying the struct does not copy the ownership.
 *
 * Threads: take, slice, share and release may be called on any thread, one thread per mio_buf_t at a time. */
#ifndef MIO_BUF_H
#define MIO_BUF_H

#include <mio/base.h>

#define MIO_BUFS_MAX 64u                       /* buffers in one write */
#define MIO_BUF_SIZE_MAX ((size_t)0x7ffff000u) /* bytes in one buffer: what Linux moves at most in one call, read(2) */

/* The owner of wrapped memory: whoever wants it back. Lives until release was called. The members after release are
 * the library's; zero them with MIO_BUF_OWNER_INIT. One owner is for one buffer at a time. */
typedef struct mio_buf_owner {
    size_t size; /* sizeof(mio_buf_owner_t) */
    /* Called once, on the thread that drops the last reference, with the base and cap given to mio_buf_wrap.
     * May be called inside any mio function; calls none itself. */
    void (*release)(struct mio_buf_owner *owner, char *base, size_t cap);
    char *base;
    size_t cap;
    int64_t references;
} mio_buf_owner_t;
#ifdef __cplusplus
#define MIO_BUF_OWNER_INIT(release_cb) { sizeof(mio_buf_owner_t), (release_cb), nullptr, 0, 0 }
#else
#define MIO_BUF_OWNER_INIT(release_cb) { sizeof(mio_buf_owner_t), (release_cb), 0, 0, 0 }
#endif

typedef struct mio_buf {
    char *base;             /* first byte */
    size_t len;             /* valid bytes at base: what a write sends; a read appends at base + len */
    size_t cap;             /* bytes available at base: a read adds at most cap - len */
    mio_buf_owner_t *owner; /* where it goes home; NULL: borrowed or empty */
} mio_buf_t;                /* all zero: empty */

MIO_BEGIN

/* Fresh memory of cap bytes (1 to MIO_BUF_SIZE_MAX) with len 0. Never one of the receive blocks.
 * MIO_EINVAL, MIO_ENOMEM, MIO_ESHUTDOWN. On the loop's thread. */
MIO_API int mio_buf_alloc(mio_loop_t *loop, size_t cap, mio_buf_t *out);

/* The caller's own memory, freed by nobody: it must stay valid until the request that takes it has called back or
 * mio_handle_abandon has returned. borrow: len valid bytes to send. space: cap bytes to read into. */
MIO_API mio_buf_t mio_buf_borrow(const void *ptr, size_t len);
MIO_API mio_buf_t mio_buf_space(void *ptr, size_t cap);

/* Memory that owner->release takes back. len is 0: set it, or read into it.
 * An owner that is in use, lacks release, or has another size gives the empty buffer, and so does a NULL ptr. */
MIO_API mio_buf_t mio_buf_wrap(void *ptr, size_t cap, mio_buf_owner_t *owner);

/* Moves: returns what buf holds and empties buf. [any thread] */
MIO_API mio_buf_t mio_buf_take(mio_buf_t *buf);

/* Narrows buf in place to len bytes from off (off + len <= buf->len, else MIO_EINVAL and no change); cap becomes len
 * too. [any thread] */
MIO_API int mio_buf_slice(mio_buf_t *buf, size_t off, size_t len);

/* Makes out (empty) a second reference to the bytes of buf. From now on neither may be written to or read into; the
 * memory goes home when the last reference is released. Of a borrowed buffer both are borrowed. Never allocates.
 * MIO_EINVAL: buf is empty, or out is not. [any thread] */
MIO_API int mio_buf_share(mio_buf_t *buf, mio_buf_t *out);

/* Copies the live bytes of buf into a block of its own with room for len + reserve bytes, and lets the old block go:
 * the idiom for keeping a partial message without keeping a receive block from its loop. Of an empty buffer: as alloc.
 * MIO_EINVAL, MIO_ENOMEM (buf unchanged), MIO_ESHUTDOWN. On the loop's thread. */
MIO_API int mio_buf_keep(mio_loop_t *loop, mio_buf_t *buf, size_t reserve);

/* Lets go and empties buf. Of an empty buffer: nothing. From another thread the memory travels home by itself, also
 * after its loop is gone. A debug build panics when one reference is released twice. [any thread]
 * [in diagnostics] */
MIO_API void mio_buf_release(mio_buf_t *buf);

MIO_END

#endif
