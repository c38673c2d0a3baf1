#include "scoring/request.h"

#include <stdlib.h>
#include <string.h>

#include "simd/xxh3.h"

#define MAX_TAIL_KEPT ((size_t)1 << 17) /* rows of sequences, between requests */

int request_init(Request *r) {
    r->order = calloc(r->num_fields, sizeof *r->order);
    r->sequence = calloc(r->max_sequence, sizeof *r->sequence);
    r->cells = calloc(r->max_rows * r->num_fields, sizeof *r->cells); /* takes memory where it is written */
    if (r->order == NULL || r->sequence == NULL || r->cells == NULL) return -1;
    for (size_t f = 0; f < r->num_fields; f++) r->order[f] = f;
    return 0;
}

void request_free(Request *r) {
    free(r->order), free(r->sequence), free(r->cells), free(r->counts), free(r->tail), free(r->decoded_sequence);
}

/* Look up the tokens that wait and put their rows where they belong. */
static void flush(Request *r) {
    find_tokens(r->pending, r->pending_blocks, r->num_pending);
    for (size_t i = 0; i < r->num_pending; i++) {
        Token *token = &r->pending[i];
        Field *field = &r->fields[token->field];
        (r->pending_in_tail[i] ? r->tail : r->cells)[token->cell] = field->start + token->id;
        field->num_unseen += token->id == OOV;
    }
    r->num_pending = 0;
}

static void want(Request *r, size_t f, Text text, size_t cell, int in_tail) {
    size_t i = r->num_pending++;
    if (text.text == r->decoded[0]) { /* it stands where the next one is decoded to */
        memcpy(r->decoded[1 + i % (NUM_PENDING - 1)], text.text, text.num_bytes);
        text.text = r->decoded[1 + i % (NUM_PENDING - 1)];
    }
    r->pending[i] = (Token){text.text, text.num_bytes, (uint32_t)f, xxh3(text.text, text.num_bytes), 0, cell, 0};
    r->pending_blocks[i] = r->fields[f].block;
    r->pending_in_tail[i] = in_tail;
    if (r->num_pending == NUM_PENDING - 1) flush(r);
}

static Cursor read_token(Request *r, const Field *field, Cursor p, Cursor end, uint8_t *decoded, Text *text) {
    if (field->kind == INTEGER) return read_integer(p, text);
    if (*p != '"') return NULL;
    p = read_string(p, end, (uint32_t)r->max_chars, decoded, ROOM, text);
    return p != NULL && text->num_bytes <= XXH3_MAX_BYTES ? p : NULL;
}

/* The row of x's bin: boundaries up to x are counted by halves; a product is no branch to guess. */
static int64_t bin_of(const Field *field, double x) {
    size_t low = 0, n = field->num_boundaries;
    for (size_t half; n > 1; n -= half) {
        half = n / 2;
        low += half * (field->boundaries[low + half - 1] <= x);
    }
    if (n == 1) low += field->boundaries[low] <= x;
    return field->start + NUM_SPECIAL + (int64_t)low;
}

/* Room for n more rows in the tail; 0, or -1 without memory. */
static int reserve(Request *r, size_t n) {
    if (r->tail_used + n <= r->tail_room) return 0;
    size_t room = 2 * (r->tail_used + n);
    int64_t *tail = realloc(r->tail, room * sizeof *tail);
    if (tail == NULL) return -1;
    r->tail = tail, r->tail_room = room;
    return 0;
}

static void put_missing(Request *r, size_t f, size_t row) {
    size_t cell = row * r->num_fields + f;
    r->fields[f].num_missing++;
    r->cells[cell] = r->fields[f].start + MISSING;
    if (r->counts != NULL) r->counts[cell] = 0;
}

static Cursor read_sequence(Request *r, size_t f, Cursor p, Cursor end, size_t row) {
    const Field *field = &r->fields[f];
    size_t n = 0, cell = row * r->num_fields + f;
    int is_decoded = 0;
    p = skip_space(p + 1);
    if (*p == ']') p++;
    else
        for (;; p = skip_space(p + 1)) {
            if (n == r->max_sequence) return NULL;
            if (*p == '"' && r->decoded_sequence == NULL &&
                (r->decoded_sequence = malloc(r->max_sequence * ROOM)) == NULL)
                return NULL;
            uint8_t *decoded = r->decoded_sequence == NULL ? NULL : r->decoded_sequence + n * ROOM;
            p = read_token(r, field, p, end, decoded, &r->sequence[n]);
            if (p == NULL) return NULL;
            is_decoded |= r->sequence[n++].text == decoded;
            p = skip_space(p);
            if (*p == ']') break;
            if (*p != ',') return NULL;
        }
    if (n > 0) p++;
    size_t first = n > field->max_length ? n - field->max_length : 0; /* the last ones count */
    n -= first;
    if (n == 0) return put_missing(r, f, row), p;
    if (reserve(r, n) < 0) return NULL;
    r->cells[cell] = (int64_t)r->tail_used;
    r->counts[cell] = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        want(r, f, r->sequence[first + i], r->tail_used, 1);
        r->tail_used++;
    }
    if (is_decoded) flush(r); /* the next sequence is decoded to the same place */
    return p;
}

