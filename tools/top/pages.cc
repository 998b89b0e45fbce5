// See pages.h.
#include "top/pages.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <unistd.h>

namespace top {

static void add_directory(const char *directory, std::vector<std::string> *paths) {
    DIR *list = opendir(directory);
    if (list == nullptr) return;
    while (const struct dirent *entry = readdir(list))
        if (strncmp(entry->d_name, MIO_EXPORT_PREFIX, strlen(MIO_EXPORT_PREFIX)) == 0)
            paths->push_back(std::string(directory) + "/" + entry->d_name);
    closedir(list);
}

// Another user's process is one that may not be signalled, and runs.
static bool is_alive(int64_t pid) { return kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM; }

static page look(const std::string &path, const std::vector<page> &before) {
    page p = {path, MIO_EXPORT_INIT, MIO_EXPORT_INIT, 0, false};
    p.error = mio_export_read(path.c_str(), &p.now);
    p.alive = p.error == 0 && is_alive(p.now.pid);
    for (const page &old : before)
        // The same file may be another program's by now.
        if (old.path == path && old.error == 0 && old.now.exported_ns == p.now.exported_ns) p.before = old.now;
    return p;
}

void pages_look(const std::vector<std::string> &named, std::vector<page> *pages) {
    std::vector<std::string> paths = named;
    if (named.empty()) {
        add_directory(MIO_EXPORT_DIRECTORY, &paths);
        add_directory(MIO_EXPORT_DIRECTORY_2, &paths);
    }
    std::sort(paths.begin(), paths.end());
    std::vector<page> found;
    for (const std::string &path : paths) found.push_back(look(path, *pages));
    *pages = std::move(found);
}

int pages_clean(const std::vector<page> &pages) {
    int removed = 0;
    for (const page &p : pages) {
        if (p.error != 0 || p.alive) continue;
        if (unlink(p.path.c_str()) == 0) removed++;
        else fprintf(stderr, "mio-top: %s: %s\n", p.path.c_str(), strerror(errno));
    }
    return removed;
}

}
