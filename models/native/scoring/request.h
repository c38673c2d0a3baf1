/* A request's bytes -> rows of the table. */
#ifndef CTRSERVE_REQUEST_H
#define CTRSERVE_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "scoring/json.h"
#include "scoring/tokens.h"

#define NUM_PENDING 64
#define ROOM 256 /* for a decoded token; longer ones than XXH3_MAX_BYTES are left to the encoder */

enum kind { TEXT, INTEGER, NUMBER };

typedef struct {
    const uint8_t *key; /* the name's UTF-8 */
    size_t key_bytes;
    enum kind kind;
    size_t max_length;  /* of a sequence; 0 for one value */
    const Block *block; /* of tokens */
    int64_t start;      /* the block's first row */
    const double *boundaries;
    size_t num_boundaries;
    size_t num_missing, num_unseen; /* in this request */
    size_t seen;                    /* number of the row, from 1, that has named it last */
} Field;

typedef struct {
    Field *fields;
    size_t num_fields, max_rows, max_chars, max_sequence;
    int64_t *cells;  /* [max_rows * F]: a table row, or the first place of a sequence in `tail` */
    int32_t *counts; /* [max_rows * F]: rows of a sequence, 0 in a cell that is one row; NULL where no field is a sequence */
    int64_t *tail;
    size_t tail_used, tail_room;
    size_t *order;             /* the fields in the order in which the row before named them */
    Text *sequence;            /* [max_sequence] */
    uint8_t *decoded_sequence; /* [max_sequence * ROOM], made when first needed */
    uint8_t decoded[NUM_PENDING][ROOM];
    Token pending[NUM_PENDING];
    const Block *pending_blocks[NUM_PENDING];
    int pending_in_tail[NUM_PENDING];
    size_t num_pending;
} Request;

/* Take memory for the sizes that are set; 0, or -1 without it. */
int request_init(Request *request);

void request_free(Request *request);

/* Read a body of `num_bytes` that a NUL follows; the number of rows, or 0 for one that is left to others.
 *
 * Fills in cells, counts, tail, and how many values of each field were missing and unseen. */
size_t request_read(Request *request, const uint8_t *body, size_t num_bytes);

#endif
