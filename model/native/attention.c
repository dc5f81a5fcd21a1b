#include "attention.h"

#include <math.h>

/* Bytes that are asked of memory ahead of the loops: the processor's own prefetching ends with each page. */
#define AHEAD 2048

INLINE void ask_ahead(const void *p, int64_t at, int size, int is_bf16) {
    const char *from = (const char *)p + at * (is_bf16 ? 2 : 4) + AHEAD;
    for (int64_t i = 0; i < (int64_t)size * (is_bf16 ? 2 : 4); i += 64) __builtin_prefetch(from + i);
}

static void rotate(float *x, const float *cosine, const float *sine, int size) {
    int half = size / 2;
    for (int i = 0; i < half; i++) {
        float first = x[i], second = x[i + half];
        x[i] = first * cosine[i] - second * sine[i];
        x[i + half] = second * cosine[i + half] + first * sine[i + half];
    }
}

static void append(void *to, int is_bf16, int64_t at, const float *from, int size) {
    if (!is_bf16) {
        memcpy((float *)to + at, from, 4 * (size_t)size);
        return;
    }
    bf16 *levels = (bf16 *)to + at;
    for (int i = 0; i < size; i++) levels[i] = to_bf16(from[i]);
}

INLINE vf load_held(const void *p, int64_t at, int is_bf16) {
    return is_bf16 ? load_bf16((const bf16 *)p + at) : load((const float *)p + at);
}
INLINE float held_one(const void *p, int64_t at, int is_bf16) {
    return is_bf16 ? from_bf16(((const bf16 *)p)[at]) : ((const float *)p)[at];
}

INLINE float dot(const float *query, const void *keys, int64_t at, int size, int is_bf16) {
    vf sum = {0};
    int i = 0;
    for (; i + LANES <= size; i += LANES) sum += load(query + i) * load_held(keys, at + i, is_bf16);
    float total = sum_of(sum);
    for (; i < size; i++) total += query[i] * held_one(keys, at + i, is_bf16);
    return total;
}

/* Scores to weights that add up to 1, in place. */
static void soften(float *scores, int count) {
    float most = scores[0];
    for (int i = 1; i < count; i++) most = scores[i] > most ? scores[i] : most;
    vf total = {0};
    int i = 0;
    for (; i + LANES <= count; i += LANES) {
        vf e = exp_of(load(scores + i) - most);
        store(scores + i, e);
        total += e;
    }
    float sum = sum_of(total);
    if (i < count) {
        vf e = exp_of(load_part(scores + i, count - i) - most);
        store_part(scores + i, e, count - i);
        for (int j = 0; j < count - i; j++) sum += e[j];
    }
    float share = 1.0f / sum;
    for (i = 0; i < count; i++) scores[i] *= share;
}

/* Two chains of sums, even and odd positions, so that one addition need not wait for the last. */
INLINE void mix(const float *weights, const void *values, int64_t at, int live, int size, int is_bf16, float *out) {
    int i = 0;
    for (; i + LANES <= size; i += LANES) {
        vf even = {0}, odd = {0};
        int j = 0;
        for (; j + 2 <= live; j += 2) {
            even += weights[j] * load_held(values, at + (int64_t)j * size + i, is_bf16);
            odd += weights[j + 1] * load_held(values, at + (int64_t)(j + 1) * size + i, is_bf16);
        }
        if (j < live) even += weights[j] * load_held(values, at + (int64_t)j * size + i, is_bf16);
        store(out + i, even + odd);
    }
    for (; i < size; i++) {
        float sum = 0;
        for (int j = 0; j < live; j++) sum += weights[j] * held_one(values, at + (int64_t)j * size + i, is_bf16);
        out[i] = sum;
    }
}

/* The same for the head size of the published networks, whose sums all stay in registers. */
INLINE void mix_64(const float *weights, const void *values, int64_t at, int live, int is_bf16, float *out) {
    enum { PARTS = 64 / LANES };
    vf even[PARTS], odd[PARTS];
    for (int i = 0; i < PARTS; i++) even[i] = odd[i] = (vf){0};
    int j = 0;
    for (; j + 2 <= live; j += 2) {
        ask_ahead(values, at + (int64_t)j * 64, 128, is_bf16);
        for (int i = 0; i < PARTS; i++) {
            even[i] += weights[j] * load_held(values, at + j * 64 + i * LANES, is_bf16);
            odd[i] += weights[j + 1] * load_held(values, at + (j + 1) * 64 + i * LANES, is_bf16);
        }
    }
    if (j < live)
        for (int i = 0; i < PARTS; i++) even[i] += weights[j] * load_held(values, at + j * 64 + i * LANES, is_bf16);
    for (int i = 0; i < PARTS; i++) store(out + i * LANES, even[i] + odd[i]);
}

INLINE void ask(const float *query, const void *keys, const void *values, int64_t base, int live, int size,
                int is_bf16, float *scores, float *out) {
    float scale = 1.0f / sqrtf((float)size);
    for (int j = 0; j < live; j++) {
        ask_ahead(keys, base + (int64_t)j * size, size, is_bf16);
        scores[j] = dot(query, keys, base + (int64_t)j * size, size, is_bf16) * scale;
    }
    soften(scores, live);
    if (size == 64) mix_64(scores, values, base, live, is_bf16, out);
    else mix(scores, values, base, live, size, is_bf16, out);
}

void attend(const cache *held, const packed_row *row, int head, int heads, int head_dim, const float *cosine,
            const float *sine, float *joint, float *out, float *scores) {
    int64_t width = (int64_t)heads * head_dim, base = row->row * held->row_stride + head * held->head_stride;
    for (int c = 0; c < row->count; c++) {
        float *query = joint + (row->start + c) * 3 * width + (int64_t)head * head_dim;
        int64_t position = row->past + c, at = base + position * head_dim;
        const float *cos_here = cosine + position * head_dim, *sin_here = sine + position * head_dim;
        rotate(query, cos_here, sin_here, head_dim);
        rotate(query + width, cos_here, sin_here, head_dim);
        append(held->keys, held->is_bf16, at, query + width, head_dim);
        append(held->values, held->is_bf16, at, query + 2 * width, head_dim);
    }
    for (int c = 0; c < row->count; c++) {
        const float *query = joint + (row->start + c) * 3 * width + (int64_t)head * head_dim;
        float *to = out + (row->start + c) * width + (int64_t)head * head_dim;
        int live = row->past + c + 1;
        if (head_dim == 64) {
            if (held->is_bf16) ask(query, held->keys, held->values, base, live, 64, 1, scores, to);
            else ask(query, held->keys, held->values, base, live, 64, 0, scores, to);
        } else {
            if (held->is_bf16) ask(query, held->keys, held->values, base, live, head_dim, 1, scores, to);
            else ask(query, held->keys, held->values, base, live, head_dim, 0, scores, to);
        }
    }
}
