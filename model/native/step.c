#define _GNU_SOURCE
#include "step.h"

#include <math.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

/* Working memory of one pass. */
typedef struct {
    input normed, attended, wide;
    float *joint, *both, *scores;
    int64_t score_stride;
} room;

/* Cuts pieces off one block; with a NULL block it only counts. */
typedef struct {
    char *at;
    size_t used;
} cutter;

static void *cut(cutter *c, size_t bytes) {
    void *piece = c->at == NULL ? NULL : c->at + c->used;
    c->used += (bytes + 63) / 64 * 64;
    return piece;
}

static input cut_input(cutter *c, int rows, int k) {
    input made = {0};
    made.stride = k;
    made.levels_stride = levels_bytes(k);
    made.x = cut(c, 4 * (size_t)rows * (size_t)k);
    made.levels = cut(c, (size_t)rows * (size_t)made.levels_stride);
    made.scale = cut(c, 4 * (size_t)rows);
    return made;
}

static void norm_row(const float *x, const float *weight, float epsilon, int size, float *out) {
    vf sum = {0};
    int i = 0;
    for (; i + LANES <= size; i += LANES) sum += load(x + i) * load(x + i);
    float total = sum_of(sum);
    for (; i < size; i++) total += x[i] * x[i];
    float scale = 1.0f / sqrtf(total / (float)size + epsilon);
    for (i = 0; i + LANES <= size; i += LANES) store(out + i, load(x + i) * scale * load(weight + i));
    for (; i < size; i++) out[i] = x[i] * scale * weight[i];
}

static void ready(const product *p, const input *in, int rows, int thread, int threads) {
    if (p->kind == INT8) quantise_rows(in, p->k, rows, thread, threads);
}

/* ---- the backbone ---- */

typedef struct {
    team *team;
    const backbone *net;
    const cache *held;
    const packed_row *rows;
    int row_count, columns;
    float *x;
    int tapped;
    float *tap;
    room room;
} pass;

static size_t cut_room(const backbone *net, const pass *job, int threads, char *memory, room *made) {
    cutter c = {memory, 0};
    int longest = 0;
    for (int i = 0; i < job->row_count; i++) {
        int live = job->rows[i].past + job->rows[i].count;
        longest = live > longest ? live : longest;
    }
    made->normed = cut_input(&c, job->columns, net->hidden);
    made->attended = cut_input(&c, job->columns, net->hidden);
    made->wide = cut_input(&c, job->columns, net->inner);
    made->joint = cut(&c, 12 * (size_t)job->columns * (size_t)net->hidden);
    made->both = cut(&c, 8 * (size_t)job->columns * (size_t)net->inner);
    made->score_stride = (longest + 15) / 16 * 16;
    made->scores = cut(&c, 4 * (size_t)threads * (size_t)made->score_stride);
    return c.used;
}

