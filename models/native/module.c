/* The parts of scoring that are slow in Python. Their Python twins do the same where there is no compiler. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "artifacts are little-endian, and so must be the machine"
#endif

#include <math.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

extern PyType_Spec reader_spec, head_spec, names_spec;
int add_learning(PyObject *module), add_columns(PyObject *module);

/* 1 / (1 + exp(-(slope z + intercept))) of float32 logits, bounded by max_logit on both sides; bytes of float64. */
static PyObject *platt(PyObject *module, PyObject *args) {
    Py_buffer logits;
    double slope, intercept, max_logit;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*ddd", &logits, &slope, &intercept, &max_logit)) return NULL;
    Py_ssize_t n = logits.len / (Py_ssize_t)sizeof(float);
    PyObject *found = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(double));
    for (Py_ssize_t i = 0; found != NULL && i < n; i++) {
        double z = slope * ((const float *)logits.buf)[i] + intercept;
        z = z < -max_logit ? -max_logit : z > max_logit ? max_logit : z; /* what is no number stays none */
        ((double *)PyBytes_AS_STRING(found))[i] = 1 / (1 + exp(-z));
    }
    PyBuffer_Release(&logits);
    return found;
}

#define ROWS_AHEAD 16

/* Rows [n, dim] of a float32 table by ids int64 [n], as bytes; memory is asked for some rows before it is needed. */
static PyObject *take_rows(PyObject *module, PyObject *args) {
    Py_buffer table, ids;
    Py_ssize_t dim;
    PyObject *found = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*ny*", &table, &dim, &ids)) return NULL;
    size_t row_bytes = dim > 0 ? (size_t)dim * sizeof(float) : 1, num_rows = (size_t)table.len / row_bytes;
    size_t n = (size_t)ids.len / sizeof(int64_t);
    const uint64_t *id = ids.buf; /* a negative one is too large */
    const char *rows = table.buf;
    int fits = dim > 0;
    for (size_t i = 0; i < n; i++) fits &= id[i] < num_rows;
    if (!fits) PyErr_SetString(PyExc_IndexError, "a row that the table does not have");
    else found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(n * row_bytes));
    for (size_t i = 0; found != NULL && i < n; i++) {
        if (i + ROWS_AHEAD < n) {
            const char *ahead = rows + id[i + ROWS_AHEAD] * row_bytes;
            __builtin_prefetch(ahead), __builtin_prefetch(ahead + row_bytes - 1);
        }
        memcpy(PyBytes_AS_STRING(found) + i * row_bytes, rows + id[i] * row_bytes, row_bytes);
    }
    PyBuffer_Release(&table), PyBuffer_Release(&ids);
    return found;
}

/* Keep freed memory up to `most` bytes, in pieces up to `largest`; where the C library is glibc. */
static PyObject *keep_freed_memory(PyObject *module, PyObject *args) {
    int largest, most;
    (void)module;
    if (!PyArg_ParseTuple(args, "ii", &largest, &most)) return NULL;
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, largest);
    mallopt(M_TRIM_THRESHOLD, most);
#endif
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"platt", platt, METH_VARARGS, NULL},
    {"take_rows", take_rows, METH_VARARGS, NULL},
    {"keep_freed_memory", keep_freed_memory, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, PyType_Spec *spec, const char *name) {
    PyObject *type = PyType_FromSpec(spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, name, type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static int execute(PyObject *module) {
    if (add_type(module, &reader_spec, "RowReader") < 0 || add_type(module, &head_spec, "Head") < 0 ||
        add_type(module, &names_spec, "Names") < 0)
        return -1;
    return add_learning(module) < 0 || add_columns(module) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "models._native", .m_methods = functions, .m_slots = slots};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
