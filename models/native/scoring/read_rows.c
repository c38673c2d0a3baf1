#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "scoring/rows.h"
#include "simd/xxh3.h"

/* Have a token's row of the table written to `row` by the next flush. */
static void look_up(Rows *r, const Field *field, Text text, int64_t *row) {
    if (text.text == r->decoded + r->decoded_used) r->decoded_used += text.num_bytes;
    r->pending[r->num_pending++] = (Token){.block = field->block, .text = text.text, .num_bytes = text.num_bytes,
                                           .hash = xxh3(text.text, text.num_bytes), .start = field->start, .row = row};
    if (r->num_pending == NUM_PENDING) rows_flush(r);
}

static Cursor read_token(Rows *r, const Field *field, Cursor p, Cursor end, Text *text) {
    if (field->kind == INTEGER) return read_integer(p, text);
    if (*p != '"') return NULL;
    if (r->decoded_room - r->decoded_used < 4 * r->max_chars) rows_flush(r);
    return read_string(p, end, (uint32_t)r->max_chars, r->decoded + r->decoded_used, text);
}

/* Return the row of the bin of x: the boundaries at or below x are counted by bisection without branches. */
static int64_t bin_of(const Field *field, double x) {
    size_t low = 0, n = field->num_boundaries;
    for (size_t half; n > 1; n -= half) {
        half = n / 2;
        low += half * (field->boundaries[low + half - 1] <= x);
    }
    if (n == 1) low += field->boundaries[low] <= x;
    return field->start + NUM_SPECIAL + (int64_t)low;
}

/* Make room for one more row in the tail; 0, or -1 without memory. */
static int reserve(Rows *r) {
    if (r->tail_used < r->tail_room) return 0;
    rows_flush(r); /* its tokens point into the tail */
    size_t room = 2 * r->tail_room + 64;
    int64_t *tail = realloc(r->tail, room * sizeof *tail);
    if (tail == NULL) return -1;
    r->tail = tail, r->tail_room = room;
    return 0;
}

static void put_missing(Rows *r, size_t f, size_t cell) {
    r->cells[cell] = r->fields[f].start + MISSING;
    if (r->counts != NULL) r->counts[cell] = 0;
}

static Cursor read_sequence(Rows *r, size_t f, Cursor p, Cursor end, size_t cell) {
    const Field *field = &r->fields[f];
    size_t n = 0;
    int more = first_item(&p, ']');
    for (; more > 0; more = next_item(&p, ']')) {
        Text text;
        if (n++ == r->max_sequence || reserve(r) < 0) return NULL;
        if ((p = read_token(r, field, p, end, &text)) == NULL) return NULL;
        look_up(r, field, text, &r->tail[r->tail_used++]);
    }
    if (more < 0) return NULL;
    if (n > field->max_length) n = field->max_length;
    if (n == 0) return put_missing(r, f, cell), p;
    r->cells[cell] = (int64_t)(r->tail_used - n);
    r->counts[cell] = (int32_t)n;
    return p;
}

/* Read a value of field f; NULL if it is not one. */
static Cursor read_value(Rows *r, size_t f, Cursor p, Cursor end, size_t row) {
    const Field *field = &r->fields[f];
    size_t cell = row * r->num_fields + f;
    if (*p == 'n') {
        if (!is_null(p)) return NULL;
        return put_missing(r, f, cell), p + 4;
    }
    if (field->max_length > 0) return *p == '[' ? read_sequence(r, f, p, end, cell) : NULL;
    if (r->counts != NULL) r->counts[cell] = 0;
    if (field->kind == NUMBER) {
        double x;
        p = read_number(p, &x);
        if (p == NULL || !isfinite(x)) return NULL;
        r->cells[cell] = bin_of(field, x);
        return p;
    }
    Text text;
    p = read_token(r, field, p, end, &text);
    if (p != NULL) look_up(r, field, text, &r->cells[cell]);
    return p;
}

