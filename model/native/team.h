/* A fixed set of threads that run one function together, and the memory they work in. */
#pragma once

#include <stddef.h>

typedef struct team team;
typedef void (*work)(void *job, int thread, int threads);

team *team_new(int threads);
void team_free(team *);
/* Run `run(job, t, threads)` on every thread, the caller being thread 0; returns when all are done.
   Calls from several threads take turns. */
void team_run(team *, work run, void *job);
/* Only inside `run`: nobody goes on before everybody has come. */
void team_barrier(team *, int thread);
/* Only before `team_run`, under `team_lock`: at least `bytes`, aligned to 64, kept between calls. NULL without memory. */
void *team_memory(team *, size_t bytes);
void team_lock(team *);
void team_unlock(team *);
int team_threads(const team *);
