// The simulated world: what its rooms share, and what the registry may know of it (backend_sim, sim_current).
//
//   sim_world.cc    seed, virtual time, events, the trace, the descriptors, who runs next (mio_sim_*)
//   sim_addr.cc     addresses and ports: who is bound to what, who listens where
//   sim_connect.cc  TCP in memory: listening, connecting, accepting
//   sim_net.cc      TCP in memory: lives of sockets, bytes, FIN, RST, who waits for what
//   sim_datagram.cc UDP in memory: datagrams under way, lost, doubled, overtaken
//   sim_pipe.cc     one direction of a connection: segments under way and their bytes
//   sim_unix.cc     unix sockets, as TCP without a network: names, pairs, records, pipes
//   sim_fault.cc    the schedule of faults, and what those that last do to the others (mio_sim_schedule)
//   sim_draw.cc     faults drawn from a seed, told to people, left out one by one; knows no world
//   sim_hosts.cc    hosts and their addresses: what the resolver of a world says
//   sim_sys.cc      the table of system calls that loops of a world see
//   sim_files.cc    files in memory: what there is, and by which names
//   sim_files_sys.cc  the calls on them that loops of a world see
//   sim_backend.cc  the seam: carriers in, completions out
//
// One thread, no real time, no real descriptor, no order that depends on an address in memory: the same seed and the
// same calls give the same world. Its own memory comes from the real table; running out of it is an error like any
// other. A world is not entered from callbacks of its own making: it runs no user code but through loop_drive.
#pragma once

#include "base/list.h"
#include "core/backend.h"

#include <mio/sim.h>

#include <netinet/in.h>

