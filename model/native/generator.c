#include "room.h"
#include "rows.h"
#include "step.h"

typedef struct {
    team *team;
    const generator *net;
    const float *const *modulation;
    const int64_t *places;
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
            const float *shift = job->modulation[b] + job->places[r] * 3 * width;
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
            gated_row(job->x + r * width, job->modulation[b] + job->places[r] * 3 * width + 2 * width, normed + r * width, width);
    }
    for (int64_t r = thread; r < rows; r += threads) {
        const float *shift = job->modulation[net->depth] + job->places[r] * 2 * width;
        modulate_row(job->x + r * width, shift, shift + width, width, normed + r * width);
    }
    ready(&net->latent, &job->normed, rows, thread, threads);
    team_barrier(job->team, thread);
    product_share(&net->latent, &job->normed, rows, job->out, net->latent.n, 0, thread, threads);
}

int sled_generator(team *t, const generator *net, const float *z, const float *const *modulation, const int64_t *places,
                   int rows, float *out) {
    making job = {.team = t, .net = net, .modulation = modulation, .places = places, .rows = rows, .out = out};
    team_lock(t);
    char *memory = team_memory(t, cut_making(&job, z, NULL));
    if (memory != NULL) {
        cut_making(&job, z, memory);
        team_run(t, generator_thread, &job);
    }
    team_unlock(t);
    return memory == NULL ? -1 : 0;
}
