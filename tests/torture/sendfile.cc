// Bytes of a file, sent in the order of the writes of a stream: all of what was asked for, or as far as the file goes.
//
// The model is that of a write: the bytes that the file has there. The file is open until the loops are gone.
#include "nouns.h"

#include <fcntl.h>
#include <unistd.h>

namespace torture {

constexpr size_t FILE_LEN = 100000;
constexpr int SENDS_MAX = 40;

static char text[FILE_LEN];
static int file_fd = -1, sends;

static void sendfile_open() {
    char path[160];
    if (now.sim) return;
    for (char &c : text) c = static_cast<char>('a' + below(20u));
    snprintf(path, sizeof path, "%s/sent", seed_folder());
    file_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file_fd < 0 || write(file_fd, text, sizeof text) != static_cast<ssize_t>(sizeof text)) fail("no file to be sent");
}

static void sendfile_act() {
    connection *c = now.connection_count > 0 ? now.connections[below(now.connection_count)] : nullptr;
    if (c == nullptr || c->dead || c->closing || c->moving || sends >= SENDS_MAX) return;
    sends++;
    request *r = request_new(c, kind::write);
    r->of_a_file = true;
    const size_t offset = below(FILE_LEN), len = 1 + (chance(80) ? below(3000u) : below(60000u));
    const size_t there = len < FILE_LEN - offset ? len : FILE_LEN - offset;
    bytes_append(&r->data, text + offset, there);
    r->wanted = len;
    const mio_req_t id = CALL(mio_stream_sendfile(c->stream, now.sim ? 1 << 30 : file_fd, static_cast<int64_t>(offset),
                                                  static_cast<int64_t>(len), told_write, r));
    if (id < 0) {
        if (id != MIO_ENOTSUP || !now.sim) check_refusal("sendfile", id, c);
        request_forget(r);
        return;
    }
    if (now.sim) fail("a world sends files");
    request_taken(r, id);
    say("c%d: sendfile of %zu at %zu, request %d", c->number, len, offset, r->number);
    if (now.deadlines) r->deadline = CALL(mio_req_timeout(c->loop, id, below(50u) * MIO_MILLISECOND)) == 0;
}

static void sendfile_clear() {
    if (file_fd >= 0) close(file_fd);
    file_fd = -1;
    sends = 0;
}

const noun noun_sendfile = {"sendfile", true, sendfile_open, sendfile_act, nullptr, nullptr, nullptr, nullptr, sendfile_clear};

}
