/* The names of fields that a request may have: the model's own, and those that the request brings along. */
#ifndef CTRSERVE_FIELD_NAMES_H
#define CTRSERVE_FIELD_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "scoring/json.h"

#define MAX_NAME_CHARS 128 /* of the model's fields, see models.schema.feature_schema */
#define MAX_UNKNOWN 256    /* unknown names that are counted apart from each other */
#define MAX_PLAIN_BYTES 64

typedef struct {
    const uint8_t *text; /* UTF-8 */
    size_t num_bytes;
    uint64_t hash;
    size_t slot;
    size_t count;    /* of an unknown name: rows that have it */
    size_t last_row; /* 1 + the last of those rows; 0: none */
} Name;

typedef struct {
    Name *names; /* the model's fields, of both sides, then the unknown names in the order in which they came */
    size_t num_fields, num_unknown;
    size_t num_strange;  /* names that are not plain, counted each time they are given */
    size_t num_others;   /* plain names beyond MAX_UNKNOWN, counted likewise */
    uint32_t *slots;     /* 1 + a name's place, or 0; open addressing with linear probing, at most half full */
    size_t num_slots;    /* a power of two */
    uint8_t (*unknown)[MAX_PLAIN_BYTES]; /* [MAX_UNKNOWN] */
} FieldNames;

#define NOT_COUNTED_APART SIZE_MAX

/* Allocate for so many fields; 0, or -1 without memory. */
int field_names_init(FieldNames *names, size_t num_fields);
void field_names_free(FieldNames *names);

/* Add a field; its text must outlive the names. 0, or -1 if it has the name of another. */
int field_names_add(FieldNames *names, const uint8_t *text, size_t num_bytes);

/* Forget the unknown names. */
void field_names_reset(FieldNames *names);

/* Return the place of a name among `names`, adding and counting it if it is unknown, or NOT_COUNTED_APART. A `text` of NULL
 * is a name that is too long to be plain. */
size_t field_names_find(FieldNames *names, Text name, size_t row);

/* Count an unknown name at its place once more, unless this row has it already. */
static inline void field_names_count(FieldNames *names, size_t place, size_t row) {
    Name *name = &names->names[place];
    if (name->last_row == row + 1) return;
    name->last_row = row + 1;
    name->count++;
}

#endif
