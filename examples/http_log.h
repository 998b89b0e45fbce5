// An access log for http_server.cc, which never waits for a disk: one chain of operations, a write, the next write, or a
// new file between two. No line is torn, lost or doubled, whatever is renamed meanwhile.
#ifndef HTTP_LOG_H
#define HTTP_LOG_H

#include <mio.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <unistd.h>
#include <utility>

struct http_log {
    int fd = -1;

    int open(const std::string &at) {                        // waits: for the start of a program
        path = at;
        fd = ::open(path.c_str(), flags, 0644);
        return fd < 0 ? -errno : 0;
    }

    void add(mio_loop_t *loop, const std::string &line) {
        text += line;
        next(loop);
    }

    void reopen(mio_loop_t *loop, const std::string &at) {   // also where somebody has renamed the file
        path = at;
        wanted = true;
        next(loop);
    }

    // When the loop is gone: what it did not get to. True: all is written.
    bool finish() { return write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && close(fd) == 0; }

private:
    static const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC;
    std::string path, text;                                  // text: lines that are not on their way yet
    bool busy = false, wanted = false;                       // wanted: the file anew

    void next(mio_loop_t *loop) {
        mio_buf_t buf{};
        if (busy) return;
        if (wanted) {
            wanted = false;
            busy = mio_fs_open(loop, path.c_str(), flags, 0644, on_open, this) > 0;
        } else if (!text.empty() && mio_buf_alloc(loop, text.size(), &buf) == 0) {
            memcpy(buf.base, text.data(), buf.len = text.size());
            busy = mio_fs_write(loop, fd, &buf, 1, -1, on_written, this) > 0;
            if (busy) text.clear();
            mio_buf_release(&buf);                           // empty, if it was taken
        }
    }

    static void on_written(mio_loop_t *loop, int status, int64_t written, mio_buf_t *bufs, unsigned, void *arg) {
        http_log *log = static_cast<http_log *>(arg);
        log->busy = false;
        if (status == MIO_ECANCELED)                         // the loop is being destroyed: finish does the rest
            log->text.insert(0, bufs->base + written, bufs->len - static_cast<size_t>(written));
        else if (status < 0) fprintf(stderr, "the log: %s\n", mio_error_text(status));
        if (status != MIO_ECANCELED) log->next(loop);
    }

    static void on_open(mio_loop_t *loop, int opened, void *arg) {
        http_log *log = static_cast<http_log *>(arg);
        log->busy = false;
        if (opened < 0) {                                    // the old one goes on
            fprintf(stderr, "%s: %s\n", log->path.c_str(), mio_error_text(opened));
        } else {
            const int old = std::exchange(log->fd, opened);
            if (mio_fs_close(loop, old, nullptr, nullptr) < 0) close(old);
        }
        log->next(loop);
    }
};

#endif
