// The script: one queue of results in the order of the pushes, one log of calls, one clock. Here it is written, opened,
// closed and asked; scripted_calls.cc has the calls that follow it.
#include "support/scripted_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace test {

script the_script;
pthread_mutex_t script_lock = PTHREAD_MUTEX_INITIALIZER;

// --- pushing --------------------------------------------------------------------------------------------------------

static void *copy_behind(char **at, const void *from, size_t n) {
    if (from == nullptr) return nullptr;
    char *here = *at;
    memcpy(here, from, n);
    *at += (n + 15) & ~size_t(15);
    return here;
}

void result_push(call which, int fd, const scripted_result *result, bool in_front) {
    const size_t behind = result->size + result->control_size + result->addr_len + 3 * 16;
    const size_t head = (sizeof(queued) + 15) & ~size_t(15);
    char *memory = static_cast<char *>(calloc(1, head + behind));
    if (memory == nullptr) abort();
    queued *q = reinterpret_cast<queued *>(memory);
    char *at = memory + head;
    q->which = which;
    q->fd = fd;
    q->result = *result;
    q->result.data = copy_behind(&at, result->data, result->size);
    q->result.control = copy_behind(&at, result->control, result->control_size);
    q->result.addr = static_cast<struct sockaddr *>(copy_behind(&at, result->addr, result->addr_len));
    pthread_mutex_lock(&script_lock);
    if (the_script.head == nullptr) {
        the_script.head = the_script.tail = q;
    } else if (in_front) {
        q->next = the_script.head;
        the_script.head = q;
    } else {
        the_script.tail->next = q;
        the_script.tail = q;
    }
    pthread_mutex_unlock(&script_lock);
}

void scripted_push_result(call which, int fd, const scripted_result *result) { result_push(which, fd, result, false); }

void scripted_push(call which, int fd, int64_t value) {
    scripted_result result = scripted_result();
    result.value = value;
    scripted_push_result(which, fd, &result);
}

void scripted_push_data(call which, int fd, const void *data, size_t n) {
    scripted_result result = scripted_result();
    result.value = static_cast<int64_t>(n);
    result.data = data;
    result.size = n;
    scripted_push_result(which, fd, &result);
}

void scripted_push_events(const struct epoll_event *events, int n) {
    scripted_result result = scripted_result();
    result.value = n;
    result.data = events;
    result.size = static_cast<size_t>(n) * sizeof(*events);
    scripted_push_result(call::epoll_wait_ns, ANY_FD, &result);
}

unsigned scripted_pending(call which) {
    unsigned n = 0;
    pthread_mutex_lock(&script_lock);
    for (const queued *q = the_script.head; q != nullptr; q = q->next) n += q->which == which;
    pthread_mutex_unlock(&script_lock);
    return n;
}

// --- opening, closing, asking ---------------------------------------------------------------------------------------

const mio::sys *scripted_open(int64_t now_ns) {
    memset(static_cast<void *>(&the_script), 0, sizeof(the_script));
    the_script.now_ns = now_ns;
    scripted_fill(&the_script.table);
    return &the_script.table;
}

int scripted_close() {
    int left = 0;
    while (the_script.head != nullptr) {
        queued *q = the_script.head;
        the_script.head = q->next;
        fprintf(stderr, "scripted: a result was not used: %s on descriptor %d\n", call_name(q->which), q->fd);
        free(q);
        left++;
    }
    the_script.tail = nullptr;
    for (int i = 0; i < the_script.fds; i++) {
        if (!the_script.fd_open[i]) continue;
        fprintf(stderr, "scripted: descriptor %d was not closed\n", SCRIPTED_FD_FIRST + i);
        left++;
    }
    while (the_script.sent != nullptr) {
        sent_bytes *of = the_script.sent;
        the_script.sent = of->next;
        free(of->bytes);
        free(of);
    }
    if (the_script.alive != 0) {
        fprintf(stderr, "scripted: %lld allocations were not given back\n", static_cast<long long>(the_script.alive));
        left += static_cast<int>(the_script.alive);
    }
    return left;
}

int64_t scripted_now_ns() {
    pthread_mutex_lock(&script_lock);
    const int64_t now_ns = the_script.now_ns;
    pthread_mutex_unlock(&script_lock);
    return now_ns;
}

void scripted_set_now_ns(int64_t now_ns) {
    pthread_mutex_lock(&script_lock);
    the_script.now_ns = now_ns;
    pthread_mutex_unlock(&script_lock);
}

uint64_t scripted_count(call which) {
    pthread_mutex_lock(&script_lock);
    const uint64_t n = the_script.counts[static_cast<unsigned>(which)];
    pthread_mutex_unlock(&script_lock);
    return n;
}

uint64_t scripted_count_fd(call which, int fd) {
    uint64_t n = 0;
    pthread_mutex_lock(&script_lock);
    for (unsigned i = 0; i < the_script.log_size; i++) {
        const scripted_call *c = &the_script.log[i];
        n += c->which == which && c->fd == fd;
    }
    pthread_mutex_unlock(&script_lock);
    return n;
}

unsigned scripted_log_size() { return the_script.log_size; }
const scripted_call *scripted_log_at(unsigned i) { return i < the_script.log_size ? &the_script.log[i] : nullptr; }

const scripted_call *scripted_last(call which) {
    for (unsigned i = the_script.log_size; i > 0; i--) {
        if (the_script.log[i - 1].which == which) return &the_script.log[i - 1];
    }
    return nullptr;
}

void scripted_forget() {
    pthread_mutex_lock(&script_lock);
    the_script.log_size = 0;
    for (uint64_t &n : the_script.counts) n = 0;
    pthread_mutex_unlock(&script_lock);
}

void scripted_print_log() {
    for (unsigned i = 0; i < the_script.log_size; i++) {
        const scripted_call *c = &the_script.log[i];
        fprintf(stderr, "  %s(%d, %lld, %lld, %lld) = %lld\n", call_name(c->which), c->fd,
                static_cast<long long>(c->args[0]), static_cast<long long>(c->args[1]),
                static_cast<long long>(c->args[2]), static_cast<long long>(c->result));
    }
}

const char *scripted_sent(int fd, size_t *n) {
    for (const sent_bytes *of = the_script.sent; of != nullptr; of = of->next) {
        if (of->fd != fd) continue;
        *n = of->n;
        return of->bytes;
    }
    *n = 0;
    return "";
}

unsigned scripted_open_fds() {
    unsigned n = 0;
    for (int i = 0; i < the_script.fds; i++) n += the_script.fd_open[i];
    return n;
}

}
