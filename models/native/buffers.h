/* Arrays of Python, checked before they are read: contiguous, of the expected element type, writable where they are filled. */
#ifndef CTRSERVE_BUFFERS_H
#define CTRSERVE_BUFFERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

typedef struct {
    const char *formats; /* of the buffer protocol, any one of them */
    size_t size;         /* bytes of an element */
    const char *name;
    int may_be_unaligned; /* for readers that copy elements by memcpy, such as those of a memory map */
} DType;

static const DType FLOAT32 = {"f", 4, "float32", 0};
static const DType FLOAT64 = {"d", 8, "float64", 0};
static const DType INT32 = {"il", 4, "int32", 0};
static const DType INT64 = {"lq", 8, "int64", 0};
static const DType UINT8 = {"B", 1, "uint8", 0};
static const DType UINT32 = {"IL", 4, "uint32", 0};
static const DType UINT64 = {"LQ", 8, "uint64", 0};

#define ANY_COUNT ((size_t)-1)

/* Get the buffer of an array of `count` elements, or of ANY_COUNT; 0, or -1 with an exception (then there is nothing to release).
 * To release a view that is all zeros, or whose array was refused, does nothing.
 *
 * TypeError: no buffer. ValueError: another element type, number of elements or layout, or read-only. */
static inline int get_array(PyObject *array, DType dtype, size_t count, int writable, Py_buffer *view) {
    if (PyObject_GetBuffer(array, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0)) < 0) return -1;
    const char *format = view->format == NULL ? "B" : view->format;
    if (dtype.may_be_unaligned && format[0] == '=') format++;
    int fits = format[0] != '\0' && format[1] == '\0' && strchr(dtype.formats, format[0]) != NULL &&
               (size_t)view->itemsize == dtype.size && (count == ANY_COUNT || (size_t)view->len == count * dtype.size);
    if (fits) return 0;
    PyErr_Format(PyExc_ValueError, "expected a %s array that fits the others, got %zd bytes of format '%s'", dtype.name,
                 view->len, format);
    PyBuffer_Release(view);
    return -1;
}

#endif
