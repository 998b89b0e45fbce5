// Torture of streams: random sequences of calls, and a model of what was promised about them.
//
// The program of a seed connects, writes, reads, moves, detaches, cancels, pauses, times out, finishes, closes and
// abandons whatever its random numbers say, from callbacks and from a timer. The model knows only what the program was
// told: which requests were taken and not told of yet, in which order, and which bytes went in and came out. From that
// follows what must hold at any time:
//   - a request calls back exactly once, in the order of the starts, never inside a call, never after an abandon
//   - a buffer comes back as it went in; memory that was wrapped is released exactly once
//   - what one end received is the beginning of what the other end sent
//   - an error is one that this world can bring about; what nobody listens on refuses; a closed listener is silent
//   - a close callback is the last; nothing hangs, nothing spins; a loop that is destroyed leaves nothing
//   - after everything, faults above all, each listener still accepts; the same world runs the same way twice
//
//   model.h      what all share                   calls.cc      what the program does
//   model.cc     requests, channels, bytes        callbacks.cc  what it is told, and whether that may be
//   listeners.cc listeners, connects, the probe   adopted.cc    socket pairs, detached descriptors
//   passing.cc   bytes that are written on        others.cc     timers, hooks, wakeups, posts, kept buffers
//   weather.cc   misfortune of a simulated world  streams.cc    the command line, one seed from its world to its end
//   nouns.h/cc   all other nouns: work, resolve, hosts, files, datagrams, polls, signals, ... each in its own file
//
// Nothing here knows more of the library than <mio.h>.
#pragma once

#include <mio.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace torture {

// --- a seed ---------------------------------------------------------------------------------------------------------

constexpr int CONNECTIONS_MAX = 1024;
constexpr int CONNECT_LIMIT = 40; // the program starts no further connects then
constexpr int HELD_MAX = 4096;

enum class kind { write, shutdown, detach, move, connect, read, read_exact, read_until, continuous };

struct bytes {
    char *at;
    size_t len, cap;
};

// One connection as both its ends are told of it; [0] is the end that connected.
struct channel {
    int port, to;         // of that end, of the listener; 0: a socket pair, -1: not known
    bool present[2];
    bytes sent[2], received[2];
    bool unknown[2];      // this end sent more than the program was told of
    bool frozen[2];       // what this end received is not followed any further
    channel *next;
};

struct connection;

struct request {
    int number;
    kind what;
    connection *of;
    mio_req_t id;
    bool done, abandoned;
    bool deadline;        // must come to its end by itself
    bool cancelled;       // the program asked for an early end
    bytes data;           // a write's
    bool of_a_file;       // which is sent: `wanted` bytes of it
    size_t len_before;    // of a read's buffer
    size_t wanted;        // by a read_exact
    unsigned n;           // its buffers, as they went in
    char *bases[MIO_BUFS_MAX];
    size_t lens[MIO_BUFS_MAX];
    bool spaces[MIO_BUFS_MAX]; // memory that the program frees when it is its own again
    request *next;        // in its lane
    request *next_of_all;
};

struct lane {
    request *first, *last;
};

// A stream while it lives on one loop: after a detach or a move it is another connection with the same channel.
struct connection {
    int number;
    mio_stream_t *stream;
    mio_loop_t *loop;
    channel *on;          // known when connected
    int side;
    int port;             // where it connects to
    bool to_nobody;       // where nobody listens
    bool connecting, moving, closing, dead;
    bool patient;         // it is finished, and waits for its peer without a limit
    bool paused, stopped;
    bool by_name;         // its connect asks for a host
    bool unknown;         // as channel.unknown, while on is not known
    bool lends;           // a write may be told of when the peer has read it only, and so what is behind it
    bool write_ended;     // shut down or broken, or it may be: writes may be refused
    int above;            // the last watermark told of; -1: none
    request *continuous;
    lane reads, writes;
};

struct run {
    uint64_t seed;
    uint64_t random;
    bool sim, no_memory;
    bool accepts_ahead;   // this kernel accepts more than a handful before a pause reaches it
    bool has_six;         // there is IPv6
    bool faulted;         // the world has a schedule of faults, and of them:
    bool scarce;          // calls fail for want of something
    bool rough;           // the world breaks connections by chance
    bool silent;          // a peer's end may never be heard of
    bool bad_disk;        // calls on files fail
    bool doubles;         // datagrams come twice, or out of order
    bool deadlines;       // most requests get one
    bool no_abandons;
    bool stopping;        // no more actions
    bool destroying;      // of the loops with all that is still on them
    uint32_t nouns;       // beside the streams: nouns.h
    int inside;           // of actions: callbacks of a callback's actions take none
    mio_sim_t *world;
    mio_loop_t *loops[2];
    size_t buffer_max[2]; // of each: what may be held of received bytes; 0: much
    unsigned loop_count;
    mio_timer_t *tick;
    int ticks;
    int wrapped;          // buffers of ours that are not released
    int stranded;         // descriptors that could not be adopted again
    connection *connections[CONNECTIONS_MAX];
    int connection_count, request_count;
    request *requests;
    channel *channels;
    mio_buf_t held[HELD_MAX];
    char *held_bytes[HELD_MAX]; // what they were when they were kept
    int held_count;
};
extern run now;

