// Polls: another library's socket on the loop. The "library" here speaks to its server by itself, over a socket of its own,
// and says only what it waits for: as libcurl's, c-ares' and libpq's interfaces for foreign loops do.
//
//   poll
#include <mio.h>

#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

// --- the library: knows nothing of libmio --------------------------------------------------------------------------

struct question {
    int fd;
    std::string unsent, answer;
    bool over;
};

static bool wants_write(const question &q) { return !q.unsent.empty(); }

// Does what can be done without waiting.
static void proceed(question &q) {
    while (!q.unsent.empty()) {
        const ssize_t n = send(q.fd, q.unsent.data(), q.unsent.size(), MSG_NOSIGNAL);
        if (n <= 0) break;
        q.unsent.erase(0, static_cast<size_t>(n));
    }
    char bytes[4096];
    ssize_t n;
    while ((n = recv(q.fd, bytes, sizeof bytes, 0)) > 0) q.answer.append(bytes, static_cast<size_t>(n));
    if (n == 0) q.over = true;
}

// --- between the two -----------------------------------------------------------------------------------------------

static void on_ready(mio_poll_t *poll, int status, unsigned, void *arg) {
    if (status < 0) return;                       // MIO_ECANCELED: it was closed
    question *q = static_cast<question *>(arg);
    proceed(*q);
    if (q->over) {
        mio_handle_close(poll, nullptr, nullptr); // the loop has let go of the socket when this returns:
        close(q->fd);                             // its number may be anybody's from here on
        return;
    }
    mio_poll_set(poll, MIO_POLL_IN | (wants_write(*q) ? MIO_POLL_OUT : 0), on_ready, q); // costs nothing if it is the same
}

// --- the server: a stream that says how much it got ----------------------------------------------------------------

static void on_request(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    size_t *bytes = static_cast<size_t *>(arg);
    if (n < 0) return;
    *bytes += static_cast<size_t>(n);
    const bool whole = buf->base[buf->len - 1] == '\n';
    if (!whole) return;
    mio_buf_t reply;
    if (mio_buf_alloc(mio_handle_loop(stream), 64, &reply) < 0) return;
    reply.len = static_cast<size_t>(snprintf(reply.base, reply.cap, "%zu bytes of a question", *bytes));
    mio_stream_write(stream, &reply, 1, nullptr, nullptr);
    mio_stream_finish(stream, MIO_SECOND, nullptr, nullptr);
}

int main() {
    mio_loop_t *loop;
    mio_stream_t *server;
    mio_poll_t *poll;
    int fds[2];
    size_t bytes = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0) return 1;
    question q = {fds[0], std::string(1000000, '?') + "\n", "", false};
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_stream_adopt(loop, fds[1], nullptr, 0, &server) < 0) return 1;
    if (mio_stream_read_start(server, 0, on_request, &bytes) < 0) return 1;

    if (mio_poll_open(loop, q.fd, &poll) < 0) return 1;
    if (mio_poll_set(poll, MIO_POLL_IN | MIO_POLL_OUT, on_ready, &q) < 0) return 1;
    const int status = mio_loop_run(loop);
    printf("the answer: %s\n", q.answer.c_str());
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && status == 0 && q.answer == "1000001 bytes of a question" ? 0 : 1;
}
