#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Waiting threads look this often before they give their core away: steps follow each other within milliseconds, and
   other programs want the core in between. */
#define LOOKS_AT_BARRIER 20000
#define LOOKS_FOR_WORK 4000

struct team {
    int threads;
    pthread_t *others;
    pthread_mutex_t turn, idle;
    pthread_cond_t begin;
    atomic_int round, arrived, phase, left;
    atomic_bool over;
    work run;
    void *job, *memory;
    size_t bytes;
};

typedef struct {
    team *of;
    int thread;
} member;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void *serve(void *given) {
    member me = *(member *)given;
    team *t = me.of;
    free(given);
    for (int seen = 0;;) {
        int looks = 0;
        while (atomic_load_explicit(&t->round, memory_order_acquire) == seen) {
            if (++looks < LOOKS_FOR_WORK) {
                pause_briefly();
                continue;
            }
            pthread_mutex_lock(&t->idle);
            while (atomic_load(&t->round) == seen) pthread_cond_wait(&t->begin, &t->idle);
            pthread_mutex_unlock(&t->idle);
        }
        seen++;
        if (atomic_load(&t->over)) return NULL;
        t->run(t->job, me.thread, t->threads);
        atomic_fetch_sub_explicit(&t->left, 1, memory_order_release);
    }
}

static void start_round(team *t) {
    pthread_mutex_lock(&t->idle);
    atomic_fetch_add_explicit(&t->round, 1, memory_order_release);
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->idle);
}

team *team_new(int threads) {
    team *t = calloc(1, sizeof *t);
    if (t == NULL) return NULL;
    t->threads = 1;
    t->others = calloc((size_t)threads, sizeof *t->others);
    pthread_mutex_init(&t->turn, NULL);
    pthread_mutex_init(&t->idle, NULL);
    pthread_cond_init(&t->begin, NULL);
    for (int k = 1; t->others != NULL && k < threads; k++) {
        member *m = malloc(sizeof *m);
        if (m == NULL) break;
        *m = (member){t, k};
        if (pthread_create(&t->others[k], NULL, serve, m) != 0) {
            free(m);
            break;
        }
        t->threads = k + 1;
    }
    return t;
}

void team_free(team *t) {
    if (t == NULL) return;
    atomic_store(&t->over, 1);
    start_round(t);
    for (int k = 1; k < t->threads; k++) pthread_join(t->others[k], NULL);
    free(t->others);
    free(t->memory);
    free(t);
}

void team_run(team *t, work run, void *job) {
    t->run = run;
    t->job = job;
    if (t->threads > 1) {
        atomic_store(&t->left, t->threads - 1);
        start_round(t);
    }
    run(job, 0, t->threads);
    for (int looks = 0; atomic_load_explicit(&t->left, memory_order_acquire) > 0; looks++) {
        if (looks < LOOKS_AT_BARRIER) pause_briefly();
        else sched_yield();
    }
}

void team_barrier(team *t, int thread) {
    (void)thread;
    if (t->threads == 1) return;
    int phase = atomic_load_explicit(&t->phase, memory_order_acquire);
    if (atomic_fetch_add(&t->arrived, 1) == t->threads - 1) {
        atomic_store(&t->arrived, 0);
        atomic_store_explicit(&t->phase, phase + 1, memory_order_release);
        return;
    }
    for (int looks = 0; atomic_load_explicit(&t->phase, memory_order_acquire) == phase; looks++) {
        if (looks < LOOKS_AT_BARRIER) pause_briefly();
        else sched_yield();
    }
}

void *team_memory(team *t, size_t bytes) {
    if (bytes > t->bytes) {
        size_t wanted = (bytes + 4095) / 4096 * 4096;
        void *more = aligned_alloc(64, wanted);
        if (more == NULL) return NULL;
        free(t->memory);
        t->memory = more;
        t->bytes = wanted;
    }
    return t->memory;
}

void team_lock(team *t) { pthread_mutex_lock(&t->turn); }
void team_unlock(team *t) { pthread_mutex_unlock(&t->turn); }
int team_threads(const team *t) { return t->threads; }
