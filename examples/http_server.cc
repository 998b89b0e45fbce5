// A web server of the old school: files by sendfile, /proxy/ relayed to an upstream, /exec/ answered by a program with a
// deadline; an access log that is opened anew at SIGHUP, an end in good order at SIGTERM, a configuration that is read
// again when somebody replaces it. docs/http_server.md walks through it; http_server.h has what is not about the loop.
//
//   http_server --config FILE [--KEY VALUE]...     FILE has lines of KEY VALUE; what the command line says wins
#include <mio.h>

#include "http_log.h"
#include "http_server.h"

#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

// Times: a request may take to arrive, a connection to begin one, a client to take a byte, a program to end, an upstream
// to connect or to say something; and all that runs at SIGTERM.
static const http_settings defaults = {
    {"port", "0"}, {"root", "."}, {"log", "/dev/null"}, {"upstream", ""}, {"exec", ""}, {"request_ms", "10000"},
    {"idle_ms", "15000"}, {"write_ms", "10000"}, {"exec_ms", "5000"}, {"upstream_ms", "30000"}, {"stop_ms", "10000"}};
static const uint64_t body_max = 1 << 20;              // bytes, of requests that are not relayed and of programs
static const int programs_max = 64;
static const int64_t tick_ns = 100 * MIO_MILLISECOND;  // of the end

// It does one thing at a time, and the end of each starts the next: whoever ends it knows that nothing else holds it.
struct conn {
    mio_stream_t *stream = nullptr;
    std::string peer;
    mio_buf_t in{};                                    // received and not parsed yet
    mio_req_t waiting = 0;                             // the read of the first byte of a request, or 0
    int64_t began_ns = 0;                              // when that was there
    http_request request{"/proxy/", body_max};
    int status = 0;                                    // of the answer
    bool keep_alive = false;
    int file = -1;
    mio_stream_t *output = nullptr;
    mio_process_t *program = nullptr;
    mio_timer_t *deadline = nullptr;
    std::string said;                                  // by the program
    bool exited = false, closed = false;               // it; its output

    ~conn() {
        if (file >= 0) close(file);                    // was only read: that does not wait
        mio_buf_release(&in);
    }
};

static http_settings now, given;                       // given on the command line
static std::string config;                             // a path
static mio_addr_t upstream_addr;                       // len 0: none
static mio_loop_t *loop;
static mio_listener_t *listener;
static mio_watch_t *watch;
static mio_signal_t *signals[3];
static mio_timer_t *ticker;                            // runs from SIGTERM on, until:
static int64_t stop_at_ns;
static bool stopping;
static http_log logger;
static std::set<conn *> conns;
static int programs;

static int64_t ms(const char *key) { return atoll(now[key].c_str()) * MIO_MILLISECOND; }

static void log_request(const conn *c, int64_t bytes) {
    logger.add(loop, http_log_line(c->peer, c->request, c->status, bytes, (mio_loop_now_ns(loop) - c->began_ns) / MIO_MICROSECOND));
}

// ----------------------------------------------------------------------------------------------------- answers
static void next_request(conn *c);

static void on_closed(mio_handle_t *, void *arg) {
    conns.erase(static_cast<conn *>(arg));
    delete static_cast<conn *>(arg);
}

static void end(conn *c) { mio_handle_close(c->stream, on_closed, c); } // a second time it does nothing

static void drop(conn *c) { log_request(c, 0), end(c); }

static void finish(conn *c) {
    if (mio_stream_finish(c->stream, 2 * MIO_SECOND, on_closed, c) < 0) end(c);
}

static void on_head(mio_stream_t *, int status, int64_t, mio_buf_t *, unsigned, void *arg) {
    if (status < 0) end(static_cast<conn *>(arg));     // or the file would go out without its head
}

static void on_sent(mio_stream_t *, int status, int64_t sent, mio_buf_t *, unsigned, void *arg) {
    conn *c = static_cast<conn *>(arg);
    if (c->file >= 0) close(std::exchange(c->file, -1));
    log_request(c, sent);
    if (status < 0) end(c);                            // MIO_ETIMEDOUT: a client that does not read
    else if (c->keep_alive) next_request(c);
    else finish(c);
}

static std::string head_of(conn *c, int status, const char *type, int64_t length) {
    c->status = status;
    c->keep_alive = c->request.keep_alive && !c->request.tunnel && !stopping;
    return http_head(status, type, length, c->keep_alive);
}

