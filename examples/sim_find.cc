// A bug found in simulated worlds, replayed, and shrunk to the one fault that it needs.
//
//   sim_find                                       looks for the bug, then shows that the server without it stands
//   sim_find --seed N [--keep 2,5,...] [--mended]  that world again; only with these of its faults
//
// The protocol: an order is its number and an amount, four bytes each; the server adds the amount to its total and
// answers with the number. A client that gets no answer connects anew and sends the order again, so the server must not
// count it twice. It has a bug: what it has counted it remembers with the connection. What must hold: when every fault
// is over, every order gets its answer, and the total is what was ordered.
#include <mio.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

constexpr unsigned FAULTS = 12;                              // that a seed holds, in the first 10 seconds
constexpr uint32_t ORDERS = 40;                              // one every 200 ms, so that they meet them

struct order { uint32_t number, amount; };

struct story {
    bool mended;
    mio_sim_t *world;
    mio_loop_t *server, *client;                             // nodes 0 and 1
    mio_addr_t addr;
    uint64_t total, ordered;                                 // as the server has counted; as it must
    std::set<uint32_t> counted;                              // the mended server's memory
    mio_stream_t *conn;                                      // the client's; nullptr: none
    mio_timer_t *timer;
    order now;
    bool done;
};

// --- the server -----------------------------------------------------------------------------------------------------

struct session {                                             // one connection
    story *of;
    uint32_t last;                                           // the order that was counted last: the bug
    order got;
    uint32_t answer;
};

static void on_order(mio_stream_t *conn, int64_t n, mio_buf_t *, void *arg);

static void next_order(mio_stream_t *conn, session *s) {
    mio_buf_t room = mio_buf_space(&s->got, sizeof s->got);
    if (mio_stream_read_exact(conn, &room, sizeof s->got, on_order, s) > 0) return;
    mio_handle_abandon(conn);
    delete s;
}

static void on_order(mio_stream_t *conn, int64_t n, mio_buf_t *, void *arg) {
    session *s = static_cast<session *>(arg);
    if (n < 0) {
        mio_handle_abandon(conn);
        delete s;
        return;
    }
    const bool known = s->of->mended ? !s->of->counted.insert(s->got.number).second : s->last == s->got.number;
    if (!known) s->of->total += s->got.amount;
    s->last = s->answer = s->got.number;
    mio_buf_t answer = mio_buf_borrow(&s->answer, sizeof s->answer);
    mio_stream_write(conn, &answer, 1, nullptr, nullptr);    // a failure ends the read below
    next_order(conn, s);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *arg) {
    if (status == 0) next_order(conn, new session{static_cast<story *>(arg), 0, {}, 0});
}

// --- the client -----------------------------------------------------------------------------------------------------

static void on_timer(mio_timer_t *timer, void *arg);
static void on_connect(mio_stream_t *, int, void *) {}       // a failure ends the read as well

static void on_answer(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    story *s = static_cast<story *>(arg);
    int64_t wait_ns = 100 * MIO_MILLISECOND;                 // then the same order, on a new connection
    if (n < 0 || memcmp(buf->base, &s->now.number, sizeof s->now.number) != 0) {
        mio_handle_abandon(s->conn);
        s->conn = nullptr;
    } else {
        s->ordered += s->now.amount;
        s->done = s->now.number == ORDERS;
        s->now = {s->now.number + 1, static_cast<uint32_t>(mio_sim_random(s->world) % 1000)};
        wait_ns = 200 * MIO_MILLISECOND;
    }
    if (s->done) {
        mio_loop_stop(s->server);
        mio_loop_stop(s->client);
    }
    mio_timer_start(s->timer, wait_ns, 0, on_timer, s);
}

static void on_timer(mio_timer_t *timer, void *arg) {
    static char answer[sizeof(uint32_t)];
    story *s = static_cast<story *>(arg);
    if (s->conn != nullptr && mio_timer_repeat_ns(timer) != 0) { // two seconds without an answer
        mio_handle_abandon(s->conn);
        s->conn = nullptr;
    }
    if (s->conn == nullptr && mio_tcp_connect(s->client, &s->addr, nullptr, on_connect, s, &s->conn) < 0) s->conn = nullptr;
    mio_timer_start(timer, 2 * MIO_SECOND, 2 * MIO_SECOND, on_timer, s);
    if (s->conn == nullptr) return;
    mio_buf_t order = mio_buf_borrow(&s->now, sizeof s->now), room = mio_buf_space(answer, sizeof answer);
    mio_stream_write(s->conn, &order, 1, nullptr, nullptr);
    mio_stream_read_exact(s->conn, &room, sizeof answer, on_answer, s);
}

// --- one world ------------------------------------------------------------------------------------------------------

struct verdict { bool failed; uint64_t hash; std::string what; };

