// libcurl on a loop: against a server on the same loop, which answers, stalls, resets and hangs up as its path says.
#include <mio/adapters/curl.h>

#include "harness.h"

#include <map>
#include <set>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

using namespace api;

// --- the server -----------------------------------------------------------------------------------------------------

static int served, accepted;

static void say(mio_stream_t *stream, const std::string &text) {
    mio_buf_t buf;
    assert_is(mio_buf_alloc(mio_handle_loop(stream), text.size(), &buf), 0);
    memcpy(buf.base, text.data(), text.size());
    buf.len = text.size();
    ck_assert_int_gt(mio_stream_write(stream, &buf, 1, nullptr, nullptr), 0);
}

static std::string head(size_t bytes) {
    return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n";
}

// /bytes/N; /short: less than was promised; /reset: the same, with RST; /stall: the same, and then nothing; /silent: nothing;
// /hangup: all of it, then the end of a connection that was to be kept.
static void serve(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0) {
        mio_handle_close(stream, nullptr, nullptr);
        return;
    }
    const std::string request(buf->base, buf->len);
    ck_assert_msg(request.rfind("GET /", 0) == 0, "no request: %s", request.c_str());
    const std::string path = request.substr(4, request.find(' ', 4) - 4);
    served++;
    if (path.rfind("/bytes/", 0) == 0) {
        const size_t bytes = strtoul(path.c_str() + 7, nullptr, 10);
        say(stream, head(bytes) + std::string(bytes, 'x'));
    } else if (path == "/short" || path == "/reset" || path == "/stall") {
        say(stream, head(100000) + std::string(1000, 'x'));
        if (path == "/short") mio_stream_finish(stream, MIO_SECOND, nullptr, nullptr);
        if (path == "/reset") {
            assert_is(mio_tcp_linger(stream, 0), 0);
            mio_timer_t *timer; // when the bytes have left
            assert_is(mio_timer_create(mio_handle_loop(stream), &timer), 0);
            assert_is(mio_timer_start(timer, 50 * MIO_MILLISECOND, 0, [](mio_timer_t *t, void *arg) {
                mio_handle_close(static_cast<mio_stream_t *>(arg), nullptr, nullptr);
                mio_handle_abandon(t);
            }, stream), 0);
        }
    } else if (path == "/hangup") {
        say(stream, head(5) + "hello");
        mio_stream_finish(stream, MIO_SECOND, nullptr, nullptr);
    } else {
        ck_assert_str_eq(path.c_str(), "/silent");
    }
}

struct server {
    mio_listener_t *listener;
    mio_addr_t at;
    std::string base;
};

static server *serve_on(mio_loop_t *loop) {
    auto *s = new server();
    served = accepted = 0;
    s->listener = listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status != 0) return;
        accepted++;
        ck_assert_int_gt(mio_stream_read_start(stream, 0, serve, nullptr), 0);
    }, nullptr, &s->at);
    mio_handle_unref(s->listener);
    char text[MIO_ADDR_TEXT_MAX];
    assert_ok(mio_addr_format(&s->at, text, sizeof text));
    s->base = std::string("http://") + text;
    return s;
}

// --- the client -----------------------------------------------------------------------------------------------------

struct transfer {
    CURL *easy;
    size_t bytes;
    int told;
    CURLcode result;
};

struct client {
    mio_loop_t *loop;
    CURLM *multi;
    mio_curl_t *curl;
    server *from;
    std::vector<transfer *> transfers;
    int left;            // to be told
    bool close_at_last;  // the adapter and all else, in the last done
};

static size_t take(char *, size_t size, size_t n, void *arg) {
    static_cast<transfer *>(arg)->bytes += size * n;
    return size * n;
}

static void drop(client *c, transfer *t) {
    if (t->easy == nullptr) return;
    assert_is(curl_multi_remove_handle(c->multi, t->easy), CURLM_OK);
    curl_easy_cleanup(t->easy);
    t->easy = nullptr;
}

static void over(mio_curl_t *curl, CURL *easy, CURLcode result, void *arg) {
    auto *c = static_cast<client *>(arg);
    ck_assert_ptr_eq(c->curl, curl);
    char *mine;
    assert_is(curl_easy_getinfo(easy, CURLINFO_PRIVATE, &mine), CURLE_OK);
    auto *t = reinterpret_cast<transfer *>(mine);
    t->told++;
    t->result = result;
    drop(c, t);
    if (--c->left > 0) return;
    if (c->close_at_last) {
        assert_is(mio_curl_close(curl), 0);
        c->curl = nullptr;
        assert_is(curl_multi_cleanup(c->multi), CURLM_OK);
        c->multi = nullptr;
    }
    mio_loop_stop(c->loop);
}

