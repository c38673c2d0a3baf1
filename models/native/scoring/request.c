#include "scoring/request.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PART_CHARS 16

/* A part of a body: the value of a key at the top. */
typedef struct {
    const char *name;
    Cursor (*read)(void *request, Cursor p, Cursor end);
} Part;

/* Read the key of a part; its number, or -1. */
static int read_part_name(const Part *parts, int num_parts, Cursor *p, Cursor end) {
    uint8_t decoded[4 * MAX_PART_CHARS];
    Text name;
    if (**p != '"' || (*p = read_string(*p, end, MAX_PART_CHARS, decoded, &name)) == NULL) return -1;
    for (int i = 0; i < num_parts; i++)
        if (name.num_bytes == strlen(parts[i].name) && memcmp(name.text, parts[i].name, name.num_bytes) == 0) return i;
    return -1;
}

/* Read a body that is an object of some of the parts, each at most once; bit i: it has parts[i]; -1: it is not. */
static int read_parts(const Part *parts, int num_parts, void *request, Cursor p, Cursor end, Fault *fault) {
    int given = 0;
    if (*(p = skip_space(p)) != '{') return refuse(fault, "the body is not a JSON object"), -1;
    int more = first_item(&p, '}');
    for (; more > 0; more = next_item(&p, '}')) {
        int i = read_part_name(parts, num_parts, &p, end);
        if (i < 0) return refuse(fault, "the body has a part that it must not have"), -1;
        fault->field = (Text){(const uint8_t *)parts[i].name, (uint32_t)strlen(parts[i].name)};
        if (given & 1 << i) return refuse(fault, "given twice"), -1;
        given |= 1 << i;
        if ((p = skip_mark(p, ':')) == NULL) return refuse(fault, "expected ':' after the name"), -1;
        if ((p = parts[i].read(request, skip_space(p), end)) == NULL) return -1;
        fault->field.text = NULL;
    }
    if (more < 0) return refuse(fault, "the body is not valid JSON: expected ',' or '}'"), -1;
    if (skip_space(p) != end) return refuse(fault, "the body goes on after its JSON object"), -1;
    return given;
}

static Cursor read_instances(void *rows, Cursor p, Cursor end) {
    return rows_read_list(rows, p, end);
}

static Cursor read_inputs(void *rows, Cursor p, Cursor end) {
    return rows_read_columns(rows, p, end);
}

int read_predict(Rows *rows, const uint8_t *body, size_t num_bytes, Fault *fault) {
    static const Part parts[] = {{"instances", read_instances}, {"inputs", read_inputs}};
    rows_begin(rows, fault);
    int given = read_parts(parts, 2, rows, body, body + num_bytes, fault);
    if (given < 0) return -1;
    if (given != 1 && given != 2) return refuse(fault, "give either 'instances' or 'inputs'"), -1;
    return rows_end(rows);
}

static Cursor read_context(void *request, Cursor p, Cursor end) {
    RankRequest *r = request;
    return rows_read_object(r->context, r->candidates, p, end);
}

static Cursor read_candidates(void *request, Cursor p, Cursor end) {
    return rows_read_list(((RankRequest *)request)->candidates, p, end);
}

static Cursor read_candidate_ids(void *request, Cursor p, Cursor end) {
    RankRequest *r = request;
    Fault *fault = r->context->fault;
    size_t max_chars = r->candidates->max_chars, max_rows = r->candidates->max_rows, n = 0;
    if ((r->candidate_ids = PyList_New(0)) == NULL) return NULL;
    int more = *p == '[' && first_item(&p, ']');
    for (; more > 0 && n < max_rows; n++, more = next_item(&p, ']')) {
        Text text;
        if (*p != '"' || (p = read_string(p, end, (uint32_t)max_chars, r->decoded, &text)) == NULL) {
            fault->row = (ptrdiff_t)n;
            return refuse(fault, "expected a string of at most %zu characters", max_chars);
        }
        PyObject *id = PyUnicode_DecodeUTF8((const char *)text.text, (Py_ssize_t)text.num_bytes, "strict");
        int failed = id == NULL || PyList_Append(r->candidate_ids, id) < 0;
        Py_XDECREF(id);
        if (failed) return NULL;
    }
    return n > 0 && more == 0 ? p : refuse(fault, "expected a list of 1 to %zu strings", max_rows);
}

static Cursor read_top_k(void *request, Cursor p, Cursor end) {
    RankRequest *r = request;
    Text digits;
    (void)end;
    if ((p = read_integer(p, &digits)) != NULL) r->top_k = strtoll((const char *)digits.text, NULL, 10);
    return p != NULL && r->top_k > 0 ? p : refuse(r->context->fault, "expected an integer from 1 to 2^63 - 1");
}

int read_rank(RankRequest *r, const uint8_t *body, size_t num_bytes, Fault *fault) {
    static const Part parts[] = {{"context", read_context}, {"candidates", read_candidates},
                                 {"candidate_ids", read_candidate_ids}, {"top_k", read_top_k}};
    rows_begin(r->context, fault), rows_begin(r->candidates, fault);
    int given = read_parts(parts, 4, r, body, body + num_bytes, fault);
    if (PyErr_Occurred()) return -2;
    if (given < 0) return -1;
    if (!(given & 2) == !(given & 4)) return refuse(fault, "give either 'candidates' or 'candidate_ids'"), -1;
    if (!(given & 1)) rows_set_missing(r->context);
    rows_flush(r->candidates);
    size_t shared = rows_first_shared(r->candidates);
    if ((given & 4) && shared < r->candidates->num_fields) {
        const Name *name = &r->candidates->names.names[shared];
        fault->field = (Text){name->text, (uint32_t)name->num_bytes};
        return refuse(fault, "is a field of the candidates, and those of 'candidate_ids' have theirs from the catalog"), -1;
    }
    rows_share(r->candidates);
    int failed = rows_end(r->context);
    return failed ? failed : rows_end(r->candidates);
}
