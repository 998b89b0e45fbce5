/* libcurl on a loop: any number of transfers of a multi handle, by its "multi_socket" interface.
 * SPDX-License-Identifier: MIT
 *
 * For programs that are linked with libcurl (7.30 or later) themselves; libmio is not. It takes CURLMOPT_SOCKETFUNCTION and
 * CURLMOPT_TIMERFUNCTION with their data, and nothing else: libcurl(3), libcurl-multi(3), curl_multi_socket_action(3).
 *
 * Ownership: the loop, the multi handle and its easy handles stay the program's; libcurl owns its sockets. An adapter is
 * closed before its multi handle is cleaned up; the loop may be destroyed before or after that.
 * Threads: the adapter, its multi handle and the easy handles in it belong to the loop's thread.
 * Reentrancy: libcurl calls back inside its own functions, and must not be entered from there. The adapter enters it from
 * the loop only, never inside a call of the program's. `done` is called outside of libcurl: everything is allowed there.
 * Memory: malloc(3), one piece for each socket that libcurl waits for. */
#ifndef MIO_ADAPTERS_CURL_H
#define MIO_ADAPTERS_CURL_H

#include <curl/curl.h>
#include <mio.h>

#include <poll.h>
#include <stdlib.h>

typedef struct mio_curl mio_curl_t;

/* A transfer is over, with result (CURLE_OK, CURLE_COULDNT_CONNECT, ...: libcurl-errors(3)). easy is in the multi handle
 * still: take it out (curl_multi_remove_handle) and clean it up or start it anew, here or later. Transfers may be added and
 * removed, and the adapter may be closed. */
typedef void (*mio_curl_done_cb)(mio_curl_t *curl, CURL *easy, CURLcode result, void *arg);

/* Private from here on to the functions. */
struct mio_curl_socket_ {
    struct mio_curl_socket_ *next, **link;
    mio_curl_t *curl;
    mio_poll_t *poll; /* NULL: it cannot be watched, or the loop has ended it */
    curl_socket_t fd;
    unsigned events, looked;
};

struct mio_curl {
    mio_loop_t *loop;
    mio_remote_t *remote;
    CURLM *multi;
    mio_timer_t *timer, *look;
    mio_curl_done_cb done;
    void *arg;
    struct mio_curl_socket_ *sockets;
    unsigned inside; /* frames of ours on the stack, which use this */
    unsigned looks;
    int entered;     /* libcurl is on the stack, called by us */
    int closed;
};

#define MIO_CURL_LOOK_NS_ (10 * MIO_MILLISECOND) /* how often it is looked at what the loop cannot watch */

MIO_BEGIN

static inline void mio_curl_forget_(struct mio_curl_socket_ *s) {
    if (s->poll) mio_handle_abandon(MIO_HANDLE(s->poll)); /* the kernel has let go of it: libcurl closes it next */
    *s->link = s->next;
    if (s->next) s->next->link = s->link;
    free(s);
}

