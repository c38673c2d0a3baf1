/* The parts of scoring that are slow in Python. `models.native` says what they do where there is no compiler. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "artifacts are little-endian, and so must be the machine"
#endif

extern PyType_Spec reader_spec;

static int execute(PyObject *module) {
    PyObject *type = PyType_FromSpec(&reader_spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, "RowReader", type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "models._native", .m_slots = slots};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
