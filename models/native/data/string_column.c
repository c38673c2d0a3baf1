#include "data/string_column.h"

#include <string.h>

typedef struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
} ArrowSchema;

typedef struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
} ArrowArray;

typedef struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, ArrowSchema *);
    int (*get_next)(struct ArrowArrayStream *, ArrowArray *);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
} ArrowArrayStream;

/* Whether the column's type is "vu": UTF-8 string views. */
static int has_string_views(ArrowArrayStream *stream) {
    ArrowSchema schema = {0};
    if (stream->get_schema(stream, &schema) != 0) return 0;
    int fits = strcmp(schema.format, "vu") == 0;
    schema.release(&schema);
    return fits;
}

static int refuse(const char *message) { return PyErr_SetString(PyExc_ValueError, message), -1; }

static int visit_stream(ArrowArrayStream *stream, size_t n, int (*visit)(void *, const StringSlice *), void *context) {
    size_t done = 0;
    if (!has_string_views(stream)) return refuse("expected a column of strings");
    for (;;) {
        ArrowArray array = {0};
        if (stream->get_next(stream, &array) != 0) return refuse("the column cannot be read");
        if (array.release == NULL) break;
        size_t length = (size_t)array.length, offset = (size_t)array.offset;
        StringSlice strings = {(const TokenView *)array.buffers[1] + offset, (const uint8_t *const *)(array.buffers + 2),
                           array.buffers[0], offset, length, done};
        int failed = length > n - done ? refuse("the column is longer than its codes") : visit(context, &strings);
        array.release(&array);
        if (failed) return -1;
        done += length;
    }
    return done < n ? refuse("the column is shorter than its codes") : 0;
}

int visit_strings(PyObject *column, size_t n, int (*visit)(void *context, const StringSlice *strings), void *context) {
    PyObject *capsule = PyObject_CallMethod(column, "__arrow_c_stream__", NULL);
    ArrowArrayStream *stream = capsule == NULL ? NULL : PyCapsule_GetPointer(capsule, "arrow_array_stream");
    int failed = stream == NULL || visit_stream(stream, n, visit, context) < 0;
    Py_XDECREF(capsule);
    return failed ? -1 : 0;
}