static void answer(conn *c, int status, const std::string &body) {
    const std::string head = head_of(c, status, "text/plain", static_cast<int64_t>(body.size()));
    if (http_write(loop, c->stream, c->request.is_head() ? head : head + body, on_sent, c) < 0) drop(c);
}

static void refuse(conn *c, int status) { answer(c, status, std::string(http_text(status)) + "\n"); }

// ------------------------------------------------------------------------------------------------------- files
static void on_stat(mio_loop_t *, int status, const mio_fs_facts_t *facts, void *arg) {
    conn *c = static_cast<conn *>(arg);
    if (status < 0 || !S_ISREG(facts->mode)) return refuse(c, status < 0 ? 500 : 404); // a folder, a device
    const int64_t size = static_cast<int64_t>(facts->size);
    const bool body = size > 0 && !c->request.is_head();
    if (http_write(loop, c->stream, head_of(c, 200, http_type(c->request.path), size), body ? on_head : on_sent, c) < 0 ||
        (body && mio_stream_sendfile(c->stream, c->file, 0, size, on_sent, c) < 0)) drop(c);
}

static void on_open(mio_loop_t *, int fd, void *arg) {
    conn *c = static_cast<conn *>(arg);
    c->file = fd;
    if (fd == MIO_ENOENT || fd == MIO_ENOTDIR || fd == MIO_ENAMETOOLONG) refuse(c, 404);
    else if (fd < 0) refuse(c, fd == MIO_EACCES || fd == MIO_ELOOP ? 403 : 503);
    else if (mio_fs_fstat(loop, fd, on_stat, c) < 0) refuse(c, 503);
}

static void serve_file(conn *c) {
    std::string &path = c->request.path;
    if (path.back() == '/') path += "index.html";
    if (mio_fs_open(loop, (now["root"] + path).c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, on_open, c) < 0) refuse(c, 503);
}

// ----------------------------------------------------------------------------------------------------- /proxy/
static void on_relayed(mio_stream_t *, mio_stream_t *upstream, int status, int64_t, int64_t back, void *arg) {
    conn *c = static_cast<conn *>(arg);
    mio_handle_close(upstream, nullptr, nullptr);
    if (status < 0 && back == 0) return refuse(c, status == MIO_ETIMEDOUT ? 504 : 502); // nothing was said yet
    c->status = status < 0 ? 502 : 200;                // what the upstream called it is not known here
    log_request(c, back);
    if (status == 0) return finish(c);
    mio_tcp_linger(c->stream, 0);                      // a reset: the client is to see that it has not got all
    end(c);
}

static void on_connected(mio_stream_t *upstream, int status, void *arg) {
    conn *c = static_cast<conn *>(arg);
    http_request &r = c->request;
    mio_relay_options_t options = MIO_RELAY_OPTIONS_INIT;
    options.idle_ns = ms("upstream_ms");
    const std::string head = std::string(r.method()) + " " + r.url.substr(strlen("/proxy")) + " " + r.version() + "\r\n" +
                             r.headers + "Forwarded: for=\"" + c->peer + "\"\r\nConnection: close\r\n\r\n";
    mio_req_t id = status;
    if (id == 0) id = http_write(loop, upstream, head, nullptr, nullptr);
    if (id > 0 && c->in.len > 0) id = mio_stream_unread(c->stream, &c->in); // of its body; the rest follows by itself
    if (id >= 0) id = mio_stream_relay(c->stream, upstream, &options, on_relayed, c);
    if (id > 0) return;
    mio_handle_close(upstream, nullptr, nullptr);
    refuse(c, id == MIO_ETIMEDOUT ? 504 : 502);
}

static void serve_proxy(conn *c) {
    if (upstream_addr.len == 0) return refuse(c, 404);
    mio_stream_t *upstream;
    const mio_req_t id = mio_tcp_connect(loop, &upstream_addr, nullptr, on_connected, c, &upstream);
    if (id < 0) return refuse(c, 503);
    mio_req_timeout(loop, id, ms("upstream_ms"));
}

// ------------------------------------------------------------------------------------------------------ /exec/
// The program has a session of its own, so that those which it started end with it. Its handles are given up: none calls
// back any more, and the library reaps it.
static void end_program(conn *c, int status) {
    if (!c->exited || !c->closed) kill(-static_cast<pid_t>(mio_process_pid(c->program)), SIGKILL);
    mio_handle_abandon(c->program);
    mio_handle_abandon(c->output);
    mio_handle_abandon(c->deadline);
    programs--;
    if (status == 200) answer(c, 200, c->said);
    else refuse(c, status);
}