/* Read a key and its colon, up to the value; `name` is its place among the names, or NOT_COUNTED_APART. */
static Cursor read_key(Rows *r, Cursor p, Cursor end, size_t place, size_t row, size_t *name) {
    FieldNames *names = &r->names;
    if (*p != '"') return refuse(r->fault, "expected a field's name in double quotes");
    *name = place < r->num_places ? r->order[place] : NOT_COUNTED_APART;
    Cursor after = NULL;
    if (*name < names->num_fields + names->num_unknown) { /* most objects have their fields in one order */
        const Name *expected = &names->names[*name];
        size_t n = expected->num_bytes;
        if ((size_t)(end - p) > n + 1 && p[n + 1] == '"' && is_equal(p + 1, expected->text, n)) {
            after = p + n + 2;
            if (*name >= names->num_fields) field_names_count(names, *name, row);
        }
    }
    if (after == NULL) {
        Text text;
        after = read_string(p, end, MAX_NAME_CHARS, r->decoded_name, &text);
        if (after == NULL) after = skip_string(p, end), text.text = NULL;
        if (after == NULL) return refuse(r->fault, "a field's name is not a valid JSON string");
        *name = field_names_find(names, text, row);
        if (place < r->num_places) r->order[place] = *name;
    }
    p = skip_mark(after, ':');
    return p == NULL ? refuse(r->fault, "expected ':' after a field's name") : skip_space(p);
}

/* The fault, which is in field f. */
static Fault *fault_in(Rows *r, size_t f) {
    r->fault->field = (Text){r->names.names[f].text, (uint32_t)r->names.names[f].num_bytes};
    return r->fault;
}

static Cursor refuse_value(Rows *r, size_t f) {
    const Field *field = &r->fields[f];
    Fault *fault = fault_in(r, f);
    if (field->kind == NUMBER) return refuse(fault, "expected a finite number, or null");
    char token[64] = "an integer from -2^63 to 2^63 - 1";
    if (field->kind == TEXT) snprintf(token, sizeof token, "a string of at most %zu characters", r->max_chars);
    if (field->max_length == 0) return refuse(fault, "expected %s, or null", token);
    return refuse(fault, "expected a list of at most %zu items, each %s, or null", r->max_sequence, token);
}

static Cursor skip_unknown(Rows *r, Cursor p, Cursor end) {
    p = skip_value(p, end);
    return p != NULL ? p : refuse(r->fault, "an unknown field's value is not valid JSON of at most %d levels", MAX_DEPTH);
}

/* Read a value of a field of the other side, which all rows of `shared` that lack it will have. */
static Cursor read_shared(Rows *r, size_t f, Rows *shared, Cursor p, Cursor end, size_t row) {
    if (shared == NULL) return refuse(fault_in(r, f), "is a field of the context, which all candidates share");
    Name *name = &r->names.names[f];
    if (name->last_row == row + 1) {
        if (++r->num_repeated > r->max_rows) return refuse(r->fault, "more than %zu repeated values", r->max_rows);
        rows_flush(shared);
    }
    name->last_row = row + 1;
    p = read_value(shared, f - r->num_fields, p, end, shared->max_rows);
    return p != NULL ? p : refuse_value(shared, f - r->num_fields);
}

