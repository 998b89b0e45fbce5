// Listeners and connects: made, paused, resumed, closed and abandoned during the program; connects to them, to those
// that are gone, and to a port where nobody listens; some are cancelled, timed out, closed or abandoned at once.
//
// The model of a listener is whether it may accept now and whether its last call was told; of a connect, where it went:
// what nobody listens on refuses it.
#include "model.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace torture {

constexpr int LISTENERS_MAX = 6;         // that the program makes
constexpr int ACCEPTED_WHEN_PAUSED = 16; // those that were accepted before are still delivered
constexpr int NOBODY = 9;                // a port below those that a world gives away

struct listening {
    int number;
    mio_listener_t *handle;
    mio_loop_t *loop;
    mio_addr_t at;
    bool paused, closing, abandoned, last_told, dead;
    int accepted, since_pause;
    int accepted_before; // the probe
    request *probe;      // a connect when all is quiet
    listening *next;
};

static listening *listeners;
static int listener_count;
static int refusing_fd = -1; // bound, and nobody listens
static mio_addr_t nobody;

static bool is_alive(const listening *l) { return !l->closing && !l->abandoned && !l->dead; }

static listening *pick(bool alive) {
    listening *found = nullptr;
    uint32_t seen = 0;
    for (listening *l = listeners; l != nullptr; l = l->next)
        if ((!alive || is_alive(l)) && below(++seen) == 0) found = l;
    return found;
}

const mio_addr_t *listener_address(bool alive) {
    const listening *l = pick(alive);
    return l != nullptr ? &l->at : nullptr;
}

// --- told -----------------------------------------------------------------------------------------------------------

static void check_report(const listening *l, int status) {
    switch (status) {
    case MIO_ECONNABORTED:
    case MIO_EMFILE:
    case MIO_ENFILE:
    case MIO_ENOBUFS:
    case MIO_ENOMEM:
        if (now.sim) return; // its weather; a kernel has enough of all
    }
    fail("listener %d reports %s", l->number, mio_error_name(status));
}

static void accepted(listening *l, mio_stream_t *stream) {
    l->accepted++;
    if (l->paused && ++l->since_pause > ACCEPTED_WHEN_PAUSED && !now.accepts_ahead)
        fail("listener %d accepts while it is paused", l->number);
    if (now.stopping || chance(3)) return; // it closes by itself
    mio_addr_t at;
    const bool known = CALL(mio_stream_peer(stream, &at)) == 0; // else it is gone already
    connection *c = connection_new(l->loop);
    c->stream = stream;
    if (known) channel_bind(c, 1, mio_addr_port(&at), mio_addr_port(&l->at));
    else channel_bind_unknown(c, 1);
    if (known && chance(4)) {
        connection_abandon(c);
        return;
    }
    CALL(mio_handle_keep(stream));
    act_some(c, 1 + below(4u));
}

static void told_accept(mio_listener_t *handle, int status, mio_stream_t *stream, void *arg) {
    auto *l = static_cast<listening *>(arg);
    say("told: listener %d, status %d", l->number, status);
    if (calls_open != 0) fail("a listener calls back inside a call");
    if (l->abandoned || l->dead) fail("listener %d calls back after its end", l->number);
    if (l->last_told) fail("listener %d calls back after its last call", l->number);
    if (handle != l->handle && l->handle != nullptr) fail("listener %d is told as another", l->number);
    if ((stream == nullptr) != (status < 0)) fail("listener %d: status %d, and the stream", l->number, status);
    if (status == MIO_ECANCELED) {
        if (!l->closing && !now.destroying) fail("listener %d is cancelled, and nobody asked for it", l->number);
        l->last_told = true;
        act_some(nullptr, below(2u));
        return;
    }
    if (l->closing) fail("listener %d goes on after its close: %d", l->number, status);
    if (status == MIO_ECONNABORTED) l->accepted++; // it came that far
    if (status == 0) accepted(l, stream);
    else check_report(l, status);
}