static Cursor read_value(Request *r, size_t f, Cursor p, Cursor end, size_t row) {
    const Field *field = &r->fields[f];
    size_t cell = row * r->num_fields + f;
    if (r->counts != NULL) r->counts[cell] = 0;
    if (*p == 'n') {
        if (!is_null(p)) return NULL;
        return put_missing(r, f, row), p + 4;
    }
    if (field->max_length > 0) return *p == '[' ? read_sequence(r, f, p, end, row) : NULL;
    if (field->kind == NUMBER) {
        double x;
        p = read_number(p, &x);
        if (p != NULL) r->cells[cell] = bin_of(field, x);
        return p;
    }
    Text text;
    p = read_token(r, field, p, end, r->decoded[0], &text);
    if (p != NULL) want(r, f, text, cell, 0);
    return p;
}

/* The field that a key names, from its opening quote up to the value; `place` is how many came before it. */
static Cursor read_key(Request *r, Cursor p, Cursor end, size_t place, size_t *f) {
    if (*p++ != '"') return NULL;
    for (size_t i = 0; i <= r->num_fields; i++) {
        *f = i > 0 ? i - 1 : place < r->num_fields ? r->order[place] : 0; /* first the one that came here before */
        const Field *field = &r->fields[*f];
        if ((size_t)(end - p) > field->key_bytes && p[field->key_bytes] == '"' && is_equal(p, field->key, field->key_bytes)) {
            if (place < r->num_fields) r->order[place] = *f;
            p = skip_mark(p + field->key_bytes + 1, ':');
            return p == NULL ? NULL : skip_space(p);
        }
    }
    return NULL;
}

/* Fields that a row has not named are missing. */
static void fill_in(Request *r, size_t row, size_t num_named) {
    if (num_named == r->num_fields) return;
    for (size_t f = 0; f < r->num_fields; f++)
        if (r->fields[f].seen != row + 1) put_missing(r, f, row);
}

static Cursor read_rows(Request *r, Cursor p, Cursor end, size_t *num_rows) {
    if (*p != '[') return NULL;
    for (size_t row = 0;; row++) {
        if (row == r->max_rows || (p = skip_mark(p + 1, '{')) == NULL) return NULL;
        size_t place = 0;
        p = skip_space(p);
        if (*p == '}') p++;
        else
            for (;; p = skip_space(p + 1)) {
                size_t f;
                if ((p = read_key(r, p, end, place, &f)) == NULL || r->fields[f].seen == row + 1) return NULL;
                r->fields[f].seen = row + 1;
                place++;
                if ((p = read_value(r, f, p, end, row)) == NULL) return NULL;
                p = skip_space(p);
                if (*p == '}') {
                    p++;
                    break;
                }
                if (*p != ',') return NULL;
            }
        fill_in(r, row, place);
        p = skip_space(p);
        if (*p == ']') {
            *num_rows = row + 1;
            return p + 1;
        }
        if (*p != ',') return NULL;
    }
}

static Cursor read_columns(Request *r, Cursor p, Cursor end, size_t *num_rows) {
    if (*p != '{') return NULL;
    size_t place = 0;
    for (;; place++) {
        size_t f, row = 0;
        p = skip_space(p + 1);
        if ((p = read_key(r, p, end, place, &f)) == NULL || r->fields[f].seen == 1 || *p != '[') return NULL;
        r->fields[f].seen = 1;
        do {
            if (row == r->max_rows || (p = read_value(r, f, skip_space(p + 1), end, row)) == NULL) return NULL;
            row++;
            p = skip_space(p);
        } while (*p == ',');
        if (*p != ']' || (place > 0 && row != *num_rows)) return NULL;
        *num_rows = row;
        p = skip_space(p + 1);
        if (*p == '}') break;
        if (*p != ',') return NULL;
    }
    for (size_t f = 0; f < r->num_fields; f++)
        if (r->fields[f].seen != 1)
            for (size_t row = 0; row < *num_rows; row++) put_missing(r, f, row);
    return p + 1;
}

size_t request_read(Request *r, const uint8_t *body, size_t num_bytes) {
    Cursor p = body, end = body + num_bytes;
    size_t num_rows = 0;
    r->num_pending = r->tail_used = 0;
    for (size_t f = 0; f < r->num_fields; f++)
        r->fields[f].num_missing = r->fields[f].num_unseen = r->fields[f].seen = 0;
    if (r->tail_room > MAX_TAIL_KEPT) {
        free(r->tail);
        r->tail = NULL, r->tail_room = 0;
    }
    if ((p = skip_mark(p, '{')) == NULL) return 0;
    p = skip_space(p);
    int is_rows = end - p > 11 && memcmp(p, "\"instances\"", 11) == 0;
    if (!is_rows && !(end - p > 8 && memcmp(p, "\"inputs\"", 8) == 0)) return 0;
    if ((p = skip_mark(p + (is_rows ? 11 : 8), ':')) == NULL) return 0;
    p = (is_rows ? read_rows : read_columns)(r, skip_space(p), end, &num_rows);
    if (p == NULL || (p = skip_mark(p, '}')) == NULL || skip_space(p) != end) return 0;
    flush(r);
    return num_rows;
}
