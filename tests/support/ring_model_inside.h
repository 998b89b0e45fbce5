// The model of io_uring, inside: what its parts share.
//
//   ring_model.cc          the test's hand: asking, telling; the calls that share descriptors and bytes with rings
//   ring_model_rings.cc    rings: made, mapped, entered, registered with; the completion queue and its backlog
//   ring_model_entries.cc  entries: taken, put off, cancelled, ended; what a socket has for them
//
// An entry's way:
//
//     submission queue -> taken (pending) -> [put off] -> completion queue, or the backlog while that is full
//
// Entries are looked up by number, never held by address over a step that may take more. The test's hand shows in three
// places only: an answer when an entry is taken, a piece of work that is put off, a plan when an enter begins.
#pragma once

#include "support/ring_model.h"

#if MIO_HAVE_URING

#include <poll.h>
#include <pthread.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace test {
namespace model {

constexpr uint16_t BUFFERS_INCREMENTAL = 2;
constexpr unsigned OPCODES = IORING_OP_LAST;
constexpr size_t REGISTERED_RINGS = 16;
constexpr unsigned POLL_ALWAYS = POLLERR | POLLHUP | POLLRDHUP; // told of whatever a poll asks for

enum class op_state : uint8_t { pending, notifying, ended };

struct model_op {
    struct io_uring_sqe sqe;
    op_state state;
    bool answered;                    // its last result is given, not posted
    bool cancelled;                   // -ECANCELED will be its last result
    std::vector<struct iovec> pieces; // memory of bytes to send, or for bytes received
    struct msghdr *message;           // RECVMSG: written when it ends
};

// look: does the socket have something for it?
enum class work_kind : uint8_t { look, fire, result, notify };
struct model_work {
    work_kind kind;
    unsigned nth;
    int32_t res;
    uint32_t flags;
};

struct model_cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct model_group { // a ring of buffers; its tail lies in the first entry
    unsigned id, entries;
    bool incremental;
    uint16_t head;
    struct io_uring_buf *bufs;
};

struct model_plan {
    unsigned takes;
    int error;
};

enum region_name : uint8_t { SQ_REGION, CQ_REGION, SQES_REGION, REGIONS };
struct model_region {
    char *at; // nullptr: not mapped
    size_t size;
};

struct model_ring {
    int fd;
    bool open, disabled, single;
    bool owned; // by one thread
    pthread_t owner;
    struct io_uring_params params;
    model_region regions[REGIONS];
    std::deque<model_op> ops;
    std::set<unsigned> pending; // numbers of those that have not ended
    std::deque<model_work> work;
    std::deque<model_cqe> backlog;
    std::deque<model_plan> plans;
    std::deque<ring_enter> enters;
    std::vector<model_group> groups;
    std::vector<int> files;
    int eventfd;
    uint64_t signals;
};

struct model_socket {
    std::string unread, sent;
    bool ended;
    int end;
    std::deque<int> connections;
};

struct model_answer {
    uint8_t opcode;
    int fd;
    int32_t res;
};

struct model_late {
    int32_t target_res;
    uint32_t target_flags;
    int32_t own_res;
};

enum class fd_state : uint8_t { promised, open, closed };

struct model_world {
    const mio::sys *base;
    ring_kernel kernel;
    std::deque<std::unique_ptr<model_ring>> rings;
    std::map<int, model_socket> sockets;
    std::map<int, int> pipes;    // the reading end, the writing end
    std::vector<fd_state> given; // descriptors from RING_FD_FIRST on
    std::set<int> closed;        // of the script's
    std::vector<int> registered; // rings, by index; -1: none
    int32_t answers[256];
    std::deque<model_answer> next_answers;
    std::deque<model_late> lates;
    void (*on_wait)(void *arg);
    void *on_wait_arg;
};

// --- ring_model.cc --------------------------------------------------------------------------------------------------

extern std::unique_ptr<model_world> world;
extern mio::sys table; // of memory, too: what is released after the end finds the script's call

__attribute__((noreturn, format(printf, 2, 3))) void model_broken(const model_ring *r, const char *what, ...);
model_ring *ring_of(int fd); // nullptr: it is none
int fd_new(fd_state state);
fd_state *fd_given(int fd); // nullptr: not the model's
// Waits for a result, and nobody has given it one.
bool op_waits(const model_op *o);
void op_end(model_ring *r, unsigned nth);

// --- ring_model_rings.cc --------------------------------------------------------------------------------------------

void *model_map_fd(int fd, size_t size, int64_t offset);
void model_unmap(void *ptr, size_t size);
int model_uring_setup(unsigned entries, struct io_uring_params *params);
int model_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags, const void *arg, size_t arg_size);
int model_uring_register(int fd, unsigned what, void *arg, unsigned n);

void sq_flag(model_ring *r, uint32_t flag, bool on);
uint32_t cq_ready(const model_ring *r);
bool cq_has_room(const model_ring *r);
void cq_post(model_ring *r, uint64_t user_data, int32_t res, uint32_t flags);

model_group *group_of(model_ring *r, unsigned id); // nullptr: there is none
unsigned group_free(const model_ring *r, const model_group *g);

// --- ring_model_entries.cc ------------------------------------------------------------------------------------------

// false: refused for what it is; a ring without SUBMIT_ALL stops there.
bool entry_take(model_ring *r, const struct io_uring_sqe *sqe);
void work_run(model_ring *r);
bool has_news(const model_ring *r, unsigned nth); // it has to look, or to tell
void put_off(model_ring *r, work_kind kind, unsigned nth, int32_t res, uint32_t flags);
bool op_receives(const model_op *o);
bool op_is_zero_copy(const model_op *o);
void sent_add(int socket, const struct iovec *pieces, size_t n, size_t size);
unsigned socket_seen(int fd, unsigned events); // what poll(2) would say
int socket_end(model_socket *s); // an error is told once, an end for ever

}
}

#endif
