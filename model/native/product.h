/* Products of a few rows with a packed weight: x [rows, k] times weight [n, k] transposed. */
#pragma once

#include "vectors.h"

enum { FP32 = 0, BF16 = 1, INT8 = 2 };

/* `weight` lies in panels of `product_panel(kind)` outputs, inputs outermost within a panel, four inputs at a time for
   INT8; the last panel and the last four are filled up with zeros. `scale`, `offset` [n, padded] are for INT8: its
   channels' scales, and 128 times the sums of their levels. `bias` [n, padded] or NULL. */
typedef struct {
    const void *weight;
    const float *scale, *bias;
    const int32_t *offset;
    int32_t n, k, kind;
} product;

/* Rows ready to be multiplied: as they are, or as unsigned levels around 128 with a scale a row. */
typedef struct {
    const float *x;
    int64_t stride;
    uint8_t *levels;
    float *scale;
    int64_t levels_stride;
} input;

int product_panel(int kind);
/* Bytes of a packed weight, 0 for a kind that this library was built without. */
int64_t product_bytes(int n, int k, int kind);
/* Lay `weight` [n, k] out into `packed`. INT8 also fills `scale` and `offset`. */
void product_pack(const float *weight, int n, int k, int kind, void *packed, float *scale, int32_t *offset);
/* Bytes of a row's levels. */
INLINE int64_t levels_bytes(int k) { return ((int64_t)k + 63) / 64 * 64; }
/* Rows `first`, `first + every`, ... of `in` to levels, each scaled by its own largest value. */
void quantise_rows(const input *in, int k, int rows, int first, int every);
/* This thread's share of the outputs: out[r][c] = (accumulate ? out[r][c] : 0) + product + bias. */
void product_share(const product *p, const input *in, int rows, float *out, int64_t out_stride, int accumulate,
                   int thread, int threads);