static void gate(const float *both, int inner, float *out) {
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

static void backbone_thread(void *given, int thread, int threads) {
    pass *job = given;
    const backbone *net = job->net;
    room *in = &job->room;
    const int size = net->hidden, columns = job->columns;
    for (int l = 0; l < net->layers; l++) {
        const layer *now = &net->layer[l];
        if (l == job->tapped && thread == 0) memcpy(job->tap, job->x, 4 * (size_t)columns * (size_t)size);
        for (int64_t r = thread; r < columns; r += threads)
            norm_row(job->x + r * size, now->norm_before, net->epsilon, size, (float *)in->normed.x + r * size);
        ready(&now->qkv, &in->normed, columns, thread, threads);
        team_barrier(job->team, thread);
        product_share(&now->qkv, &in->normed, columns, in->joint, 3 * size, 0, thread, threads);
        team_barrier(job->team, thread);
        for (int task = thread; task < job->row_count * net->heads; task += threads)
            attend(&job->held[l], &job->rows[task / net->heads], task % net->heads, net->heads, net->head_dim,
                   net->cosine, net->sine, in->joint, (float *)in->attended.x, in->scores + thread * in->score_stride);
        team_barrier(job->team, thread);
        if (now->output.kind == INT8) {
            quantise_rows(&in->attended, size, columns, thread, threads);
            team_barrier(job->team, thread);
        }
        product_share(&now->output, &in->attended, columns, job->x, size, 1, thread, threads);
        team_barrier(job->team, thread);
        for (int64_t r = thread; r < columns; r += threads)
            norm_row(job->x + r * size, now->norm_after, net->epsilon, size, (float *)in->normed.x + r * size);
        ready(&now->gate_up, &in->normed, columns, thread, threads);
        team_barrier(job->team, thread);
        product_share(&now->gate_up, &in->normed, columns, in->both, 2 * (int64_t)net->inner, 0, thread, threads);
        team_barrier(job->team, thread);
        for (int64_t r = thread; r < columns; r += threads)
            gate(in->both + r * 2 * net->inner, net->inner, (float *)in->wide.x + r * net->inner);
        ready(&now->down, &in->wide, columns, thread, threads);
        team_barrier(job->team, thread);
        product_share(&now->down, &in->wide, columns, job->x, size, 1, thread, threads);
        team_barrier(job->team, thread);
    }
    for (int64_t r = thread; r < columns; r += threads)
        norm_row(job->x + r * size, net->norm, net->epsilon, size, job->x + r * size);
}

int sled_backbone(team *t, const backbone *net, const cache *held, const packed_row *rows, int row_count, int columns,
                  float *x, int tapped, float *tap) {
    pass job = {.team = t, .net = net, .held = held, .rows = rows, .row_count = row_count, .columns = columns,
                .x = x, .tapped = tapped, .tap = tap};
    team_lock(t);
    size_t bytes = cut_room(net, &job, team_threads(t), NULL, &job.room);
    char *memory = team_memory(t, bytes);
    if (memory != NULL) {
        cut_room(net, &job, team_threads(t), memory, &job.room);
        int used = row_count ? rows[row_count - 1].start + rows[row_count - 1].count : 0;
        memset((float *)job.room.attended.x + (int64_t)used * net->hidden, 0,
               4 * (size_t)(columns - used) * (size_t)net->hidden);
        team_run(t, backbone_thread, &job);
    }
    team_unlock(t);
    return memory == NULL ? -1 : 0;
}

/* ---- the generator ---- */

typedef struct {
    team *team;
    const generator *net;
    const float *const *modulation;
    int rows;
    float *x, *out;
    input condition, normed, inner;
} making;

static size_t cut_making(making *job, const float *z, char *memory) {
    cutter c = {memory, 0};
    const generator *net = job->net;
    job->condition = cut_input(&c, job->rows, net->condition.k);
    job->condition.x = z;
    job->normed = cut_input(&c, job->rows, net->width);
    job->inner = cut_input(&c, job->rows, net->width);
    job->x = cut(&c, 4 * (size_t)job->rows * (size_t)net->width);
    return c.used;
}

/* LayerNorm without weights, then times (1 + scale) plus shift. */
static void modulate_row(const float *x, const float *shift, const float *scale, int size, float *out) {
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

static void silu_row(float *x, int size) {
    for (int i = 0; i < size; i += LANES) {
        int count = size - i < LANES ? size - i : LANES;
        vf v = count == LANES ? load(x + i) : load_part(x + i, count);
        v = v / (1.0f + exp_of(-v));
        if (count == LANES) store(x + i, v);
        else store_part(x + i, v, count);
    }
}

static void gated_row(float *x, const float *gate, const float *made, int size) {
    int i = 0;
    for (; i + LANES <= size; i += LANES) store(x + i, load(x + i) + load(gate + i) * load(made + i));
    for (; i < size; i++) x[i] += gate[i] * made[i];
}

static void generator_thread(void *given, int thread, int threads) {
    making *job = given;
    const generator *net = job->net;
    const int width = net->width, rows = job->rows;
    float *normed = (float *)job->normed.x, *inner = (float *)job->inner.x;
    ready(&net->condition, &job->condition, rows, thread, threads);
    team_barrier(job->team, thread);
    product_share(&net->condition, &job->condition, rows, job->x, width, 0, thread, threads);
    team_barrier(job->team, thread);
    for (int b = 0; b < net->depth; b++) {
        const block *now = &net->block[b];
        for (int64_t r = thread; r < rows; r += threads) {
            const float *shift = job->modulation[b] + r * 3 * width;
            modulate_row(job->x + r * width, shift, shift + width, width, normed + r * width);
        }
        ready(&now->first, &job->normed, rows, thread, threads);
        team_barrier(job->team, thread);
        product_share(&now->first, &job->normed, rows, inner, width, 0, thread, threads);
        team_barrier(job->team, thread);
        for (int64_t r = thread; r < rows; r += threads) silu_row(inner + r * width, width);
        ready(&now->second, &job->inner, rows, thread, threads);
        team_barrier(job->team, thread);
        product_share(&now->second, &job->inner, rows, normed, width, 0, thread, threads);
        team_barrier(job->team, thread);
        for (int64_t r = thread; r < rows; r += threads)
            gated_row(job->x + r * width, job->modulation[b] + r * 3 * width + 2 * width, normed + r * width, width);
    }
    for (int64_t r = thread; r < rows; r += threads) {
        const float *shift = job->modulation[net->depth] + r * 2 * width;
        modulate_row(job->x + r * width, shift, shift + width, width, normed + r * width);
    }
    ready(&net->latent, &job->normed, rows, thread, threads);
    team_barrier(job->team, thread);
    product_share(&net->latent, &job->normed, rows, job->out, net->latent.n, 0, thread, threads);
}

int sled_generator(team *t, const generator *net, const float *z, const float *const *modulation, int rows, float *out) {
    making job = {.team = t, .net = net, .modulation = modulation, .rows = rows, .out = out};
    team_lock(t);
    char *memory = team_memory(t, cut_making(&job, z, NULL));
    if (memory != NULL) {
        cut_making(&job, z, memory);
        team_run(t, generator_thread, &job);
    }
    team_unlock(t);
    return memory == NULL ? -1 : 0;
}

/* ---- one product ---- */

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
