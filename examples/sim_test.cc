// A protocol tested in simulated worlds: an in-memory network with short reads, short writes and resets, virtual time,
// and a seed for each world. What one seed has shown, it shows again.
//
//   sim_test [SEED]      seeds 1 to 200, or that one
//
// The protocol: a request is one byte (how many numbers follow) and the numbers, a byte each; the answer is their sum
// in two bytes. What must hold: the client has the right sum, or an error; never a wrong one, and never silence.
#include <mio.h>

#include <cstdio>
#include <cstdlib>
#include <string>

struct world {
    mio_listener_t *listener;
    std::string request, received;                       // as the client says it; as the server has got it so far
    char answer[2], heard[2];                            // on the server, on the client
    int status;                                          // of the client: 1: not yet
};

static unsigned number(char c) { return static_cast<unsigned char>(c); }

static unsigned sum_of(const std::string &request) {
    unsigned sum = 0;
    for (size_t i = 1; i < request.size(); i++) sum += number(request[i]);
    return sum;
}

static void on_request(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *arg) {
    world *w = static_cast<world *>(arg);
    if (n < 0) {
        mio_handle_close(conn, nullptr, nullptr);
        return;
    }
    w->received.append(buf->base, buf->len);             // it comes in any number of pieces
    if (w->received.size() < 1 + number(w->received[0])) return;
    const unsigned sum = sum_of(w->received);
    w->answer[0] = static_cast<char>(sum >> 8);
    w->answer[1] = static_cast<char>(sum & 255);
    mio_buf_t answer = mio_buf_borrow(w->answer, 2);
    mio_stream_write(conn, &answer, 1, nullptr, nullptr);    // a failure ends the read above
    mio_stream_finish(conn, MIO_SECOND, nullptr, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *arg) {
    if (status == 0) mio_stream_read_start(conn, 0, on_request, arg);
}

static void on_answer(mio_stream_t *conn, int64_t n, mio_buf_t *, void *arg) {
    world *w = static_cast<world *>(arg);
    w->status = n < 0 ? static_cast<int>(n) : 0;
    mio_handle_close(conn, nullptr, nullptr);
    mio_handle_close(w->listener, nullptr, nullptr);
}

static void on_connect(mio_stream_t *, int, void *) {}       // a failure ends the read as well

static int start(mio_loop_t *loop, world *w) {
    mio_addr_t addr;
    mio_stream_t *client;
    int status = mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, w, &w->listener);
    if (status < 0 || (status = mio_listener_local(w->listener, &addr)) < 0) return status;
    const mio_req_t id = mio_tcp_connect(loop, &addr, nullptr, on_connect, w, &client);
    if (id < 0) return static_cast<int>(id);
    mio_buf_t request = mio_buf_borrow(w->request.data(), w->request.size());
    mio_buf_t room = mio_buf_space(w->heard, 2);
    if (mio_stream_write(client, &request, 1, nullptr, nullptr) < 0) return MIO_EIO;
    return mio_stream_read_exact(client, &room, 2, on_answer, w) < 0 ? MIO_EIO : 0;
}

// One world from its beginning to its end. 0: it behaved. *hash: its whole history; *unlucky: what failed in it.
static int run(uint64_t seed, uint64_t *hash, int *unlucky) {
    mio_sim_options_t chances = MIO_SIM_OPTIONS_INIT;
    chances.seed = seed;
    chances.short_read_ppm = chances.short_write_ppm = 300000;
    chances.reset_ppm = chances.refuse_ppm = 20000;
    mio_sim_t *sim;
    mio_loop_t *loop;
    if (mio_sim_create(&sim, &chances) < 0) return 1;
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.sim = sim;
    if (mio_loop_create(&loop, &options) < 0) return 1;

    world w = {nullptr, "", "", {}, {}, 1};
    const unsigned count = static_cast<unsigned>(mio_sim_random(sim) % 256);
    w.request.push_back(static_cast<char>(count));
    for (unsigned i = 0; i < count; i++) w.request.push_back(static_cast<char>(mio_sim_random(sim)));

    int status = start(loop, &w);
    if (status == 0) status = mio_sim_run(sim, MIO_MINUTE);      // a minute of its time, not of ours
    const bool right = w.status == 0 && number(w.heard[0]) * 256 + number(w.heard[1]) == sum_of(w.request);
    *hash = mio_sim_trace_hash(sim);
    *unlucky += w.status < 0;
    if (mio_loop_destroy(loop, 0) != 0) status = MIO_EBUSY;
    if (mio_sim_open_fds(sim) != 0) status = MIO_EMFILE;
    return mio_sim_destroy(sim) == 0 && status == 0 && (w.status < 0 || right) ? 0 : 1;
}

int main(int argc, char **argv) {
    const unsigned long long first = argc > 1 ? strtoull(argv[1], nullptr, 10) : 1, last = argc > 1 ? first : 200;
    int unlucky = 0, again = 0;
    for (unsigned long long seed = first; seed <= last; seed++) {
        uint64_t hash, same;
        if (run(seed, &hash, &unlucky) != 0 || run(seed, &same, &again) != 0 || hash != same) {
            printf("a world failed: look at it with `sim_test %llu`\n", seed);
            return 1;
        }
    }
    printf("%llu worlds, %d of them unlucky: each ended as it must\n", last - first + 1, unlucky);
    return 0;
}
