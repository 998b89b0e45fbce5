// The text of http_server.cc: one HTTP/1.x request after the other out of bytes, as a library of its own (Debian:
// libhttp-parser-dev) parses them, collected and checked; heads of answers; lines of the log; the configuration.
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <http_parser.h>
#include <mio.h>

#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <map>
#include <string>
#include <strings.h>

struct http_request {
    std::string url, path, query;                            // path: decoded, begins with /, has no ".." in it
    std::string headers;                                     // lines for an upstream: without those of this connection
    bool started = false, complete = false, keep_alive = false;
    bool tunnel = false;                                     // below the prefix: its body is not parsed, it follows the head
    int refusal = 0;                                         // what is wrong with it, as a status of HTTP; 0: nothing

    http_request(const char *tunnel_prefix, uint64_t body_max) : prefix(tunnel_prefix), limit(body_max) {
        http_parser_init(&parser, HTTP_REQUEST);
        parser.data = this;
    }

    const char *method() const { return url.empty() ? "-" : http_method_str(static_cast<http_method>(parser.method)); }
    bool is_head() const { return !url.empty() && parser.method == HTTP_HEAD; }
    const char *version() const { return parser.http_minor > 0 ? "HTTP/1.1" : "HTTP/1.0"; }

    // Forgets the last request.
    void next() {
        url.clear(), path.clear(), query.clear(), headers.clear(), field.clear(), value.clear();
        started = complete = keep_alive = tunnel = in_value = has_host = false;
        refusal = 0, body = 0;
    }

    // Takes bytes up to the end of the request. Returns how many.
    size_t feed(const char *bytes, size_t n) {
        static const http_parser_settings settings = callbacks();
        started = started || n > 0;
        const size_t taken = http_parser_execute(&parser, &settings, bytes, n);
        const http_errno error = HTTP_PARSER_ERRNO(&parser);
        if (complete) http_parser_pause(&parser, 0);
        else if (error != HPE_OK && refusal == 0) refusal = error == HPE_HEADER_OVERFLOW ? 431 : 400;
        return taken;
    }

private:
    http_parser parser{};
    const char *prefix;
    uint64_t limit, body = 0;
    std::string field, value;
    bool in_value = false, has_host = false;

    static http_request *of(http_parser *p) { return static_cast<http_request *>(p->data); }
    bool is(const char *name) const { return strcasecmp(field.c_str(), name) == 0; }

    void end_header() {
        if (is("Host")) has_host = true;
        if (in_value && !is("Connection") && !is("Keep-Alive") && !is("Proxy-Connection") && !is("Upgrade") && !is("TE"))
            headers += field + ": " + value + "\r\n";
        field.clear(), value.clear();
        in_value = false;
    }

    // %41 is A. False: no such thing, or a NUL.
    static bool decode(const std::string &from, std::string *to) {
        for (size_t i = 0; i < from.size(); i++) {
            char byte = from[i];
            if (byte == '%') {
                if (i + 2 >= from.size() || !isxdigit(static_cast<unsigned char>(from[i + 1])) || !isxdigit(static_cast<unsigned char>(from[i + 2]))) return false;
                byte = static_cast<char>(strtol(from.substr(i + 1, 2).c_str(), nullptr, 16));
                i += 2;
            }
            if (byte == 0) return false;
            *to += byte;
        }
        return true;
    }

    int check() {
        http_parser_url parts;
        http_parser_url_init(&parts);
        if (parser.http_major != 1) return 505;
        if (parser.http_minor > 0 && !has_host) return 400;
        if (parser.method == HTTP_CONNECT) return 405;
        if (http_parser_parse_url(url.data(), url.size(), 0, &parts) != 0) return 400;
        const auto part = [&](int n) {
            return (parts.field_set & (1 << n)) != 0 ? url.substr(parts.field_data[n].off, parts.field_data[n].len) : std::string();
        };
        query = part(UF_QUERY);
        if (!decode(part(UF_PATH), &path) || path.empty() || path[0] != '/') return 400;
        if ((path + "/").find("/../") != std::string::npos) return 400;   // decoded: %2e%2e is .. and %2f is /
        url = part(UF_PATH) + (query.empty() ? "" : "?" + query);
        tunnel = path.compare(0, strlen(prefix), prefix) == 0 && url.compare(0, strlen(prefix), prefix) == 0;
        if (tunnel) return 0;
        if (parser.content_length != UINT64_MAX && parser.content_length > limit) return 413;
        return parser.method == HTTP_GET || parser.method == HTTP_HEAD ? 0 : 405;
    }

