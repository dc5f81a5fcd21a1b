#include "room.h"
#include "rows.h"
#include "step.h"

/* Working memory of one pass. */
typedef struct {
    input normed, attended, wide;
    float *joint, *both, *scores;
    int64_t score_stride;
} room;

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
