// What the program calls. Each act reads its arguments from the input, checks what the call says, and notes what it may
// be told of from now on.
#include "api.h"

namespace fuzz {

thing *thing_new(enum mio_kind kind, unsigned loop) {
    if (now.things.size() >= THINGS_MAX) return nullptr;
    now.things.emplace_back();
    thing *t = &now.things.back();
    *t = {};
    t->kind = kind;
    t->loop = loop;
    return t;
}

static thing *pick(enum mio_kind kind) {
    thing *found[THINGS_MAX];
    unsigned n = 0;
    for (thing &t : now.things)
        if (t.kind == kind && t.handle != nullptr && !t.gone && !t.moving) found[n++] = &t;
    return n == 0 ? nullptr : found[take_below(now.in, n)];
}

static thing *pick_any() {
    static const enum mio_kind kinds[] = {MIO_KIND_STREAM, MIO_KIND_STREAM, MIO_KIND_STREAM, MIO_KIND_LISTENER,
                                          MIO_KIND_TIMER, MIO_KIND_HOOK, MIO_KIND_WAKEUP};
    return pick(kinds[take_below(now.in, 7)]);
}

static int pick_loop() { // -1: all are destroyed
    const unsigned first = take_below(now.in, LOOPS_MAX);
    for (unsigned i = 0; i < LOOPS_MAX; i++)
        if (now.loops[(first + i) % LOOPS_MAX] != nullptr) return static_cast<int>((first + i) % LOOPS_MAX);
    return -1;
}

static bool is_refusal(const thing *t, int64_t error) {
    if (t->closing) return error == MIO_EBADF;
    return error == MIO_EBUSY || error == MIO_ENOBUFS || error == MIO_EPIPE || error == MIO_ESHUTDOWN ||
           (error == MIO_ENOMEM && now.no_memory);
}

static request *request_new(thing *t, ask what) {
    now.requests.emplace_back();
    request *r = &now.requests.back();
    *r = {};
    r->of = t;
    r->what = what;
    r->number = ++now.numbers;
    return r;
}

// Taken, or refused and nothing taken.
static bool taken(request *r, mio_req_t id, mio_buf_t *bufs) {
    r->id = id;
    if (id > 0) {
        must(static_cast<int>(id) > 0 && !r->of->closing);
        for (unsigned i = 0; i < r->n; i++) must(bufs[i].base == nullptr && bufs[i].owner == nullptr);
        return true;
    }
    must(is_refusal(r->of, id) || (id == MIO_EINVAL && r->what == ask::write && r->size == 0));
    r->done = true;
    if (r->n > 0) bufs_check(r, bufs, r->n);
    for (unsigned i = 0; i < r->n; i++) mio_buf_release(&bufs[i]);
    borrowed_free(r);
    return false;
}

// --- buffers --------------------------------------------------------------------------------------------------------

struct owned {
    mio_buf_owner_t owner;
    char *base;
    size_t cap;
};

static void owned_release(mio_buf_owner_t *owner, char *base, size_t cap) {
    auto *mine = reinterpret_cast<owned *>(owner);
    must(base == mine->base && cap == mine->cap);
    now.wrapped--;
    free(base);
    free(mine);
}

static mio_buf_t buf_make(request *r, mio_loop_t *loop, size_t cap) {
    const unsigned kind = take_below(now.in, 3);
    mio_buf_t buf = {};
    auto *memory = kind == 1 ? nullptr : static_cast<char *>(malloc(cap));
    if (kind == 1 && CALL(mio_buf_alloc(loop, cap, &buf)) < 0) memory = static_cast<char *>(malloc(cap));
    if (kind == 0) {
        auto *mine = static_cast<owned *>(calloc(1, sizeof(owned)));
        mine->owner = MIO_BUF_OWNER_INIT(owned_release);
        mine->base = memory;
        mine->cap = cap;
        buf = mio_buf_wrap(memory, cap, &mine->owner);
        now.wrapped++;
    } else if (memory != nullptr) {
        buf = mio_buf_space(memory, cap);
        r->borrowed[r->n] = true;
    }
    must(buf.base != nullptr && buf.len == 0 && buf.cap >= cap);
    r->bases[r->n] = buf.base;
    r->n++;
    return buf;
}

static void act_hold() {
    mio_buf_t *a = &now.held[take_below(now.in, HELD_MAX)], *b = &now.held[take_below(now.in, HELD_MAX)];
    const int at = pick_loop();
    const bool same = a == b, empty = a->base == nullptr, other = b->base != nullptr;
    const size_t off = take_byte(now.in), len = take_byte(now.in), before = a->len;
    switch (take_below(now.in, 6)) {
    case 0: mio_buf_release(a); return;
    case 1: {
        const int error = mio_buf_slice(a, off, len);
        must(error == (off + len <= before && !empty ? 0 : error) && (error == 0 || a->len == before));
        return;
    }
    case 2:
        must((mio_buf_share(a, b) == 0) == (!empty && !other));
        must(empty || other || (b->base == a->base && b->len == a->len));
        return;
    case 3: {
        if (at < 0) return;
        const int error = CALL(mio_buf_keep(now.loops[at], a, off));
        must(error == 0 || error == MIO_ESHUTDOWN || error == MIO_EINVAL || error == MIO_ENOMEM);
        must(error != 0 || (a->cap >= a->len + off && a->len == before));
        return;
    }
    case 4:
        mio_buf_release(b);
        if (!same) *b = mio_buf_take(a);
        return;
    default:
        for (size_t i = 0; i < a->len; i++) must(a->base[i] >= 'a'); // what is held stays what it was
        return;
    }
}

// --- writing --------------------------------------------------------------------------------------------------------

static void act_write() {
    thing *t = pick(MIO_KIND_STREAM);
    if (t == nullptr) return;
    const unsigned kind = take_byte(now.in);
    const unsigned n = kind % 8 == 7 ? 1 + take_below(now.in, MIO_BUFS_MAX) : 1 + kind / 8 % 3;
    mio_buf_t bufs[MIO_BUFS_MAX];
    request *r = request_new(t, ask::write);
    uint64_t at = t->queued;
    for (unsigned i = 0; i < n; i++) {
        const size_t len = take_byte(now.in) * (kind % 8 == 6 ? 64u : kind % 8 == 5 ? 1000u : 1u);
        bufs[i] = buf_make(r, loop_of(t), len + 1);
        for (size_t byte = 0; byte < len; byte++) bufs[i].base[byte] = pattern(at++);
        bufs[i].len = r->lens[i] = len;
        r->size += len;
    }
    const unsigned flags = kind % 8 == 5 ? MIO_WRITE_ZEROCOPY : 0;
    const mio_req_t id = flags == 0 ? CALL(mio_stream_write(stream_of(t), bufs, n, told_write, r))
                                    : CALL(mio_stream_write_flags(stream_of(t), bufs, n, flags, told_write, r));
    if (taken(r, id, bufs)) t->queued = at;
}

static void act_try_write() {
    thing *t = pick(MIO_KIND_STREAM);
    if (t == nullptr) return;
    char text[256];
    const size_t n = take_byte(now.in);
    for (size_t i = 0; i < n; i++) text[i] = pattern(t->queued + i);
    const int64_t sent = CALL(mio_stream_try_write(stream_of(t), text, n));
    must(sent <= static_cast<int64_t>(n));
    must(!t->closing || sent == MIO_EBADF);
    if (sent > 0) t->queued += static_cast<size_t>(sent);
}

// --- reading --------------------------------------------------------------------------------------------------------

static void act_read() {
    thing *t = pick(MIO_KIND_STREAM);
    if (t == nullptr) return;
    const unsigned kind = take_byte(now.in);
    request *r = request_new(t, ask::read);
    mio_buf_t buf = buf_make(r, loop_of(t), 1 + take_byte(now.in) * (kind >= 128 ? 16u : 1u));
    buf.len = r->len_before = take_byte(now.in) % buf.cap;
    memset(buf.base, 'z', buf.len);
    r->size = buf.cap;
    const size_t room = buf.cap - buf.len, n = 1 + take_byte(now.in) % room;
    mio_req_t id;
    if (kind % 3 == 0) id = CALL(mio_stream_read(stream_of(t), &buf, told_read, r));
    else if (kind % 3 == 1) id = CALL(mio_stream_read_exact(stream_of(t), &buf, n, told_read, r));
    else id = CALL(mio_stream_read_until(stream_of(t), &buf, "ahov", 1 + kind / 3 % 4, kind % 2 == 0 ? 0 : n, told_read, r));
    taken(r, id, &buf);
}

static void act_read_start() {
    thing *t = pick(MIO_KIND_STREAM);
    if (t == nullptr) return;
    request *r = request_new(t, ask::continuous);
    const mio_req_t id = CALL(mio_stream_read_start(stream_of(t), take_below(now.in, 2), told_read, r));
    if (taken(r, id, nullptr)) t->reading = true;
}

static void act_flow() {
    thing *t = pick(MIO_KIND_STREAM);
    if (t == nullptr) return;
    switch (take_below(now.in, 3)) {
    case 0:
        if (CALL(mio_stream_read_pause(stream_of(t))) == 0) {
            must(t->reading && !t->closing);
            t->paused = true;
        }
        return;
    case 1:
        if (CALL(mio_stream_read_resume(stream_of(t))) == 0) t->paused = false;
        return;
    default:
        if (CALL(mio_stream_read_stop(stream_of(t))) == 0) {
            must(t->reading && !t->closing);
            t->stopped = true;
        }
        return;
    }
}

// --- requests -------------------------------------------------------------------------------------------------------

static void act_request() {
    if (now.requests.empty()) return;
    const unsigned back = take_byte(now.in);
    if (back >= now.requests.size()) return;
    request *r = &now.requests[now.requests.size() - 1 - back];
    mio_loop_t *loop = loop_of(r->of);
    if (r->id <= 0 || loop == nullptr) return;
    const bool over = r->done || r->abandoned;
    const unsigned how = take_below(now.in, 5);
    if (!over && r->what == ask::write) now.loose = true; // it may leave a hole
    int error = 0;
    switch (how) {
    case 0: error = CALL(mio_req_cancel(loop, r->id)); break;
    case 1: error = CALL(mio_req_timeout(loop, r->id, take_byte(now.in) * 100 * MIO_MICROSECOND)); break;
    case 2: error = CALL(mio_req_deadline(loop, r->id, take_byte(now.in) % 2 == 0 ? MIO_NEVER : 0)); break;
    case 3: // an id of another loop is nobody's
        if (now.loops[1 - r->of->loop] != nullptr) must(CALL(mio_req_cancel(now.loops[1 - r->of->loop], r->id)) == MIO_ENOENT);
        return;
    default:
        if (r->of->moving) return; // what becomes of its stream would not be told
        error = CALL(mio_req_abandon(loop, r->id));
        if (error != 0 || over) break;
        now.loose = true;
        if (r->what == ask::continuous) r->of->reading = r->of->paused = r->of->stopped = false;
        request_lost(r);
        break;
    }
    const bool has_none = error == MIO_EINVAL && r->what == ask::continuous && how < 3; // time of its own
    if (over) must(error == MIO_ENOENT);
    else must(error == 0 || error == MIO_EALREADY || has_none || (error == MIO_ENOENT && r->of->moving)); // it may have left
    if (!over && how == 0 && error == 0 && r->what == ask::continuous) r->of->stopped = true;
}

// --- settings, endings ----------------------------------------------------------------------------------------------

static void act_settings() {
    thing *t = pick(MIO_KIND_STREAM);
    if (t == nullptr) return;
    const size_t a = take_byte(now.in) * 16, b = take_byte(now.in) * 64;
    mio_stream_t *s = stream_of(t);
    int error = 0;
    switch (take_below(now.in, 8)) {
    case 0: error = CALL(mio_stream_set_watermarks(s, a, b, told_mark, t)); break;
    case 1: error = CALL(mio_stream_set_queue_max(s, b)); break;
    case 2:
        now.loose = true;
        error = CALL(mio_stream_set_timeout(s, static_cast<enum mio_timeout>(a / 16 % 4), static_cast<int64_t>(b) * MIO_MICROSECOND));
        break;
    case 3: error = CALL(mio_tcp_nodelay(s, a != 0)); break;
    case 4: error = CALL(mio_tcp_keepalive(s, static_cast<int>(a), static_cast<int>(b), 3)); break;
    case 5: error = CALL(mio_tcp_linger(s, a == 0 ? -1 : 0)); break;
    case 6: error = CALL(mio_tcp_quickack(s, a != 0)); break;
    default: {
        mio_addr_t addr;
        error = CALL(mio_stream_local(s, &addr));
        if (error == 0) error = CALL(mio_stream_peer(s, &addr));
        (void)mio_stream_fd(s);
        must(mio_stream_queued_bytes(s) <= (16u << 20));
        break;
    }
    }
    must(error <= 0 && (!t->closing || error == MIO_EBADF));
}

static void act_shutdown() {
    thing *t = pick(MIO_KIND_STREAM);
    if (t == nullptr) return;
    request *r = request_new(t, ask::other);
    taken(r, CALL(mio_stream_shutdown(stream_of(t), told_status, r)), nullptr);
}

static void closed(thing *t, int error) {
    must(error == (t->closing ? MIO_EALREADY : 0));
    t->closing = true;
    t->active = false;
}

static void act_close() {
    thing *t = pick_any();
    if (t == nullptr) return;
    closed(t, CALL(mio_handle_close(t->handle, told_close, t)));
}

static void act_finish() {
    thing *t = pick(MIO_KIND_STREAM);
    if (t == nullptr) return;
    const int64_t within_ns = take_byte(now.in) % 4 == 0 ? MIO_FOREVER : take_byte(now.in) * MIO_MILLISECOND;
    const int error = CALL(mio_stream_finish(stream_of(t), within_ns, told_close, t));
    if (error != MIO_EBUSY || t->closing) closed(t, error);
}

static void act_abandon() {
    thing *t = pick_any();
    if (t == nullptr) return;
    now.loose = true;
    now.inside++;
    mio_handle_abandon(t->handle);
    now.inside--;
    thing_lost(t); // borrowed memory is free at once
}

static void act_leave() {
    thing *t = pick(MIO_KIND_STREAM);
    if (t == nullptr) return;
    request *r = request_new(t, ask::other);
    const int to = pick_loop();
    if (take_below(now.in, 2) == 0 || to < 0) {
        taken(r, CALL(mio_stream_detach(stream_of(t), told_detach, r)), nullptr);
        return;
    }
    mio_remote_t *remote = CALL(mio_loop_remote(now.loops[to]));
    if (taken(r, CALL(mio_stream_move(stream_of(t), remote, told_move, r)), nullptr)) t->moving = true;
}

// --- coming ---------------------------------------------------------------------------------------------------------

static void made(thing *t, int64_t error, mio_handle_t *handle) {
    if (error >= 0) {
        t->handle = handle;
        must(mio_handle_loop(handle) == loop_of(t) && mio_handle_kind(handle) == t->kind);
        return;
    }
    must(error == MIO_ESHUTDOWN || (error == MIO_ENOMEM && now.no_memory) || error == MIO_EADDRINUSE || error == MIO_EMFILE ||
         error == MIO_ENFILE);
    t->gone = true;
}

static void act_connect() {
    const int at = pick_loop();
    const thing *to = pick(MIO_KIND_LISTENER);
    if (at < 0) return;
    thing *t = thing_new(MIO_KIND_STREAM, static_cast<unsigned>(at));
    if (t == nullptr) return;
    mio_addr_t addr;
    if (to == nullptr || CALL(mio_listener_local(static_cast<mio_listener_t *>(to->handle), &addr)) < 0)
        must(mio_addr_parse("127.0.0.1", 9, &addr) == 0);
    request *r = request_new(t, ask::other);
    mio_stream_t *stream = nullptr;
    const mio_req_t id = CALL(mio_tcp_connect(now.loops[at], &addr, nullptr, told_status, r, &stream));
    r->id = id;
    r->done = id < 0;
    made(t, id, stream);
}

static void act_make() {
    const int at = pick_loop();
    if (at < 0) return;
    static const enum mio_kind kinds[] = {MIO_KIND_LISTENER, MIO_KIND_TIMER, MIO_KIND_HOOK, MIO_KIND_WAKEUP};
    const enum mio_kind kind = kinds[take_below(now.in, 4)];
    thing *t = thing_new(kind, static_cast<unsigned>(at));
    if (t == nullptr) return;
    if (kind == MIO_KIND_LISTENER) {
        mio_listener_t *listener = nullptr;
        const int error = CALL(mio_tcp_listen(now.loops[at], "127.0.0.1", 0, nullptr, told_accept, t, &listener));
        made(t, error, listener);
    } else if (kind == MIO_KIND_TIMER) {
        mio_timer_t *timer = nullptr;
        const int error = CALL(mio_timer_create(now.loops[at], &timer));
        made(t, error, timer);
    } else if (kind == MIO_KIND_HOOK) {
        mio_hook_t *hook = nullptr;
        const unsigned phase = take_below(now.in, 3);
        t->idles = phase == MIO_HOOK_IDLE;
        const int error = CALL(mio_hook_create(now.loops[at], static_cast<enum mio_hook_phase>(phase), &hook));
        made(t, error, hook);
    } else {
        mio_wakeup_t *wakeup = nullptr;
        const int error = CALL(mio_wakeup_create(now.loops[at], told_wakeup, t, &wakeup));
        made(t, error, wakeup);
    }
}

static void act_listener() {
    const thing *t = pick(MIO_KIND_LISTENER);
    if (t == nullptr) return;
    auto *listener = static_cast<mio_listener_t *>(t->handle);
    const int error = CALL(take_below(now.in, 2) == 0 ? mio_listener_pause(listener) : mio_listener_resume(listener));
    must(error == (t->closing ? MIO_EBADF : 0));
}

static void act_timer() {
    thing *t = pick(MIO_KIND_TIMER);
    if (t == nullptr) return;
    auto *timer = static_cast<mio_timer_t *>(t->handle);
    const unsigned how = take_below(now.in, 4);
    const int64_t after_ns = take_byte(now.in) * 77777;
    const int64_t repeat_ns = how % 2 == 0 ? 0 : 5 * MIO_MILLISECOND + after_ns;
    const int64_t begun_ns = mio_loop_now_ns(loop_of(t));
    int error;
    if (how == 3) error = CALL(mio_timer_stop(timer));
    else if (how == 2) error = CALL(mio_timer_again(timer));
    else error = CALL(mio_timer_start(timer, after_ns, repeat_ns, told_timer, t));
    if (t->closing) must(error == MIO_EBADF);
    else must(error == 0 || (how == 2 && error == MIO_EINVAL && t->repeat_ns == 0));
    if (error != 0) return;
    t->active = how != 3;
    if (how < 2) t->repeat_ns = repeat_ns;
    t->due_ns = begun_ns + (how == 2 ? t->repeat_ns : after_ns);
}

static void act_hook() {
    thing *t = pick(MIO_KIND_HOOK);
    if (t == nullptr) return;
    auto *hook = static_cast<mio_hook_t *>(t->handle);
    const bool on = take_below(now.in, 2) == 0;
    if (on && t->idles && now.told) return; // in the midst of a run it would take its time to the end
    const int error = on ? CALL(mio_hook_start(hook, told_hook, t)) : CALL(mio_hook_stop(hook));
    must(error == (t->closing ? MIO_EBADF : 0));
    if (error == 0) t->active = on;
}

static void act_wakeup() {
    thing *t = pick(MIO_KIND_WAKEUP);
    if (t == nullptr) return;
    const int error = CALL(mio_wakeup_send(static_cast<mio_wakeup_t *>(t->handle)));
    must(error == (t->closing ? MIO_EBADF : 0));
    t->sends += error == 0;
}

static void act_post() {
    const int at = pick_loop();
    if (at < 0) return;
    now.posts.push_back({static_cast<unsigned>(at), ++now.numbers, false});
    const int error = CALL(mio_remote_post(mio_loop_remote(now.loops[at]), told_post, &now.posts.back()));
    if (error == 0) return;
    must(error == MIO_ESHUTDOWN || (error == MIO_ENOMEM && now.no_memory));
    now.posts.back().told = true;
}

// --- the loop, questions, nonsense ----------------------------------------------------------------------------------

static void on_line(const char *line, void *) { must(strlen(line) > 0); }

static void act_loop() {
    const int at = pick_loop();
    if (at < 0) return;
    mio_loop_t *loop = now.loops[at];
    mio_loop_metrics_t metrics = MIO_LOOP_METRICS_INIT;
    switch (take_below(now.in, 5)) {
    case 0: mio_loop_stop(loop); return;
    case 1: must(CALL(mio_loop_hold(loop, 1)) == 0 && CALL(mio_loop_hold(loop, -1)) == 0); return;
    case 2: must(mio_loop_dump(loop, on_line, nullptr) == 0); return;
    case 3: must(mio_loop_metrics(loop, &metrics) == 0 && metrics.handles < 1000); return;
    default: must(CALL(mio_loop_hold(loop, -2)) == MIO_EINVAL); return;
    }
}

static void act_question() {
    const thing *t = pick_any();
    if (t == nullptr) return;
    char name[40];
    memset(name, 'n', sizeof name - 1);
    name[take_below(now.in, sizeof name)] = 0;
    name[sizeof name - 1] = 0;
    const int error = CALL(mio_handle_set_name(t->handle, name));
    must(error == 0 || (error == MIO_ENOMEM && now.no_memory) || (error == MIO_EBADF && t->closing));
    if (error == 0) must(strncmp(mio_handle_name(t->handle), name, 31) == 0);
    must(mio_handle_is_closing(t->handle) == t->closing && mio_handle_kind(t->handle) == t->kind);
    must((mio_stream_from(t->handle) != nullptr) == (t->kind == MIO_KIND_STREAM));
    const bool on = take_below(now.in, 2) == 0;
    const int changed = CALL(on ? mio_handle_ref(t->handle) : mio_handle_unref(t->handle));
    must(changed == (t->closing ? MIO_EBADF : 0));
    if (!t->closing) must(mio_handle_is_referenced(t->handle) == on);
}

static void act_nonsense() {
    const int at = pick_loop();
    const thing *t = pick(MIO_KIND_STREAM);
    mio_stream_t *s = t == nullptr ? nullptr : stream_of(t);
    const int64_t wrong = s == nullptr ? MIO_EINVAL : t->closing ? MIO_EBADF : MIO_EINVAL;
    char memory[8] = "nothing";
    mio_buf_t buf = mio_buf_borrow(memory, sizeof memory);
    switch (take_below(now.in, 10)) {
    case 0: must(CALL(mio_stream_write(s, &buf, 0, told_write, nullptr)) < 0); break;
    case 1: must(CALL(mio_stream_write(s, nullptr, 1, told_write, nullptr)) < 0); break;
    case 2: must(CALL(mio_stream_write_flags(s, &buf, 1, 0x40, told_write, nullptr)) < 0); break;
    case 3: must(CALL(mio_stream_read_start(s, 0, nullptr, nullptr)) == wrong); break;
    case 4: must(CALL(mio_stream_read_exact(s, &buf, 1, told_read, nullptr)) < 0); break; // no room
    case 5: must(CALL(mio_stream_read_until(s, &buf, "", 0, 0, told_read, nullptr)) < 0); break;
    case 6: must(at < 0 || CALL(mio_req_cancel(now.loops[at], static_cast<mio_req_t>(take_number(now.in, 8)) | INT64_MIN)) == MIO_ENOENT); break;
    case 7: must(mio_handle_close(nullptr, nullptr, nullptr) == MIO_EINVAL); break;
    case 8: must(CALL(mio_stream_finish(s, -1, nullptr, nullptr)) < 0); break;
    default: must(CALL(mio_stream_unread(s, nullptr)) < 0); break;
    }
    must(buf.base == memory);
}

// What turns or ends the world: from a callback it is refused.
static void act_run() {
    static const int64_t limits_ns[] = {0,
                                        MIO_MICROSECOND,
                                        100 * MIO_MICROSECOND,
                                        300 * MIO_MICROSECOND,
                                        MIO_MILLISECOND,
                                        20 * MIO_MILLISECOND,
                                        300 * MIO_MILLISECOND,
                                        3 * MIO_SECOND};
    int64_t limit_ns = limits_ns[take_below(now.in, 8)];
    const int at = pick_loop();
    if (now.told) {
        must(CALL(mio_sim_run(now.world, limit_ns)) == MIO_EBUSY);
        return;
    }
    for (const thing &t : now.things) // time hardly passes
        if (t.idles && t.active && limit_ns > MIO_MICROSECOND) limit_ns = MIO_MICROSECOND;
    if (limit_ns > now.budget_ns) return;
    now.budget_ns -= limit_ns;
    if (take_below(now.in, 4) == 0 && at >= 0) {
        const int result = mio_loop_run_once(now.loops[at], limit_ns);
        must(result == 0 || result == MIO_ALIVE || result == MIO_STOPPED || (result == MIO_ENOMEM && now.no_memory));
        return;
    }
    const int result = mio_sim_run(now.world, limit_ns);
    must(result == 0 || result == MIO_ETIMEDOUT || result == MIO_STOPPED || (result == MIO_ENOMEM && now.no_memory));
}

void act() {
    static void (*const acts[])() = {act_run,   act_run,   act_run,      act_connect,  act_make,   act_write,  act_write,
                                     act_read,  act_flow,  act_read_start, act_request, act_hold,  act_try_write,
                                     act_settings, act_shutdown, act_close, act_finish, act_abandon, act_leave,
                                     act_listener, act_timer, act_hook, act_wakeup, act_post, act_loop, act_question,
                                     act_nonsense, act_connect};
    acts[take_below(now.in, sizeof acts / sizeof acts[0])]();
}

void act_some(unsigned most) {
    for (unsigned n = take_below(now.in, most + 1); n > 0 && now.in->left > 0; n--) act();
}

}
