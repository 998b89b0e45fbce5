// A C++ object around a connection, whose destructor may run at any moment, also inside its own callback: it abandons
// the stream, and from then on no callback can reach the object that is gone.
//
//   fetch
#include <mio.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

class Fetch {
public:
    using Done = std::function<void(int status, const std::string &answer)>;

    Fetch(mio_loop_t *loop, const mio_addr_t &addr, std::string question, Done done)
        : question_(std::move(question)), done_(std::move(done)) {
        mio_buf_t buf = mio_buf_borrow(question_.data(), question_.size());
        if (mio_tcp_connect(loop, &addr, nullptr, on_connect, this, &stream_) < 0 ||
            mio_stream_write(stream_, &buf, 1, nullptr, nullptr) < 0 ||
            mio_stream_shutdown(stream_, nullptr, nullptr) < 0 ||
            mio_stream_read_start(stream_, 0, on_read, this) < 0)
            fprintf(stderr, "fetch: could not start\n");
    }
    ~Fetch() { mio_handle_abandon(stream_); }            // the kernel has let go of question_ when this returns
    Fetch(const Fetch &) = delete;
    Fetch &operator=(const Fetch &) = delete;

private:
    static void on_connect(mio_stream_t *, int, void *) {}        // a failure is the result of the read as well

    static void on_read(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
        Fetch *self = static_cast<Fetch *>(arg);
        if (n > 0) {
            self->answer_.append(buf->base, buf->len);
            return;
        }
        const Done done = std::move(self->done_);        // self may be deleted in it
        done(n == MIO_EOF ? 0 : static_cast<int>(n), self->answer_);
    }

    mio_stream_t *stream_ = nullptr;
    std::string question_, answer_;
    Done done_;
};

// ------------------------------------------------------------------------------------------ the demonstration

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {        // an echo server
    if (n == MIO_EOF) mio_stream_finish(conn, MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, nullptr, nullptr) < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_read, nullptr);
}

static std::unique_ptr<Fetch> answered, dropped, dropped_by_other;
static mio_listener_t *listener;
static int answers, strays;

static void on_end(mio_timer_t *timer, void *) {
    mio_handle_close(timer, nullptr, nullptr);
    mio_handle_close(listener, nullptr, nullptr);
}

int main() {
    mio_loop_t *loop;
    mio_addr_t addr;
    mio_timer_t *timer;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listener) < 0) return 1;
    if (mio_listener_local(listener, &addr) < 0 || mio_timer_create(loop, &timer) < 0) return 1;
    if (mio_timer_start(timer, 100 * MIO_MILLISECOND, 0, on_end, nullptr) < 0) return 1;

    const Fetch::Done stray = [](int, const std::string &) { strays++; };
    answered = std::make_unique<Fetch>(loop, addr, "who is there?", [](int status, const std::string &answer) {
        printf("%s, the answer: %s\n", status == 0 ? "fetched" : mio_error_name(status), answer.c_str());
        if (status == 0 && answer == "who is there?") answers++;
        answered.reset();                                // deletes the object whose callback this is
        dropped_by_other.reset();                        // and another one, whose answer may be in this very batch
    });
    dropped_by_other = std::make_unique<Fetch>(loop, addr, std::string(1 << 20, '?'), stray);
    dropped = std::make_unique<Fetch>(loop, addr, "nobody wants to know", stray);
    dropped.reset();                                     // before it is even connected

    mio_loop_run(loop);
    printf("%d answered, %d called back after their end\n", answers, strays);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && answers == 1 && strays == 0 ? 0 : 1;
}