static Cursor read_object(Rows *r, Rows *shared, Cursor p, Cursor end, size_t row) {
    size_t num_named = 0;
    if (*p != '{') return refuse(r->fault, "expected an object");
    int more = first_item(&p, '}');
    for (size_t place = 0, f; more > 0; place++, more = next_item(&p, '}')) {
        if ((p = read_key(r, p, end, place, row, &f)) == NULL) return NULL;
        if (f >= r->num_fields) {
            int is_shared = f < r->names.num_fields;
            p = is_shared ? read_shared(r, f, shared, p, end, row) : skip_unknown(r, p, end);
            if (p == NULL) return NULL;
            continue;
        }
        Name *name = &r->names.names[f];
        if (name->last_row == row + 1) {
            if (++r->num_repeated > r->max_rows) return refuse(r->fault, "more than %zu repeated values", r->max_rows);
            rows_flush(r); /* so that the last value is written last */
        } else {
            num_named++;
            name->last_row = row + 1;
        }
        if ((p = read_value(r, f, p, end, row)) == NULL) return refuse_value(r, f);
    }
    if (more < 0) return refuse(r->fault, "expected ',' or '}' after a value");
    if (num_named < r->num_fields)
        for (size_t f = 0; f < r->num_fields; f++)
            if (r->names.names[f].last_row != row + 1) put_missing(r, f, row * r->num_fields + f);
    return p;
}

Cursor rows_read_object(Rows *r, Rows *shared, Cursor p, Cursor end) {
    r->num_rows = 1;
    return read_object(r, shared, p, end, 0);
}

void rows_set_missing(Rows *r) {
    r->num_rows = 1;
    for (size_t f = 0; f < r->num_fields; f++) put_missing(r, f, f);
}

Cursor rows_read_list(Rows *r, Cursor p, Cursor end) {
    int more = *p == '[' && first_item(&p, ']');
    for (r->num_rows = 0; more > 0 && r->num_rows < r->max_rows; r->num_rows++, more = next_item(&p, ']'))
        if ((p = read_object(r, NULL, p, end, r->num_rows)) == NULL) return r->fault->row = (ptrdiff_t)r->num_rows, NULL;
    if (more < 0) return refuse(r->fault, "expected ',' or ']' after an object");
    return r->num_rows > 0 && more == 0 ? p : refuse(r->fault, "expected a list of 1 to %zu objects", r->max_rows);
}

/* Read the list of one field. */
static Cursor read_column(Rows *r, size_t f, Cursor p, Cursor end, size_t *num_rows) {
    size_t n = 0;
    int more = *p == '[' && first_item(&p, ']');
    for (; more > 0 && n < r->max_rows; n++, more = next_item(&p, ']'))
        if ((p = read_value(r, f, p, end, n)) == NULL) return r->fault->row = (ptrdiff_t)n, refuse_value(r, f);
    if (n > 0 && more == 0) return *num_rows = n, p;
    return refuse(fault_in(r, f), "expected a list of 1 to %zu values", r->max_rows);
}

Cursor rows_read_columns(Rows *r, Cursor p, Cursor end) {
    if (*p != '{') return refuse(r->fault, "expected an object of lists");
    size_t num_named = 0;
    int more = first_item(&p, '}');
    for (size_t place = 0, f, n = 0; more > 0; place++, more = next_item(&p, '}')) {
        if ((p = read_key(r, p, end, place, 0, &f)) == NULL) return NULL;
        if (f >= r->num_fields) {
            if ((p = skip_unknown(r, p, end)) == NULL) return NULL;
            continue;
        }
        if (num_named++, r->names.names[f].last_row++ != 0) return refuse(fault_in(r, f), "given twice");
        if ((p = read_column(r, f, p, end, &n)) == NULL) return NULL;
        if (r->num_rows != 0 && r->num_rows != n) return refuse(r->fault, "all columns must have the same length");
        r->num_rows = n;
    }
    if (more < 0) return refuse(r->fault, "expected ',' or '}' after a list");
    if (num_named == 0) return refuse(r->fault, "expected at least one field of the model");
    for (size_t f = 0; f < r->num_fields; f++)
        if (r->names.names[f].last_row != 1)
            for (size_t row = 0; row < r->num_rows; row++) put_missing(r, f, row * r->num_fields + f);
    FieldNames *names = &r->names; /* every row has the fields that were named once */
    for (size_t i = 0; i < names->num_unknown; i++) names->names[names->num_fields + i].count *= r->num_rows;
    names->num_strange *= r->num_rows, names->num_others *= r->num_rows;
    return p;
}
