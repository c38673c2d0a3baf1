#include "scoring/rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TAIL_KEPT ((size_t)1 << 17) /* rows of sequences, between requests */

Cursor refuse(Fault *fault, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(fault->message, sizeof fault->message, format, args);
    va_end(args);
    return NULL;
}

int rows_init(Rows *r) {
    size_t num_cells = (r->max_rows + 1) * r->num_fields;
    r->num_places = r->num_fields + NUM_PENDING;
    r->decoded_room = 4 * r->max_chars + NUM_PENDING * 64;
    r->order = calloc(r->num_places, sizeof *r->order);
    r->decoded = malloc(r->decoded_room);
    r->starts = calloc(r->num_fields + 1, sizeof *r->starts);
    r->cells = calloc(num_cells + 1, sizeof *r->cells); /* takes memory where it is written */
    r->times = calloc(r->max_rows * r->num_sources + 1, sizeof *r->times);
    if (r->order == NULL || r->decoded == NULL || r->starts == NULL || r->cells == NULL || r->times == NULL) return -1;
    for (size_t i = 0; i < r->num_places; i++) r->order[i] = i;
    return field_names_init(&r->names, r->num_fields + r->num_others + r->num_sources);
}

void rows_free(Rows *r) {
    free(r->fields), free(r->order), free(r->decoded), free(r->starts), free(r->cells), free(r->counts), free(r->tail);
    free(r->times), free(r->list);
    field_names_free(&r->names);
}

void rows_begin(Rows *r, Fault *fault) {
    r->fault = fault;
    r->num_rows = r->num_repeated = r->num_pending = r->tail_used = r->decoded_used = 0;
    for (size_t f = 0; f < r->names.num_fields; f++) r->names.names[f].last_row = 0;
    for (size_t f = 0, shared = r->max_rows * r->num_fields; f < r->num_fields; f++) {
        r->fields[f].num_missing = r->fields[f].num_unseen = 0;
        r->cells[shared + f] = r->starts[f] + MISSING;
        if (r->counts != NULL) r->counts[shared + f] = 0;
    }
    field_names_reset(&r->names);
    if (r->tail_room <= MAX_TAIL_KEPT) return;
    free(r->tail);
    r->tail = NULL, r->tail_room = 0;
}

void rows_flush(Rows *r) {
    find_tokens(r->pending, r->num_pending);
    r->num_pending = r->decoded_used = 0;
}

static int is_missing(const Rows *r, size_t f, size_t cell) {
    return (r->counts == NULL || r->counts[cell] == 0) && r->cells[cell] == r->starts[f] + MISSING;
}

size_t rows_first_shared(const Rows *r) {
    size_t f = 0;
    while (f < r->num_fields && is_missing(r, f, r->max_rows * r->num_fields + f)) f++;
    return f;
}

void rows_share(Rows *r) {
    for (size_t f = rows_first_shared(r); f < r->num_fields; f++) {
        size_t shared = r->max_rows * r->num_fields + f;
        if (is_missing(r, f, shared)) continue;
        for (size_t row = 0, cell = f; row < r->num_rows; row++, cell += r->num_fields) {
            if (!is_missing(r, f, cell)) continue;
            r->cells[cell] = r->cells[shared];
            if (r->counts != NULL) r->counts[cell] = r->counts[shared];
        }
    }
}

static void count_special(Field *field, const int64_t *rows, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        field->num_missing += rows[i] == field->start + MISSING;
        field->num_unseen += rows[i] == field->start + OOV;
    }
}

/* Fill in the derived fields that their rows do not have. */
static int derive(Rows *r) {
    int64_t found[MAX_SOURCES];
    const Time *before = NULL;
    for (size_t row = 0; row < r->num_rows; row++) {
        const Time *times = r->times + row * r->num_sources;
        int64_t *cells = r->cells + row * r->num_fields;
        int is_wanted = 0, is_given = 0;
        for (size_t d = 0; d < r->num_derived; d++)
            is_wanted |= cells[r->derived[d]] == r->fields[r->derived[d]].start + MISSING;
        for (size_t s = 0; s < r->num_sources; s++) is_given |= times[s].num_bytes > 0;
        if (!is_given) continue;
        if (before == NULL || memcmp(before, times, r->num_sources * sizeof *times) != 0) {
            int failed = r->derive(r->derive_context, times, found);
            if (failed == -1) r->fault->row = (ptrdiff_t)row, refuse(r->fault, "expected a time that is written as in the log");
            if (failed) return failed;
            before = times;
        }
        for (size_t d = 0; is_wanted && d < r->num_derived; d++) {
            int64_t *cell = &cells[r->derived[d]];
            if (*cell == r->fields[r->derived[d]].start + MISSING) *cell = found[d];
        }
    }
    return 0;
}

/* Special values are counted once all cells are final: of a field that is given twice in an object, the last value counts. */
int rows_end(Rows *r) {
    rows_flush(r);
    int failed = r->num_sources > 0 ? derive(r) : 0;
    if (failed) return failed;
    const int64_t *cells = r->cells, *starts = r->starts;
    const int32_t *counts = r->counts;
    for (size_t row = 0; row < r->num_rows; row++, cells += r->num_fields) {
        for (size_t f = 0; f < r->num_fields; f++) {
            if (counts != NULL && counts[f] > 0) count_special(&r->fields[f], r->tail + cells[f], counts[f]);
            else if ((uint64_t)(cells[f] - starts[f]) < NUM_SPECIAL) count_special(&r->fields[f], &cells[f], 1);
        }
        if (counts != NULL) counts += r->num_fields;
    }
    return 0;
}
