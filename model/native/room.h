/* Cutting the pieces of a pass out of a team's memory. */
#pragma once

#include "product.h"

/* Cuts pieces off one block; with a NULL block it only counts. */
typedef struct {
    char *at;
    size_t used;
} cutter;

INLINE void *cut(cutter *c, size_t bytes) {
    void *piece = c->at == NULL ? NULL : c->at + c->used;
    c->used += (bytes + 63) / 64 * 64;
    return piece;
}

INLINE input cut_input(cutter *c, int rows, int k) {
    input made = {0};
    made.stride = k;
    made.levels_stride = levels_bytes(k);
    made.x = cut(c, 4 * (size_t)rows * (size_t)k);
    made.levels = cut(c, (size_t)rows * (size_t)made.levels_stride);
    made.scale = cut(c, 4 * (size_t)rows);
    return made;
}

/* Levels of this thread's rows, where the product wants levels. */
INLINE void ready(const product *p, const input *in, int rows, int thread, int threads) {
    if (p->kind == INT8) quantise_rows(in, p->k, rows, thread, threads);
}