    static http_parser_settings callbacks() {
        http_parser_settings s;
        http_parser_settings_init(&s);
        s.on_url = [](http_parser *p, const char *at, size_t n) { of(p)->url.append(at, n); return 0; };
        s.on_header_field = [](http_parser *p, const char *at, size_t n) {
            if (of(p)->in_value) of(p)->end_header();
            of(p)->field.append(at, n);
            return 0;
        };
        s.on_header_value = [](http_parser *p, const char *at, size_t n) {
            of(p)->in_value = true;
            of(p)->value.append(at, n);
            return 0;
        };
        s.on_headers_complete = [](http_parser *p) {         // 2: what follows is not parsed
            http_request *r = of(p);
            r->end_header();
            r->refusal = r->check();
            return r->refusal != 0 ? -1 : r->tunnel ? 2 : 0;
        };
        s.on_body = [](http_parser *p, const char *, size_t n) {
            of(p)->body += n;
            if (of(p)->body > of(p)->limit) of(p)->refusal = 413;
            return of(p)->refusal;
        };
        s.on_message_complete = [](http_parser *p) {
            of(p)->complete = true;
            of(p)->keep_alive = http_should_keep_alive(p) != 0;
            http_parser_pause(p, 1);                         // the bytes of the next one stay where they are
            return 0;
        };
        return s;
    }
};

inline const char *http_text(int status) { return http_status_str(static_cast<http_status>(status)); }

inline const char *http_type(const std::string &path) {
    static const char *const types[][2] = {{".html", "text/html"}, {".txt", "text/plain"}, {".css", "text/css"},
                                           {".js", "text/javascript"}, {".png", "image/png"}, {".jpg", "image/jpeg"}};
    const size_t dot = path.rfind('.');
    for (auto &type : types)
        if (dot != std::string::npos && path.substr(dot) == type[0]) return type[1];
    return "application/octet-stream";
}

inline std::string http_head(int status, const char *type, int64_t length, bool keep_alive) {
    return "HTTP/1.1 " + std::to_string(status) + " " + http_text(status) + "\r\nContent-Type: " + type + "\r\nContent-Length: " +
           std::to_string(length) + (status == 405 ? "\r\nAllow: GET, HEAD" : "") + "\r\nConnection: " +
           (keep_alive ? "keep-alive" : "close") + "\r\n\r\n";
}

inline std::string http_log_line(const std::string &peer, const http_request &r, int status, int64_t bytes, int64_t took_us) {
    char when[64];
    const time_t t = time(nullptr);
    strftime(when, sizeof when, "%d/%b/%Y:%H:%M:%S %z", localtime(&t));
    std::string line = peer + " [" + when + "] \"" + r.method() + " ";
    for (char byte : r.url) line += byte == '"' ? "%22" : std::string(1, byte);
    return line + "\" " + std::to_string(status) + " " + std::to_string(bytes) + " " + std::to_string(took_us) + "us\n";
}

typedef std::map<std::string, std::string> http_settings;

// Lines of KEY VALUE out of a file, and before them those that are given. False: no such file, a key that has no default, no
// value or no number above 0 where the default is one.
inline bool http_configure(const std::string &path, const http_settings &defaults, const http_settings &given, http_settings *out) {
    http_settings fresh = defaults;
    std::ifstream file(path);
    if (!file.is_open()) return false;
    for (std::string line; std::getline(file, line);) {
        const size_t space = line.find(' ');
        if (!line.empty() && line[0] != '#') fresh[line.substr(0, space)] = space < line.size() ? line.substr(space + 1) : "";
    }
    for (auto &pair : given) fresh[pair.first] = pair.second;
    for (auto &pair : fresh) {
        const auto usual = defaults.find(pair.first);
        if (usual == defaults.end() || (pair.second.empty() && !usual->second.empty())) return false;
        const long long n = atoll(pair.second.c_str());
        if (atoll(usual->second.c_str()) > 0 && (n <= 0 || n > 1000000000)) return false;
    }
    *out = fresh;
    return true;
}

// "" is none: out->len is 0.
inline bool http_upstream(const std::string &text, mio_addr_t *out) {
    const size_t colon = text.rfind(':');
    return text.empty() ||
           (colon != std::string::npos && mio_addr_parse(text.substr(0, colon).c_str(), atoi(&text[colon + 1]), out) == 0);
}

inline std::string http_text(const mio_addr_t &addr) {
    char text[MIO_ADDR_TEXT_MAX];
    return mio_addr_format(&addr, text, sizeof text) > 0 ? text : "-";
}

// A copy of the text goes into the stream.
inline mio_req_t http_write(mio_loop_t *loop, mio_stream_t *stream, const std::string &text, mio_write_cb cb, void *arg) {
    mio_buf_t buf{};
    mio_req_t id = mio_buf_alloc(loop, text.size(), &buf);
    if (id < 0) return id;
    memcpy(buf.base, text.data(), buf.len = text.size());
    id = mio_stream_write(stream, &buf, 1, cb, arg);
    mio_buf_release(&buf);                                   // empty, if it was taken
    return id;
}

#endif
