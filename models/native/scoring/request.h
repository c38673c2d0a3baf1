/* The bodies of /predict and /rank. */
#ifndef CTRSERVE_REQUEST_H
#define CTRSERVE_REQUEST_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "scoring/rows.h"

/* Read a body, which a NUL follows; 0, or -1 with the fault of the first thing that is wrong, or -2 with a Python exception. */
int read_predict(Rows *rows, const uint8_t *body, size_t num_bytes, Fault *fault);

/* What a /rank body has. */
typedef struct {
    Rows *context, *candidates; /* `context` has one row; `candidates` has none if their ids are given */
    PyObject *candidate_ids;    /* list of str, or NULL */
    int64_t top_k;              /* 0: not given */
    uint8_t *decoded;           /* [4 * max_chars] */
} RankRequest;

/* Read a body, as above. */
int read_rank(RankRequest *request, const uint8_t *body, size_t num_bytes, Fault *fault);

#endif
