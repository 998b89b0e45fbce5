// The model: requests in their lanes, channels with the bytes of both ends, buffers.
#include "model.h"

#include <netinet/in.h>
#include <stdarg.h>

namespace torture {

run now;
bool verbose;
int calls_open;

// --- telling --------------------------------------------------------------------------------------------------------

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("seed %llu: ", static_cast<unsigned long long>(now.seed));
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    fflush(stdout);
    abort();
}

void say(const char *format, ...) {
    if (!verbose) return;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

uint32_t below(uint32_t limit) {
    now.random ^= now.random << 13;
    now.random ^= now.random >> 7;
    now.random ^= now.random << 17;
    return limit == 0 ? 0 : static_cast<uint32_t>(now.random >> 16) % limit;
}

void bytes_append(bytes *to, const void *from, size_t n) {
    if (n == 0) return;
    if (to->len + n > to->cap) {
        to->cap = 2 * (to->len + n);
        to->at = static_cast<char *>(realloc(to->at, to->cap));
    }
    memcpy(to->at + to->len, from, n);
    to->len += n;
}

// --- buffers that are held ------------------------------------------------------------------------------------------

bool reading_waits(const mio_loop_t *loop) {
    const size_t most = now.buffer_max[loop == now.loops[0] ? 0 : 1];
    mio_loop_metrics_t metrics = MIO_LOOP_METRICS_INIT;
    mio_loop_metrics(loop, &metrics);
    if (metrics.buffer_pauses == 0 || metrics.buffer_held_bytes == 0) return false;
    return now.no_memory || now.scarce || (most != 0 && metrics.buffer_held_bytes > most - most / 8);
}

// --- connections ----------------------------------------------------------------------------------------------------

connection *connection_new(mio_loop_t *loop) {
    if (now.connection_count == CONNECTIONS_MAX) fail("more connections than the program starts");
    auto *c = static_cast<connection *>(calloc(1, sizeof(connection)));
    c->number = now.connection_count;
    c->loop = loop;
    c->above = -1;
    now.connections[now.connection_count++] = c;
    return c;
}

static void lane_lose(lane *l) {
    for (request *r = l->first; r != nullptr; r = r->next) r->abandoned = true;
    *l = {nullptr, nullptr};
}

void connection_lost(connection *c) {
    channel_sent_unknown(c);
    channel_freeze(c);
    lane_lose(&c->reads);
    lane_lose(&c->writes);
    if (c->continuous != nullptr) c->continuous->abandoned = true;
    c->continuous = nullptr;
    c->dead = true;
    c->stream = nullptr;
}

static void lane_spaces_free(request *r) {
    for (; r != nullptr; r = r->next) request_spaces_free(r);
}

void connection_abandon(connection *c) {
    mio_stream_t *stream = c->stream;
    request *reads = c->reads.first, *writes = c->writes.first;
    connection_lost(c);
    CALL_VOID(mio_handle_abandon(stream));
    lane_spaces_free(reads);
    lane_spaces_free(writes);
}

// An end that this world can bring about?
void check_status(const request *r, int64_t status) {
    switch (status) {
    case MIO_ECANCELED:
    case MIO_ETIMEDOUT:
    case MIO_ECONNRESET:
    case MIO_ECONNREFUSED:
    case MIO_ENOTCONN: // behind a connect that failed
    case MIO_EPIPE: return;
    case MIO_EOF:
        if (r->what >= kind::read || r->of_a_file) return;
        break;
    case MIO_EMSGSIZE:
        if (r->what == kind::read_until) return;
        break;
    case MIO_ESHUTDOWN:
        if (r->what == kind::move) return;
        break;
    case MIO_ENOMEM:
        if (now.no_memory || now.scarce) return;
        break;
    case MIO_ENOBUFS:
    case MIO_EMFILE:
    case MIO_ENFILE:
        if (now.scarce) return;
        break;
    }
    if (r->of->by_name && is_of_a_host(status)) return;
    if (status < 0) fail("request %d ends with %s", r->number, mio_error_name(static_cast<int>(status)));
}

// A request of the write side has ended: may later ones be refused because of that?
static void write_side_note(const request *r, int64_t status) {
    const bool cancelled = status == MIO_ECANCELED || status == MIO_ETIMEDOUT;
    switch (r->what) {
    case kind::write:
    case kind::connect: r->of->write_ended |= status != 0; break;
    case kind::shutdown: r->of->write_ended |= !cancelled; break;
    case kind::detach:
    case kind::move:
    case kind::read:
    case kind::read_exact:
    case kind::read_until:
    case kind::continuous: break;
    }
}

bool connection_is_followed(const connection *c) {
    return !c->unknown && (c->on == nullptr || !c->on->unknown[c->side]);
}

// --- requests -------------------------------------------------------------------------------------------------------

request *request_new(connection *c, kind what) {
    auto *r = static_cast<request *>(calloc(1, sizeof(request)));
    r->number = -1;
    r->of = c;
    r->what = what;
    return r;
}

void request_forget(request *r) {
    free(r->data.at);
    free(r);
}

static lane *lane_of(const request *r) { return r->what >= kind::read ? &r->of->reads : &r->of->writes; }

void request_taken(request *r, mio_req_t id) {
    if (id <= 0) fail("id %lld", static_cast<long long>(id));
    r->id = id;
    r->number = now.request_count++;
    r->next_of_all = now.requests;
    now.requests = r;
    if (r->done) return; // nobody will be told
    if (r->what == kind::continuous) {
        r->of->continuous = r;
        return;
    }
    lane *l = lane_of(r);
    if (l->last != nullptr) l->last->next = r;
    else l->first = r;
    l->last = r;
}

request *lane_first(const lane *l) {
    request *r = l->first;
    while (r != nullptr && r->abandoned) r = r->next;
    return r;
}

void request_buf(request *r, const mio_buf_t *buf) {
    r->bases[r->n] = buf->base;
    r->lens[r->n] = buf->len;
    r->spaces[r->n] = buf->owner == nullptr;
    r->n++;
}

void request_bufs_drop(request *r, mio_buf_t *bufs, unsigned n) {
    if (n != r->n) fail("request %d: %u buffers of %u", r->number, n, r->n);
    for (unsigned i = 0; i < n; i++) {
        if (bufs[i].base != r->bases[i]) fail("request %d: buffer %u is another", r->number, i);
        mio_buf_release(&bufs[i]);
    }
    request_spaces_free(r);
}

void request_spaces_free(request *r) {
    for (unsigned i = 0; i < r->n; i++) {
        if (r->spaces[i]) free(r->bases[i]);
        r->spaces[i] = false;
    }
}

bool lane_is_live(const lane *l) { return lane_first(l) != nullptr; }

void request_told(request *r, int64_t status) {
    if (calls_open != 0) fail("request %d calls back inside a call", r->number);
    if (r->done) fail("request %d calls back twice", r->number);
    if (r->abandoned) fail("request %d calls back after an abandon", r->number);
    if (r->of->dead) fail("request %d calls back after the end of its stream", r->number);
    check_status(r, status);
    r->done = true;
    lane *l = lane_of(r);
    if (lane_first(l) != r)
        fail("request %d calls back before %d", r->number, l->first == nullptr ? -1 : lane_first(l)->number);
    l->first = r->next;
    if (l->first == nullptr) l->last = nullptr;
    write_side_note(r, status);
}

// --- channels -------------------------------------------------------------------------------------------------------

channel *channel_new(int port, int to) {
    auto *ch = static_cast<channel *>(calloc(1, sizeof(channel)));
    ch->port = port;
    ch->to = to;
    ch->next = now.channels;
    now.channels = ch;
    return ch;
}

// The two ends find each other by their ports; one may be used again.
void channel_bind(connection *c, int side, int port, int to) {
    channel *ch = now.channels;
    while (ch != nullptr && (ch->port != port || ch->to != to)) ch = ch->next;
    if (ch == nullptr || ch->present[side]) ch = channel_new(port, to);
    ch->present[side] = true;
    c->on = ch;
    c->side = side;
    if (c->unknown) ch->unknown[side] = true;
    say("c%d is side %d of port %d", c->number, side, port);
}

void channel_bind_unknown(connection *c, int side) {
    c->on = channel_new(-1, -1);
    c->side = side;
    c->on->unknown[0] = c->on->unknown[1] = true;
}

void channel_sent(connection *c, const void *from, size_t n) {
    if (n == 0) return;
    if (c->on == nullptr) fail("connection %d sent before it was connected", c->number);
    if (!c->on->unknown[c->side]) bytes_append(&c->on->sent[c->side], from, n);
}

void channel_sent_unknown(connection *c) {
    if (c->on != nullptr) c->on->unknown[c->side] = true;
    else c->unknown = true;
}

void channel_received(connection *c, const void *from, size_t n) {
    if (n == 0) return;
    if (c->on == nullptr) fail("connection %d received before it was connected", c->number);
    if (!c->on->frozen[c->side]) bytes_append(&c->on->received[c->side], from, n);
}

void channel_freeze(connection *c) {
    if (c->on != nullptr) c->on->frozen[c->side] = true;
}

void channels_compare(bool all_told) {
    for (const channel *ch = now.channels; ch != nullptr; ch = ch->next) {
        for (int side = 0; side < 2; side++) {
            const bytes *in = &ch->received[side], *out = &ch->sent[1 - side];
            if (all_told && in->len > out->len && !ch->unknown[1 - side] && ch->present[1 - side])
                fail("port %d: %zu bytes received of %zu sent", ch->port, in->len, out->len);
            const size_t n = in->len < out->len ? in->len : out->len;
            for (size_t i = 0; i < n; i++)
                if (in->at[i] != out->at[i]) fail("port %d, side %d: byte %zu of %zu differs", ch->port, side, i, n);
        }
    }
}

// --- buffers --------------------------------------------------------------------------------------------------------

struct owned {
    mio_buf_owner_t owner;
    int released;
};

static void owned_release(mio_buf_owner_t *owner, char *base, size_t) {
    owned *mine = reinterpret_cast<owned *>(owner);
    if (mine->released++ != 0) fail("wrapped memory was released twice");
    now.wrapped--;
    free(base);
    free(mine);
}

static mio_buf_t buf_wrapped(size_t cap) {
    auto *mine = static_cast<owned *>(calloc(1, sizeof(owned)));
    mine->owner = MIO_BUF_OWNER_INIT(owned_release);
    now.wrapped++;
    return mio_buf_wrap(malloc(cap), cap, &mine->owner);
}

mio_buf_t buf_make(connection *c, size_t cap) {
    mio_buf_t buf = {};
    const uint32_t which = below(3u);
    if (which == 0) return mio_buf_space(malloc(cap), cap);
    if (which == 1 && CALL(mio_buf_alloc(c->loop, cap, &buf)) == 0) return buf;
    return buf_wrapped(cap);
}

mio_buf_t buf_owned(mio_loop_t *loop, size_t cap) {
    mio_buf_t buf = {};
    if (chance(50) && CALL(mio_buf_alloc(loop, cap, &buf)) == 0) return buf;
    return buf_wrapped(cap);
}

void buf_hold(mio_buf_t *buf) {
    if (now.stopping || now.held_count == HELD_MAX) return; // it goes home when the callback returns
    char *copy = static_cast<char *>(malloc(buf->len + 1));
    if (buf->len > 0) memcpy(copy, buf->base, buf->len);
    now.held_bytes[now.held_count] = copy;
    now.held[now.held_count++] = mio_buf_take(buf);
}

void held_release(uint32_t percent) {
    while (now.held_count > 0 && chance(percent)) {
        mio_buf_t *last = &now.held[--now.held_count];
        char *copy = now.held_bytes[now.held_count];
        if (last->len > 0 && memcmp(copy, last->base, last->len) != 0) fail("somebody wrote into a buffer of the program's");
        free(copy);
        mio_buf_release(last);
    }
}

// --- the end --------------------------------------------------------------------------------------------------------

void model_clear() {
    while (now.requests != nullptr) {
        request *r = now.requests;
        now.requests = r->next_of_all;
        request_forget(r);
    }
    while (now.channels != nullptr) {
        channel *ch = now.channels;
        now.channels = ch->next;
        for (int side = 0; side < 2; side++) {
            free(ch->sent[side].at);
            free(ch->received[side].at);
        }
        free(ch);
    }
    for (int i = 0; i < now.connection_count; i++) free(now.connections[i]);
    now = {};
}

}
