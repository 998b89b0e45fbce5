// What lives beside the streams: timers, hooks, wakeups and posts on every loop, and buffers that the program keeps,
// shares and narrows.
//
// The model of a timer is when it is due at the earliest, of a wakeup whether it was sent, of a post its place among
// those to the same loop, of a kept buffer what its bytes were: nobody else may write there while it is kept.
#include "model.h"

namespace torture {

enum class other_kind { timer, hook, wakeup };

struct other {
    other_kind what;
    mio_handle_t *handle;
    mio_loop_t *loop;
    bool active, closing, dead, abandoned;
    bool once;         // a hook that stops itself: an idle one would never let time pass
    int64_t due_ns, repeat_ns;
    other *next;
};

struct post {
    unsigned loop;
    uint64_t number;   // in the order of the posts to that loop
    bool told;
    post *next;
};

static other *others;
static post *posts;
static int other_count;
static uint64_t posts_made[2], posts_told[2];

static void check_told(const other *o, const char *what) {
    if (calls_open != 0) fail("a %s calls back inside a call", what);
    if (o->abandoned) fail("a %s calls back after an abandon", what);
    if (o->dead || o->closing) fail("a %s calls back after its close", what);
    if (!o->active) fail("a %s calls back that nobody started", what);
}

// --- told -----------------------------------------------------------------------------------------------------------

static void told_timer(mio_timer_t *timer, void *arg) {
    other *o = static_cast<other *>(arg);
    check_told(o, "timer");
    const int64_t now_ns = mio_loop_now_ns(o->loop);
    if (now_ns < o->due_ns) fail("a timer is %lld ns early", static_cast<long long>(o->due_ns - now_ns));
    if (timer != mio_timer_from(o->handle)) fail("a timer is told as another");
    o->active = o->repeat_ns > 0;
    o->due_ns += o->repeat_ns;
    act_some(nullptr, below(2u));
}

static void told_hook(mio_hook_t *hook, void *arg) {
    other *o = static_cast<other *>(arg);
    check_told(o, "hook");
    if (o->once || chance(20)) {
        if (CALL(mio_hook_stop(hook)) != 0) fail("a hook does not stop");
        o->active = false;
    }
    if (chance(10)) act_some(nullptr, 1);
}

static void told_wakeup(mio_wakeup_t *, void *arg) {
    other *o = static_cast<other *>(arg);
    check_told(o, "wakeup");
    o->active = false;
    act_some(nullptr, below(2u));
}

static void told_other_closed(mio_handle_t *handle, void *arg) {
    other *o = static_cast<other *>(arg);
    if (calls_open != 0) fail("a close is told inside a call");
    if (o->dead || o->abandoned || handle != o->handle) fail("a close is told twice, or after an abandon");
    o->dead = true;
}

static void told_post(mio_loop_t *loop, int status, void *arg) {
    post *p = static_cast<post *>(arg);
    if (calls_open != 0) fail("a post runs inside a call");
    if (p->told) fail("a post runs twice");
    if (loop != now.loops[p->loop]) fail("a post runs on another loop");
    if (p->number != posts_told[p->loop]++) fail("post %llu is out of its turn", static_cast<unsigned long long>(p->number));
    if (status != 0 && !(status == MIO_ECANCELED && now.destroying)) fail("a post is told %s", mio_error_name(status));
    p->told = true;
    act_some(nullptr, below(2u));
}

// --- done -----------------------------------------------------------------------------------------------------------

static bool refused(const char *what, int error) {
    if (error == 0) return false;
    if (error != MIO_ESHUTDOWN && !(error == MIO_ENOMEM && now.no_memory)) fail("%s gives %s", what, mio_error_name(error));
    return true;
}

static void other_create() {
    auto *o = static_cast<other *>(calloc(1, sizeof(other)));
    o->what = static_cast<other_kind>(below(3u));
    o->loop = now.loops[below(now.loop_count)];
    int error = 0;
    if (o->what == other_kind::timer) {
        mio_timer_t *timer = nullptr;
        error = CALL(mio_timer_create(o->loop, &timer));
        o->handle = timer;
    } else if (o->what == other_kind::hook) {
        const auto phase = static_cast<enum mio_hook_phase>(below(3u));
        mio_hook_t *hook = nullptr;
        error = CALL(mio_hook_create(o->loop, phase, &hook));
        o->handle = hook;
        o->once = phase == MIO_HOOK_IDLE;
    } else {
        mio_wakeup_t *wakeup = nullptr;
        error = CALL(mio_wakeup_create(o->loop, told_wakeup, o, &wakeup));
        o->handle = wakeup;
    }
    if (refused("creating a timer, hook or wakeup", error)) {
        free(o);
        return;
    }
    o->next = others;
    others = o;
    other_count++;
}

static void other_end(other *o) {
    if (chance(30) && !now.no_abandons) {
        o->abandoned = true;
        CALL_VOID(mio_handle_abandon(o->handle));
        return;
    }
    if (CALL(mio_handle_close(o->handle, told_other_closed, o)) != 0) fail("a timer, hook or wakeup does not close");
    o->closing = true;
}

static void other_act(other *o) {
    if (chance(12)) {
        other_end(o);
        return;
    }
    if (o->what == other_kind::wakeup) {
        if (CALL(mio_wakeup_send(mio_wakeup_from(o->handle))) != 0) fail("a wakeup is not sent");
        o->active = true;
    } else if (o->what == other_kind::hook) {
        if (CALL(mio_hook_start(mio_hook_from(o->handle), told_hook, o)) != 0) fail("a hook does not start");
        o->active = true;
    } else if (chance(25)) {
        if (CALL(mio_timer_stop(mio_timer_from(o->handle))) != 0) fail("a timer does not stop");
        o->active = false;
    } else {
        const int64_t after_ns = below(20u) * MIO_MILLISECOND;
        o->repeat_ns = chance(30) ? (1 + below(10u)) * MIO_MILLISECOND : 0;
        o->due_ns = mio_loop_now_ns(o->loop) + after_ns;
        if (CALL(mio_timer_start(mio_timer_from(o->handle), after_ns, o->repeat_ns, told_timer, o)) != 0)
            fail("a timer does not start");
        o->active = true;
    }
}

static void post_act() {
    auto *p = static_cast<post *>(calloc(1, sizeof(post)));
    p->loop = below(now.loop_count);
    mio_remote_t *to = CALL(mio_loop_remote(now.loops[p->loop]));
    p->number = posts_made[p->loop];
    if (refused("a post", CALL(mio_remote_post(to, told_post, p)))) {
        free(p);
        return;
    }
    posts_made[p->loop]++;
    p->next = posts;
    posts = p;
}

// Another reference to the same bytes, perhaps to fewer of them.
static void share_act() {
    if (now.held_count == 0 || now.held_count == HELD_MAX) return;
    mio_buf_t *one = &now.held[below(now.held_count)];
    mio_buf_t second = {};
    if (one->len == 0) return;
    if (CALL(mio_buf_share(one, &second)) != 0) fail("a buffer is not shared");
    const size_t off = below(second.len), len = 1 + below(second.len - off);
    if (mio_buf_slice(&second, off, len) != 0) fail("a shared buffer is not narrowed");
    buf_hold(&second);
}

void act_other(connection *) {
    const uint32_t which = below(10u);
    if (which < 2 && other_count < 30) {
        other_create();
    } else if (which < 6) {
        uint32_t seen = 0;
        other *found = nullptr;
        for (other *o = others; o != nullptr; o = o->next)
            if (!o->dead && !o->closing && !o->abandoned && below(++seen) == 0) found = o;
        if (found != nullptr) other_act(found);
    } else if (which < 8) {
        post_act();
    } else {
        share_act();
    }
}

// --- the end --------------------------------------------------------------------------------------------------------

// What is sent and posted has been told; nothing repeats any more.
void others_quiet() {
    for (const other *o = others; o != nullptr; o = o->next) {
        if (o->dead || o->closing || o->abandoned || o->what != other_kind::timer) continue;
        if (CALL(mio_timer_stop(mio_timer_from(o->handle))) != 0) fail("a timer does not stop");
        const_cast<other *>(o)->active = false;
    }
}

bool others_are_over() {
    for (const other *o = others; o != nullptr; o = o->next) {
        if (o->abandoned) continue;
        if (o->closing ? !o->dead : o->what == other_kind::wakeup && o->active) return false;
    }
    for (unsigned i = 0; i < now.loop_count; i++)
        if (posts_told[i] != posts_made[i]) return false;
    return true;
}

void others_check() {
    for (const other *o = others; o != nullptr; o = o->next) {
        if (o->closing && !o->dead && !o->abandoned) fail("a timer, hook or wakeup does not close");
        if (o->what == other_kind::wakeup && o->active && !o->closing && !o->abandoned) fail("a wakeup was lost");
    }
    for (unsigned i = 0; i < now.loop_count; i++)
        if (posts_told[i] != posts_made[i]) fail("posts were lost on loop %u", i);
}

void others_close() {
    for (other *o = others; o != nullptr; o = o->next)
        if (!o->dead && !o->closing && !o->abandoned) other_end(o);
}

void others_clear() {
    while (others != nullptr) {
        other *o = others;
        others = o->next;
        free(o);
    }
    while (posts != nullptr) {
        post *p = posts;
        posts = p->next;
        if (!p->told) fail("a post was never told");
        free(p);
    }
    other_count = 0;
    posts_made[0] = posts_made[1] = posts_told[0] = posts_told[1] = 0;
}

}