static void told_listener_closed(mio_handle_t *handle, void *arg) {
    auto *l = static_cast<listening *>(arg);
    say("told: close of listener %d", l->number);
    if (calls_open != 0) fail("a close is told inside a call");
    if (l->dead || l->abandoned || handle != l->handle)
        fail("listener %d closes twice, or after an abandon", l->number);
    if (!l->last_told) fail("listener %d closes before its last call", l->number);
    l->dead = true;
    act_some(nullptr, below(2u));
}

// --- done -----------------------------------------------------------------------------------------------------------

static bool may_be_refused(int error) {
    switch (error) {
    case MIO_ESHUTDOWN: return true;
    case MIO_ENOMEM: return now.no_memory || now.scarce;
    case MIO_EMFILE:
    case MIO_ENFILE:
    case MIO_ENOBUFS: return now.scarce;
    }
    return false;
}

// A listening socket of the program's own; on a refusal it stays the program's.
static int listener_adopt(listening *l, int family) {
    mio_addr_t at;
    if (mio_addr_parse(family == AF_INET6 ? "::1" : "127.0.0.1", 0, &at) < 0) fail("no address");
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, &at.u.any, at.len) < 0) fail("no socket");
    if (chance(20)) { // it does not listen yet
        const int error = CALL(mio_listener_adopt(l->loop, fd, told_accept, l, &l->handle));
        if (error != MIO_EINVAL && error != MIO_ESHUTDOWN) fail("adopting what does not listen gives %d", error);
    }
    if (listen(fd, 5) < 0) fail("a socket does not listen");
    const int error = CALL(mio_listener_adopt(l->loop, fd, told_accept, l, &l->handle));
    if (error < 0) close(fd);
    return error;
}

static int listener_open() {
    const bool six = now.has_six && chance(25);
    mio_listen_options_t options = MIO_LISTEN_OPTIONS_INIT;
    if (chance(40)) options.backlog = 1 + static_cast<int>(below(4u)); // full while it is paused: connects wait
    auto *l = static_cast<listening *>(calloc(1, sizeof(listening)));
    l->number = listener_count;
    l->loop = now.loops[below(now.loop_count)];
    const int error =
        !now.sim && chance(30)
            ? listener_adopt(l, six ? AF_INET6 : AF_INET)
            : CALL(mio_tcp_listen(l->loop, six ? "::1" : "127.0.0.1", 0, &options, told_accept, l, &l->handle));
    if (error < 0) {
        if (!may_be_refused(error)) fail("no listener: %s", mio_error_name(error));
        free(l);
        return error;
    }
    if (mio_listener_local(l->handle, &l->at) < 0 || mio_addr_port(&l->at) == 0) fail("no address");
    say("listener %d on port %d", l->number, mio_addr_port(&l->at));
    l->next = listeners;
    listeners = l;
    listener_count++;
    return 0;
}

void act_listener(connection *) {
    if (listener_count < LISTENERS_MAX && chance(15)) {
        listener_open();
        return;
    }
    listening *l = pick(true);
    if (l == nullptr) return;
    const uint32_t which = below(100u);
    if (which < 35) {
        if (CALL(mio_listener_pause(l->handle)) != 0) fail("listener %d does not pause", l->number);
        if (!l->paused) l->since_pause = 0;
        l->paused = true;
    } else if (which < 80 || l->number == 0) { // the first one stays
        if (CALL(mio_listener_resume(l->handle)) != 0) fail("listener %d does not resume", l->number);
        l->paused = false;
    } else if (which < 94 || now.no_abandons) {
        say("listener %d: close", l->number);
        if (CALL(mio_handle_close(l->handle, told_listener_closed, l)) != 0)
            fail("listener %d does not close", l->number);
        l->closing = true;
        if (chance(30) && CALL(mio_listener_resume(l->handle)) == 0 && chance(50)) CALL(mio_listener_pause(l->handle));
        if (CALL(mio_handle_close(l->handle, nullptr, nullptr)) != MIO_EALREADY) fail("a listener closes twice");
    } else {
        say("listener %d: abandon", l->number);
        CALL_VOID(mio_handle_abandon(l->handle));
        l->abandoned = true;
    }
}

