#include "support/leaks.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

namespace test {

static int fd_compare(const void *a, const void *b) {
    const int x = *static_cast<const int *>(a);
    const int y = *static_cast<const int *>(b);
    return x < y ? -1 : x > y;
}

void open_fds_note(open_fds *out) {
    out->count = 0;
    DIR *all = opendir("/proc/self/fd");
    if (all == nullptr) {
        out->count = -1;
        return;
    }
    while (const struct dirent *entry = readdir(all)) {
        if (entry->d_name[0] == '.') continue;
        const int fd = atoi(entry->d_name);
        if (fd != dirfd(all) && out->count < OPEN_FDS_MOST) out->fd[out->count++] = fd;
    }
    closedir(all);
    qsort(out->fd, static_cast<size_t>(out->count), sizeof(int), fd_compare);
}

int open_fds_count() {
    static thread_local open_fds now;
    open_fds_note(&now);
    return now.count;
}

int open_fds_new(const open_fds *before) {
    static thread_local open_fds now;
    open_fds_note(&now);
    int found = 0;
    int at = 0;
    for (int i = 0; i < now.count; i++) {
        while (at < before->count && before->fd[at] < now.fd[i]) at++;
        if (at < before->count && before->fd[at] == now.fd[i]) continue;
        char path[64];
        char target[256];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", now.fd[i]);
        const ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        fprintf(stderr, "leaked descriptor %d: %s\n", now.fd[i], target);
        found++;
    }
    return found;
}

}
