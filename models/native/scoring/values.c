#include <math.h>
#include <stdlib.h>

#include "scoring/rows.h"
#include "simd/xxh3.h"

void rows_flush(Rows *r) {
    find_tokens(r->pending, r->num_pending);
    r->num_pending = r->decoded_used = 0;
}

static inline void count_special(Field *field, int64_t row) {
    uint64_t id = (uint64_t)(row - field->start);
    if (id >= NUM_SPECIAL) return;
    field->num_missing += id == MISSING, field->num_unseen += id == OOV;
}

/* Count special values once all cells are final: of a field that is given twice in an object, the last value counts. */
void rows_end(Rows *r) {
    rows_flush(r);
    for (size_t row = 0, cell = 0; row < r->num_rows; row++)
        for (size_t f = 0; f < r->num_fields; f++, cell++) {
            Field *field = &r->fields[f];
            if (r->counts == NULL || r->counts[cell] == 0) count_special(field, r->cells[cell]);
            else
                for (int32_t i = 0; i < r->counts[cell]; i++) count_special(field, r->tail[r->cells[cell] + i]);
        }
}

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

void rows_put_missing(Rows *r, size_t f, size_t cell) {
    r->cells[cell] = r->fields[f].start + MISSING;
    if (r->counts != NULL) r->counts[cell] = 0;
}

static Cursor read_sequence(Rows *r, size_t f, Cursor p, Cursor end, size_t cell) {
    const Field *field = &r->fields[f];
    size_t n = 0;
    p = skip_space(p + 1);
    if (*p == ']') p++;
    else
        for (;; p = skip_space(p + 1)) {
            Text text;
            if (n++ == r->max_sequence || reserve(r) < 0) return NULL;
            if ((p = read_token(r, field, p, end, &text)) == NULL) return NULL;
            look_up(r, field, text, &r->tail[r->tail_used++]);
            p = skip_space(p);
            if (*p == ']') {
                p++;
                break;
            }
            if (*p != ',') return NULL;
        }
    if (n > field->max_length) n = field->max_length;
    if (n == 0) return rows_put_missing(r, f, cell), p;
    r->cells[cell] = (int64_t)(r->tail_used - n);
    r->counts[cell] = (int32_t)n;
    return p;
}

Cursor rows_read_value(Rows *r, size_t f, Cursor p, Cursor end, size_t row) {
    const Field *field = &r->fields[f];
    size_t cell = row * r->num_fields + f;
    if (*p == 'n') {
        if (!is_null(p)) return NULL;
        return rows_put_missing(r, f, cell), p + 4;
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