// --- telling --------------------------------------------------------------------------------------------------------

extern bool verbose;
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char *format, ...);
__attribute__((format(printf, 1, 2))) void say(const char *format, ...); // with --verbose

uint32_t below(uint32_t limit); // 0 to limit - 1
inline uint32_t below(int limit) { return below(static_cast<uint32_t>(limit)); }
inline uint32_t below(size_t limit) { return below(static_cast<uint32_t>(limit)); }
inline bool chance(uint32_t percent) { return below(100u) < percent; }

// Every call of the library that could call back by mistake goes through one of these.
extern int calls_open;
template <typename result> result call_leave(result value) {
    calls_open--;
    return value;
}
#define CALL(expression) (::torture::calls_open++, ::torture::call_leave(expression))
#define CALL_VOID(statement)      \
    do {                          \
        ::torture::calls_open++;  \
        statement;                \
        ::torture::calls_open--;  \
    } while (0)

// --- the model ------------------------------------------------------------------------------------------------------

void bytes_append(bytes *to, const void *from, size_t n);

connection *connection_new(mio_loop_t *loop);
void connection_lost(connection *c); // nobody is told any more of what is under way
void connection_abandon(connection *c);
bool connection_is_followed(const connection *c); // its writes are all told of

request *request_new(connection *c, kind what);
void request_forget(request *r);                  // it was refused
void request_taken(request *r, mio_req_t id);     // it waits in its lane now
void request_told(request *r, int64_t status);    // its last callback
void check_status(const request *r, int64_t status); // may it end so?
void request_buf(request *r, const mio_buf_t *buf); // goes into it
void request_bufs_drop(request *r, mio_buf_t *bufs, unsigned n); // came back, or never went in
void request_spaces_free(request *r);             // after an abandon: nobody reads or writes them any more
bool reading_waits(const mio_loop_t *loop);        // for whoever holds received bytes: its pool may be dry
bool lane_is_live(const lane *l);                 // somebody in it is still to be told
request *lane_first(const lane *l);               // who is told next

channel *channel_new(int port, int to);
void channel_bind(connection *c, int side, int port, int to);
void channel_bind_unknown(connection *c, int side);
void channel_sent(connection *c, const void *from, size_t n);
void channel_sent_unknown(connection *c);
void channel_received(connection *c, const void *from, size_t n);
void channel_freeze(connection *c);
void channels_compare(bool all_told); // the bytes of the two ends; all_told: no write is under way

mio_buf_t buf_make(connection *c, size_t cap); // wrapped, allocated, or space from malloc
mio_buf_t buf_owned(mio_loop_t *loop, size_t cap); // wrapped or allocated
void buf_hold(mio_buf_t *buf);                 // for some time
void held_release(uint32_t percent);           // each with this chance, until one stays

uint64_t turns(); // of all loops

void model_clear();

// --- the program ----------------------------------------------------------------------------------------------------

void act_connect();
void act_listener(connection *c);
const mio_addr_t *listener_address(bool alive); // of any; NULL: there is none
void connect_disturb(connection *c, request *r);
void listeners_open();
bool listeners_are_over();
void listeners_check();
void listeners_resume();
void probes_start();
bool probes_over();
void probes_check();
void listeners_close();
void listeners_clear();

void act_adopt(connection *c);
void stray_found(connection *from, int fd, mio_buf_t *unread, unsigned n); // a detach gave it
void strays_return(); // all are adopted again
int stray_fd();       // of any of them; -1: there is none
void polls_leave(int fd); // no poll is on it any more
bool is_of_a_host(int64_t status); // an end that a connect by name may have
mio_workers_t *workers_open();     // for a loop; NULL: the process's

void act_pass(connection *c);
void pass_on(connection *from, mio_buf_t *buf);

void world_open();
void faults_schedule();

void act_other(connection *c); // of a timer, hook, wakeup, post or kept buffer
void others_quiet();
bool others_are_over();
void others_check();
void others_close();
void others_clear();
void act(connection *c);
void act_close(connection *c);
void check_refusal(const char *what, int64_t error, const connection *c);
void act_some(connection *c, uint32_t n); // n actions, most of them on c
void act_close_all(bool gracefully);

void told_write(mio_stream_t *stream, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg);
void told_shutdown(mio_stream_t *stream, int status, void *arg);
void told_connect(mio_stream_t *stream, int status, void *arg);
void told_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg);
void told_mark(mio_stream_t *stream, int above, void *arg);
void told_detach(mio_stream_t *stream, int status, int fd, mio_buf_t *unread, unsigned n, void *arg);
void told_move(mio_loop_t *loop, int status, mio_stream_t *stream, void *arg);
void told_close(mio_handle_t *handle, void *arg);
void told_tick(mio_timer_t *timer, void *arg);

}
