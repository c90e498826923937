#include "runtime/thread.h"

#include <signal.h>

bool thread_start(pthread_t *thread, void *(*work)(void *argument), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); // of its own reads: runtime/process.h
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(thread, NULL, work, argument) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}