static client *client_open() {
    auto *c = new client();
    c->loop = loop_open();
    c->from = serve_on(c->loop);
    c->multi = curl_multi_init();
    assert_is(mio_curl_open(c->loop, c->multi, over, c, &c->curl), 0);
    return c;
}

static transfer *fetch(client *c, const std::string &url, long timeout_ms = 60000) {
    auto *t = new transfer();
    t->easy = curl_easy_init();
    curl_easy_setopt(t->easy, CURLOPT_URL, (url[0] == '/' ? c->from->base + url : url).c_str());
    curl_easy_setopt(t->easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    c->transfers.push_back(t);
    c->left++;
    assert_is(curl_multi_add_handle(c->multi, t->easy), CURLM_OK);
    return t;
}

static void client_end(client *c) {
    for (transfer *t : c->transfers) {
        if (c->multi != nullptr) drop(c, t);
        delete t;
    }
    assert_is(mio_curl_close(c->curl), 0);
    if (c->multi != nullptr) assert_is(curl_multi_cleanup(c->multi), CURLM_OK);
    delete c->from;
    delete c;
}

// All that is open on the client's side is closed: the loop of a test has the server's end then.
static void client_close(client *c) {
    mio_loop_t *loop = c->loop;
    client_end(c);
    loop_close(loop);
}

static size_t watched(const client *c) {
    size_t n = 0;
    for (const mio_curl_socket_ *s = c->curl->sockets; s != nullptr; s = s->next) n++;
    return n;
}

// Until condition holds.
template <class condition> static void run_until(mio_loop_t *loop, condition holds) {
    const int64_t begun_ns = clock_ns();
    while (!holds()) {
        ck_assert_msg(clock_ns() - begun_ns < patience(20 * MIO_SECOND), "waited in vain");
        ck_assert_int_ge(mio_loop_run_once(loop, 100 * MIO_MILLISECOND), 0);
    }
}

// --- tests ----------------------------------------------------------------------------------------------------------

TEST(an_adapter_answers_each_mistake) {
    KERNEL_ONLY("libcurl has sockets of its own");
    mio_loop_t *loop = loop_open();
    CURLM *multi = curl_multi_init();
    mio_curl_t *curl = nullptr;
    auto done = [](mio_curl_t *, CURL *, CURLcode, void *) {};
    assert_is(mio_curl_open(nullptr, multi, done, nullptr, &curl), MIO_EINVAL);
    assert_is(mio_curl_open(loop, nullptr, done, nullptr, &curl), MIO_EINVAL);
    assert_is(mio_curl_open(loop, multi, nullptr, nullptr, &curl), MIO_EINVAL);
    assert_is(mio_curl_open(loop, multi, done, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_curl_close(nullptr), 0);
    loop_counting(loop)->fail_on = true;
    loop_counting(loop)->fail_at = 1;
    const int status = mio_curl_open(loop, multi, done, nullptr, &curl); // a slab may have room
    loop_counting(loop)->fail_on = false;
    loop_counting(loop)->fail_at = 0;
    if (status == 0) assert_is(mio_curl_close(curl), 0);
    else assert_is(status, MIO_ENOMEM);
    assert_is(curl_multi_cleanup(multi), CURLM_OK);
    run_to_end(loop);
}

TEST(transfers_run_at_once_and_each_is_told_once) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    for (int i = 0; i < 20; i++) fetch(c, "/bytes/" + std::to_string(i * 50000));
    run_to_stop(c->loop);
    for (int i = 0; i < 20; i++) {
        assert_is(c->transfers[i]->told, 1);
        assert_is(c->transfers[i]->result, CURLE_OK);
        ck_assert_uint_eq(c->transfers[i]->bytes, static_cast<size_t>(i) * 50000);
    }
    client_close(c);
}

TEST(a_loop_without_transfers_ends_though_connections_are_kept) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    transfer *t = fetch(c, "/bytes/5");
    run_to_stop(c->loop);
    assert_is(t->result, CURLE_OK);
    ck_assert_uint_eq(watched(c), 0);
    client_close(c);
}

