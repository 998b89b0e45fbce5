// What happens to the files and folders that are watched: plain calls in a folder of the seed's, and what of it there is
// to tell. What is certain is said to happen, what a kernel may see otherwise, that it may.
#include "watches.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace torture {

constexpr int CHANGES_MAX = 400, OPENS_MAX = 3;

struct watched_fd {
    watched_name *by;
    int fd;
};

static std::vector<watched_node *> nodes;
static std::vector<watched_name *> names;
static std::vector<watched_fd> fds;
static watched_node *base;
static int changes;
static bool has_flooded;

// A child has all descriptors until it runs its program: then nothing is opened, so that closing is the program's affair.
static bool may_open() { return !noun_is_on(&noun_processes); }

// --- files ----------------------------------------------------------------------------------------------------------

static const std::string slot_names[WATCHED_SLOTS] = {"a", "b", "c", "d"};

static std::string path_of(const watched_node *in, const std::string &name) {
    const std::string root = std::string(seed_folder()) + "/w";
    if (in == nullptr) return root;
    return root + (in == base ? "" : "/" + in->self->name) + "/" + name;
}
static std::string path_of(const watched_name *d) {
    return d == base->self ? path_of(nullptr, "") : path_of(d->in, d->name);
}

static watched_node *node_new(bool is_folder) {
    watched_node *n = new watched_node();
    n->is_folder = is_folder;
    nodes.push_back(n);
    return n;
}

static void name_place(watched_name *d, watched_node *in, int slot) {
    d->in = in;
    d->name = slot_names[slot];
    in->entries[slot] = d;
}

static watched_name *name_new(watched_node *in, int slot, watched_node *of) {
    watched_name *d = new watched_name();
    names.push_back(d);
    d->of = of;
    of->links++;
    if (of->is_folder) of->self = d;
    if (in != nullptr) name_place(d, in, slot);
    if (in != nullptr) happen(in, MIO_WATCH_CREATED, of->is_folder, d->name);
    return d;
}

static void through(const watched_name *d, int what) { // a change of what a name stands for
    if (d->in != nullptr) happen(d->in, what, d->of->is_folder, d->name);
    happen(d->of, what, d->of->is_folder, "", NONE, d->in == nullptr && d != base->self);
}

static void node_gone(watched_node *n, bool may) {
    happen(n, MIO_WATCH_REMOVED, n->is_folder, "", NONE, may);
    happen(n, ENDED, n->is_folder, "", NONE, may);
}

static void name_drop(watched_name *d) { // it is unlinked, or something else has its name
    watched_node *n = d->of;
    d->in = nullptr;
    n->links--;
    happen(n, MIO_WATCH_ATTRIBUTES, n->is_folder, "", NONE, n->links == 0);
    if (n->links > 0) return;
    if (n->opens == 0) node_gone(n, false);
    else if (n->had_two) node_gone(n, true); // by the name that went last it is not open
}