static void on_output(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    conn *c = static_cast<conn *>(arg);
    if (n > 0) c->said.append(buf->base, buf->len);
    c->closed = n < 0;
    if (c->said.size() > body_max) end_program(c, 502);
    else if (c->closed && c->exited) end_program(c, c->status);
}

static void on_exit_of(mio_process_t *, const mio_process_exit_t *how, void *arg) {
    conn *c = static_cast<conn *>(arg);
    c->exited = how->error != MIO_ECANCELED;           // the loop is being destroyed
    c->status = how->error < 0 || how->status != 0 ? 502 : 200;
    if (c->closed || !c->exited) end_program(c, c->status);
}

static void on_deadline(mio_timer_t *, void *arg) { end_program(static_cast<conn *>(arg), 504); }

static void serve_program(conn *c) {
    const std::string shell = now["exec"], path = "PATH_INFO=" + c->request.path.substr(strlen("/exec"));
    if (shell.empty() || programs == programs_max) return refuse(c, shell.empty() ? 404 : 503);
    const char *const argv[] = {"sh", "-c", shell.c_str(), nullptr}, *const envp[] = {path.c_str(), nullptr};
    mio_stdio_t stdio[3] = {};
    stdio[1].kind = MIO_STDIO_STREAM;
    stdio[2].kind = MIO_STDIO_INHERIT;
    mio_process_options_t options = MIO_PROCESS_OPTIONS_INIT;
    options.file = "/bin/sh";
    options.argv = argv;
    options.envp = envp;
    options.stdio = stdio;
    options.stdio_count = 3;
    options.flags = MIO_PROCESS_DETACHED;
    c->exited = c->closed = false;
    c->said.clear();
    if (mio_timer_create(loop, &c->deadline) < 0) return refuse(c, 503);
    if (mio_process_spawn(loop, &options, on_exit_of, c, &c->program) < 0) {
        mio_handle_abandon(c->deadline);
        return refuse(c, 503);
    }
    programs++;
    c->output = stdio[1].stream;
    if (mio_stream_read_start(c->output, 0, on_output, c) < 0 ||
        mio_timer_start(c->deadline, ms("exec_ms"), 0, on_deadline, c) < 0) end_program(c, 503);
}

// ---------------------------------------------------------------------------------------------------- requests
static void on_read(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg);

static void read_on(conn *c) {
    const mio_req_t id = mio_stream_read(c->stream, &c->in, on_read, c);
    if (id < 0) return end(c);
    if (c->request.started) mio_req_deadline(loop, id, c->began_ns + ms("request_ms")); // a byte a second: no
    else mio_req_timeout(loop, c->waiting = id, stopping ? tick_ns : ms("idle_ms"));
}

static void parse(conn *c) {
    http_request &r = c->request;
    if (!r.started) c->began_ns = mio_loop_now_ns(loop);
    const size_t n = r.feed(c->in.base, c->in.len);
    memmove(c->in.base, c->in.base + n, c->in.len -= n); // the next request, or the body of one that is relayed
    if (r.refusal != 0) refuse(c, r.refusal);
    else if (!r.complete) read_on(c);
    else if (r.tunnel) serve_proxy(c);
    else if (r.path.compare(0, strlen("/exec/"), "/exec/") == 0) serve_program(c);
    else serve_file(c);
}

static void on_read(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    conn *c = static_cast<conn *>(arg);
    c->in = mio_buf_take(buf);
    c->waiting = 0;
    if (n > 0) parse(c);
    else if (n == MIO_ETIMEDOUT && c->request.started) refuse(c, 408);
    else if (n == MIO_ETIMEDOUT || n == MIO_EOF || n == MIO_ECANCELED) finish(c);
    else end(c);
}

static void next_request(conn *c) {
    c->request.next();
    if (c->in.len > 0) parse(c);
    else read_on(c);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *stream, void *) {
    if (status < 0) return;                            // a report; accepting goes on
    conn *c = new conn;
    mio_addr_t addr{};
    mio_stream_peer(stream, &addr);
    c->peer = http_text(addr);
    c->stream = stream;
    conns.insert(c);
    mio_stream_set_timeout(stream, MIO_TIMEOUT_WRITE, ms("write_ms"));
    if (mio_buf_alloc(loop, 8192, &c->in) == 0) read_on(c);
    else end(c);
}

