/* Rows of a table by their numbers. numpy's `take` does the same, but waits for the memory of a few rows at a time. */
#include "buffers.h"

#define AHEAD 16 /* rows whose memory is requested before their turn */

/* Return rows [n, D] of table [R, D] at ids [n] as bytes. IndexError: there is no such row. */
PyObject *take_rows(PyObject *module, PyObject *args) {
    PyObject *arrays[2], *found = NULL;
    Py_buffer table, ids;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &arrays[0], &arrays[1]) || get_array(arrays[0], FLOAT32, ANY_COUNT, 0, &table) < 0) return NULL;
    if (get_array(arrays[1], INT64, ANY_COUNT, 0, &ids) < 0) return PyBuffer_Release(&table), NULL;
    size_t n = (size_t)ids.len / sizeof(int64_t), num_rows = table.ndim == 2 ? (size_t)table.shape[0] : 0;
    size_t size = num_rows > 0 ? (size_t)table.len / num_rows : 0;
    const uint64_t *id = ids.buf; /* a negative one is too large */
    const char *rows = table.buf;
    int fits = 1;
    for (size_t i = 0; i < n; i++) fits &= id[i] < num_rows;
    if (!fits) PyErr_Format(PyExc_IndexError, "the table has %zu rows", num_rows);
    else found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(n * size));
    for (size_t i = 0; found != NULL && i < n; i++) {
        const char *ahead = rows + id[i + AHEAD < n ? i + AHEAD : i] * size;
        for (size_t at = 0; at < size; at += 64) __builtin_prefetch(ahead + at);
        memcpy(PyBytes_AS_STRING(found) + i * size, rows + id[i] * size, size);
    }
    PyBuffer_Release(&table), PyBuffer_Release(&ids);
    return found;
}
