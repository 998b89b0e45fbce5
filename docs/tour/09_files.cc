// Step 9: what the loop must not wait for: a disk, and something that computes for long.
#include <mio.h>

#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

struct file {
    int fd;
    mio_buf_t bytes;
    unsigned long sum;
};

static void on_closed(mio_loop_t *, int, void *) {}

static void add(void *arg) {                                     // on a worker's thread
    file *f = static_cast<file *>(arg);
    for (size_t i = 0; i < f->bytes.len; i++) f->sum += static_cast<unsigned char>(f->bytes.base[i]);
}

static void on_added(mio_loop_t *loop, int status, void *arg) {  // on the loop's, and all that add wrote can be read
    file *f = static_cast<file *>(arg);
    if (status == 0) printf("%zu bytes, their sum is %lu\n", f->bytes.len, f->sum);
    mio_buf_release(&f->bytes);
    mio_fs_close(loop, f->fd, on_closed, nullptr);
}

static void on_read(mio_loop_t *loop, int64_t n, mio_buf_t *bufs, unsigned, void *arg) {
    file *f = static_cast<file *>(arg);
    if (n < 0) {
        mio_fs_close(loop, f->fd, on_closed, nullptr);
        return;
    }
    f->bytes = mio_buf_take(bufs);                               // beyond the callback
    if (mio_work_start(loop, nullptr, add, on_added, f) < 0) on_added(loop, MIO_ENOMEM, f);
}

static void on_open(mio_loop_t *loop, int fd, void *arg) {
    file *f = static_cast<file *>(arg);
    mio_buf_t buf = {};
    if (fd < 0) return;
    f->fd = fd;
    if (mio_buf_alloc(loop, 65536, &buf) < 0 || mio_fs_read(loop, fd, &buf, 1, 0, on_read, f) < 0) {
        mio_buf_release(&buf);                                   // not taken: ours
        mio_fs_close(loop, fd, on_closed, nullptr);
    }
}

int main(int, char **argv) {
    mio_loop_t *loop;
    file f = {};
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_fs_open(loop, argv[0], O_RDONLY, 0, on_open, &f) < 0) return 1;    // this program
    mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && f.sum > 0 ? 0 : 1;
}
