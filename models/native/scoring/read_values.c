#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "scoring/read_values.h"
#include "simd/xxh3.h"

/* Have a token's row of the table written to `row` by the next flush. */
static void look_up(Rows *r, const Field *field, Text text, int64_t *row) {
    if (text.text == r->decoded + r->decoded_used) r->decoded_used += text.num_bytes;
    r->pending[r->num_pending++] = (Token){.block = field->block, .text = text.text, .num_bytes = text.num_bytes,
                                           .hash = xxh3(text.text, text.num_bytes), .start = field->start, .row = row};
    if (r->num_pending == NUM_PENDING) rows_flush(r);
}

static Cursor read_token(Rows *r, const Field *field, Cursor p, Cursor end, Text *text) {
    if (r->decoded_room - r->decoded_used < 4 * r->max_chars) rows_flush(r);
    return read_token_text(p, end, field->kind, (uint32_t)r->max_chars, r->decoded + r->decoded_used, text);
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

void put_missing(Rows *r, size_t f, size_t cell) {
    r->cells[cell] = r->fields[f].start + MISSING;
    if (r->counts != NULL) r->counts[cell] = 0;
}

/* End a sequence whose rows are from `first` on in the tail. */
static void end_sequence(Rows *r, size_t f, size_t first, size_t cell) {
    size_t n = r->tail_used - first;
    if (n > r->fields[f].max_length) n = r->fields[f].max_length;
    if (n == 0) return put_missing(r, f, cell);
    r->cells[cell] = (int64_t)(r->tail_used - n);
    r->counts[cell] = (int32_t)n;
}

static Cursor read_sequence(Rows *r, size_t f, Cursor p, Cursor end, size_t cell) {
    const Field *field = &r->fields[f];
    size_t first = r->tail_used;
    int more = first_item(&p, ']');
    for (; more > 0; more = next_item(&p, ']')) {
        Text text = {NULL, 0};
        if (reserve(r) < 0) return NULL;
        p = is_null(p) ? p + 4 : read_token(r, field, p, end, &text);
        if (p == NULL) return NULL;
        if (text.num_bytes > 0) look_up(r, field, text, &r->tail[r->tail_used++]);
    }
    if (more < 0) return NULL;
    end_sequence(r, f, first, cell);
    return p;
}

static int is_around(uint8_t c) { return c == ' ' || c == '\'' || c == '"'; }

/* Read a sequence that is one text, from its quote on. */
static Cursor read_joined(Rows *r, size_t f, Cursor p, Cursor end, size_t cell) {
    const Field *field = &r->fields[f];
    Cursor after = skip_string(p, end);
    if (after == NULL) return NULL;
    rows_flush(r); /* its tokens may be in the list that is overwritten */
    uint8_t *list = realloc(r->list, (size_t)(after - p) + 4);
    if (list == NULL) return NULL;
    r->list = list;
    Text text;
    if (read_string(p, end, (uint32_t)(after - p), list, &text) == NULL) return NULL;
    const uint8_t *at = text.text, *stop = at + text.num_bytes;
    size_t width = r->separator.num_bytes, first = r->tail_used;
    int is_comma = width == 1 && r->separator.text[0] == ',';
    if (is_comma) {
        while (at < stop && *at == ' ') at++;
        while (at < stop && stop[-1] == ' ') stop--;
        at += at < stop && *at == '[', stop -= at < stop && stop[-1] == ']';
    }
    while (at <= stop) {
        const uint8_t *next = at;
        while (next < stop && ((size_t)(stop - next) < width || memcmp(next, r->separator.text, width) != 0)) next++;
        const uint8_t *a = at, *b = next;
        if (is_comma) {
            while (a < b && is_around(*a)) a++;
            while (a < b && is_around(b[-1])) b--;
        }
        Text token = {a, (uint32_t)(b - a)};
        if (token.num_bytes > 0) {
            if (reserve(r) < 0 || spell_token(field->kind, (uint32_t)r->max_chars, &token) < 0) return NULL;
            look_up(r, field, token, &r->tail[r->tail_used++]);
        }
        at = next + width;
    }
    rows_flush(r);
    end_sequence(r, f, first, cell);
    return after;
}

/* Go behind a text that is a null in the log; NULL if the value is none. */
static Cursor skip_null_text(const Rows *r, Cursor p, Cursor end) {
    uint8_t decoded[4 * MAX_NULL_CHARS];
    Text text;
    if (r->num_nulls == 0 || *p != '"' || (p = read_string(p, end, MAX_NULL_CHARS, decoded, &text)) == NULL) return NULL;
    for (size_t i = 0; i < r->num_nulls; i++)
        if (text.num_bytes == r->nulls[i].num_bytes && is_equal(text.text, r->nulls[i].text, text.num_bytes)) return p;
    return NULL;
}

Cursor read_value(Rows *r, size_t f, Cursor p, Cursor end, size_t row) {
    const Field *field = &r->fields[f];
    size_t cell = row * r->num_fields + f;
    if (*p == 'n') {
        if (!is_null(p)) return NULL;
        return put_missing(r, f, cell), p + 4;
    }
    Cursor after = skip_null_text(r, p, end);
    if (after != NULL) return put_missing(r, f, cell), after;
    if (field->max_length > 0 && *p == '"') return read_joined(r, f, p, end, cell);
    if (field->max_length > 0) return *p == '[' ? read_sequence(r, f, p, end, cell) : NULL;
    if (r->counts != NULL) r->counts[cell] = 0;
    if (field->kind == NUMBER) {
        double x;
        if ((p = read_number_or_text(p, end, &x)) == NULL) return NULL;
        if (isnan(x)) put_missing(r, f, cell);
        else r->cells[cell] = bin_of(field, x);
        return p;
    }
    Text text;
    if ((p = read_token(r, field, p, end, &text)) == NULL) return NULL;
    if (text.num_bytes == 0) put_missing(r, f, cell);
    else look_up(r, field, text, &r->cells[cell]);
    return p;
}

Cursor read_time(Rows *r, size_t source, Cursor p, Cursor end, size_t row) {
    Time *time = &r->times[row * r->num_sources + source];
    uint8_t decoded[4 * MAX_TIME_CHARS];
    Text text = {decoded, 0};
    memset(time, 0, sizeof *time);
    Cursor after = skip_null_text(r, p, end);
    if (after != NULL) return after;
    p = is_null(p) ? p + 4 : *p == 't' || *p == 'f' ? NULL : read_token_text(p, end, TEXT, MAX_TIME_CHARS, decoded, &text);
    if (p == NULL) return refuse(r->fault, "expected a time as a number or a text, or null");
    time->num_bytes = (uint8_t)text.num_bytes;
    memcpy(time->text, text.text, text.num_bytes);
    return p;
}