// --- connects -------------------------------------------------------------------------------------------------------

// What may become of a connect soon after it was made.
void connect_disturb(connection *c, request *r) {
    const uint32_t which = below(100u);
    if (which < 60) return;
    if (which < 75) {
        r->cancelled = true;
        if (CALL(mio_req_cancel(c->loop, r->id)) != 0) fail("connect %d is not cancelled", r->number);
    } else if (which < 90) {
        const int64_t after_ns = chance(30) ? 0 : below(2000u) * MIO_MICROSECOND;
        if (CALL(mio_req_timeout(c->loop, r->id, after_ns)) != 0) fail("connect %d has no deadline", r->number);
        r->deadline = true;
    } else if (which < 95 || now.no_abandons) {
        act_close(c);
    } else {
        connection_abandon(c);
    }
}

void act_connect() {
    if (now.connection_count > CONNECT_LIMIT) return;
    const listening *to = chance(10) ? nullptr : pick(chance(85));
    const mio_addr_t *at = to != nullptr ? &to->at : &nobody;
    mio_connect_options_t options = MIO_CONNECT_OPTIONS_INIT;
    mio_addr_t own;
    if (at->u.any.sa_family == AF_INET && chance(15) && mio_addr_parse("127.0.0.1", 0, &own) == 0) options.bind = &own;
    connection *c = connection_new(now.loops[below(now.loop_count)]);
    c->port = mio_addr_port(at);
    c->to_nobody = to == nullptr;
    request *r = request_new(c, kind::connect);
    const mio_req_t id = CALL(mio_tcp_connect(c->loop, at, &options, told_connect, r, &c->stream));
    if (id < 0) {
        if (id != MIO_ENOMEM && id != MIO_ESHUTDOWN) fail("connect gives %s", mio_error_name(id));
        request_forget(r);
        c->dead = true;
        return;
    }
    request_taken(r, id);
    say("c%d: connect to port %d, request %d", c->number, c->port, r->number);
    c->connecting = true;
    connect_disturb(c, r);
}

static void check_connect(const request *r, int status) {
    const connection *c = r->of;
    switch (status) {
    case 0:
        if (c->to_nobody) fail("connect %d to a port where nobody listens succeeds", r->number);
        return;
    case MIO_ECANCELED:
        if (!r->cancelled && !c->closing && !now.destroying)
            fail("connect %d is cancelled, and nobody asked for it", r->number);
        return;
    case MIO_ETIMEDOUT:
    case MIO_ECONNREFUSED:
    case MIO_ECONNRESET: return;
    case MIO_ENOMEM:
        if (now.no_memory || now.scarce) return;
        break;
    case MIO_EMFILE:
    case MIO_ENFILE:
    case MIO_ENOBUFS:
        if (now.scarce) return;
        break;
    }
    if (c->by_name && is_of_a_host(status)) return;
    fail("connect %d ends with %s", r->number, mio_error_name(status));
}

void told_connect(mio_stream_t *stream, int status, void *arg) {
    request *r = static_cast<request *>(arg);
    connection *c = r->of;
    say("told: connect %d, status %d", r->number, status);
    request_told(r, status);
    c->connecting = false;
    check_connect(r, status);
    mio_addr_t at;
    if (status == 0 && !c->closing) {
        const int error = CALL(mio_stream_local(stream, &at));
        if (error < 0) fail("connect %d: no local address: %d", r->number, error);
        channel_bind(c, 0, mio_addr_port(&at), c->port);
    } else if (status == 0) {
        channel_bind_unknown(c, 0);
    }
    act_some(c, below(4u));
}

// --- whether it still works -----------------------------------------------------------------------------------------

