/* One head of one cached row: rotate, append to the cache, attend to what the row holds. */
#pragma once

#include "vectors.h"

/* Keys and values of one layer, [rows, heads, capacity, head_dim], floats or bf16. */
typedef struct {
    void *keys, *values;
    int64_t row_stride, head_stride;
    int32_t is_bf16;
} cache;

/* Columns [start, start + count) of the pack belong to cache row `row`, which already holds `past` positions. */
typedef struct {
    int32_t row, start, count, past;
} packed_row;

/* `joint` [columns, 3, heads, head_dim] holds queries, keys and values, `cosine` and `sine` [positions, head_dim] the
   rotary tables; the result goes to `out` [columns, heads * head_dim]. `scores` has room for past + count floats.
   `joint`'s own part is overwritten. */
void attend(const cache *held, const packed_row *row, int head, int heads, int head_dim, const float *cosine,
            const float *sine, float *joint, float *out, float *scores);