/* The program's word for each transfer that has ended. */
static inline void mio_curl_report_(mio_curl_t *curl) {
    int left;
    CURLMsg *message;
    while (!curl->closed && (message = curl_multi_info_read(curl->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) { /* the message is gone with its transfer: copied first */
            CURL *easy = message->easy_handle;
            const CURLcode result = message->data.result;
            curl->done(curl, easy, result, curl->arg);
        }
    }
}

static inline void mio_curl_enter_(mio_curl_t *curl, curl_socket_t fd, int what) {
    int running;
    curl->inside++;
    curl->entered = 1;
    /* An error is of the multi handle or the socket, and is a transfer's result as well: libcurl-errors(3). */
    (void)curl_multi_socket_action(curl->multi, fd, what, &running);
    curl->entered = 0;
    mio_curl_report_(curl);
    if (--curl->inside == 0 && curl->closed) free(curl);
}

static inline void mio_curl_on_timer_(mio_timer_t *timer, void *arg) {
    (void)timer;
    mio_curl_enter_((mio_curl_t *)arg, CURL_SOCKET_TIMEOUT, 0);
}

static inline void mio_curl_on_look_(mio_timer_t *timer, void *arg);

static inline void mio_curl_on_poll_(mio_poll_t *poll, int status, unsigned events, void *arg) {
    struct mio_curl_socket_ *s = (struct mio_curl_socket_ *)arg;
    int what = 0;
    if (status < 0) {
        s->poll = NULL;
        if (status == MIO_ECANCELED) return; /* the loop is being destroyed */
        mio_handle_abandon(MIO_HANDLE(poll));
        if (!mio_timer_is_active(s->curl->look))
            (void)mio_timer_start(s->curl->look, MIO_CURL_LOOK_NS_, 0, mio_curl_on_look_, s->curl);
        return;
    }
    if (events & (MIO_POLL_IN | MIO_POLL_HUP)) what |= CURL_CSELECT_IN;
    if (events & MIO_POLL_OUT) what |= CURL_CSELECT_OUT;
    if (events & MIO_POLL_ERR) what |= CURL_CSELECT_ERR;
    mio_curl_enter_(s->curl, s->fd, what); /* s may be gone when it returns */
}

static inline void mio_curl_watch_(struct mio_curl_socket_ *s) {
    if (!s->poll && mio_poll_open(s->curl->loop, s->fd, &s->poll) < 0) s->poll = NULL;
    if (s->poll && mio_poll_set(s->poll, s->events, mio_curl_on_poll_, s) < 0) {
        mio_handle_abandon(MIO_HANDLE(s->poll));
        s->poll = NULL;
    }
    if (!s->poll && !mio_timer_is_active(s->curl->look))
        (void)mio_timer_start(s->curl->look, MIO_CURL_LOOK_NS_, 0, mio_curl_on_look_, s->curl);
}

/* A transfer whose socket nobody watches would hang: it is asked for its sockets by poll(2), and they are tried again. */
static inline void mio_curl_on_look_(mio_timer_t *timer, void *arg) {
    mio_curl_t *curl = (mio_curl_t *)arg;
    struct mio_curl_socket_ *s = curl->sockets;
    (void)timer;
    curl->inside++;
    curl->looks++;
    while (s && !curl->closed) {
        struct pollfd now;
        int what = 0;
        if (s->poll || s->looked == curl->looks) {
            s = s->next;
            continue;
        }
        s->looked = curl->looks;
        mio_curl_watch_(s);
        now.fd = s->fd;
        now.events = (short)(((s->events & MIO_POLL_IN) ? POLLIN : 0) | ((s->events & MIO_POLL_OUT) ? POLLOUT : 0));
        now.revents = 0;
        (void)poll(&now, 1, 0);
        if (now.revents & (POLLIN | POLLHUP)) what |= CURL_CSELECT_IN;
        if (now.revents & POLLOUT) what |= CURL_CSELECT_OUT;
        if (now.revents & (POLLERR | POLLNVAL)) what |= CURL_CSELECT_ERR;
        if (what) {
            mio_curl_enter_(curl, s->fd, what);
            s = curl->sockets; /* any of them may be gone */
        }
    }
    if (--curl->inside == 0 && curl->closed) free(curl);
}

/* Called by libcurl: no more of it may be called here than curl_multi_assign. */
static inline int mio_curl_on_socket_(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg) {
    mio_curl_t *curl = (mio_curl_t *)arg;
    struct mio_curl_socket_ *s = (struct mio_curl_socket_ *)socket_arg;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s) mio_curl_forget_(s);
        return 0;
    }
    if (!mio_remote_is_open(curl->remote)) return 0; /* nobody runs it any more */
    if (!s) {
        s = (struct mio_curl_socket_ *)calloc(1, sizeof *s);
        if (!s) return 0; /* this transfer ends by its time-out; to say -1 is the end of all of them */
        s->curl = curl;
        s->fd = fd;
        s->link = &curl->sockets;
        s->next = curl->sockets;
        if (s->next) s->next->link = &s->next;
        curl->sockets = s;
        (void)curl_multi_assign(curl->multi, fd, s);
    }
    s->events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) s->events |= MIO_POLL_IN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) s->events |= MIO_POLL_OUT;
    mio_curl_watch_(s);
    return 0;
}