void listeners_resume() {
    for (listening *l = listeners; l != nullptr; l = l->next) {
        if (!is_alive(l)) continue;
        if (CALL(mio_listener_resume(l->handle)) != 0) fail("listener %d does not resume", l->number);
        l->paused = false;
    }
}

// After all that has happened each listener gets one more connection.
void probes_start() {
    for (listening *l = listeners; l != nullptr; l = l->next) {
        if (!is_alive(l)) continue;
        connection *c = connection_new(now.loops[below(now.loop_count)]);
        request *r = request_new(c, kind::connect);
        c->port = mio_addr_port(&l->at);
        const mio_req_t id = CALL(mio_tcp_connect(c->loop, &l->at, nullptr, told_connect, r, &c->stream));
        if (id < 0) {
            if (id != MIO_ENOMEM || !now.no_memory) fail("the last connect gives %s", mio_error_name(id));
            request_forget(r);
            c->dead = true;
            continue;
        }
        request_taken(r, id);
        l->accepted_before = l->accepted;
        l->probe = r;
        say("c%d: the last connect to port %d, request %d", c->number, c->port, r->number);
    }
}

// NULL: all of them were accepted, or refused in rough weather.
static const listening *probe_open() {
    for (const listening *l = listeners; l != nullptr; l = l->next) {
        if (l->probe == nullptr) continue;
        if (!l->probe->done) return l;
        if (l->accepted == l->accepted_before && l->probe->of->on != nullptr && !now.rough) return l;
    }
    return nullptr;
}

bool probes_over() { return probe_open() == nullptr; }

void probes_check() {
    const listening *l = probe_open();
    if (l != nullptr) fail("listener %d accepts no more: request %d", l->number, l->probe->number);
}

// --- the beginning and the end --------------------------------------------------------------------------------------

// A port where nobody listens: on a kernel it is kept from everybody else.
static void nobody_open() {
    if (mio_addr_parse("127.0.0.1", now.sim ? NOBODY : 0, &nobody) < 0) fail("no address");
    if (now.sim) return;
    refusing_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t *len = &nobody.len;
    if (refusing_fd < 0 || bind(refusing_fd, &nobody.u.any, *len) < 0 ||
        getsockname(refusing_fd, &nobody.u.any, len) < 0)
        fail("no port for nobody");
}

static bool kernel_has_six() {
    struct sockaddr_in6 at = {};
    at.sin6_family = AF_INET6;
    at.sin6_addr = in6addr_loopback;
    const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool has = fd >= 0 && bind(fd, reinterpret_cast<struct sockaddr *>(&at), sizeof at) == 0;
    if (fd >= 0) close(fd);
    return has;
}

void listeners_open() {
    nobody_open();
    now.has_six = now.sim || kernel_has_six();
    int error;
    do error = listener_open();
    while (error == MIO_ENOMEM || error == MIO_EMFILE || error == MIO_ENFILE || error == MIO_ENOBUFS);
    if (error < 0) fail("no first listener: %s", mio_error_name(error));
}

bool listeners_are_over() {
    for (const listening *l = listeners; l != nullptr; l = l->next)
        if (l->closing && !l->dead) return false;
    return true;
}

void listeners_check() {
    for (const listening *l = listeners; l != nullptr; l = l->next)
        if (l->closing && !l->dead) fail("listener %d does not close", l->number);
}

void listeners_close() {
    for (listening *l = listeners; l != nullptr; l = l->next) {
        if (!is_alive(l)) continue;
        if (CALL(mio_handle_close(l->handle, told_listener_closed, l)) != 0)
            fail("listener %d does not close", l->number);
        l->closing = true;
    }
}

void listeners_clear() {
    while (listeners != nullptr) {
        listening *l = listeners;
        listeners = l->next;
        if (!l->abandoned && !l->last_told) fail("listener %d was never told of its end", l->number);
        if (l->closing && !l->dead) fail("the close of listener %d was never told", l->number);
        free(l);
    }
    listener_count = 0;
    if (refusing_fd >= 0) close(refusing_fd);
    refusing_fd = -1;
}

}
