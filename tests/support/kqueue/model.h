// What a test may ask of the model of kqueue beside kqueue() and kevent() themselves.
#pragma once

namespace test {

unsigned kqueue_model_queues();                     // open in this process
unsigned kqueue_model_knotes(int kq);               // watched by it, enabled or not
bool kqueue_model_watches(int kq, int fd, int filter); // there is such a knote

// The n-th knote that is added from now on finds no memory: ENOMEM. 0: never.
void kqueue_model_fail_add(unsigned nth);

}
