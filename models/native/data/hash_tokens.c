#include "buffers.h"
#include "simd/xxh3.h"

/* hashes[i] = xxh3 of text[ends[i - 1] : ends[i]]. */
PyObject *hash_tokens(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *arrays[3];
    Py_buffer text, ends, hashes;
    if (!PyArg_ParseTuple(args, "OOO:hash_tokens", &arrays[0], &arrays[1], &arrays[2])) return NULL;
    if (get_array(arrays[0], UINT8, ANY_COUNT, 0, &text) < 0) return NULL;
    if (get_array(arrays[1], INT64, ANY_COUNT, 0, &ends) < 0) return PyBuffer_Release(&text), NULL;
    size_t n = (size_t)ends.len / sizeof(int64_t);
    if (get_array(arrays[2], UINT64, n, 1, &hashes) < 0) return PyBuffer_Release(&text), PyBuffer_Release(&ends), NULL;
    int wrong = 0;
    int64_t start = 0, end;
    for (size_t i = 0; i < n && !wrong; i++, start = end) {
        end = ((const int64_t *)ends.buf)[i];
        wrong = end < start || end > text.len;
        if (!wrong) ((uint64_t *)hashes.buf)[i] = xxh3((const uint8_t *)text.buf + start, (size_t)(end - start));
    }
    PyBuffer_Release(&text), PyBuffer_Release(&ends), PyBuffer_Release(&hashes);
    return wrong ? PyErr_Format(PyExc_ValueError, "expected ascending ends within the text") : Py_NewRef(Py_None);
}
