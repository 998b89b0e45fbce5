// Intrusive lists. Nothing here allocates; a node is on at most one list at a time.
#pragma once

#include "base/assert.h"

namespace mio {

// First in, first out, singly linked through T::next. A node may be on it once.
template <class T> struct queue {
    T *head;
    T *tail;
};

template <class T> inline bool queue_empty(const queue<T> &q) { return q.head == nullptr; }

template <class T> inline void queue_push(queue<T> *q, T *node) {
    node->next = nullptr;
    if (q->head == nullptr) q->head = node;
    else q->tail->next = node;
    q->tail = node;
}

template <class T> inline T *queue_pop(queue<T> *q) {
    T *node = q->head;
    if (node != nullptr) {
        q->head = node->next;
        node->next = nullptr;
    }
    return node;
}

// The whole list as it stands; q is empty afterwards.
template <class T> inline queue<T> queue_take(queue<T> *q) {
    queue<T> all = *q;
    q->head = nullptr;
    q->tail = nullptr;
    return all;
}

// Doubly linked and circular: a node can leave from anywhere. An unlinked node points to itself.
struct link {
    link *next;
    link *prev;
};

inline void link_init(link *node) { node->next = node->prev = node; }
inline bool link_alone(const link *node) { return node->next == node; }

inline void link_before(link *where, link *node) {
    node->next = where;
    node->prev = where->prev;
    where->prev->next = node;
    where->prev = node;
}

inline void link_remove(link *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    link_init(node);
}

// Moves all of from behind the last of to; from is empty afterwards.
inline void link_splice(link *to, link *from) {
    if (link_alone(from)) return;
    link *first = from->next;
    link *last = from->prev;
    first->prev = to->prev;
    to->prev->next = first;
    last->next = to;
    to->prev = last;
    link_init(from);
}

}
