// Step 8: another thread. It has the loop's address, a remote, and posts; the loop's own thread does the rest.
#include <mio.h>

#include <cstdio>
#include <thread>

static int sum;

static void on_number(mio_loop_t *loop, int status, void *arg) { // on the loop's thread, in the order of the posts
    const int *number = static_cast<int *>(arg);
    if (status == 0) sum += *number;                             // else the loop is being destroyed
    if (*number == 10) mio_loop_hold(loop, -1);                  // that was the last one
    delete number;
}

static void count(mio_remote_t *remote) {                        // on a thread of its own
    for (int i = 1; i <= 10; i++) {
        int *number = new int(i);
        if (mio_remote_post(remote, on_number, number) < 0) delete number;    // refused: it is still ours
    }
    mio_remote_release(remote);
}

int main() {
    mio_loop_t *loop;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    mio_loop_hold(loop, +1);                                     // nothing on the loop says that posts will come
    std::thread thread(count, mio_remote_retain(mio_loop_remote(loop)));
    const int result = mio_loop_run(loop);
    thread.join();
    printf("the sum is %d\n", sum);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && result == 0 && sum == 55 ? 0 : 1;
}
