#include "deep.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK 96  /* rows that go forwards through all layers together: their values stay in the second cache */
#define BLOCK 256 /* rows that go back together: so many are multiplied before a sum leaves the registers */

static inline size_t padded(size_t n) { return (n + PADDING - 1) / PADDING * PADDING; }
static inline size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* For n floats, a multiple of PADDING, in whole cache lines: a vector that lies in two costs two loads. */
static float *allocate(size_t n) { return aligned_alloc(64, (n ? n : PADDING) * sizeof(float)); }

/* x [w->depth, width] or, where it is `transposed`, [width, w->depth], in panels. */
static void pack(const Kernels *kernels, const float *x, size_t stride, size_t width, int transposed, const Matrix *w) {
    float *to = w->panels;
    for (size_t at = 0; at < w->width; at += kernels->panel_width) {
        size_t n = least(w->width - at, kernels->panel_width), filled = at < width ? least(width - at, n) : 0;
        for (size_t k = 0; k < w->depth; k++, to += n) {
            if (transposed)
                for (size_t j = 0; j < filled; j++) to[j] = x[(at + j) * stride + k];
            else
                memcpy(to, x + k * stride + at, filled * sizeof(float));
            if (filled < n) memset(to + filled, 0, (n - filled) * sizeof(float));
        }
    }
}

static void copy_padded(const float *from, size_t n, float *to) {
    memcpy(to, from, n * sizeof(float));
    memset(to + n, 0, (padded(n) - n) * sizeof(float));
}

int deep_init(Deep *self, const Kernels *kernels, const size_t *widths, size_t num_hidden) {
    size_t widest = 0, largest = 0;
    *self = (Deep){.kernels = kernels, .num_hidden = num_hidden, .hidden = calloc(num_hidden, sizeof(Hidden))};
    if (self->hidden == NULL) return -1;
    int failed = 0;
    for (size_t l = 0; l < num_hidden; l++) {
        Hidden *h = &self->hidden[l];
        h->width = widths[l], h->padded = padded(widths[l]);
        widest = h->padded > widest ? h->padded : widest;
        if (l + 1 == num_hidden) break;
        size_t next = widths[l + 1];
        h->forwards = (Matrix){allocate(padded(next) * h->width), h->width, padded(next)};
        h->back = (Matrix){allocate(next * h->padded), next, h->padded};
        h->bias = allocate(padded(next));
        failed |= h->forwards.panels == NULL || h->back.panels == NULL || h->bias == NULL;
        largest = next * h->padded > largest ? next * h->padded : largest;
    }
    self->last = allocate(widest), self->panels = allocate(BLOCK * widest), self->change = allocate(largest);
    failed |= self->last == NULL || self->panels == NULL || self->change == NULL;
    for (int i = 0; i < 2; i++) failed |= (self->by_values[i] = allocate(BLOCK * widest)) == NULL;
    return failed ? -1 : 0;
}

void deep_destroy(Deep *self) {
    for (size_t l = 0; self->hidden != NULL && l < self->num_hidden; l++) {
        Hidden *h = &self->hidden[l];
        free(h->values), free(h->forwards.panels), free(h->back.panels), free(h->bias);
    }
    free(self->hidden), free(self->last), free(self->panels), free(self->change);
    free(self->by_values[0]), free(self->by_values[1]);
}

static int make_room(Deep *self, size_t b) {
    if (b <= self->room) return 0;
    self->room = 0;
    for (size_t l = 0; l < self->num_hidden; l++) {
        Hidden *h = &self->hidden[l];
        free(h->values);
        h->values = allocate(b * h->padded);
        if (h->values == NULL) return -1;
    }
    self->room = b;
    return 0;
}

/* to [rows, padded] = max(x [rows, width], 0). */
static void rectify(const float *x, size_t rows, const Hidden *h, float *to) {
    for (size_t i = 0; i < rows; i++, x += h->width, to += h->padded) {
        for (size_t j = 0; j < h->width; j++) to[j] = x[j] < 0 ? 0 : x[j]; /* what is no number stays none */
        memset(to + h->width, 0, (h->padded - h->width) * sizeof(float));
    }
}