TEST(nobody_listens) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    mio_addr_t nowhere;
    const int fd = raw_listen(1, &nowhere);
    close(fd);
    char text[MIO_ADDR_TEXT_MAX];
    assert_ok(mio_addr_format(&nowhere, text, sizeof text));
    transfer *t = fetch(c, std::string("http://") + text + "/");
    run_to_stop(c->loop);
    assert_is(t->result, CURLE_COULDNT_CONNECT);
    client_close(c);
}

TEST(a_server_that_ends_or_resets_midway) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    transfer *ended = fetch(c, "/short");
    transfer *reset = fetch(c, "/reset");
    transfer *whole = fetch(c, "/bytes/3000000");
    run_to_stop(c->loop);
    assert_is(ended->result, CURLE_PARTIAL_FILE);
    ck_assert_uint_eq(ended->bytes, 1000);
    assert_is(reset->result, CURLE_RECV_ERROR);
    assert_is(whole->result, CURLE_OK);
    ck_assert_uint_eq(whole->bytes, 3000000);
    client_close(c);
}

TEST(time_outs_are_libcurls_and_not_early) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    const int64_t begun_ns = clock_ns();
    transfer *silent = fetch(c, "/silent", 150);
    transfer *stalled = fetch(c, "/stall", 150);
    run_to_stop(c->loop);
    ck_assert_int_ge(clock_ns() - begun_ns, 149 * MIO_MILLISECOND); // libcurl's milliseconds are cut off
    assert_is(silent->result, CURLE_OPERATION_TIMEDOUT);
    assert_is(stalled->result, CURLE_OPERATION_TIMEDOUT);
    ck_assert_uint_eq(stalled->bytes, 1000);
    ck_assert_uint_lt(metrics(c->loop).turns, 1000); // it slept
    client_close(c);
}

TEST(a_transfer_is_removed_in_its_midst_and_another_goes_on) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    transfer *removed = fetch(c, "/stall");
    run_until(c->loop, [=] { return removed->bytes == 1000; });
    ck_assert_uint_ge(watched(c), 1);
    drop(c, removed);
    ck_assert_uint_eq(watched(c), 0);
    c->left--;
    transfer *other = fetch(c, "/bytes/70000");
    run_to_stop(c->loop);
    assert_is(removed->told, 0);
    assert_is(other->result, CURLE_OK);
    client_close(c);
}

TEST(an_easy_handle_is_removed_while_it_connects) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    transfer *t = fetch(c, "/bytes/1");
    while (watched(c) == 0) assert_ok(mio_loop_run_once(c->loop, 0)); // in the connect
    drop(c, t);
    ck_assert_uint_eq(watched(c), 0);
    client_close(c);
}

TEST(the_adapter_goes_before_its_multi_handle_in_the_midst_of_transfers) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    transfer *t[3];
    for (auto &each : t) each = fetch(c, "/stall");
    run_until(c->loop, [&] { return t[0]->bytes + t[1]->bytes + t[2]->bytes == 3000; });
    ck_assert_uint_ge(watched(c), 3);
    assert_is(mio_curl_close(c->curl), 0);
    c->curl = nullptr;
    for (auto &each : t) assert_is(each->told, 0);
    client_close(c); // removes the transfers, cleans up the multi handle
}

TEST(the_loop_goes_first_in_the_midst_of_transfers) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    transfer *stalled = fetch(c, "/stall");
    fetch(c, "/bytes/10000000");
    run_until(c->loop, [=] { return stalled->bytes == 1000; });
    loop_close(c->loop);
    transfer *late = fetch(c, "/bytes/1"); // nobody runs it, nothing breaks
    ck_assert_uint_eq(late->bytes, 0);
    client_end(c);
}

TEST(the_last_done_closes_everything) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    c->close_at_last = true;
    for (int i = 0; i < 3; i++) fetch(c, "/bytes/100000");
    run_to_stop(c->loop);
    ck_assert_ptr_null(c->curl);
    client_close(c);
}

TEST(inside_a_callback_of_libcurls_the_adapter_cannot_be_closed) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    static mio_curl_t *curl;
    static int answered;
    curl = c->curl;
    answered = 0;
    transfer *t = fetch(c, "/bytes/5");
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, +[](char *, size_t size, size_t n, void *) -> size_t {
        assert_is(mio_curl_close(curl), MIO_EBUSY);
        answered++;
        return size * n;
    });
    run_to_stop(c->loop);
    ck_assert_int_ge(answered, 1);
    assert_is(t->result, CURLE_OK);
    client_close(c);
}

