// Copies a file or a folder with all below it, some files at once.
//
//   fs_copy FROM TO
//
// A folder is listed in batches; each entry is a job of its own: a folder is made and listed, a link is made anew, a
// file is copied by mio_fs_copy. At most MOST_AT_ONCE copies run, the others wait in a queue.
#include <mio.h>

#include <fcntl.h>

#include <cstdio>
#include <deque>
#include <string>

constexpr int MOST_AT_ONCE = 16;

struct copier {
    mio_loop_t *loop;
    std::deque<std::pair<std::string, std::string>> waiting; // files to be copied
    int running = 0;
    long files = 0, folders = 0, links = 0, failures = 0;
    long long bytes = 0;
};

struct place { // where one entry is, and where it is to go
    copier *of;
    std::string from, to;
    int fd = -1;
};

static void failed(copier *c, const std::string &what, int64_t error) {
    fprintf(stderr, "%s: %s\n", what.c_str(), mio_error_text(error));
    c->failures++;
}

// --- files ----------------------------------------------------------------------------------------------------------

static void copy_more(copier *c);

static void on_copied(mio_loop_t *, int status, int64_t bytes, void *arg) {
    place *p = static_cast<place *>(arg);
    copier *c = p->of;
    if (status < 0) failed(c, p->from, status);
    else c->files++;
    c->bytes += bytes;
    c->running--;
    delete p;
    copy_more(c);
}

static void copy_more(copier *c) {
    while (c->running < MOST_AT_ONCE && !c->waiting.empty()) {
        place *p = new place{c, c->waiting.front().first, c->waiting.front().second};
        c->waiting.pop_front();
        const mio_req_t id = mio_fs_copy(c->loop, p->from.c_str(), p->to.c_str(), 0, on_copied, p);
        if (id >= 0) {
            c->running++;
            continue;
        }
        failed(c, p->from, id);
        delete p;
    }
}

// --- links ----------------------------------------------------------------------------------------------------------

static void on_linked(mio_loop_t *, int status, void *arg) {
    place *p = static_cast<place *>(arg);
    if (status < 0) failed(p->of, p->to, status);
    else p->of->links++;
    delete p;
}

static void on_target(mio_loop_t *loop, int status, const char *target, void *arg) {
    place *p = static_cast<place *>(arg);
    const mio_req_t id = status < 0 ? status : mio_fs_symlink(loop, target, p->to.c_str(), on_linked, p);
    if (id >= 0) return;
    failed(p->of, p->from, id);
    delete p;
}

// --- folders --------------------------------------------------------------------------------------------------------

static void copy_any(copier *c, const std::string &from, const std::string &to);

static void folder_end(place *p, int64_t error) {
    if (error < 0 && error != MIO_EOF) failed(p->of, p->from, error);
    else p->of->folders++;
    if (p->fd >= 0) mio_fs_close(p->of->loop, p->fd, nullptr, nullptr);
    delete p;
}

static void on_entries(mio_loop_t *loop, int status, const mio_fs_entry_t *entries, unsigned n, void *arg) {
    place *p = static_cast<place *>(arg);
    for (unsigned i = 0; i < n; i++) copy_any(p->of, p->from + "/" + entries[i].name, p->to + "/" + entries[i].name);
    const mio_req_t id = status < 0 ? status : mio_fs_readdir(loop, p->fd, 0, on_entries, p);
    if (id < 0) folder_end(p, id);
}

static void on_folder_open(mio_loop_t *loop, int fd, void *arg) {
    place *p = static_cast<place *>(arg);
    p->fd = fd;
    const mio_req_t id = fd < 0 ? fd : mio_fs_readdir(loop, fd, 0, on_entries, p);
    if (id < 0) folder_end(p, id);
}

static void on_folder_made(mio_loop_t *loop, int status, void *arg) {
    place *p = static_cast<place *>(arg);
    if (status == MIO_EEXIST) status = 0; // copied into it
    const mio_req_t id = status < 0 ? status : mio_fs_open(loop, p->from.c_str(), O_RDONLY | O_DIRECTORY, 0, on_folder_open, p);
    if (id < 0) folder_end(p, id);
}

// --- anything -------------------------------------------------------------------------------------------------------

static void on_facts(mio_loop_t *loop, int status, const mio_fs_facts_t *facts, void *arg) {
    place *p = static_cast<place *>(arg);
    copier *c = p->of;
    mio_req_t id = status;
    const unsigned type = status < 0 ? 0 : facts->mode & 0170000;
    if (type == 0040000) id = mio_fs_mkdir(loop, p->to.c_str(), facts->mode & 0777, on_folder_made, p);
    else if (type == 0120000) id = mio_fs_readlink(loop, p->from.c_str(), on_target, p);
    if (id > 0) return;
    if (type == 0100000) {
        c->waiting.emplace_back(p->from, p->to);
        copy_more(c);
    } else {
        failed(c, p->from, id < 0 ? id : static_cast<mio_req_t>(MIO_ENOTSUP)); // a device, a socket
    }
    delete p;
}

static void copy_any(copier *c, const std::string &from, const std::string &to) {
    place *p = new place{c, from, to};
    const mio_req_t id = mio_fs_lstat(c->loop, from.c_str(), on_facts, p);
    if (id >= 0) return;
    failed(c, from, id);
    delete p;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: fs_copy FROM TO\n");
        return 2;
    }
    copier c;
    if (mio_loop_create(&c.loop, nullptr) < 0) return 1;
    copy_any(&c, argv[1], argv[2]);
    mio_loop_run(c.loop);
    printf("%ld files of %lld bytes, %ld folders, %ld links\n", c.files, c.bytes, c.folders, c.links);
    return mio_loop_destroy(c.loop, MIO_FOREVER) == 0 && c.failures == 0 ? 0 : 1;
}