static int run(story *s, const std::vector<unsigned> &keep, uint64_t seed) {
    mio_listener_t *listener;
    if (mio_loop_create(&s->server, nullptr) < 0 || mio_loop_create(&s->client, nullptr) < 0) return MIO_ENOMEM;
    int status = mio_tcp_listen(s->server, "127.0.0.1", 0, nullptr, on_accept, s, &listener);
    if (status == 0) status = mio_listener_local(listener, &s->addr);
    if (status == 0) status = mio_timer_create(s->client, &s->timer);
    if (status == 0) status = mio_timer_start(s->timer, 0, 0, on_timer, s);
    for (unsigned i : keep) {
        mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
        if (status == 0) status = mio_sim_draw(&fault, seed, i, nullptr);
        if (status == 0) status = mio_sim_schedule(s->world, &fault);
    }
    return status < 0 ? status : mio_sim_run(s->world, 5 * MIO_MINUTE); // of the world's time
}

static verdict judge(uint64_t seed, const std::vector<unsigned> &keep, bool mended) {
    story s = {};
    s.mended = mended;
    s.now = {1, 100};
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.seed = seed;
    if (mio_sim_create(&s.world, &options) < 0) return {true, 0, "no world"};
    const int status = run(&s, keep, seed);
    verdict v = {false, mio_sim_trace_hash(s.world), ""};
    if (status < 0 || !s.done) v.what = std::string("not every order was answered: ") + mio_error_name(status);
    else if (s.total != s.ordered) v.what = std::to_string(s.ordered) + " ordered, " + std::to_string(s.total) + " counted";
    if (mio_loop_destroy(s.client, 0) != 0 || mio_loop_destroy(s.server, 0) != 0) v.what += " a loop did not end";
    if (mio_sim_open_fds(s.world) != 0) v.what += " descriptors are left";
    if (mio_sim_destroy(s.world) != 0) v.what += " the world did not end";
    v.failed = !v.what.empty();
    return v;
}

// --- finding, replaying, shrinking ----------------------------------------------------------------------------------

struct search { uint64_t seed; bool mended; int runs; };

static int still_fails(const unsigned *list, unsigned n, void *arg) {
    search *in = static_cast<search *>(arg);
    in->runs++;
    return judge(in->seed, std::vector<unsigned>(list, list + n), in->mended).failed;
}

static std::vector<unsigned> all_faults() {
    std::vector<unsigned> all;
    for (unsigned i = 0; i < FAULTS; i++) all.push_back(i);
    return all;
}

static int find() {
    uint64_t seed = 1;
    verdict found = judge(seed, all_faults(), false);
    while (!found.failed && seed < 1000) found = judge(++seed, all_faults(), false);
    if (!found.failed) return printf("1000 seeds found nothing\n"), 1;
    const unsigned long long number = seed;
    printf("seed %llu: %s\nagain: sim_find --seed %llu\n", number, found.what.c_str(), number);
    if (judge(seed, all_faults(), false).hash != found.hash) return printf("but then it was another run\n"), 1;

    search in = {seed, false, 0};
    std::vector<unsigned> keep = all_faults();
    const int left = mio_sim_shrink(keep.data(), FAULTS, still_fails, &in);
    if (left < 0) return printf("it cannot be shrunk: %s\n", mio_error_name(left)), 1;
    std::string list;
    printf("%d of its %u faults are enough, said %d runs:\n", left, FAULTS, in.runs);
    for (int i = 0; i < left; i++) {
        mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
        char text[MIO_SIM_TEXT_MAX] = "";
        if (mio_sim_draw(&fault, seed, keep[static_cast<size_t>(i)], nullptr) == 0) mio_sim_format(&fault, text, sizeof text);
        printf("    %s\n", text);
        list += (i == 0 ? "" : ",") + std::to_string(keep[static_cast<size_t>(i)]);
    }
    printf("again: sim_find --seed %llu --keep %s\n", number, list.empty() ? "none" : list.c_str());

    for (uint64_t other = 1; other <= 100; other++) {
        const verdict v = judge(other, all_faults(), true);
        if (v.failed) return printf("mended, seed %llu: %s\n", static_cast<unsigned long long>(other), v.what.c_str()), 1;
    }
    printf("the mended server stands in worlds 1 to 100\n");
    return 0;
}

int main(int argc, char **argv) {
    std::vector<unsigned> keep = all_faults();
    const char *seed = nullptr;
    bool mended = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mended") == 0) {
            mended = true;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = argv[++i];
        } else if (strcmp(argv[i], "--keep") == 0 && i + 1 < argc) {
            keep.clear();
            char *at = argv[++i], *end;
            for (unsigned long n = strtoul(at, &end, 10); end != at; n = strtoul(at, &end, 10)) {
                keep.push_back(static_cast<unsigned>(n));
                at = *end == ',' ? end + 1 : end;
            }
        } else {
            fprintf(stderr, "sim_find: usage: sim_find [--seed N [--keep LIST] [--mended]]\n");
            return 2;
        }
    }
    if (seed == nullptr) return find();
    const verdict v = judge(strtoull(seed, nullptr, 10), keep, mended);
    printf("seed %s, trace %016llx: %s\n", seed, static_cast<unsigned long long>(v.hash), v.failed ? v.what.c_str() : "as it must");
    return v.failed ? 1 : 0;
}
