// Threads beside the training thread, which signals belong to: these block them all but SIGBUS.
#pragma once

#include <pthread.h>
#include <stdbool.h>

bool thread_start(pthread_t *thread, void *(*work)(void *argument), void *argument); // false: no thread can be had
