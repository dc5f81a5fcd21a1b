/* What the library offers: a backbone's pass over a ragged pack, a generator's over its conditions, a single product.
   Every row's numbers are computed in an order that depends on the row alone: not on its company, nor on the threads. */
#pragma once

#include "attention.h"
#include "product.h"
#include "team.h"

typedef struct {
    product qkv, output, gate_up, down;
    const float *norm_before, *norm_after;
} layer;

typedef struct {
    int32_t layers, hidden, heads, head_dim, inner, reserved;
    const layer *layer;
    const float *norm, *cosine, *sine;
    float epsilon;
} backbone;

typedef struct {
    product first, second;
} block;

typedef struct {
    int32_t width, depth;
    product condition, latent;
    const block *block;
} generator;

/* `x` [columns, hidden] becomes hidden states; new keys and values are appended to `held`, one cache a layer.
   Columns that belong to no row come out as if they attended to nothing. What layer `tapped` reads is copied to `tap`
   [columns, hidden], if there is such a layer. 0, or -1 without memory. */
int sled_backbone(team *, const backbone *, const cache *held, const packed_row *rows, int row_count, int columns,
                  float *x, int tapped, float *tap);
/* Conditions `z` [rows, hidden] to latents `out` [rows, d]; `modulation` points to depth tensors [n, 3 width]
   (shift, scale, gate) and one [n, 2 width], of which row r takes line `places[r]`. 0, or -1 without memory. */
int sled_generator(team *, const generator *, const float *z, const float *const *modulation, const int64_t *places,
                   int rows, float *out);
/* out [rows, n] = x [rows, k] times the weight. 0, or -1 without memory. */
int sled_product(team *, const product *, const float *x, int rows, float *out);
/* Large pages for a weight's memory, where the system has them. */
void sled_large_pages(void *memory, int64_t bytes);
