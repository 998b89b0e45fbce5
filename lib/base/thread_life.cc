#include "base/thread_life.h"

#include <atomic>
#include <new>
#include <pthread.h>

namespace mio {

struct thread_life {
    std::atomic<int> references;
    std::atomic<bool> ended;
    const sys *calls;
};

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool key_made;

static void thread_exits(void *life) {
    auto *mine = static_cast<thread_life *>(life);
    mine->ended.store(true, std::memory_order_release);
    thread_life_release(mine);
}

static void key_make() { key_made = pthread_key_create(&key, thread_exits) == 0; }

thread_life *thread_life_mine(const sys *calls) {
    pthread_once(&key_once, key_make);
    if (!key_made) return nullptr;
    auto *mine = static_cast<thread_life *>(pthread_getspecific(key));
    if (mine == nullptr) {
        void *memory = calls->alloc(sizeof(thread_life));
        if (memory == nullptr) return nullptr;
        mine = new (memory) thread_life();
        mine->references.store(1, std::memory_order_relaxed);
        mine->calls = calls;
        if (pthread_setspecific(key, mine) != 0) {
            calls->release(memory, sizeof(thread_life));
            return nullptr;
        }
    }
    mine->references.fetch_add(1, std::memory_order_relaxed);
    return mine;
}

bool thread_life_ended(const thread_life *life) { return life->ended.load(std::memory_order_acquire); }

void thread_life_release(thread_life *life) {
    if (life == nullptr || life->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    life->calls->release(life, sizeof(thread_life));
}

}
