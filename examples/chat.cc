// A chat room: what one member says goes to all others, from one buffer that all of their writes share.
//
//   chat --port N      serves until SIGINT or SIGTERM (try it with two `nc 127.0.0.1 N`)
//   chat               shows itself: three members in the same loop, one of them speaks
#include <mio.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

static mio_loop_t *loop;
static std::vector<mio_stream_t *> members;

static void leave(mio_stream_t *member) {
    members.erase(std::remove(members.begin(), members.end(), member), members.end());
    mio_handle_close(member, nullptr, nullptr);
}

static void on_written(mio_stream_t *member, int status, int64_t, mio_buf_t *, unsigned, void *) {
    if (status < 0) leave(member);
}

static void on_read(mio_stream_t *speaker, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0) {
        leave(speaker);
        return;
    }
    const std::vector<mio_stream_t *> audience = members;        // leave() changes the list
    for (mio_stream_t *member : audience) {
        mio_buf_t copy = {};
        if (member == speaker || mio_buf_share(buf, &copy) < 0) continue;
        if (mio_stream_write(member, &copy, 1, on_written, nullptr) < 0) {
            mio_buf_release(&copy);                              // nothing was taken: it is still ours
            leave(member);                                       // has not read for 16 MiB, or is gone
        }
    }
}                                                                // the last reference lets the memory go home

static void on_accept(mio_listener_t *, int status, mio_stream_t *member, void *) {
    if (status == 0 && mio_stream_read_start(member, 0, on_read, nullptr) > 0) members.push_back(member);
}

static void on_signal(int) { mio_loop_stop(loop); }

static int serve(const char *port_text) {
    char *end;
    const long number = strtol(port_text, &end, 10);
    const int port = *end == 0 && end != port_text && number <= 65535 ? static_cast<int>(number) : -1;
    mio_listener_t *listener;
    const int status = mio_tcp_listen(loop, "127.0.0.1", port, nullptr, on_accept, nullptr, &listener);
    if (status < 0) {
        fprintf(stderr, "chat: cannot listen on port '%s': %s\n", port_text, mio_error_text(status));
        mio_loop_destroy(loop, 0);
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 ? 0 : 1;
}

// ------------------------------------------------------------------------------------------ the demonstration

static mio_listener_t *room;
static mio_stream_t *friends[3];
static std::string heard[3];

static void on_heard(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    std::string *mine = static_cast<std::string *>(arg);
    if (n < 0) return;
    mine->append(buf->base, buf->len);
    if (heard[1] != "hello, all" || heard[2] != "hello, all") return;
    for (mio_stream_t *f : friends) mio_handle_close(f, nullptr, nullptr);
    mio_handle_close(room, nullptr, nullptr);
}

static void on_joined(mio_stream_t *, int, void *) {}                   // a failure ends the read as well

static void on_check(mio_timer_t *timer, void *) {
    if (members.size() < 3) return;                              // not all of them are in yet
    mio_buf_t words = mio_buf_borrow("hello, all", 10);
    if (mio_stream_write(friends[0], &words, 1, nullptr, nullptr) < 0) mio_loop_stop(loop);
    mio_handle_close(timer, nullptr, nullptr);
}

static int show_itself() {
    mio_addr_t addr;
    mio_timer_t *timer;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &room) < 0) return 1;
    if (mio_listener_local(room, &addr) < 0 || mio_timer_create(loop, &timer) < 0) return 1;
    if (mio_timer_start(timer, MIO_MILLISECOND, MIO_MILLISECOND, on_check, nullptr) < 0) return 1;
    for (int i = 0; i < 3; i++) {
        if (mio_tcp_connect(loop, &addr, nullptr, on_joined, nullptr, &friends[i]) < 0) return 1;
        if (mio_stream_read_start(friends[i], 0, on_heard, &heard[i]) < 0) return 1;
    }
    mio_loop_run(loop);
    for (int i = 0; i < 3; i++) printf("member %d heard: %s\n", i + 1, heard[i].c_str());
    const bool right = heard[0].empty() && heard[1] == "hello, all" && heard[2] == "hello, all";
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && right ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc != 1 && (argc != 3 || strcmp(argv[1], "--port") != 0)) {
        fprintf(stderr, "chat: usage: chat [--port N]\n");
        return 2;
    }
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    return argc == 3 ? serve(argv[2]) : show_itself();
}
