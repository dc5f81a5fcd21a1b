#include "product.h"

#include <math.h>

/* Two registers of outputs for floats, four for integers, whose inner loop does four times as much at once. */
#define FLOAT_PANEL (2 * LANES)
#define INT_PANEL 64
/* Bytes that are asked of memory ahead of the loop. */
#define AHEAD 2048

#if defined(__AVX512VNNI__)
#define HAS_INT8 1
#else
#define HAS_INT8 0
#endif

int product_panel(int kind) { return kind == INT8 ? INT_PANEL : FLOAT_PANEL; }

static int64_t padded(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

int64_t product_bytes(int n, int k, int kind) {
    if (kind == INT8) return HAS_INT8 ? padded(n, INT_PANEL) * padded(k, 4) : 0;
    return padded(n, FLOAT_PANEL) * k * (kind == BF16 ? 2 : 4);
}

void product_pack(const float *weight, int n, int k, int kind, void *packed, float *scale, int32_t *offset) {
    memset(packed, 0, (size_t)product_bytes(n, k, kind));
    int64_t panel = product_panel(kind), deep = padded(k, 4);
    for (int64_t c = 0; c < n; c++) {
        const float *row = weight + c * k;
        int64_t base = c / panel * panel, lane = c % panel;
        if (kind == FP32) {
            float *to = (float *)packed + base * k + lane;
            for (int64_t i = 0; i < k; i++) to[i * panel] = row[i];
        } else if (kind == BF16) {
            bf16 *to = (bf16 *)packed + base * k + lane;
            for (int64_t i = 0; i < k; i++) to[i * panel] = to_bf16(row[i]);
        } else {
            int8_t *to = (int8_t *)packed + base * deep + 4 * lane;
            float most = 1e-12f;
            for (int64_t i = 0; i < k; i++) most = fabsf(row[i]) > most ? fabsf(row[i]) : most;
            float step = most / 127.0f;
            int32_t sum = 0;
            for (int64_t i = 0; i < k; i++) {
                int8_t level = (int8_t)nearbyintf(row[i] / step);
                to[i / 4 * 4 * panel + i % 4] = level;
                sum += level;
            }
            scale[c] = step;
            offset[c] = 128 * sum;
        }
    }
}

void quantise_rows(const input *in, int k, int rows, int first, int every) {
    for (int64_t r = first; r < rows; r += every) {
        const float *x = in->x + r * in->stride;
        uint8_t *levels = in->levels + r * in->levels_stride;
        /* Levels cannot say "not a number", so the scale does: 0 times what is not finite is NaN. */
        vf most = {0}, taint = {0};
        int i = 0;
        for (; i < k; i += LANES) {
            vf v = k - i >= LANES ? load(x + i) : load_part(x + i, k - i);
            most = larger(magnitude(v), most);
            taint += v * 0.0f;
        }
        float top = largest_of(most);
        float step = (top > 1e-12f ? top : 1e-12f) * (1.0f / 127.0f) + sum_of(taint);
        in->scale[r] = step;
        for (i = 0; i < k; i += LANES) {
            int count = k - i < LANES ? k - i : LANES;
            vf v = count == LANES ? load(x + i) : load_part(x + i, count);
            vi level = __builtin_convertvector(v / step + 128.5f, vi);
            typedef uint8_t vb __attribute__((vector_size(LANES)));
            vb bytes = __builtin_convertvector(level, vb);
            memcpy(levels + i, &bytes, (size_t)count);
        }
        for (i = k; i < padded(k, 4); i++) levels[i] = 128;
    }
}

INLINE void put(vf v, float *out, int64_t column, int n, int accumulate) {
    int64_t left = n - column;
    if (left >= LANES) {
        store(out + column, accumulate ? load(out + column) + v : v);
    } else if (left > 0) {
        if (accumulate) v += load_part(out + column, (int)left);
        store_part(out + column, v, (int)left);
    }
}

/* One panel of a floating point weight with `rows` <= ROWS rows. Always the same sum in the same order for a row. */
INLINE void float_panel(const product *p, const input *in, int64_t first_row, int rows, int64_t column, float *out,
                        int64_t out_stride, int accumulate) {
    vf sum[8][2];
    for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = (vf){0};
    const float *x = in->x + first_row * in->stride;
    const char *from = (const char *)p->weight + column * p->k * (p->kind == BF16 ? 2 : 4);
    for (int64_t i = 0; i < p->k; i++) {
        vf w0, w1;
        if (p->kind == BF16) {
            const bf16 *w = (const bf16 *)from + i * FLOAT_PANEL;
            __builtin_prefetch((const char *)w + AHEAD);
            w0 = load_bf16(w), w1 = load_bf16(w + LANES);
        } else {
            const float *w = (const float *)from + i * FLOAT_PANEL;
            __builtin_prefetch((const char *)w + AHEAD);
            __builtin_prefetch((const char *)w + AHEAD + 64);
            w0 = load(w), w1 = load(w + LANES);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vf a = splat(x[r * in->stride + i]);
            sum[r][0] += a * w0;
            sum[r][1] += a * w1;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 2; v++) {
            vf made = sum[r][v];
            if (p->bias != NULL) made += load(p->bias + column + v * LANES);
            put(made, out + (first_row + r) * out_stride, column + v * LANES, p->n, accumulate);
        }
}

#if HAS_INT8
INLINE void int_panel(const product *p, const input *in, int64_t first_row, int rows, int64_t column, float *out,
                      int64_t out_stride, int accumulate) {
    __m512i sum[6][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) sum[r][v] = _mm512_setzero_si512();
    int64_t deep = padded(p->k, 4);
    const uint8_t *x = in->levels + first_row * in->levels_stride;
    const int8_t *w = (const int8_t *)p->weight + column * deep;
    for (int64_t i = 0; i < deep; i += 4, w += 4 * INT_PANEL) {
        __m512i weight[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            __builtin_prefetch(w + AHEAD + 64 * v);
            weight[v] = _mm512_loadu_si512(w + 64 * v);
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + r * in->levels_stride + i, 4);
            __m512i a = _mm512_set1_epi32(four);
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], a, weight[v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) {
            int64_t c = column + 16 * v;
            __m512i levels = _mm512_sub_epi32(sum[r][v], _mm512_loadu_si512(p->offset + c));
            vf made = (vf)_mm512_cvtepi32_ps(levels) * load(p->scale + c) * in->scale[first_row + r];
            if (p->bias != NULL) made += load(p->bias + c);
            put(made, out + (first_row + r) * out_stride, c, p->n, accumulate);
        }
}
#endif

#define PANEL_OF(ROWS)                                                                       \
    case ROWS:                                                                               \
        if (p->kind == FP32) float_panel(&as_fp32, in, row, ROWS, column, out, out_stride, accumulate); \
        else float_panel(&as_bf16, in, row, ROWS, column, out, out_stride, accumulate);      \
        break;

void product_share(const product *p, const input *in, int rows, float *out, int64_t out_stride, int accumulate,
                   int thread, int threads) {
    int64_t panel = product_panel(p->kind), panels = (p->n + panel - 1) / panel;
    int64_t from = panels * thread / threads, to = panels * (thread + 1) / threads;
    /* Copies whose kind the compiler knows, so that each gets a loop of its own. */
    product as_fp32 = *p, as_bf16 = *p;
    as_fp32.kind = FP32, as_bf16.kind = BF16;
    const int64_t most = p->kind == INT8 ? 6 : 8;
    for (int64_t column = from * panel; column < to * panel; column += panel)
        for (int64_t row = 0; row < rows; row += most) {
            int64_t left = rows - row < most ? rows - row : most;
#if HAS_INT8
            if (p->kind == INT8) {
                switch (left) {
                    case 1: int_panel(p, in, row, 1, column, out, out_stride, accumulate); break;
                    case 2: int_panel(p, in, row, 2, column, out, out_stride, accumulate); break;
                    case 3: int_panel(p, in, row, 3, column, out, out_stride, accumulate); break;
                    case 4: int_panel(p, in, row, 4, column, out, out_stride, accumulate); break;
                    case 5: int_panel(p, in, row, 5, column, out, out_stride, accumulate); break;
                    default: int_panel(p, in, row, 6, column, out, out_stride, accumulate); break;
                }
                continue;
            }
#endif
            switch (left) {
                PANEL_OF(1) PANEL_OF(2) PANEL_OF(3) PANEL_OF(4)
                PANEL_OF(5) PANEL_OF(6) PANEL_OF(7) PANEL_OF(8)
            }
        }
}
