// Buffers as the program sees them: mio_buf_*.
//
// Decides what a legal buffer is and who is told when the last reference goes. Three kinds of owner: none (borrowed,
// or empty when base is NULL too), a block of ours (core/arena.h), or the program's own (wrapped). Knows neither
// streams nor requests.
//
//   - A wrapped owner's count is owner->references, 0 while it is not in use; it is one atomic word, for wrapped memory
//     has no home thread. Base and cap are kept in the owner, because those of the buffer may have been narrowed.
//   - After the release callback was called (or our last reference was dropped) the owner is not touched again: it may
//     be gone or in use anew.
#include "core/arena.h"

#include "base/assert.h"
#include "core/loop.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static void owner_release(mio_buf_owner_t *owner) {
    char *base = owner->base;
    const size_t cap = owner->cap;
    const int64_t references = __atomic_load_n(&owner->references, __ATOMIC_ACQUIRE);
    mio_assert_slow(references > 0 && "a buffer was released twice");
    if (references == 1) __atomic_store_n(&owner->references, 0, __ATOMIC_RELEASE); // ours is the only one
    else if (__atomic_sub_fetch(&owner->references, 1, __ATOMIC_ACQ_REL) != 0) return;
    if (GUARD_HIDES) region_show(base, cap); // it is theirs again
    owner->release(owner, base, cap);
}

static inline bool buf_is_empty(const mio_buf_t *buf) { return buf->base == nullptr && buf->owner == nullptr; }

// On the thread that the loop of the block belongs to, whether it runs or not: local is that thread's to look at.
// What others did with the bytes before they let go has happened before a false.
static inline bool block_is_shared(const block *b) {
    return static_cast<int64_t>(b->local) - block_balance(b->remote.load(std::memory_order_acquire)) > 1;
}

bool buf_is_shared(const mio_buf_t *buf) {
    if (buf->owner == nullptr) return false;
    if (!block_is_ours(buf->owner)) return __atomic_load_n(&buf->owner->references, __ATOMIC_RELAXED) > 1;
    const block *b = block_of(buf->owner);
    if (b->kind == block_kind::receive) return false;
    return block_is_mine(b) && block_is_shared(b);
}

// Keeps the bytes where they are if the block is ours alone, of the class that a fresh one would have, and of this
// loop. false: a fresh one is needed. Between runs the arena is nobody's, so it is not asked whether the block is mine.
static bool keep_in_place(const arena *a, mio_buf_t *buf, size_t cap) {
    if (buf->owner == nullptr || !block_is_ours(buf->owner)) return false;
    block *b = block_of(buf->owner);
    if (b->home != a || b->kind == block_kind::receive || !arena_fits(b, cap) || block_is_shared(b)) return false;
    region_show(b->owner.base, buf->len); // bytes in front may have been read by others, and hidden for good
    memmove(b->owner.base, buf->base, buf->len); // before what lies behind cap is hidden: the bytes may lie there
    arena_show(b, cap);
    buf->base = b->owner.base;
    buf->cap = cap;
    return true;
}

}

using namespace mio;

int mio_buf_alloc(mio_loop_t *public_loop, size_t cap, mio_buf_t *out) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr || cap == 0 || cap > MIO_BUF_SIZE_MAX) return MIO_EINVAL;
    block *b = arena_take(l->buffers, cap);
    if (b == nullptr) return MIO_ENOMEM;
    *out = block_buf(b, cap);
    return 0;
}

mio_buf_t mio_buf_borrow(const void *ptr, size_t len) {
    if (ptr == nullptr) return mio_buf_t();
    return mio_buf_t{static_cast<char *>(const_cast<void *>(ptr)), len, len, nullptr};
}

mio_buf_t mio_buf_space(void *ptr, size_t cap) {
    if (ptr == nullptr) return mio_buf_t();
    return mio_buf_t{static_cast<char *>(ptr), 0, cap, nullptr};
}

mio_buf_t mio_buf_wrap(void *ptr, size_t cap, mio_buf_owner_t *owner) {
    if (ptr == nullptr || owner == nullptr || owner->size != sizeof(*owner)) return mio_buf_t();
    if (owner->release == nullptr || block_is_ours(owner)) return mio_buf_t();
    int64_t unused = 0;
    if (!__atomic_compare_exchange_n(&owner->references, &unused, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return mio_buf_t();
    owner->base = static_cast<char *>(ptr);
    owner->cap = cap;
    return mio_buf_t{owner->base, 0, cap, owner};
}

mio_buf_t mio_buf_take(mio_buf_t *buf) {
    if (buf == nullptr) return mio_buf_t();
    const mio_buf_t taken = *buf;
    *buf = mio_buf_t();
    return taken;
}

int mio_buf_slice(mio_buf_t *buf, size_t off, size_t len) {
    if (buf == nullptr || off > buf->len || len > buf->len - off) return MIO_EINVAL;
    if (buf->base != nullptr) buf->base += off;
    buf->len = len;
    buf->cap = len;
    return 0;
}

int mio_buf_share(mio_buf_t *buf, mio_buf_t *out) {
    if (buf == nullptr || out == nullptr || buf_is_empty(buf) || !buf_is_empty(out)) return MIO_EINVAL;
    if (buf->owner != nullptr) {
        if (block_is_ours(buf->owner)) {
            block_share(block_of(buf->owner));
        } else {
            mio_assert_slow(__atomic_load_n(&buf->owner->references, __ATOMIC_RELAXED) > 0);
            __atomic_add_fetch(&buf->owner->references, 1, __ATOMIC_RELAXED);
        }
    }
    *out = *buf;
    return 0;
}

int mio_buf_keep(mio_loop_t *public_loop, mio_buf_t *buf, size_t reserve) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (buf == nullptr || buf->len > MIO_BUF_SIZE_MAX || reserve > MIO_BUF_SIZE_MAX - buf->len) return MIO_EINVAL;
    const size_t cap = buf->len + reserve;
    if (cap == 0 || (buf->base == nullptr && buf->len != 0)) return MIO_EINVAL;
    if (keep_in_place(l->buffers, buf, cap)) return 0;
    block *b = arena_take(l->buffers, cap);
    if (b == nullptr) return MIO_ENOMEM;
    if (buf->len != 0) memcpy(b->owner.base, buf->base, buf->len);
    mio_buf_t kept = block_buf(b, cap);
    kept.len = buf->len;
    buf_release(buf);
    *buf = kept;
    return 0;
}

void mio_buf_release(mio_buf_t *buf) {
    if (buf == nullptr) return;
    mio_buf_owner_t *owner = buf->owner;
    bufs_hide(buf, 1);
    *buf = mio_buf_t();
    if (owner == nullptr) return;
    if (block_is_ours(owner)) block_release(block_of(owner));
    else owner_release(owner);
}