// Of a call of the program's that is known to succeed.
#define MUST(call) \
    if ((call) < 0) fail("%s: %s", #call, strerror(errno))

static void name_remove(watched_node *in, int slot) {
    watched_name *d = in->entries[slot];
    const std::string path = path_of(d);
    MUST(d->of->is_folder ? rmdir(path.c_str()) : unlink(path.c_str()));
    in->entries[slot] = nullptr;
    happen(in, MIO_WATCH_REMOVED, d->of->is_folder, d->name);
    name_drop(d);
}

static void file_close(size_t which) {
    const watched_fd one = fds[which];
    fds.erase(fds.begin() + static_cast<std::ptrdiff_t>(which));
    close(one.fd);
    through(one.by, MIO_WATCH_WRITTEN);
    watched_node *n = one.by->of;
    n->opens--;
    if (n->opens == 0 && n->links == 0) node_gone(n, false);
}

static watched_node *folder_pick() {
    watched_name *d = base->entries[below(WATCHED_SLOTS)];
    return d != nullptr && d->of->is_folder && chance(70) ? d->of : base;
}

static watched_name *file_pick(watched_node *in) {
    watched_name *d = in->entries[below(WATCHED_SLOTS)];
    return d != nullptr && !d->of->is_folder ? d : nullptr;
}

// --- changes --------------------------------------------------------------------------------------------------------

// By a descriptor that is closed at once, or stays open; then it is told of what is done by it under the name of then.
static void file_open(watched_name *d, int flags, bool keep) {
    int fd;
    MUST(fd = open(path_of(d).c_str(), O_WRONLY | O_CLOEXEC | flags, 0600));
    if ((flags & O_TRUNC) != 0) through(d, MIO_WATCH_CHANGED);
    for (uint32_t n = below(3u); n > 0; n--) {
        MUST(write(fd, "text", 4));
        through(d, MIO_WATCH_CHANGED);
    }
    fds.push_back({d, fd});
    d->of->opens++;
    if (keep) return;
    file_close(fds.size() - 1);
}

static void file_make(watched_node *in, int slot) {
    const std::string path = path_of(in, slot_names[slot]);
    if (!may_open() || chance(30)) {
        MUST(mknod(path.c_str(), S_IFREG | 0600, 0));
        name_new(in, slot, node_new(false));
        return;
    }
    int fd;
    MUST(fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    watched_name *d = name_new(in, slot, node_new(false));
    fds.push_back({d, fd});
    d->of->opens++;
    if (fds.size() > OPENS_MAX || chance(70)) file_close(fds.size() - 1);
}

static void make_act() {
    watched_node *in = folder_pick();
    const int slot = static_cast<int>(below(WATCHED_SLOTS));
    if (in->entries[slot] != nullptr) return;
    if (in != base || chance(50)) {
        file_make(in, slot);
        return;
    }
    MUST(mkdir(path_of(in, slot_names[slot]).c_str(), 0700));
    name_new(in, slot, node_new(true));
}

static void write_act() {
    watched_name *d = file_pick(folder_pick());
    if (!fds.empty() && chance(40)) {
        const size_t which = below(fds.size());
        if (chance(50)) {
            file_close(which);
            return;
        }
        MUST(write(fds[which].fd, "more", 4));
        through(fds[which].by, MIO_WATCH_CHANGED);
    } else if (d != nullptr && (!may_open() || chance(30))) {
        MUST(truncate(path_of(d).c_str(), below(100u)));
        through(d, MIO_WATCH_CHANGED);
    } else if (d != nullptr) {
        file_open(d, chance(50) ? O_TRUNC : 0, fds.size() < OPENS_MAX && chance(30));
    }
}

static void mode_act() {
    watched_node *in = folder_pick();
    watched_name *d = chance(20) ? base->self : in->entries[below(WATCHED_SLOTS)];
    if (d == nullptr) return;
    MUST(chmod(path_of(d).c_str(), (d->of->is_folder ? 0700 : 0600) | (chance(50) ? 0050 : 0)));
    through(d, MIO_WATCH_ATTRIBUTES);
}

static bool is_empty(const watched_node *n) {
    for (const watched_name *d : n->entries)
        if (d != nullptr) return false;
    return true;
}

static void rename_act() {
    watched_node *in = folder_pick(), *to = chance(50) ? in : folder_pick();
    const int from = static_cast<int>(below(WATCHED_SLOTS)), slot = static_cast<int>(below(WATCHED_SLOTS));
    watched_name *d = in->entries[from], *old = to->entries[slot];
    if (d == nullptr || d == old || (d->of->is_folder && to != base)) return;
    if (old != nullptr && (old->of->is_folder != d->of->is_folder || (old->of->is_folder && !is_empty(old->of)))) return;
    MUST(rename(path_of(d).c_str(), path_of(to, slot_names[slot]).c_str()));
    if (old != nullptr && old->of == d->of) return; // two names of one file: nothing is done
    const std::string before = d->name;
    in->entries[from] = nullptr;
    name_place(d, to, slot);
    if (in == to) happen(in, MIO_WATCH_RENAMED, d->of->is_folder, before, d->name);
    else happen(in, MIO_WATCH_RENAMED, d->of->is_folder, before, NONE);
    if (in != to) happen(to, MIO_WATCH_RENAMED, d->of->is_folder, NONE, d->name);
    if (old != nullptr) name_drop(old);
    happen(d->of, MIO_WATCH_RENAMED, d->of->is_folder, "");
}

static void link_act() {
    watched_node *to = folder_pick();
    const watched_name *d = file_pick(folder_pick());
    const int slot = static_cast<int>(below(WATCHED_SLOTS));
    if (d == nullptr || to->entries[slot] != nullptr) return;
    MUST(link(path_of(d).c_str(), path_of(to, slot_names[slot]).c_str()));
    d->of->had_two = true;
    happen(d->of, MIO_WATCH_ATTRIBUTES, false, "");
    name_new(to, slot, d->of);
}

static void remove_act(bool folders) {
    watched_node *in = folders ? base : folder_pick();
    const int slot = static_cast<int>(below(WATCHED_SLOTS));
    watched_name *d = in->entries[slot];
    if (d == nullptr || (d->of->is_folder && !folders)) return;
    for (int i = 0; d->of->is_folder && i < WATCHED_SLOTS; i++)
        if (d->of->entries[i] != nullptr) name_remove(d->of, i);
    name_remove(in, slot);
}

// More changes than the kernel remembers, in a folder that only this loop watches.
static void flood_act() {
    unsigned most = 0;
    FILE *limit = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    if (limit != nullptr && fscanf(limit, "%u", &most) != 1) most = 0;
    if (limit != nullptr) fclose(limit);
    if (has_flooded || most == 0 || most > 20000) return;
    has_flooded = true;
    watched_node *folder = node_new(true);
    const std::string path = path_of(base, "flood");
    MUST(mkdir(path.c_str(), 0700));
    folder->self = name_new(nullptr, 0, folder);
    folder->self->in = base;
    folder->self->name = "flood";
    happen(base, MIO_WATCH_CREATED, true, "flood");
    const std::string files[2] = {path + "/a", path + "/b"};
    for (const std::string &file : files) MUST(mknod(file.c_str(), S_IFREG | 0600, 0));
    mio_loop_t *loop = some_loop();
    if (!watch_open(loop, folder, MIO_WATCH_ATTRIBUTES)) return;
    watches_flooded(loop);
    for (unsigned i = 0; i < most + 10; i++) MUST(chmod(files[i % 2].c_str(), 0600));
}

void watched_change() {
    if (changes++ >= CHANGES_MAX) return;
    const uint32_t which = below(1000u);
    if (which < 220) make_act();
    else if (which < 450) write_act();
    else if (which < 550) mode_act();
    else if (which < 800) rename_act();
    else if (which < 870) link_act();
    else if (which < 960) remove_act(false);
    else if (which < 998) remove_act(true);
    else flood_act();
}

// --- for watches.cc -------------------------------------------------------------------------------------------------

watched_node *watched_pick() {
    watched_node *in = folder_pick();
    const watched_name *d = in->entries[below(WATCHED_SLOTS)];
    return d == nullptr || chance(40) ? in : d->of;
}

std::string watched_path(const watched_node *n) {
    if (n->self != nullptr) return path_of(n->self);
    for (const watched_name *d : names)
        if (d->of == n && d->in != nullptr) return path_of(d);
    fail("a file without a name is to be watched");
}

void watched_open() {
    base = node_new(true);
    base->self = name_new(nullptr, 0, base);
    if (mkdir(path_of(base->self).c_str(), 0700) < 0) fail("no folder to watch");
}

void watched_quiet() {
    while (!fds.empty()) file_close(fds.size() - 1);
}

void watched_clear() {
    watched_quiet();
    for (const watched_name *d : names) delete d;
    for (const watched_node *n : nodes) delete n;
    names.clear();
    nodes.clear();
    changes = 0;
    has_flooded = false;
}

}
