/* The head of a DeepFM: its weights as scoring reads them. Built by `head_weights.c`, used by `head.c`. */
#ifndef CTRSERVE_HEAD_H
#define CTRSERVE_HEAD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "scoring/kernels.h"

#define CHUNK 256 /* impressions scored at once, so that their activations stay in the cache */

/* A hidden layer. Widths are padded with zeros. */
typedef struct {
    Rows weight; /* of all layers but the first, whose weight is `first` of the head */
    float *bias; /* [width] */
    size_t width;
    Activation activate;
    float *parameters; /* of the activation, [*, width] */
} Layer;

/* A field with few table rows, whose products with the first layer are precomputed. */
typedef struct {
    size_t field, first, num_rows; /* first: index of its first row in `products` */
    int64_t start;                 /* table row of its first row */
} Precomputed;

typedef struct {
    PyObject_HEAD
    struct Block *blocks; /* all memory below, freed together */
    const Kernels *kernels;
    size_t num_fields, D;      /* D = E + 1: a field's embedding and first-order weight */
    Precomputed *precomputed;  /* [num_precomputed] */
    size_t num_precomputed;
    float *products;           /* [rows of all precomputed fields, layers->width] */
    Pieces others;             /* the embeddings of all other fields in an impression */
    Matrix first;              /* weight of the first layer, [F * E, H] */
    size_t H;                  /* width of the first layer, not padded */
    Layer *layers;
    size_t num_layers;
    float *last;               /* weight of the output, [width of the last layer] */
    float bias;                /* of the logit */
    uint32_t *places;          /* scratch [CHUNK, num_precomputed] */
    float *here, *there;       /* scratch [CHUNK, widest layer] */
    float *sums, *squares;     /* scratch [D padded] each */
} Head;

/* Read the weights; 0, or -1 with an exception.
 *
 * layers: tuple of (weight [in, width], bias [width], activation's name, its parameters [*, width]), at least one.
 * last: [width of the last layer].
 * precomputed: tuple of F; (first table row, its rows [n, D]) or None.
 *
 * ValueError: arrays that do not fit together, an unknown activation. */
int head_read_weights(Head *self, PyObject *layers, PyObject *last, PyObject *precomputed);

void head_free_weights(Head *self);

#endif
