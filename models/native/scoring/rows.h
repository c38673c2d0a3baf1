/* JSON objects, or lists by field -> rows of the embedding table. */
#ifndef CTRSERVE_ROWS_H
#define CTRSERVE_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "scoring/field_names.h"
#include "scoring/json.h"
#include "scoring/token_text.h"
#include "scoring/tokens.h"

#define NUM_PENDING 64

#define MAX_NULLS 32
#define MAX_NULL_CHARS 64
#define MAX_SOURCES 2
#define MAX_TIME_CHARS 60

enum pooling { MEAN, SQRTN };

typedef struct {
    enum kind kind;
    size_t max_length;  /* of a sequence, whose last tokens count; 0 for a single value */
    enum pooling pooling;
    const Block *block; /* of tokens */
    int64_t start;      /* the block's first row */
    const double *boundaries;
    size_t num_boundaries;
    size_t num_missing, num_unseen; /* values of the rows that were read */
} Field;

/* What a row says about its moment, for the fields that derive from it; UTF-8. */
typedef struct {
    uint8_t num_bytes;
    uint8_t text[4 * MAX_TIME_CHARS];
} Time;

/* Set the rows of the table of the derived fields from what one impression says: 0; -1: it is no moment; -2: an exception. */
typedef int (*Derive)(void *context, const Time *times, int64_t *rows);

/* Where and why reading stopped. */
typedef struct {
    char message[128];
    ptrdiff_t row; /* -1: none */
    Text field;    /* name of a field of the model, or of a part of the request; NULL: none */
} Fault;

/* Write the message of a fault; always return NULL. */
__attribute__((format(printf, 2, 3))) Cursor refuse(Fault *fault, const char *format, ...);

/* Impressions of some fields. Later calls overwrite what earlier ones have read. */
typedef struct {
    Field *fields;
    size_t num_fields, max_rows, max_chars;
    size_t num_others; /* fields of the other side of a ranking */
    Text separator;    /* of the tokens of a sequence that is one text; a comma stands in brackets and between quotes, too */
    Text nulls[MAX_NULLS]; /* texts that are nulls besides the empty one */
    size_t num_nulls;
    size_t num_sources, num_derived;
    size_t derived[MAX_SOURCES]; /* the fields that derive from the sources, by their place */
    Derive derive;
    void *derive_context;
    Time *times;      /* [max_rows * num_sources] */
    FieldNames names; /* the first F are those of `fields`, then come those of the other side, then those of the sources */
    Fault *fault;
    size_t num_rows;
    size_t num_repeated; /* values of fields that their row had before */
    int64_t *starts; /* [F], of the fields */
    int64_t *cells;  /* [(max_rows + 1) * F]: a row of the table, or the place of a sequence's first one in `tail`; the last
                        row is what all rows share */
    int32_t *counts; /* likewise: rows of a sequence, or 0 for a cell that is one row; NULL if no field is a sequence */
    int64_t *tail;
    size_t tail_used, tail_room;
    size_t *order; /* [num_places]: the names at the places of the object that was read before */
    size_t num_places;
    Token pending[NUM_PENDING]; /* to be looked up together */
    size_t num_pending;
    uint8_t *decoded; /* texts of pending tokens that had escapes */
    size_t decoded_used, decoded_room;
    uint8_t decoded_name[4 * MAX_NAME_CHARS];
    uint8_t *list; /* the text of a sequence, decoded */
} Rows;

/* Allocate for the sizes that are set; 0, or -1 without memory. */
int rows_init(Rows *rows);
void rows_free(Rows *rows);

/* Begin a request. Its rows are complete after `rows_end`: 0; -1: a fault; -2: an exception. */
void rows_begin(Rows *rows, Fault *fault);
int rows_end(Rows *rows);

/* Look up the tokens that wait for it. */
void rows_flush(Rows *rows);

/* Read one object as row 0. Of a field that is given twice, the last value counts; to bound the work, a request may repeat
 * max_rows values at most. Fields of the other side are shared by the rows of `shared`. */
Cursor rows_read_object(Rows *rows, Rows *shared, Cursor p, Cursor end);

/* The first field of which a value is shared; num_fields: none. To be called after `rows_flush`. */
size_t rows_first_shared(const Rows *rows);

/* Give each row the shared values of the fields that it lacks. To be called after `rows_flush`. */
void rows_share(Rows *rows);

/* Read a list of 1 to max_rows objects, none of which has a field of the other side. */
Cursor rows_read_list(Rows *rows, Cursor p, Cursor end);

/* Read an object of lists of one length, from 1 to max_rows, at least one of them of a field of the model, none given twice. */
Cursor rows_read_columns(Rows *rows, Cursor p, Cursor end);

/* Make row 0 one in which every field is missing. */
void rows_set_missing(Rows *rows);

#endif