/* Called by libcurl: nothing of it may be called here, also where it wants to be called at once. */
static inline int mio_curl_on_timeout_(CURLM *multi, long timeout_ms, void *arg) {
    mio_curl_t *curl = (mio_curl_t *)arg;
    (void)multi;
    if (!mio_remote_is_open(curl->remote)) return 0;
    if (timeout_ms < 0) {
        (void)mio_timer_stop(curl->timer);
    } else {
        const int64_t most_ms = MIO_FOREVER / MIO_MILLISECOND;
        const int64_t after_ms = (int64_t)timeout_ms < most_ms ? (int64_t)timeout_ms : most_ms;
        (void)mio_timer_start(curl->timer, after_ms * MIO_MILLISECOND, 0, mio_curl_on_timer_, curl);
    }
    return 0;
}

/* Drives multi on loop from now on: what is added to it (curl_multi_add_handle) runs by itself, and is told by done. To be
 * called before the first transfer is added: libcurl tells of sockets once. The loop is kept going by transfers, not by the
 * adapter (and by libcurl's timer, which may go on for some milliseconds after the last one).
 * A socket that the loop cannot watch (MIO_ENOMEM, MIO_ENOSPC, a poll of the program's has it) is looked at each 10 ms.
 * MIO_EINVAL: no loop, multi, done or out. MIO_EBUSY: inside a callback of libcurl. MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_CHECK_RESULT static inline int mio_curl_open(mio_loop_t *loop, CURLM *multi, mio_curl_done_cb done, void *arg,
                                                 mio_curl_t **out) {
    mio_curl_t *curl;
    int status;
    if (!loop || !multi || !done || !out) return MIO_EINVAL;
    curl = (mio_curl_t *)calloc(1, sizeof *curl);
    if (!curl) return MIO_ENOMEM;
    status = mio_timer_create(loop, &curl->timer);
    if (status == 0) {
        status = mio_timer_create(loop, &curl->look);
        if (status < 0) mio_handle_abandon(MIO_HANDLE(curl->timer));
    }
    if (status < 0) {
        free(curl);
        return status;
    }
    curl->loop = loop;
    curl->remote = mio_remote_retain(mio_loop_remote(loop));
    curl->multi = multi;
    curl->done = done;
    curl->arg = arg;
    if (curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, mio_curl_on_socket_) != CURLM_OK) {
        mio_handle_abandon(MIO_HANDLE(curl->timer));
        mio_handle_abandon(MIO_HANDLE(curl->look));
        mio_remote_release(curl->remote);
        free(curl);
        return MIO_EBUSY;
    }
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, curl);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, mio_curl_on_timeout_);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, curl);
    *out = curl;
    return 0;
}

/* Lets go of multi, its sockets and the loop; done is not called any more. What is under way stands still: take it out, or
 * clean up multi (curl_multi_cleanup), which may be the next statement. The pointer is dead at once. NULL: 0.
 * MIO_EBUSY: inside a callback of libcurl (a write function, say); nothing was done. Legal in done. */
static inline int mio_curl_close(mio_curl_t *curl) {
    if (!curl) return 0;
    if (curl->closed) return MIO_EINVAL;
    if (curl->entered || curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, NULL) != CURLM_OK) return MIO_EBUSY;
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, NULL);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, NULL);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, NULL);
    while (curl->sockets) {
        (void)curl_multi_assign(curl->multi, curl->sockets->fd, NULL);
        mio_curl_forget_(curl->sockets);
    }
    if (mio_remote_is_open(curl->remote)) {
        mio_handle_abandon(MIO_HANDLE(curl->timer));
        mio_handle_abandon(MIO_HANDLE(curl->look));
    }
    mio_remote_release(curl->remote);
    curl->closed = 1;
    if (curl->inside == 0) free(curl);
    return 0;
}

MIO_END

#endif
