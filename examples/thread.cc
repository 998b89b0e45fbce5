// Work on another thread, results on the loop: posts carry them over, in order, and none is lost.
//
//   thread
#include <mio.h>

#include <cstdio>
#include <thread>

struct result {
    int n;
    int square;
};

static int last, sum;

// Runs on the loop's thread. status: 0, or MIO_ECANCELED if the loop was destroyed first; arg is ours either way.
static void on_result(mio_loop_t *loop, int status, void *arg) {
    result *r = static_cast<result *>(arg);
    if (status == 0) {
        printf("%d squared is %d\n", r->n, r->square);
        if (r->n == last + 1) sum += r->square;          // in the order in which they were posted
        last = r->n;
        if (r->n == 5) mio_loop_hold(loop, -1);          // it was the last one: the loop may end
    }
    delete r;
}

static void work(mio_remote_t *remote) {
    for (int n = 1; n <= 5; n++) {
        result *r = new result{n, n * n};
        if (mio_remote_post(remote, on_result, r) < 0) delete r;    // the loop is gone: nobody wants it any more
    }
    mio_remote_release(remote);
}

int main() {
    mio_loop_t *loop;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    mio_loop_hold(loop, +1);                             // alive although nothing is on it yet: a post will come

    // The thread has a reference of its own: its remote stays valid, whoever ends first.
    std::thread worker(work, mio_remote_retain(mio_loop_remote(loop)));
    const int status = mio_loop_run(loop);
    const int left = mio_loop_destroy(loop, MIO_FOREVER);
    worker.join();
    printf("sum %d\n", sum);
    return status == 0 && left == 0 && sum == 55 ? 0 : 1;
}
