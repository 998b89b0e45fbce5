// A lock-free inbox: any number of threads (and signal handlers) put, one takes all. FIFO per sender.
//
// A stack of nodes linked through T::next, turned round by the taker. Closing it puts a mark in the head that every
// later put sees: nothing can be put in unseen.
#pragma once

#include "base/list.h"

#include <atomic>
#include <stdint.h>

namespace mio {

template <class T> struct inbox {
    std::atomic<T *> head;

    static T *closed_mark() { return reinterpret_cast<T *>(static_cast<uintptr_t>(1)); }
};

// false: the inbox is closed and the node is still the caller's. [any thread] [signal-safe]
template <class T> inline bool inbox_put(inbox<T> *box, T *node) {
    T *head = box->head.load(std::memory_order_relaxed);
    do {
        if (head == inbox<T>::closed_mark()) return false;
        node->next = head;
    } while (!box->head.compare_exchange_weak(head, node, std::memory_order_release, std::memory_order_relaxed));
    return true;
}

template <class T> inline bool inbox_empty(const inbox<T> *box) {
    T *head = box->head.load(std::memory_order_relaxed);
    return head == nullptr || head == inbox<T>::closed_mark();
}

template <class T> inline queue<T> inbox_reversed(T *head) {
    queue<T> all = {nullptr, head};
    while (head != nullptr) {
        T *next = head->next;
        head->next = all.head;
        all.head = head;
        head = next;
    }
    return all;
}

// Everything that is in, oldest first. The taker only.
template <class T> inline queue<T> inbox_take(inbox<T> *box) {
    if (inbox_empty(box)) return queue<T>{nullptr, nullptr};
    return inbox_reversed(box->head.exchange(nullptr, std::memory_order_acquire));
}

// The same, and nothing can be put in any more.
template <class T> inline queue<T> inbox_close(inbox<T> *box) {
    T *head = box->head.exchange(inbox<T>::closed_mark(), std::memory_order_acq_rel);
    return inbox_reversed(head == inbox<T>::closed_mark() ? nullptr : head);
}

}
