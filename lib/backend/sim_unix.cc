// Unix sockets of a simulated world, and pipes: connections as in sim_connect.cc and sim_net.cc, with names for addresses.
//
// A name is the world's, whatever node asks: it has an address of its own, out of a net that is nobody's (RFC 6666), so
// that binding, listening and connecting are as for TCP, but that who is not there is known at once. A path stays when its
// socket is closed, until it is unlinked; what is bound there then is another address. An abstract name ends with its
// socket.
//
// A record lies in a pipe behind its length, and may be read when all of it has arrived. A pipe's ends are a pair of which
// each does one thing only.

#include "backend/sim.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

namespace mio {

static constexpr size_t PATH_AT = offsetof(struct sockaddr_un, sun_path);
static constexpr size_t PATH_SIZE = sizeof(sockaddr_un::sun_path);
static constexpr uint16_t FIRST_PORT = 61000; // behind those that are handed out; for what asks by port
static constexpr uint32_t PORTS = 65536 - FIRST_PORT;
static constexpr uint8_t NET[8] = {0x01}; // 0100::/64

struct sim_name {
    sim_name *next;
    uint32_t number; // its address
    uint32_t len;
    bool exists;     // can be found; else only who has it still tells it
    char bytes[PATH_SIZE];
};

// --- names ----------------------------------------------------------------------------------------------------------

bool sim_addr_is_unix(const sim_addr *a) { return memcmp(a->ip.s6_addr, NET, sizeof NET) == 0; }

void sim_name_none(sim_addr *a) {
    memset(a, 0, sizeof *a);
    memcpy(a->ip.s6_addr, NET, sizeof NET);
}

static void name_addr(const sim_name *name, sim_addr *out) {
    sim_name_none(out);
    memcpy(out->ip.s6_addr + 12, &name->number, sizeof name->number);
    out->port = static_cast<uint16_t>(FIRST_PORT + name->number % PORTS);
}

// Its bytes and how many they are; 0: there is none, or it is no name.
static uint32_t name_bytes(const struct sockaddr *from, socklen_t len, struct sockaddr_un *at) {
    if (from == nullptr || len <= PATH_AT || len > sizeof *at) return 0;
    memset(at, 0, sizeof *at);
    memcpy(at, from, len);
    if (at->sun_family != AF_UNIX) return 0;
    const size_t n = len - PATH_AT;
    return static_cast<uint32_t>(at->sun_path[0] == 0 ? n : strnlen(at->sun_path, n));
}

static sim_name *name_lookup(const sim_world *w, const char *bytes, uint32_t len) {
    for (sim_name *name = w->names; name != nullptr; name = name->next)
        if (name->exists && name->len == len && memcmp(name->bytes, bytes, len) == 0) return name;
    return nullptr;
}

int sim_name_find(sim_world *w, const struct sockaddr *from, socklen_t len, sim_addr *out) {
    struct sockaddr_un at;
    const uint32_t n = name_bytes(from, len, &at);
    if (n == 0) return -EINVAL;
    const sim_name *name = name_lookup(w, at.sun_path, n);
    if (name == nullptr) return at.sun_path[0] == 0 ? -ECONNREFUSED : -ENOENT;
    name_addr(name, out);
    return 0;
}

void sim_name_write(const sim_addr *from, struct sockaddr *to, socklen_t *len) {
    struct sockaddr_un at;
    memset(&at, 0, sizeof at);
    at.sun_family = AF_UNIX;
    size_t size = PATH_AT;
    uint32_t number;
    memcpy(&number, from->ip.s6_addr + 12, sizeof number);
    for (const sim_name *name = sim_world_here()->names; name != nullptr && number != 0; name = name->next) {
        if (name->number != number) continue;
        memcpy(at.sun_path, name->bytes, name->len);
        size += name->len + (name->bytes[0] == 0 ? 0 : 1);
        break;
    }
    memcpy(to, &at, *len < size ? *len : size);
    *len = static_cast<socklen_t>(size);
}

int sim_name_bind(sim_socket *s, const struct sockaddr *from, socklen_t len) {
    sim_world *w = s->world;
    struct sockaddr_un at;
    const uint32_t n = name_bytes(from, len, &at);
    if (n == 0 || s->bound || s->state != sim_state::fresh) return -EINVAL;
    if (name_lookup(w, at.sun_path, n) != nullptr) return -EADDRINUSE;
    auto *name = static_cast<sim_name *>(sim_memory_alloc(sizeof(sim_name)));
    if (name == nullptr) return -ENOMEM;
    *name = sim_name{w->names, ++w->name_sequence, n, true, {}};
    memcpy(name->bytes, at.sun_path, n);
    w->names = name;
    sim_addr local;
    name_addr(name, &local);
    const int error = sim_bind(s, &local);
    mio_assert(error == 0); // nobody else has that address
    s->name = name;
    return error;
}

void sim_name_leave(sim_socket *s) {
    if (s->name->bytes[0] == 0) s->name->exists = false;
    s->name = nullptr;
}

static sim_name *name_of_path(const char *path) {
    const sim_world *w = sim_world_here();
    const size_t len = strlen(path);
    return w == nullptr || len == 0 || len >= PATH_SIZE ? nullptr : name_lookup(w, path, static_cast<uint32_t>(len));
}

bool sim_name_exists(const char *path) { return name_of_path(path) != nullptr; }

int sim_name_unlink(const char *path) {
    sim_name *name = name_of_path(path);
    if (name == nullptr) return -ENOENT;
    name->exists = false;
    return 0;
}

void sim_names_free(sim_world *w) {
    while (sim_name *name = w->names) {
        w->names = name->next;
        sim_memory_release(name, sizeof *name);
    }
}

// --- pairs and pipes ------------------------------------------------------------------------------------------------

static void pair_connect(sim_socket *one, sim_socket *two) {
    one->state = two->state = sim_state::connected;
    one->peer = two;
    two->peer = one;
}

// A reader that goes leaves nobody to write to, and says so by a reset, which the writer takes for EPIPE.
static void pipe_shape(sim_socket *reader, sim_socket *writer) {
    reader->pipe = writer->pipe = true;
    reader->shut_write = true;
    reader->linger[0] = 1;
    writer->shut_read = writer->fin_seen = true;
}

int sim_pair(sim_world *w, bool records, bool pipe, int fds[2]) {
    sim_socket *both[2];
    int made[2];
    int error = 0;
    for (int i = 0; i < 2; i++) {
        both[i] = sim_socket_create(w, AF_UNIX);
        made[i] = both[i] == nullptr ? -ENOMEM : sim_fd_create(w, both[i]);
        if (made[i] >= 0) continue;
        error = made[i];
        if (both[i] != nullptr) sim_socket_free(both[i]);
        if (i == 1) sim_fd_close(w, made[0]);
        return error;
    }
    both[0]->records = both[1]->records = records;
    pair_connect(both[0], both[1]);
    if (pipe) pipe_shape(both[0], both[1]);
    fds[0] = made[0];
    fds[1] = made[1];
    return 0;
}

// --- records --------------------------------------------------------------------------------------------------------

int sim_record_readable(sim_socket *s, uint32_t *length) {
    const int64_t there = sim_socket_readable(s);
    if (there <= 0) return static_cast<int>(there);
    const auto head = static_cast<int64_t>(sizeof *length);
    if (there >= head) {
        sim_pipe_copy(&s->in, 0, nullptr, reinterpret_cast<char *>(length), sizeof *length);
        if (there - head >= *length) return 1;
    }
    if (s->state != sim_state::dead && !s->fin_seen) return -EAGAIN;
    sim_received(s, static_cast<uint32_t>(there)); // the rest will not come, and a part of a record is none
    return static_cast<int>(sim_socket_readable(s));
}

int64_t sim_record_receive(sim_socket *s, char *to, size_t room) {
    uint32_t length;
    const int there = sim_record_readable(s, &length);
    mio_assert(there == 1);
    const int failed = sim_receive_fails(s, false);
    if (failed < 0) return failed;
    const uint32_t n = length < room ? length : static_cast<uint32_t>(room);
    if (n != 0) sim_pipe_copy(&s->in, sizeof length, nullptr, to, n);
    sim_received(s, static_cast<uint32_t>(sizeof length) + length);
    return n;
}

}