namespace mio {

extern const backend backend_sim;

// The world of this thread, or nullptr.
struct mio_sim *sim_current();

struct sim_world;
struct sim_socket;
struct sim_loop;

constexpr int SIM_FD_BASE = 1 << 30;
constexpr uint32_t SIM_FD_MAX = 1 << 20;

// --- chance (sim_world.cc) ------------------------------------------------------------------------------------------

// One generator per purpose: a program that draws a number of its own does not change the weather.
enum sim_purpose { SIM_FOR_NETWORK, SIM_FOR_ORDER, SIM_FOR_MEMORY, SIM_FOR_PROGRAM, SIM_FOR_FAULTS, SIM_PURPOSES };

inline uint64_t sim_mixed(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t sim_random(sim_world *w, sim_purpose purpose);
uint32_t sim_below(sim_world *w, sim_purpose purpose, uint32_t limit); // 0 to limit - 1
bool sim_chance(sim_world *w, sim_purpose purpose, uint32_t ppm);      // ppm 0 draws nothing

// --- the trace ------------------------------------------------------------------------------------------------------

enum sim_what : uint8_t {
    SIM_DID_TURN, SIM_DID_SOCKET, SIM_DID_BIND, SIM_DID_LISTEN, SIM_DID_CONNECT, SIM_DID_ACCEPT, SIM_DID_SHUTDOWN,
    SIM_DID_CLOSE, SIM_DID_SEND, SIM_DID_RECEIVE, SIM_DID_ARRIVE, SIM_DID_ANSWER, SIM_DID_RESET, SIM_DID_FINISH,
    SIM_DID_CANCEL, SIM_DID_ALLOC, SIM_DID_FAULT, SIM_DID_LOSE, SIM_DID_JOB,
    SIM_DID_FILE, SIM_DID_REFUSE
};

void sim_trace(sim_world *w, sim_what what, uint32_t who, int64_t result);

// --- events ---------------------------------------------------------------------------------------------------------

enum class sim_event_kind : uint8_t {
    arrive, // something under way to the socket is there
    syn,    // a connecting socket's call reaches the other side
    answer, // the other side's answer reaches the connecting socket
    ready,  // the server's end of a connection may be accepted
    cancel, // a cancel that took its time is there
    datagram, // the first datagram under way from the socket is there
};

struct sim_event {
    int64_t at_ns;
    uint64_t order; // among equal times: seeded, then first come first served
    sim_socket *socket;
    sim_event_kind kind;
};

// Room for the events of one more socket and one more datagram. false: no memory. After it sim_event_push cannot fail.
constexpr size_t SIM_EVENTS_PER_SOCKET = 4;
bool sim_events_reserve(sim_world *w);
void sim_event_push(sim_world *w, sim_socket *s, sim_event_kind kind, int64_t at_ns);
void sim_events_run(sim_world *w);               // all that is due now, faults too
int64_t sim_next_event_ns(const sim_world *w);   // MIO_NEVER: none
void sim_advance(sim_world *w, int64_t to_ns);   // time goes on; no event is run

// --- addresses (sim_addr.cc) ----------------------------------------------------------------------------------------

struct sim_addr { // IPv4 is kept as mapped IPv6; the socket's domain decides how it is shown
    struct in6_addr ip;
    uint32_t scope;
    uint16_t port; // host order
};

int sim_addr_read(int domain, const struct sockaddr *from, socklen_t len, sim_addr *out);
void sim_addr_write(int domain, const sim_addr *from, struct sockaddr *to, socklen_t *len);
bool sim_addr_is_any(const sim_addr *a);
void sim_addr_any(sim_addr *a, int domain);

// Names of unix sockets (sim_unix.cc) are addresses, too: each has one of its own, of a net that nobody else has.
struct sim_name;
bool sim_addr_is_unix(const sim_addr *a);
void sim_name_none(sim_addr *a);                              // of a socket without a name
int sim_name_find(sim_world *w, const struct sockaddr *from, socklen_t len, sim_addr *out); // -ENOENT, -ECONNREFUSED
void sim_name_write(const sim_addr *from, struct sockaddr *to, socklen_t *len);
int sim_name_bind(sim_socket *s, const struct sockaddr *from, socklen_t len); // -EADDRINUSE
void sim_name_leave(sim_socket *s);                           // an abstract name ends with its socket
int sim_name_unlink(const char *path);                        // -ENOENT
bool sim_name_exists(const char *path);
void sim_names_free(sim_world *w);
// Two connected ones: a pair, or the reading and the writing end of a pipe.
int sim_pair(sim_world *w, bool records, bool pipe, int fds[2]);

int sim_bind(sim_socket *s, const sim_addr *addr);           // -EADDRINUSE
int sim_bind_for_connect(sim_socket *s, const sim_addr *to); // -EADDRNOTAVAIL
void sim_bind_accepted(sim_socket *s, const sim_addr *local); // shares its listener's port
bool sim_may_listen(const sim_socket *s);                    // nobody else listens there
void sim_unbind(sim_socket *s);
sim_socket *sim_find_listener(sim_world *w, const sim_addr *to); // seeded among SO_REUSEPORT's
// Who gets a datagram from there (nullptr: from anybody); drawn: seeded among equals, else the first of them.
sim_socket *sim_find_datagram(sim_world *w, const sim_addr *to, const sim_addr *from, bool drawn);

// --- faults (sim_fault.cc) ------------------------------------------------------------------------------------------

constexpr int SIM_NODES = 64;
constexpr int8_t SIM_NO_NODE = -1;

// Where one end of a connection is, as faults see it.
struct sim_place {
    int8_t node; // SIM_NO_NODE: no loop has asked for anything there
    sim_addr at;
};

struct sim_side {
    uint64_t nodes;
    bool any_ip;
    sim_addr at; // port 0: every one
};

//   pending --begin_ns--> (happens, over)            what takes no time
//      +-----begin_ns--> active --end_ns, HEAL--> (over)
// What is over is taken out of the list.
struct sim_fault {
    mio_sim_fault_t what; // its sides' addresses are not valid: a and b here
    sim_side a, b;
    int64_t begin_ns, end_ns; // MIO_NEVER: not by itself
    int64_t limit;            // active: descriptors or bytes in all
    uint32_t number;          // in order of scheduling; from its begin on, in order of beginning
    bool active;
};

struct sim_faults {
    sim_fault *list;
    uint32_t count, capacity, active;
    uint32_t scheduled, begun;
    int64_t next_ns; // the earliest begin or end; MIO_NEVER: none
    int64_t wall_jumped_ns;
};

void sim_faults_next(sim_world *w); // the one that is due at next_ns begins or ends
void sim_faults_free(sim_world *w);
int64_t sim_latency(sim_world *w, const sim_place *from, const sim_place *to);
int64_t sim_bandwidth(const sim_world *w, const sim_place *from, const sim_place *to); // 0: no limit
bool sim_cut(const sim_world *w, const sim_place *from, const sim_place *to);
bool sim_loses(sim_world *w, const sim_place *from, const sim_place *to); // cut, or by chance: draws
// What happens to a datagram in so many cases of a million, by a fault of that kind or the world's own chance: draws.
bool sim_by_chance(sim_world *w, int kind, uint32_t ppm, const sim_place *from, const sim_place *to);
int sim_call_fails(sim_world *w, int call, const sim_place *at, const sim_place *far); // 0, or its error: draws
bool sim_paused(const sim_world *w, int node);
bool sim_fds_exhausted(const sim_world *w);
bool sim_memory_exhausted(const sim_world *w, size_t size);

// --- sockets (sim_net.cc, sim_connect.cc) ---------------------------------------------------------------------------

// refusal: a reset that answers bytes, and is asked for again as long as they are sent again. A mere reset is sent once.
enum class sim_mark : uint8_t { data, fin, reset, refusal };

struct sim_segment {
    int64_t at_ns;
    uint32_t bytes;
    sim_mark mark;
};

constexpr uint32_t SIM_SEGMENTS = 16; // the last two places are for a FIN and a RST

// What comes in. The ring holds `filled` bytes from head: the first `arrived` may be read, the others are under way.
struct sim_pipe {
    char *ring;
    uint32_t size, head, filled, arrived;
    uint32_t first, count; // segments under way
    uint32_t untold;       // bytes that were read, which the sender does not know: the way back is cut
    int64_t last_ns;       // nothing later arrives before this
    int64_t line_ns;       // until then the sender's line is busy: bandwidth
    bool armed;            // an arrive event is in the queue
    bool reset_coming;     // a reset or refusal is among the segments
    uint8_t retries;       // of the first segment, in a row
    sim_segment segments[SIM_SEGMENTS];
};

//   fresh --> listening                  close, shutdown: its waiting connections are reset
//     |
//     +----> connecting --> connected --> dead        RST in either direction; refused: back to fresh, with an error
enum class sim_state : uint8_t { fresh, listening, connecting, connected, dead };

constexpr unsigned SIM_OPTIONS = 39;
constexpr unsigned SIM_PIECES = 64; // in one send, at most

struct sim_fd;
struct sim_datagram; // sim_datagram.cc

// Options that mean something here; the others are remembered only (sim_sys.cc has the table).
enum sim_option {
    SIM_REUSE_ADDR, SIM_REUSE_PORT, SIM_V6ONLY, SIM_BROADCAST, SIM_WANT_LOCAL, SIM_WANT_LOCAL6, SIM_WANT_ECN, SIM_WANT_ECN6,
    SIM_WANT_TIME, SIM_FIRST_IDLE_OPTION
};

struct sim_socket {
    link all;             // world.sockets
    link place;           // world.listeners (listening), or its listener's half_open or waiting
    sim_world *world;
    link half_open;       // listening: connections whose handshake is not complete
    link waiting;         // listening: connections to be accepted
    uint32_t waiting_count; // at most backlog + 1, as in Linux
    uint32_t backlog;
    uint32_t number;      // in order of creation: its name in the trace
    sim_state state;
    bool gone;            // no descriptor, and on no listener's lists
    bool bound;
    bool shut_read, shut_write;
    bool fin_seen;
    bool queued;          // on its listener's lists
    bool counted;         // in its waiting_count
    bool asking;          // connecting: the handshake's first step is to be taken again; dead: it was connecting
    bool swallowed;       // its connection met a black hole
    bool cancel_armed;    // a cancel event is in the queue
    bool records;         // SOCK_SEQPACKET: each lies in the pipe behind its length
    bool pipe;            // an end of a pipe
    int8_t node;          // of the loop that last asked for something here; SIM_NO_NODE
    uint8_t retries;      // of the handshake's first step, or of its last
    int domain;
    int error;            // to be told once, negative
    int answer;           // under way to a connecting socket
    uint32_t events;      // in the world's queue
    sim_addr local, remote;
    sim_socket *peer;     // of a connection; nullptr: there was none, or it is freed
    sim_socket *listener; // queued: whose
    sim_fd *fds;
    sim_name *name;       // that it bound; nullptr: none
    int32_t options[SIM_OPTIONS];
    int32_t linger[2];    // on, seconds
    sim_pipe in;
    bool datagram;           // SOCK_DGRAM: fresh as long as it lives; connected: remote.port is not 0
    sim_datagram *arrived;   // to be received
    sim_datagram *under_way; // from here, in order of arrival
    uint32_t arrived_bytes, sent_bytes;
    int64_t in_order_ns;     // nothing that is not late arrives before this
    int64_t line_ns;         // as of a pipe
};

// One direction of one descriptor as the seam sees it.
struct sim_carrier {
    request *req;       // STARTED, or nullptr
    sim_loop *on;
    uint32_t last;      // loop.done_tail after its latest record
    bool listed;        // on the loop's ready or later list
    bool begun;         // connect: the handshake was started
    bool cancelled;
    uint8_t patience;   // times a cancel may still be put off
    int64_t cancel_ns;  // a cancel is not felt before
};

struct sim_fd {
    int number;
    sim_socket *socket;
    sim_fd *next; // of the same socket: duplicates
    sim_carrier in, out, poll;
};

inline sim_socket *sim_socket_of_all(link *at) { return reinterpret_cast<sim_socket *>(at); }
inline sim_socket *sim_socket_of_place(link *at) { return reinterpret_cast<sim_socket *>(at - 1); }

sim_socket *sim_socket_create(sim_world *w, int domain); // nullptr: no memory
void sim_socket_leave(sim_socket *s); // its last descriptor is closed
void sim_socket_free(sim_socket *s);  // the world ends

int sim_socket_listen(sim_socket *s, int backlog);
int sim_socket_connect(sim_socket *s, const sim_addr *to); // -EINPROGRESS, or why not
int sim_socket_shutdown(sim_socket *s, bool read, bool write);
// A descriptor of the first connection that waits, -EAGAIN, or an error, by chance or not.
int sim_socket_accept(sim_socket *s);

// Bytes moved (0: end of stream), -EAGAIN, or an error.
int64_t sim_socket_receive(sim_socket *s, const struct iovec *iov, unsigned n, bool peek);
int64_t sim_socket_send(sim_socket *s, const struct iovec *iov, unsigned n);
// A record: 1: there is a whole one, of *length bytes; 0: the end; or -EAGAIN, an error. Its bytes go to `to`, as far as
// there is room; the rest is lost.
int sim_record_readable(sim_socket *s, uint32_t *length);
int64_t sim_record_receive(sim_socket *s, char *to, size_t room);
// What a receive would say without memory to receive into: bytes that may be read, or its result.
int64_t sim_socket_readable(sim_socket *s);

// What poll(2) would say, MIO_POLL_IN and so on.
uint32_t sim_socket_poll(const sim_socket *s);

void sim_socket_event(sim_socket *s, sim_event_kind kind);
int sim_receive_fails(sim_socket *s, bool peek);   // 0, or its error, by chance or not
void sim_received(sim_socket *s, uint32_t bytes);  // they were read from the ring: the sender learns of it

inline void sim_socket_place(const sim_socket *s, sim_place *out) { *out = sim_place{s->node, s->local}; }
void sim_far_place(const sim_socket *s, sim_place *out); // of its peer, or of whom it is to be connected to
// What faults do to connections between two sides that begin (or have come to) lie so.
void sim_connections_reset(sim_world *w, const sim_fault *between);
void sim_connections_swallow(sim_world *w, const sim_fault *between);
void sim_ways_opened(sim_world *w); // some cut is over
bool sim_between(const sim_fault *f, const sim_place *from, const sim_place *to); // sim_fault.cc

// Between the two files of sockets.
inline bool sim_takes_segments(const sim_socket *s) { return s != nullptr && !s->gone && s->state != sim_state::dead; }
void sim_reset_send(sim_socket *s, sim_mark mark);
void sim_socket_gone(sim_socket *s);
void sim_listener_stop(sim_socket *s);
void sim_syn_arrived(sim_socket *s);
void sim_answer_arrived(sim_socket *s);
void sim_became_ready(sim_socket *s);
void sim_unlink(sim_socket *s); // it has no peer any more, nor the peer it; who is gone is freed

// --- datagrams (sim_datagram.cc) ------------------------------------------------------------------------------------

int sim_datagram_connect(sim_socket *s, const sim_addr *to); // nullptr: to nobody any more
// Bytes of one datagram, -EAGAIN, or an error.
int64_t sim_datagram_send(sim_socket *s, const struct msghdr *message);
int64_t sim_datagram_receive(sim_socket *s, struct msghdr *message);
// How many, or why not the first.
int sim_datagrams_send(sim_socket *s, struct sys_message *messages, unsigned n);
int sim_datagrams_receive(sim_socket *s, struct sys_message *messages, unsigned n);
void sim_datagram_event(sim_socket *s);
void sim_datagrams_drop(sim_socket *s); // nobody receives any more
void sim_datagrams_free(sim_socket *s); // nor is anything under way

// --- pipes (sim_pipe.cc) --------------------------------------------------------------------------------------------

void sim_pipe_put(sim_socket *to, uint32_t bytes, sim_mark mark); // a segment sets out
void sim_pipe_delay(sim_pipe *p, int64_t until_ns);               // none of what is under way arrives before
void sim_pipe_lose(sim_pipe *p);                                  // all that is under way
uint32_t sim_pipe_under_way(const sim_pipe *p);
void sim_pipe_arm(sim_socket *to);                                // the event of the first one under way
bool sim_pipe_grow(sim_world *w, sim_pipe *p, uint32_t needed);   // false: no memory
void sim_pipe_drop(sim_pipe *p);                                  // its bytes; segments stay under way
// Copies n bytes of the ring, `at` bytes behind its head: in (from) or, where from is nullptr, out (to).
void sim_pipe_copy(sim_pipe *p, uint32_t at, const char *from, char *to, uint32_t n);

// --- descriptors (sim_world.cc) -------------------------------------------------------------------------------------

sim_fd *sim_fd_of(sim_world *w, int fd);                    // nullptr: no such
int sim_fd_create(sim_world *w, sim_socket *s);             // the lowest free number; -EMFILE, -ENOMEM
int sim_fd_close(sim_world *w, int fd);

// --- the seam (sim_backend.cc) --------------------------------------------------------------------------------------

struct sim_loop { // loop.backend_state
    link at;      // world.loops
    loop *on;
    uint32_t number;
    int node;
    uint32_t started;
    bool stopped;               // in this mio_sim_run
    bool fresh;                 // has not had its first turn in this mio_sim_run (hooks run in a turn only)
    sim_carrier **ready;        // may have a result
    sim_carrier **later;        // put off to the next poll
    uint32_t ready_count, later_count, capacity;
};

// The number is a stream's, or is closed: whoever had polled it did not take the poll away first.
void sim_poll_evict(sim_fd *f);

// Something happened to the socket that this direction waits for.
void sim_wake_in(sim_socket *s);
void sim_wake_out(sim_socket *s);
inline bool sim_loop_has_work(const sim_loop *l) { return l->ready_count + l->later_count != 0; }

extern const struct sys sys_sim; // sim_sys.cc

// --- names (sim_hosts.cc) -------------------------------------------------------------------------------------------

struct sim_host;
int sim_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out);
void sim_freeaddrinfo(struct addrinfo *list);
int sim_getnameinfo(const struct sockaddr *addr, socklen_t len, char *host, size_t host_size, char *service,
                    size_t service_size, int flags);
void sim_hosts_free(sim_world *w);

// --- the world ------------------------------------------------------------------------------------------------------

struct sim_world {
    uint64_t thread;
    mio_sim_options_t options; // with every default filled in
    int64_t now_ns;
    uint64_t hash;
    uint64_t random[SIM_PURPOSES];
    sim_event *events; // a heap
    size_t event_count, event_capacity;
    uint32_t event_sequence;
    sim_fd **fds;
    uint32_t fd_slots, fd_lowest, fd_count;
    link sockets;
    uint32_t socket_count, socket_sequence;
    uint32_t datagrams; // that exist
    link listeners;
    link loops;
    uint32_t loop_sequence;
    uint32_t polls_at_instant; // since time last went on
    uint32_t late_cancels;     // that some carrier may be waiting for
    int64_t memory_live;       // bytes that loops have allocated
    sim_faults faults;
    struct sim_files *files;   // backend/sim_files.h; nullptr: none was asked for yet
    sim_name *names;
    uint32_t name_sequence;
    sim_host *hosts;
    uint16_t next_port;
    bool running;
    uint32_t ports[65536];     // sockets per local port
    uint8_t port_nodes[65536]; // 1 + the node that last accepted there; 0: none
};

sim_world *sim_world_here(); // of this thread; nullptr: none
int64_t sim_world_wall_ns(const sim_world *w);
inline sim_world *sim_world_of(struct mio_sim *world) { return reinterpret_cast<sim_world *>(world); }

// A poll begins. Where a program never lets its loops be idle, time would stand still: after many polls at one instant
// each one takes a microsecond.
void sim_poll_begins(sim_world *w);

void *sim_memory_alloc(size_t size);
void *sim_memory_resize(void *ptr, size_t old_size, size_t new_size);
void sim_memory_release(void *ptr, size_t size);

inline int64_t sim_add_ns(int64_t a_ns, int64_t b_ns) { return b_ns > INT64_MAX - a_ns ? INT64_MAX : a_ns + b_ns; }
inline int64_t sim_moved_ns(int64_t at_ns, int64_t by_ns) { // forward or back
    int64_t moved_ns;
    if (!__builtin_add_overflow(at_ns, by_ns, &moved_ns)) return moved_ns;
    return by_ns < 0 ? INT64_MIN : INT64_MAX;
}

}
