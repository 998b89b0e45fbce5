// hiredis on a loop: against a server on the same loop that speaks enough of Redis. (tests/adapters/run asks a real one.)
#include <mio/adapters/hiredis.h>

#include "harness.h"

#include <string>
#include <unistd.h>
#include <vector>

using namespace api;

// --- the server -----------------------------------------------------------------------------------------------------

// Each command is answered by its last argument; "hangup" ends the connection instead, "silence" is not answered.
struct served {
    mio_stream_t *stream;
    std::string text;
    bool deaf;
};
static int commands;
static bool serve_deaf; // connections accepted now are not read until serve_hear

static void say(mio_stream_t *stream, const std::string &text) {
    mio_buf_t buf;
    assert_is(mio_buf_alloc(mio_handle_loop(stream), text.size(), &buf), 0);
    memcpy(buf.base, text.data(), text.size());
    buf.len = text.size();
    ck_assert_int_gt(mio_stream_write(stream, &buf, 1, nullptr, nullptr), 0);
}

// One whole command at `from` in text: its last argument, and where it ends; 0: not whole yet.
static size_t command_of(const std::string &text, size_t from, std::string *last) {
    size_t at = from;
    const auto number = [&](char mark, long *n) {
        const size_t end = text.find("\r\n", at);
        if (end == std::string::npos) return false;
        ck_assert_int_eq(text[at], mark);
        *n = strtol(text.c_str() + at + 1, nullptr, 10);
        at = end + 2;
        return true;
    };
    long arguments, bytes;
    if (!number('*', &arguments)) return 0;
    for (long i = 0; i < arguments; i++) {
        if (!number('$', &bytes)) return 0;
        if (text.size() < at + static_cast<size_t>(bytes) + 2) return 0;
        *last = text.substr(at, static_cast<size_t>(bytes));
        at += static_cast<size_t>(bytes) + 2;
    }
    return at;
}

static void serve(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    auto *s = static_cast<served *>(arg);
    if (n < 0) {
        delete s;
        mio_handle_close(stream, nullptr, nullptr);
        return;
    }
    s->text.append(buf->base, buf->len);
    std::string last, answers;
    size_t done = 0, end;
    while (done < s->text.size() && (end = command_of(s->text, done, &last)) != 0) {
        done = end;
        commands++;
        if (last == "silence") continue;
        if (last == "hangup") {
            mio_stream_finish(stream, MIO_SECOND, nullptr, nullptr); // its read ends with MIO_ECANCELED
            return;
        }
        answers += "$" + std::to_string(last.size()) + "\r\n" + last + "\r\n";
    }
    s->text.erase(0, done);
    if (!answers.empty()) say(stream, answers);
}

static std::vector<mio_stream_t *> deaf;

static void serve_accept(mio_listener_t *, int status, mio_stream_t *stream, void *) {
    if (status != 0) return;
    auto *s = new served();
    s->stream = stream;
    mio_handle_unref(stream);
    ck_assert_int_gt(mio_stream_read_start(stream, 0, serve, s), 0);
    if (!serve_deaf) return;
    assert_is(mio_stream_read_pause(stream), 0);
    deaf.push_back(stream);
}

static int serve_on(mio_loop_t *loop) {
    mio_addr_t at;
    commands = 0;
    serve_deaf = false;
    deaf.clear();
    mio_listener_t *listener = listen_on(loop, serve_accept, nullptr, &at);
    mio_handle_unref(listener);
    return mio_addr_port(&at);
}

// --- the client -----------------------------------------------------------------------------------------------------

struct client {
    mio_loop_t *loop;
    redisAsyncContext *context; // NULL: gone
    int connects, connect_status, disconnects, disconnect_status;
    int replies, nothings; // with and without a reply
    std::string last;
    int left; // the loop is stopped at the so manieth reply
    bool free_in_reply, disconnect_in_reply;
};

static void connected(const redisAsyncContext *context, int status) {
    auto *c = static_cast<client *>(context->data);
    c->connects++;
    c->connect_status = status;
    if (status == REDIS_OK) return;
    c->context = nullptr; // hiredis frees it
    mio_loop_stop(c->loop);
}

static void disconnected(const redisAsyncContext *context, int status) {
    auto *c = static_cast<client *>(context->data);
    c->disconnects++;
    c->disconnect_status = status;
    c->context = nullptr;
    mio_loop_stop(c->loop);
}

