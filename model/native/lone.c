#define _GNU_SOURCE
#include "room.h"
#include "step.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

typedef struct {
    team *team;
    const product *product;
    input in;
    int rows;
    float *out;
} lone;

static void product_thread(void *given, int thread, int threads) {
    lone *job = given;
    if (job->product->kind == INT8) {
        ready(job->product, &job->in, job->rows, thread, threads);
        team_barrier(job->team, thread);
    }
    product_share(job->product, &job->in, job->rows, job->out, job->product->n, 0, thread, threads);
}

int sled_product(team *t, const product *p, const float *x, int rows, float *out) {
    lone job = {.team = t, .product = p, .rows = rows, .out = out};
    team_lock(t);
    cutter c = {NULL, 0};
    cut_input(&c, rows, p->kind == INT8 ? p->k : 0);
    char *memory = team_memory(t, c.used);
    if (memory != NULL) {
        c = (cutter){memory, 0};
        job.in = cut_input(&c, rows, p->kind == INT8 ? p->k : 0);
        job.in.x = x;
        job.in.stride = p->k;
        job.in.levels_stride = levels_bytes(p->k);
        team_run(t, product_thread, &job);
    }
    team_unlock(t);
    return memory == NULL ? -1 : 0;
}

void sled_large_pages(void *memory, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
    uintptr_t from = ((uintptr_t)memory + 4095) / 4096 * 4096, to = ((uintptr_t)memory + (uintptr_t)bytes) / 4096 * 4096;
    if (to > from) madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}
