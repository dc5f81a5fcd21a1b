/* Elementwise work on one row each, tails included. */
#pragma once

#include "vectors.h"

#include <math.h>

/* RMSNorm. */
INLINE void norm_row(const float *x, const float *weight, float epsilon, int size, float *out) {
    vf sum = {0};
    int i = 0;
    for (; i + LANES <= size; i += LANES) sum += load(x + i) * load(x + i);
    float total = sum_of(sum);
    for (; i < size; i++) total += x[i] * x[i];
    float scale = 1.0f / sqrtf(total / (float)size + epsilon);
    for (i = 0; i + LANES <= size; i += LANES) store(out + i, load(x + i) * scale * load(weight + i));
    for (; i < size; i++) out[i] = x[i] * scale * weight[i];
}

/* SwiGLU of gate and up, side by side. */
INLINE void gate(const float *both, int inner, float *out) {
    int i = 0;
    for (; i < inner; i += LANES) {
        int count = inner - i < LANES ? inner - i : LANES;
        vf g = count == LANES ? load(both + i) : load_part(both + i, count);
        vf u = count == LANES ? load(both + inner + i) : load_part(both + inner + i, count);
        vf made = g / (1.0f + exp_of(-g)) * u;
        if (count == LANES) store(out + i, made);
        else store_part(out + i, made, count);
    }
}

/* LayerNorm without weights, then times (1 + scale) plus shift. */
INLINE void modulate_row(const float *x, const float *shift, const float *scale, int size, float *out) {
    vf sum = {0}, squares = {0};
    int i = 0;
    for (; i + LANES <= size; i += LANES) sum += load(x + i);
    float total = sum_of(sum);
    for (; i < size; i++) total += x[i];
    float mean = total / (float)size;
    for (i = 0; i + LANES <= size; i += LANES) {
        vf d = load(x + i) - mean;
        squares += d * d;
    }
    float spread = sum_of(squares);
    for (; i < size; i++) spread += (x[i] - mean) * (x[i] - mean);
    float by = 1.0f / sqrtf(spread / (float)size + 1e-6f);
    for (i = 0; i + LANES <= size; i += LANES)
        store(out + i, (load(x + i) - mean) * by * (1.0f + load(scale + i)) + load(shift + i));
    for (; i < size; i++) out[i] = (x[i] - mean) * by * (1.0f + scale[i]) + shift[i];
}

/* In place. */
INLINE void silu_row(float *x, int size) {
    for (int i = 0; i < size; i += LANES) {
        int count = size - i < LANES ? size - i : LANES;
        vf v = count == LANES ? load(x + i) : load_part(x + i, count);
        v = v / (1.0f + exp_of(-v));
        if (count == LANES) store(x + i, v);
        else store_part(x + i, v, count);
    }
}

/* x += gate * made */
INLINE void gated_row(float *x, const float *gate, const float *made, int size) {
    int i = 0;
    for (; i + LANES <= size; i += LANES) store(x + i, load(x + i) + load(gate + i) * load(made + i));
    for (; i < size; i++) x[i] += gate[i] * made[i];
}