static void replied(redisAsyncContext *context, void *reply, void *) {
    auto *c = static_cast<client *>(context->data);
    if (reply == nullptr) {
        c->nothings++;
        return;
    }
    c->replies++;
    const auto *answer = static_cast<redisReply *>(reply);
    assert_is(answer->type, REDIS_REPLY_STRING);
    c->last.assign(answer->str, answer->len);
    if (c->free_in_reply) {
        redisAsyncFree(context);
        c->context = nullptr;
        mio_loop_stop(c->loop);
    } else if (c->disconnect_in_reply) {
        redisAsyncDisconnect(context);
    } else if (--c->left == 0) {
        mio_loop_stop(c->loop);
    }
}

static client *client_open(int port = 0) {
    auto *c = new client();
    c->loop = loop_open();
    if (port == 0) port = serve_on(c->loop);
    c->context = redisAsyncConnect("127.0.0.1", port);
    ck_assert_ptr_nonnull(c->context);
    assert_is(c->context->err, 0);
    c->context->data = c;
    assert_is(mio_hiredis_attach(c->loop, c->context), 0);
    redisAsyncSetConnectCallback(c->context, connected);
    redisAsyncSetDisconnectCallback(c->context, disconnected);
    return c;
}

static void ask(client *c, const char *text) {
    assert_is(redisAsyncCommand(c->context, replied, nullptr, "ECHO %s", text), REDIS_OK);
}

static void client_close(client *c) {
    if (c->context != nullptr) redisAsyncFree(c->context);
    loop_close(c->loop);
    delete c;
}

// --- tests ----------------------------------------------------------------------------------------------------------

TEST(attaching_answers_each_mistake) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    assert_is(mio_hiredis_attach(nullptr, c->context), MIO_EINVAL);
    assert_is(mio_hiredis_attach(c->loop, nullptr), MIO_EINVAL);
    assert_is(mio_hiredis_attach(c->loop, c->context), MIO_EBUSY);
    redisAsyncContext *none = redisAsyncConnectUnix("/nowhere/redis.sock");
    ck_assert_ptr_nonnull(none);
    ck_assert_int_ne(none->err, 0);
    ck_assert_int_lt(mio_hiredis_attach(c->loop, none), 0);
    redisAsyncFree(none);
    client_close(c);
}

TEST(commands_are_answered_in_order) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    for (int i = 0; i < 1000; i++) ask(c, std::to_string(i).c_str());
    c->left = 1000;
    run_to_stop(c->loop);
    assert_is(c->connects, 1);
    assert_is(c->connect_status, REDIS_OK);
    assert_is(c->replies, 1000);
    ck_assert_str_eq(c->last.c_str(), "999");
    assert_is(commands, 1000);
    client_close(c);
}

TEST(an_idle_connection_sleeps) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    ask(c, "x");
    c->left = 1;
    run_to_stop(c->loop);
    const uint64_t turns = metrics(c->loop).turns;
    run_for(c->loop, 100 * MIO_MILLISECOND);
    ck_assert_uint_lt(metrics(c->loop).turns - turns, 20);
    client_close(c);
}

TEST(a_peer_that_does_not_read_is_written_to_when_it_does) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    serve_deaf = true;
    const std::string large(200000, 'y');
    for (int i = 0; i < 50; i++) ask(c, large.c_str());
    c->left = 50;
    for (int i = 0; i < 50; i++) assert_ok(mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND));
    assert_is(c->replies, 0);
    ck_assert_uint_eq(deaf.size(), 1);
    assert_is(mio_stream_read_resume(deaf[0]), 0);
    run_to_stop(c->loop);
    assert_is(c->replies, 50);
    ck_assert_uint_eq(c->last.size(), large.size());
    client_close(c);
}

TEST(nobody_listens) {
    KERNEL_ONLY("hiredis has a socket of its own");
    mio_addr_t nowhere;
    const int fd = raw_listen(1, &nowhere);
    close(fd);
    client *c = client_open(mio_addr_port(&nowhere));
    ask(c, "x");
    run_to_stop(c->loop);
    assert_is(c->connects, 1);
    assert_is(c->connect_status, REDIS_ERR);
    assert_is(c->replies, 0);
    client_close(c);
}