// ------------------------------------------------------------------------------------------ configuration, signals
// All of the file or nothing: with a mistake in it all stays as it is.
static bool configure() {
    http_settings fresh;
    mio_addr_t addr{};
    if (!http_configure(config, defaults, given, &fresh) || !http_upstream(fresh["upstream"], &addr)) {
        fprintf(stderr, "http_server: %s: not to be read, or there is a mistake in it\n", config.c_str());
        return false;
    }
    if (logger.fd >= 0 && fresh["log"] != now["log"]) logger.reopen(loop, fresh["log"]);
    now = fresh;
    upstream_addr = addr;
    return true;
}

static void on_change(mio_watch_t *, int status, const mio_watch_event_t *event, void *) {
    if (status < 0) return;
    const std::string changed = event->new_name != nullptr ? event->new_name : event->name != nullptr ? event->name : "";
    if (event->what != MIO_WATCH_OVERFLOW && changed != config.substr(config.rfind('/') + 1)) return;
    if (configure()) printf("configured again\n"), fflush(stdout);
}

static void on_hangup(mio_signal_t *, int64_t n, void *) { if (n > 0) logger.reopen(loop, now["log"]); }

// The second tick: at the first one a loop that is late has not seen yet what had come.
static void on_tick(mio_timer_t *, void *) {
    if (mio_loop_now_ns(loop) >= stop_at_ns) return mio_loop_stop(loop);
    if (!std::exchange(stopping, true) || listener == nullptr) return;
    mio_handle_close(std::exchange(listener, nullptr), nullptr, nullptr);
    for (conn *c : conns)
        if (c->waiting != 0) mio_req_cancel(loop, c->waiting);
}

// What is on its way here, also in the backlog, is served still; then nobody is accepted any more, and the loop ends with
// the last connection. The dispositions are the old ones at once: a second SIGTERM ends the program as it always did.
static void on_stop(mio_signal_t *, int64_t n, void *) {
    if (n < 0) return;
    stop_at_ns = mio_loop_now_ns(loop) + ms("stop_ms");
    for (mio_signal_t *each : signals) mio_handle_close(each, nullptr, nullptr);
    mio_handle_close(watch, nullptr, nullptr);
    mio_timer_start(ticker, tick_ns, tick_ns, on_tick, nullptr);
    mio_handle_unref(ticker);
}

static int fail(const char *what, int error) {
    fprintf(stderr, "http_server: %s%s%s\n", what, error < 0 ? ": " : "", error < 0 ? mio_error_text(error) : "");
    return 2;
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) given[argv[i] + 2] = argv[i + 1];
    config = given["config"].find('/') == std::string::npos ? "./" + given["config"] : given["config"];
    if (argc % 2 == 0 || given.size() * 2 != static_cast<size_t>(argc - 1) || given["config"].empty())
        return fail("usage: http_server --config FILE [--KEY VALUE]...", 0);
    given.erase("config");
    if (mio_loop_create(&loop, nullptr) < 0 || mio_timer_create(loop, &ticker) < 0) return 1;
    int error = mio_watch_open(loop, config.substr(0, config.rfind('/') + 1).c_str(), MIO_WATCH_REPLACED, on_change, nullptr, &watch);
    if (error < 0) return fail(config.c_str(), error);
    if (!configure()) return 2;                        // after the watch: no change slips in between
    if ((error = logger.open(now["log"])) < 0) return fail(now["log"].c_str(), error);
    error = mio_tcp_listen(loop, "127.0.0.1", atoi(now["port"].c_str()), nullptr, on_accept, nullptr, &listener);
    if (error < 0) return fail("cannot listen", error);
    const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (int i = 0; i < 3; i++)
        if (mio_signal_create(loop, &signals[i]) < 0 ||
            mio_signal_start(signals[i], numbers[i], 0, i < 2 ? on_stop : on_hangup, nullptr) < 0) return 1;
    mio_addr_t at{};
    mio_listener_local(listener, &at);
    printf("listening on %s (backend %s)\n", http_text(at).c_str(), mio_loop_backend(loop));
    fflush(stdout);
    const int status = mio_loop_run(loop);             // 0: all were served. MIO_STOPPED: time was up
    if (status == MIO_STOPPED) printf("%zu connections were cut off\n", conns.size());
    const int left = mio_loop_destroy(loop, 2 * MIO_SECOND);
    for (conn *c : conns) delete c;
    return logger.finish() && left == 0 && status >= 0 ? 0 : 1;
}