// libcurl closes a socket and gets the same number for the next one: each is watched as itself.
TEST(numbers_of_sockets_come_again) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    static std::set<int> numbers;
    static int sockets;
    numbers.clear();
    sockets = 0;
    for (int i = 0; i < 50; i++) {
        transfer *t = fetch(c, i % 5 == 4 ? "/short" : "/bytes/20000");
        curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L);
        curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION,
                         +[](void *, curlsocktype, struct curl_sockaddr *at) -> curl_socket_t {
                             const int fd = socket(at->family, at->socktype, at->protocol);
                             numbers.insert(fd);
                             sockets++;
                             return fd;
                         });
        run_to_stop(c->loop);
        assert_is(t->told, 1);
        assert_is(t->result, i % 5 == 4 ? CURLE_PARTIAL_FILE : CURLE_OK);
    }
    assert_is(sockets, 50);
    ck_assert_uint_lt(numbers.size(), 50); // they did come again
    client_close(c);
}

TEST(a_kept_connection_that_the_server_ended_is_not_used_again) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    for (int i = 0; i < 5; i++) {
        transfer *t = fetch(c, i % 2 == 0 ? "/hangup" : "/bytes/10");
        run_to_stop(c->loop);
        assert_is(t->result, CURLE_OK);
        run_for(c->loop, 20 * MIO_MILLISECOND); // the server's end comes
    }
    ck_assert_int_ge(accepted, 3);
    client_close(c);
}

// A poll needs memory: none of the transfers may wait for ever.
TEST(without_memory_for_polls_transfers_go_on) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    transfer *t[2];
    for (auto &each : t) each = fetch(c, "/bytes/10");
    assert_is(mio_listener_pause(c->from->listener), 0); // it has no memory either
    while (watched(c) == 0) {
        loop_counting(c->loop)->fail_on = true;
        loop_counting(c->loop)->fail_at = 1;
        assert_ok(mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND));
        loop_counting(c->loop)->fail_on = false;
        loop_counting(c->loop)->fail_at = 0;
    }
    ck_assert_int_gt(loop_counting(c->loop)->failed, 0);
    ck_assert_ptr_null(c->curl->sockets->poll);
    assert_is(mio_listener_resume(c->from->listener), 0);
    run_to_stop(c->loop);
    for (auto &each : t) assert_is(each->result, CURLE_OK);
    client_close(c);
}

// Somebody else watches the sockets on the same loop: they are looked at now and then.
TEST(a_socket_that_cannot_be_watched_is_looked_at) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    static mio_loop_t *loop;
    static std::map<int, mio_poll_t *> others;
    loop = c->loop;
    others.clear();
    transfer *t[3] = {fetch(c, "/bytes/500000"), fetch(c, "/short"), fetch(c, "/silent", 100)};
    for (auto &each : t) {
        curl_easy_setopt(each->easy, CURLOPT_OPENSOCKETFUNCTION, +[](void *, curlsocktype, struct curl_sockaddr *at) -> curl_socket_t {
            const int fd = socket(at->family, at->socktype, at->protocol);
            assert_is(mio_poll_open(loop, fd, &others[fd]), 0);
            assert_is(mio_poll_set(others[fd], MIO_POLL_PRI, [](mio_poll_t *, int, unsigned, void *) {}, nullptr), 0);
            return fd;
        });
        curl_easy_setopt(each->easy, CURLOPT_CLOSESOCKETFUNCTION, +[](void *, curl_socket_t fd) -> int {
            mio_handle_abandon(others[fd]);
            return close(fd);
        });
    }
    run_to_stop(c->loop);
    assert_is(t[0]->result, CURLE_OK);
    ck_assert_uint_eq(t[0]->bytes, 500000);
    assert_is(t[1]->result, CURLE_PARTIAL_FILE);
    assert_is(t[2]->result, CURLE_OPERATION_TIMEDOUT);
    // What libcurl keeps open is closed when its connection is: by the function of the transfer.
    client_close(c);
}

TEST(an_adapter_is_closed_while_sockets_are_looked_at) {
    KERNEL_ONLY("libcurl has sockets of its own");
    client *c = client_open();
    fetch(c, "/silent");
    while (watched(c) == 0) {
        loop_counting(c->loop)->fail_on = true;
        loop_counting(c->loop)->fail_at = 1;
        assert_ok(mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND));
        loop_counting(c->loop)->fail_on = false;
        loop_counting(c->loop)->fail_at = 0;
    }
    client_close(c);
}