TEST(a_server_that_goes_ends_what_is_under_way) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    ask(c, "one");
    ask(c, "hangup");
    ask(c, "two");
    run_to_stop(c->loop);
    assert_is(c->replies, 0); // the server did not say it
    assert_is(c->nothings, 3);
    assert_is(c->disconnects, 1);
    assert_is(c->disconnect_status, REDIS_ERR);
    ck_assert_ptr_null(c->context);
    client_close(c);
}

TEST(a_context_is_freed_in_a_reply) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    c->free_in_reply = true;
    for (int i = 0; i < 5; i++) ask(c, "x");
    run_to_stop(c->loop);
    assert_is(c->replies, 1);
    assert_is(c->nothings, 4);
    assert_is(mio_loop_run_once(c->loop, 0) < 0, 0);
    client_close(c);
}

TEST(a_context_disconnects_in_a_reply) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    c->disconnect_in_reply = true;
    ask(c, "x");
    run_to_stop(c->loop);
    assert_is(c->replies, 1);
    assert_is(c->disconnects, 1);
    assert_is(c->disconnect_status, REDIS_OK);
    ck_assert_ptr_null(c->context);
    run_to_end(c->loop); // nothing of it keeps the loop going
    client_close(c);
}

TEST(a_context_is_freed_in_the_midst_of_commands) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    ask(c, "x");
    c->left = 1;
    run_to_stop(c->loop);
    for (int i = 0; i < 10; i++) ask(c, "silence");
    for (int i = 0; i < 5; i++) assert_ok(mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND));
    redisAsyncFree(c->context);
    ck_assert_ptr_null(c->context);
    assert_is(c->nothings, 10);
    run_to_stop(c->loop); // as disconnected() asked
    run_to_end(c->loop);
    client_close(c);
}

TEST(a_context_is_freed_before_it_is_connected) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    ask(c, "x");
    redisAsyncFree(c->context);
    c->context = nullptr;
    assert_is(c->nothings, 1);
    run_to_end(c->loop);
    client_close(c);
}

TEST(the_loop_goes_first) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    ask(c, "x");
    c->left = 1;
    run_to_stop(c->loop);
    ask(c, "silence");
    for (int i = 0; i < 3; i++) assert_ok(mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND));
    loop_close(c->loop);
    c->loop = nullptr;
    assert_is(c->nothings, 0); // hiredis is not entered by a loop that goes
    ask(c, "nobody sends it");
    redisAsyncFree(c->context);
    assert_is(c->nothings, 2);
    delete c;
}

TEST(the_loop_goes_first_before_anything_was_asked_of_it) {
    KERNEL_ONLY("hiredis has a socket of its own");
    client *c = client_open();
    loop_close(c->loop);
    redisAsyncFree(c->context);
    delete c;
}

// Another poll of the loop has the socket: the context ends, it does not hang.
TEST(a_socket_that_cannot_be_watched_ends_its_context) {
    KERNEL_ONLY("hiredis has a socket of its own");
    auto *c = new client();
    mio_poll_t *other;
    c->loop = loop_open();
    c->context = redisAsyncConnect("127.0.0.1", serve_on(c->loop));
    c->context->data = c;
    assert_is(mio_poll_open(c->loop, c->context->c.fd, &other), 0);
    assert_is(mio_poll_set(other, MIO_POLL_PRI, [](mio_poll_t *, int, unsigned, void *) {}, nullptr), 0);
    assert_ok(mio_loop_run_once(c->loop, 0));
    assert_is(mio_hiredis_attach(c->loop, c->context), 0);
    ask(c, "x");
    while (c->nothings == 0) assert_ok(mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND));
    c->context = nullptr;
    mio_handle_abandon(other);
    client_close(c);
}

TEST(time_outs_are_hirediss) {
    KERNEL_ONLY("hiredis has a socket of its own");
#if HIREDIS_MAJOR < 1
    SKIP("this hiredis has no time-outs: they came with 1.0");
#else
    client *c = client_open();
    const timeval after = {0, 100000};
    assert_is(redisAsyncSetTimeout(c->context, after), REDIS_OK);
    ask(c, "x");
    c->left = 1;
    run_to_stop(c->loop);
    const int64_t begun_ns = clock_ns();
    ask(c, "silence");
    run_to_stop(c->loop);
    ck_assert_int_ge(clock_ns() - begun_ns, 99 * MIO_MILLISECOND);
    assert_is(c->disconnects, 1);
    assert_is(c->nothings, 1);
    client_close(c);
#endif
}
