#include <string.h>

#include "scoring/read_values.h"

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
    const char *token = field->kind == INTEGER ? "an integer" : field->kind == BOOLEAN ? "true or false" : "a string";
    if (field->max_length == 0) return refuse(fault, "expected %s, or null", token);
    return refuse(fault, "expected a list of items, each %s, or null", token);
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
    memset(r->times + row * r->num_sources, 0, r->num_sources * sizeof *r->times);
    int more = first_item(&p, '}');
    for (size_t place = 0, f; more > 0; place++, more = next_item(&p, '}')) {
        if ((p = read_key(r, p, end, place, row, &f)) == NULL) return NULL;
        if (f >= r->num_fields) {
            size_t num_known = r->num_fields + r->num_others;
            p = f < num_known                ? read_shared(r, f, shared, p, end, row)
                : f < r->names.num_fields    ? read_time(r, f - num_known, p, end, row)
                                             : skip_unknown(r, p, end);
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
    memset(r->times, 0, r->num_sources * sizeof *r->times);
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
    for (; more > 0 && n < r->max_rows; n++, more = next_item(&p, ']')) {
        int is_field = f < r->num_fields;
        p = is_field ? read_value(r, f, p, end, n) : read_time(r, f - r->num_fields, p, end, n);
        if (p == NULL) return r->fault->row = (ptrdiff_t)n, is_field ? refuse_value(r, f) : NULL;
    }
    if (n > 0 && more == 0) return *num_rows = n, p;
    return refuse(fault_in(r, f), "expected a list of 1 to %zu values", r->max_rows);
}

Cursor rows_read_columns(Rows *r, Cursor p, Cursor end) {
    if (*p != '{') return refuse(r->fault, "expected an object of lists");
    size_t num_named = 0;
    int more = first_item(&p, '}');
    for (size_t place = 0, f, n = 0; more > 0; place++, more = next_item(&p, '}')) {
        if ((p = read_key(r, p, end, place, 0, &f)) == NULL) return NULL;
        if (f >= r->names.num_fields) {
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
    for (size_t s = 0; s < r->num_sources; s++)
        if (r->names.names[r->num_fields + s].last_row != 1)
            for (size_t row = 0; row < r->num_rows; row++) memset(&r->times[row * r->num_sources + s], 0, sizeof *r->times);
    FieldNames *names = &r->names; /* every row has the fields that were named once */
    for (size_t i = 0; i < names->num_unknown; i++) names->names[names->num_fields + i].count *= r->num_rows;
    names->num_strange *= r->num_rows, names->num_others *= r->num_rows;
    return p;
}