int deep_forward(Deep *self, size_t b, const float *x, const Layer *layers, float *logits) {
    const Kernels *kernels = self->kernels;
    const Hidden *hidden = self->hidden, *end = hidden + self->num_hidden - 1;
    const Layer *last = layers + self->num_hidden - 1;
    self->b = 0;
    if (make_room(self, b) < 0) return -1;
    for (size_t l = 0; l + 1 < self->num_hidden; l++) {
        pack(kernels, layers[l].weight, hidden[l].width, hidden[l + 1].width, 1, &hidden[l].forwards);
        copy_padded(layers[l].bias, hidden[l + 1].width, hidden[l].bias);
    }
    copy_padded(last->weight, end->width, self->last);
    for (size_t at = 0, rows; at < b; at += rows) {
        rows = least(b - at, CHUNK);
        rectify(x + at * hidden->width, rows, hidden, hidden->values + at * hidden->padded);
        for (const Hidden *h = hidden; h < end; h++) {
            Pieces whole = {1, h->width, h->padded, (const uint32_t[]){0}};
            float *y = h[1].values + at * h[1].padded;
            kernels->multiply(h->values + at * h->padded, &whole, rows, &h->forwards, y);
            kernels->rectify(y, rows, h[1].padded, h->bias);
        }
        for (size_t i = at; i < at + rows; i++) logits[i] = last->bias[0];
        kernels->add_dot(end->values + at * end->padded, rows, end->padded, self->last, logits + at);
    }
    self->b = b;
    return 0;
}

/* y[n] += factor * x[n]. */
static void add_times(float factor, const float *restrict x, size_t n, float *restrict y) {
    for (size_t j = 0; j < n; j++) y[j] += factor * x[j];
}

/* by_x [n] is 0 wherever x is not above it. */
static void mask(const float *restrict x, size_t n, float *restrict by_x) {
    for (size_t j = 0; j < n; j++) by_x[j] = x[j] <= 0 ? 0 : by_x[j];
}

/* The last layer: by_x [rows, padded] where x is above zero, and what its own gradients grow by. */
static void back_from_unit(const Hidden *h, const float *x, const float *weight, const float *by_logit, size_t rows,
                           const Layer *layer, float *restrict by_x) {
    for (size_t i = 0; i < rows; i++, x += h->padded, by_x += h->padded) {
        for (size_t j = 0; j < h->padded; j++) by_x[j] = by_logit[i] * weight[j];
        mask(x, h->padded, by_x);
        add_times(by_logit[i], x, h->width, layer->by_weight);
        layer->by_bias[0] += by_logit[i];
    }
}

/* by_weight += by_yᵀ x and by_bias += by_y's sum, of a layer from `from` to `to`. */
static void add_gradients(Deep *self, const Hidden *from, const Hidden *to, const float *x, const float *by_y, size_t rows,
                          const Layer *layer) {
    uint32_t places[BLOCK]; /* of one unit in all rows: by_y is read as if it stood transposed */
    for (size_t i = 0; i < rows; i++) places[i] = (uint32_t)(i * to->padded);
    Pieces unit = {rows, 1, 1, places};
    Matrix panels = {self->panels, rows, from->padded};
    pack(self->kernels, x, from->padded, from->padded, 0, &panels);
    self->kernels->multiply(by_y, &unit, to->width, &panels, self->change);
    for (size_t k = 0; k < to->width; k++)
        add_times(1, self->change + k * from->padded, from->width, layer->by_weight + k * from->width);
    for (size_t i = 0; i < rows; i++) add_times(1, by_y + i * to->padded, to->width, layer->by_bias);
}

void deep_backward(Deep *self, const float *by_logit, const Layer *layers, float *by_x) {
    const Hidden *hidden = self->hidden;
    size_t top = self->num_hidden - 1;
    for (size_t l = 0; l <= top; l++) {
        size_t next = l < top ? hidden[l + 1].width : 1;
        memset(layers[l].by_weight, 0, next * hidden[l].width * sizeof(float));
        memset(layers[l].by_bias, 0, next * sizeof(float));
        if (l < top) pack(self->kernels, layers[l].weight, hidden[l].width, hidden[l].width, 0, &hidden[l].back);
    }
    for (size_t at = 0, rows; at < self->b; at += rows, by_x += rows * hidden->width) {
        rows = least(self->b - at, BLOCK);
        float *by_y = self->by_values[0], *by_values = self->by_values[1], *spare;
        back_from_unit(&hidden[top], hidden[top].values + at * hidden[top].padded, self->last, by_logit + at, rows,
                       &layers[top], by_y);
        for (size_t l = top; l-- > 0;) {
            const Hidden *from = &hidden[l], *to = &hidden[l + 1];
            const float *values = from->values + at * from->padded;
            add_gradients(self, from, to, values, by_y, rows, &layers[l]);
            Pieces whole = {1, to->width, to->padded, (const uint32_t[]){0}};
            self->kernels->multiply(by_y, &whole, rows, &from->back, by_values);
            mask(values, rows * from->padded, by_values);
            spare = by_y, by_y = by_values, by_values = spare;
        }
        for (size_t i = 0; i < rows; i++)
            memcpy(by_x + i * hidden->width, by_y + i * hidden->padded, hidden->width * sizeof(float));
    }
}
