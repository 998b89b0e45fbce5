// Child processes: shells that exit with a number, are killed, cannot be run, or say something on a stream; their handles
// are closed and abandoned while they run.
//
// The model of a child is how it is to end. Told of its end it is gone; nobody is left when the loops are.
#include "nouns.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace torture {

constexpr int CHILDREN_MAX = 4;

struct child {
    mio_process_t *handle;
    mio_loop_t *loop;
    bool told, closing, dead, abandoned, killed;
    int expected;         // what it exits with; -1: it cannot be run
    mio_stream_t *said;   // what it says, until its end
    char text[16];
    size_t len;
    child *next;
};

static child *children;
static int child_count;

static bool is_usable(const child *c) { return !c->closing && !c->dead && !c->abandoned; }

static void told_end(mio_process_t *handle, const mio_process_exit_t *how, void *arg) {
    auto *c = static_cast<child *>(arg);
    told_outside("a process");
    if (c->told || c->dead || c->abandoned || handle != c->handle) fail("the end of a process is told twice, late, or of another");
    c->told = true;
    say("told: process, error %d, status %d, signal %d", how->error, how->status, how->signal);
    if (how->error == MIO_ECANCELED) {
        if (!c->closing && !now.destroying) fail("a process is cancelled, and nobody asked for it");
    } else if (c->expected < 0 && !(c->killed && how->error == 0 && how->signal == SIGKILL)) { // killed before it was to run
        if (how->error != MIO_ENOENT || how->step != MIO_PROCESS_STEP_EXEC)
            fail("a process ends with %s in step %d, status %d, signal %d", mio_error_name(how->error), how->step, how->status, how->signal);
    } else if (how->error != 0) {
        fail("a process ends with %s", mio_error_name(how->error));
    } else if (how->signal != 0 ? !c->killed || how->signal != SIGKILL || how->status != -1 : how->status != c->expected) {
        fail("a process ends with status %d, signal %d", how->status, how->signal);
    }
    act_some(nullptr, below(2u));
}

static void told_process_closed(mio_handle_t *, void *arg) {
    auto *c = static_cast<child *>(arg);
    told_outside("a close");
    if (c->dead || c->abandoned || !c->told) fail("a process closes twice, or before it is told");
    c->dead = true;
}

static void told_said(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    auto *c = static_cast<child *>(arg);
    told_outside("a read");
    if (c->said != stream) fail("a process speaks after its stream was closed");
    for (size_t i = 0; n > 0 && i < buf->len; i++)
        if (c->len < sizeof c->text) c->text[c->len++] = buf->base[i];
    if (n > 0) return;
    if (n == MIO_EOF && !c->killed && (c->len != 6 || memcmp(c->text, "spoken", 6) != 0)) fail("a process said %zu bytes", c->len);
    if (n != MIO_EOF && n != MIO_ECANCELED && n != MIO_ECONNRESET) fail("what a process says ends with %s", mio_error_name(n));
    c->said = nullptr;
    if (!now.destroying) CALL_VOID(mio_handle_abandon(stream));
}

static void spawn_act() {
    auto *c = static_cast<child *>(calloc(1, sizeof(child)));
    char script[64], *argv[] = {const_cast<char *>("sh"), const_cast<char *>("-c"), script, nullptr};
    mio_stdio_t io[3] = {};
    mio_process_options_t options = MIO_PROCESS_OPTIONS_INIT;
    options.file = "/bin/sh";
    options.argv = argv;
    c->expected = static_cast<int>(below(256u));
    const uint32_t which = below(4u);
    const char *before = which == 1 ? "sleep 0.01; " : which == 2 ? "printf spoken; " : "";
    snprintf(script, sizeof script, "%sexit %d", before, c->expected);
    if (which == 0) {
        options.file = "/nowhere/at-all";
        c->expected = -1;
    }
    if (which == 2) {
        io[1].kind = MIO_STDIO_STREAM;
        options.stdio = io;
        options.stdio_count = 3;
    }
    child_count++;
    c->loop = some_loop();
    const int error = CALL(mio_process_spawn(c->loop, &options, told_end, c, &c->handle));
    if (error < 0) {
        if (!may_refuse(error) && error != MIO_EAGAIN && !(now.sim && error == MIO_ENOTSUP)) fail("no process: %s", mio_error_name(error));
        free(c);
        return;
    }
    c->next = children;
    children = c;
    if (which != 2) return;
    c->said = io[1].stream;
    if (CALL(mio_stream_read_start(c->said, 0, told_said, c)) < 0) {
        CALL_VOID(mio_handle_abandon(c->said));
        c->said = nullptr;
    }
}

static void processes_act() {
    child *found = nullptr;
    uint32_t seen = 0;
    for (child *c = children; c != nullptr; c = c->next)
        if (is_usable(c) && below(++seen) == 0) found = c;
    const uint32_t which = below(100u);
    if (child_count < CHILDREN_MAX && which < 20) {
        spawn_act();
    } else if (found == nullptr || which < 85) {
        return;
    } else if (which < 92) {
        const int error = CALL(mio_process_kill(found->handle, SIGKILL));
        if (error != 0 && error != MIO_ESRCH) fail("a process is not killed: %s", mio_error_name(error));
        if (error == 0) found->killed = true;
    } else if (which < 96 || now.no_abandons) {
        if (CALL(mio_handle_close(found->handle, told_process_closed, found)) != 0) fail("a process does not close");
        found->closing = true;
    } else {
        CALL_VOID(mio_handle_abandon(found->handle));
        found->abandoned = true;
    }
}

static bool processes_are_over() {
    for (const child *c = children; c != nullptr; c = c->next)
        if ((!c->told && !c->abandoned) || (c->closing && !c->dead) || (c->said != nullptr && !reading_waits(c->loop)))
            return false;
    return true;
}

static void processes_check() {
    if (!processes_are_over()) fail("a process does not end");
}

static void processes_close() {
    for (child *c = children; c != nullptr; c = c->next) {
        if (!is_usable(c)) continue;
        if (CALL(mio_handle_close(c->handle, told_process_closed, c)) != 0) fail("a process does not close");
        c->closing = true;
    }
}

static void processes_clear() {
    bool any = children != nullptr;
    while (children != nullptr) {
        child *c = children;
        children = c->next;
        if (!c->told && !c->abandoned) fail("the end of a process was never told");
        free(c);
    }
    for (int i = 0; any && i < 20000; i++) { // threads wait for those whose handles are gone
        siginfo_t info = {};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD) any = false;
        else usleep(500);
    }
    if (any) fail("a child is left");
    child_count = 0;
}

const noun noun_processes = {"processes", true, nullptr, processes_act, nullptr, processes_are_over, processes_check, processes_close,
                             processes_clear};

}
