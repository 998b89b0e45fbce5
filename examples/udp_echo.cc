// Echo over UDP: whatever comes is sent back to where it came from, from the address that it was sent to.
//
//   udp_echo [--host ADDRESS] [--port N]      serves; port 0: any free one; ends with SIGINT or SIGTERM
//   udp_echo                                  serves itself: asks its own server 1,000 times, and counts the answers
#include <mio.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

static mio_loop_t *loop;

static void on_signal(int) { mio_loop_stop(loop); }

// A report (MIO_ECONNREFUSED: who asked is gone) is no reason to stop.
static void on_datagram(mio_udp_t *server, int status, mio_datagram_t *datagram, void *) {
    if (status == 0) mio_udp_send_many(server, datagram, 1, nullptr, nullptr, nullptr); // address and all
}

struct client {
    int asked, answered;
};

constexpr int QUESTIONS = 1000;

static void ask(mio_udp_t *udp, client *c) {
    mio_buf_t question = {};
    if (mio_buf_alloc(loop, 16, &question) < 0) return;
    question.len = static_cast<size_t>(snprintf(question.base, 16, "question %d", c->asked++));
    if (mio_udp_send(udp, &question, 1, nullptr, nullptr, nullptr) < 0) mio_buf_release(&question); // not taken: still ours
}

// On loopback none is lost; elsewhere a client needs a timer for each question.
static void on_answer(mio_udp_t *udp, int status, mio_datagram_t *, void *arg) {
    auto *c = static_cast<client *>(arg);
    if (status < 0) return;
    if (++c->answered == QUESTIONS) mio_loop_stop(loop);
    else if (c->asked < QUESTIONS) ask(udp, c);
}

// -1: no port, which is refused where it is used.
static int port_of(const char *text) {
    char *end;
    const long number = strtol(text, &end, 10);
    return *text != 0 && *end == 0 && number >= 0 && number <= 65535 ? static_cast<int>(number) : -1;
}

int main(int argc, char **argv) {
    const char *host = "127.0.0.1";
    const char *port_text = "0";
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--host") == 0) host = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--port") == 0) port_text = argv[i + 1];
        else {
            fprintf(stderr, "usage: udp_echo [--host ADDRESS] [--port N]\n");
            return 2;
        }
    }
    mio_addr_t at;
    if (mio_addr_parse(host, port_of(port_text), &at) < 0) {
        fprintf(stderr, "udp_echo: '%s' and '%s' are no address and port\n", host, port_text);
        return 2;
    }
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.want_local = 1; // so that an answer comes from the address that was asked
    mio_udp_t *server, *asking;
    int status = mio_loop_create(&loop, nullptr);
    if (status == 0) status = mio_udp_open(loop, at.u.any.sa_family, &options, &server);
    if (status == 0) status = mio_udp_bind(server, &at);
    if (status == 0) status = mio_udp_local(server, &at);
    if (status < 0 || mio_udp_recv_start(server, on_datagram, nullptr) < 0) {
        fprintf(stderr, "udp_echo: %s\n", mio_error_text(status));
        return 1;
    }
    client self = {};
    if (argc == 1) {
        if (mio_udp_open(loop, at.u.any.sa_family, nullptr, &asking) < 0 || mio_udp_connect(asking, &at) < 0 ||
            mio_udp_recv_start(asking, on_answer, &self) < 0)
            return 1;
        for (int i = 0; i < 8; i++) ask(asking, &self); // eight at a time
    } else {
        char text[MIO_ADDR_TEXT_MAX] = "?";
        mio_addr_format(&at, text, sizeof text);
        printf("receiving on %s (backend %s)\n", text, mio_loop_backend(loop));
        fflush(stdout);
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
    }
    status = mio_loop_run(loop);
    if (argc == 1) printf("%d answers\n", self.answered);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && status >= 0 ? 0 : 1;
}
